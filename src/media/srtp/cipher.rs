//! What is done to the octets of one packet, once its index is known.
//!
//! Everything works in place: the steady path allocates nothing. A packet is proven before it is deciphered.

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::model::{SrtpKey, SrtpSuite};

/// Which of the two protocols keys are derived for; the value is the first of its three labels (RFC 3711 §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rtp = 0,
    Rtcp = 3,
}

/// Ciphers and proves packets of one protocol in one direction, with keys derived from a master key.
#[allow(clippy::large_enum_variant, reason = "a leg has four, and each lives behind a box of the leg")]
pub(super) enum Cipher {
    Counter { aes: Aes, salt: [u8; 14], proof: Hmac<Sha1>, tag_len: usize },
    Galois { aes: Gcm, salt: [u8; 12] },
}

impl Cipher {
    pub(super) fn new(master: &SrtpKey, kind: Kind) -> Cipher {
        let suite = master.suite();
        let mut key = [0; 32];
        let key = &mut key[..suite.key_len()];
        derive(master, kind as u8, key);
        if suite.is_aead() {
            let mut salt = [0; 12];
            derive(master, kind as u8 + SALT, &mut salt);
            return Cipher::Galois { aes: Gcm::new(key), salt };
        }
        let (mut proof, mut salt) = ([0; 20], [0; 14]);
        derive(master, kind as u8 + PROOF, &mut proof);
        derive(master, kind as u8 + SALT, &mut salt);
        Cipher::counter(key, salt, &proof, tag_len(suite, kind))
    }

    fn counter(key: &[u8], salt: [u8; 14], proof: &[u8], tag_len: usize) -> Cipher {
        let proof = Hmac::new_from_slice(proof).expect("HMAC takes a key of any length");
        Cipher::Counter { aes: Aes::new(key), salt, proof, tag_len }
    }

    /// Octets added to a packet of audio.
    pub(super) fn tag_len(&self) -> usize {
        match self {
            Cipher::Counter { tag_len, .. } => *tag_len,
            Cipher::Galois { .. } => TAG,
        }
    }

    /// Protects the RTP packet that begins at `start` and goes to the end; the tag is appended.
    pub(super) fn seal_rtp(&self, packet: &mut Vec<u8>, start: usize, header_len: usize, ssrc: u32, index: u64) {
        let (header, payload) = packet[start..].split_at_mut(header_len);
        match self {
            Cipher::Counter { aes, salt, proof, tag_len } => {
                aes.keystream(&counter_block(salt, ssrc, index), payload);
                let tag = prove_rtp(proof, &packet[start..], index);
                packet.extend_from_slice(&tag[..*tag_len]);
            }
            Cipher::Galois { aes, salt } => {
                let tag = aes.seal(&rtp_nonce(salt, ssrc, index), header, payload);
                packet.extend_from_slice(&tag);
            }
        }
    }

    /// Proves and deciphers an RTP packet in place. Returns its length without the tag, or `None` when it is not
    /// authentic; it is then as it was.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Option<usize> {
        let len = packet.len().checked_sub(self.tag_len()).filter(|len| *len >= header_len)?;
        let (packet, tag) = packet.split_at_mut(len);
        match self {
            Cipher::Counter { aes, salt, proof, tag_len } => {
                let expected = prove_rtp(proof, packet, index);
                if !bool::from(expected[..*tag_len].ct_eq(tag)) {
                    return None;
                }
                aes.keystream(&counter_block(salt, ssrc, index), &mut packet[header_len..]);
            }
            Cipher::Galois { aes, salt } => {
                let (header, payload) = packet.split_at_mut(header_len);
                aes.open(&rtp_nonce(salt, ssrc, index), header, payload, tag)?;
            }
        }
        Some(len)
    }

    /// Protects the RTCP packets that begin at `start` and go to the end, 8 octets or more.
    pub(super) fn seal_rtcp(&self, packet: &mut Vec<u8>, start: usize, ssrc: u32, index: u32) {
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let (header, payload) = packet[start..].split_at_mut(RTCP_HEADER);
        match self {
            Cipher::Counter { aes, salt, proof, tag_len } => {
                aes.keystream(&counter_block(salt, ssrc, u64::from(index)), payload);
                packet.extend_from_slice(&trailer);
                let tag = prove(proof, &packet[start..], &[]);
                packet.extend_from_slice(&tag[..*tag_len]);
            }
            Cipher::Galois { aes, salt } => {
                // RFC 7714 §9.2: the index is proven with the header, and follows the tag.
                let tag = aes.seal(&rtcp_nonce(salt, ssrc, index), &rtcp_proven(header, trailer), payload);
                packet.extend_from_slice(&tag);
                packet.extend_from_slice(&trailer);
            }
        }
    }

    /// The index that an RTCP packet claims, before anything is proven. `None` when it is too short to be one, or does
    /// not claim to be enciphered.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let behind = match self {
            Cipher::Counter { tag_len, .. } => *tag_len,
            Cipher::Galois { .. } => 0,
        };
        let at = packet.len().checked_sub(behind + 4).filter(|at| *at >= RTCP_HEADER)?;
        let trailer = u32::from_be_bytes(*packet[at..].first_chunk()?);
        (trailer & ENCRYPTED != 0).then_some(trailer & !ENCRYPTED)
    }

    /// Proves and deciphers an RTCP packet in place. Returns its length without index and tag.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index: u32) -> Option<usize> {
        match self {
            Cipher::Counter { aes, salt, proof, tag_len } => {
                let proven = packet.len().checked_sub(*tag_len).filter(|proven| *proven >= RTCP_HEADER + 4)?;
                let (packet, tag) = packet.split_at_mut(proven);
                if !bool::from(prove(proof, packet, &[])[..*tag_len].ct_eq(tag)) {
                    return None;
                }
                let len = proven - 4;
                aes.keystream(&counter_block(salt, ssrc, u64::from(index)), &mut packet[RTCP_HEADER..len]);
                Some(len)
            }
            Cipher::Galois { aes, salt } => {
                let len = packet.len().checked_sub(TAG + 4).filter(|len| *len >= RTCP_HEADER)?;
                let trailer = *packet[len + TAG..].first_chunk()?;
                let (header, rest) = packet.split_at_mut(RTCP_HEADER);
                let (payload, rest) = rest.split_at_mut(len - RTCP_HEADER);
                aes.open(&rtcp_nonce(salt, ssrc, index), &rtcp_proven(header, trailer), payload, &rest[..TAG])?;
                Some(len)
            }
        }
    }
}

/// RFC 4568 §6.2.2: the short tag is for audio alone.
fn tag_len(suite: SrtpSuite, kind: Kind) -> usize {
    match kind {
        Kind::Rtp => suite.tag_len(),
        Kind::Rtcp => 10,
    }
}

/// RFC 3711 §4.3.1 with a key derivation rate of 0. The 96-bit salts of RFC 7714 stand at the left of the block, where
/// the label keeps its place: no RFC says so, all implementations do.
fn derive(master: &SrtpKey, label: u8, out: &mut [u8]) {
    let mut block = [0; 16];
    block[..master.salt().len()].copy_from_slice(master.salt());
    block[7] ^= label;
    out.fill(0);
    Aes::new(master.key()).keystream(&block, out);
}

/// RFC 3711 §4.1.1: salt, source and index, and 16 bits for the blocks of the packet.
fn counter_block(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[..14].copy_from_slice(salt);
    xor(&mut block[4..8], &ssrc.to_be_bytes());
    xor(&mut block[8..14], &index.to_be_bytes()[2..]);
    block
}

/// RFC 7714 §8.1.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
    nonce
}

/// RFC 7714 §9.1.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> [u8; 12] {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[8..12], &index.to_be_bytes());
    nonce
}

fn rtcp_proven(header: &[u8], trailer: [u8; 4]) -> [u8; RTCP_HEADER + 4] {
    let mut proven = [0; RTCP_HEADER + 4];
    proven[..RTCP_HEADER].copy_from_slice(header);
    proven[RTCP_HEADER..].copy_from_slice(&trailer);
    proven
}

/// RFC 3711 §4.2: the tag also covers the rollover counter, which is not sent.
fn prove_rtp(proof: &Hmac<Sha1>, packet: &[u8], index: u64) -> [u8; 20] {
    let rollovers = (index >> 16) as u32;
    prove(proof, packet, &rollovers.to_be_bytes())
}

fn prove(proof: &Hmac<Sha1>, packet: &[u8], more: &[u8]) -> [u8; 20] {
    let mut proof = proof.clone();
    proof.update(packet);
    proof.update(more);
    proof.finalize().into_bytes().into()
}

fn xor(block: &mut [u8], with: &[u8]) {
    for (octet, with) in block.iter_mut().zip(with) {
        *octet ^= with;
    }
}

/// AES as a stream of octets (RFC 3711 §4.1.1).
#[allow(clippy::large_enum_variant, reason = "a leg has four, and each packet reads one")]
pub(super) enum Aes {
    Short(Aes128),
    Long(Aes256),
}

impl Aes {
    fn new(key: &[u8]) -> Aes {
        match key.len() {
            16 => Aes::Short(Aes128::new(GenericArray::from_slice(key))),
            _ => Aes::Long(Aes256::new(GenericArray::from_slice(key))),
        }
    }

    /// Combines `octets` with the stream that begins with `block`, whose last two octets count. No datagram reaches
    /// their end.
    fn keystream(&self, block: &[u8; 16], octets: &mut [u8]) {
        let mut count = 0_u16;
        for chunk in octets.chunks_mut(16 * AT_ONCE) {
            let mut stream = [GenericArray::from(*block); AT_ONCE];
            for block in &mut stream {
                xor(&mut block[14..], &count.to_be_bytes());
                count = count.wrapping_add(1);
            }
            let stream = &mut stream[..chunk.len().div_ceil(16)];
            match self {
                Aes::Short(aes) => aes.encrypt_blocks(stream),
                Aes::Long(aes) => aes.encrypt_blocks(stream),
            }
            for (chunk, stream) in chunk.chunks_mut(16).zip(stream) {
                xor(chunk, stream);
            }
        }
    }
}

/// AES in Galois counter mode.
pub(super) enum Gcm {
    Short(Box<Aes128Gcm>),
    Long(Box<Aes256Gcm>),
}

impl Gcm {
    fn new(key: &[u8]) -> Gcm {
        match key.len() {
            16 => Gcm::Short(Box::new(Aes128Gcm::new(GenericArray::from_slice(key)))),
            _ => Gcm::Long(Box::new(Aes256Gcm::new(GenericArray::from_slice(key)))),
        }
    }

    fn seal(&self, nonce: &[u8; 12], proven: &[u8], payload: &mut [u8]) -> [u8; TAG] {
        let nonce = GenericArray::from_slice(nonce);
        let tag = match self {
            Gcm::Short(aes) => aes.encrypt_in_place_detached(nonce, proven, payload),
            Gcm::Long(aes) => aes.encrypt_in_place_detached(nonce, proven, payload),
        };
        tag.expect("fails only for 64 GiB and more, because that is all GCM limits").into()
    }

    fn open(&self, nonce: &[u8; 12], proven: &[u8], payload: &mut [u8], tag: &[u8]) -> Option<()> {
        let (nonce, tag) = (GenericArray::from_slice(nonce), GenericArray::from_slice(tag));
        let opened = match self {
            Gcm::Short(aes) => aes.decrypt_in_place_detached(nonce, proven, payload, tag),
            Gcm::Long(aes) => aes.decrypt_in_place_detached(nonce, proven, payload, tag),
        };
        opened.ok()
    }
}

/// Added to the first label of a kind.
const PROOF: u8 = 1;
const SALT: u8 = 2;
/// Octets of a tag in Galois counter mode; RFC 7714 §13.2 allows no shorter one.
const TAG: usize = 16;
/// Octets of an RTCP packet that stay readable: the first header and the sender.
const RTCP_HEADER: usize = 8;
/// The flag beside an SRTCP index (RFC 3711 §3.4).
const ENCRYPTED: u32 = 1 << 31;
/// Blocks ciphered side by side, as many as a processor with AES instructions does at once.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 B.3.
    #[test]
    fn keys_are_derived_as_published() {
        let master = octets("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
        let master = SrtpKey::new(SrtpSuite::Aes128CmSha1Tag80, &master).unwrap();
        let derived = |label, len| {
            let mut out = vec![0; len];
            derive(&master, label, &mut out);
            out
        };

        assert_eq!(derived(0, 16), octets("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(SALT, 14), octets("30CBBC08863D8C85D49DB34A9AE1"));
        let proof = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098 \
                     6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
        assert_eq!(derived(PROOF, 94), octets(proof));
    }

    /// RFC 3711 B.2: the beginning of the stream, and blocks FEFF to FF01 of it.
    #[test]
    fn the_counter_runs_as_published() {
        let aes = Aes::new(&octets("2B7E151628AED2A6ABF7158809CF4F3C"));
        let salt: [u8; 14] = octets("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let mut stream = vec![0; 16 * 0xFF02];

        aes.keystream(&counter_block(&salt, 0, 0), &mut stream);

        let first =
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
        assert_eq!(stream[..48], octets(first));
        let last = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44";
        assert_eq!(stream[16 * 0xFEFF..], octets(last));
    }

    /// RFC 6188 §7.1: the same stream with a key of 256 bits.
    #[test]
    fn the_counter_runs_as_published_with_a_long_key() {
        let aes = Aes::new(&octets("57F82FE3613FD170A85EC93C40B1F092 2EC4CB0DC025B58272147CC438944A98"));
        let salt: [u8; 14] = octets("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let mut stream = vec![0; 48];

        aes.keystream(&counter_block(&salt, 0, 0), &mut stream);

        let first =
            "92BDD28A93C3F52511C677D08B5515A4 9DA71B2378A854F67050756DED165BAC 63C4868B7096D88421B563B8C94C9A31";
        assert_eq!(stream, octets(first));
    }

    /// RFC 6188 §7.2.
    #[test]
    fn long_keys_are_derived_as_published() {
        let master = "F0F04914B513F2763A1B1FA130F10E2998F6F6E43E4309D1E622A0E332B9F1B6 3B04803DE51EE7C96423AB5B78D2";
        let master = SrtpKey::new(SrtpSuite::Aes256CmSha1Tag80, &octets(master)).unwrap();
        let derived = |label, len| {
            let mut out = vec![0; len];
            derive(&master, label, &mut out);
            out
        };

        let key = octets("5BA1064E30EC51613CAD926C5A28EF731EC7FB397F70A960653CAF06554CD8C4");
        assert_eq!(derived(0, 32), key);
        assert_eq!(derived(SALT, 14), octets("FA31791685CA444A9E07C6C64E93"));
        assert_eq!(derived(PROOF, 20), octets("FD9C32D39ED5FBB5A9DC96B30818454D1313DC05"));
    }

    /// RFC 7714 §16.1.1 and §16.2.1, which give session keys and no master key.
    #[test]
    fn packets_in_galois_counter_mode_are_as_published() {
        let plain = octets(
            "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 \
             6573",
        );
        let key: Vec<u8> = (0..32).collect();
        for (len, sealed) in [
            (
                16,
                "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b \
                 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
            ),
            (
                32,
                "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f \
                 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
            ),
        ] {
            let cipher = Cipher::Galois { aes: Gcm::new(&key[..len]), salt: *b"Quid pro quo" };
            let mut packet = plain.clone();
            cipher.seal_rtp(&mut packet, 0, 12, 0x5501_a0b2, 0xf17b);
            assert_eq!(packet, octets(sealed));

            assert_eq!(cipher.open_rtp(&mut packet, 12, 0x5501_a0b2, 0xf17b), Some(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}
