//! Keys and ciphers of protected audio (RFC 3711, RFC 4568), as the description of a call agrees on them.

use std::fmt;

/// How a leg's audio must be protected on the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaSecurity {
    /// Plain RTP. Keys that are offered are not taken.
    #[default]
    Off,
    /// Protected when the other side can, plain when it cannot.
    Optional,
    /// Protected, or no call.
    Required,
}

/// A cipher with its proof of origin, by the names of RFC 4568, RFC 6188 and RFC 7714.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpSuite {
    /// AES-256 in Galois counter mode (RFC 7714).
    AeadAes256Gcm,
    /// AES-128 in Galois counter mode (RFC 7714).
    AeadAes128Gcm,
    /// AES-256 in counter mode, tags of 80 bits (RFC 6188).
    Aes256CmSha1Tag80,
    /// AES-128 in counter mode, tags of 80 bits: the one that everybody has.
    Aes128CmSha1Tag80,
    /// The same with tags of 32 bits on audio; those of RTCP stay at 80 (RFC 4568 §6.2.2).
    Aes128CmSha1Tag32,
}

impl SrtpSuite {
    /// All of them, the one we like best first. The short tag comes last: it can be forged by patience.
    pub const ALL: [SrtpSuite; 5] = [
        SrtpSuite::AeadAes256Gcm,
        SrtpSuite::AeadAes128Gcm,
        SrtpSuite::Aes256CmSha1Tag80,
        SrtpSuite::Aes128CmSha1Tag80,
        SrtpSuite::Aes128CmSha1Tag32,
    ];

    /// The name in session descriptions.
    pub fn name(self) -> &'static str {
        match self {
            SrtpSuite::AeadAes256Gcm => "AEAD_AES_256_GCM",
            SrtpSuite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            SrtpSuite::Aes256CmSha1Tag80 => "AES_256_CM_HMAC_SHA1_80",
            SrtpSuite::Aes128CmSha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::Aes128CmSha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The suite of this name; case does not matter, as some peers do not care either.
    pub fn of(name: &str) -> Option<SrtpSuite> {
        SrtpSuite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Octets of a master key.
    pub fn key_len(self) -> usize {
        match self {
            SrtpSuite::AeadAes256Gcm | SrtpSuite::Aes256CmSha1Tag80 => 32,
            SrtpSuite::AeadAes128Gcm | SrtpSuite::Aes128CmSha1Tag80 | SrtpSuite::Aes128CmSha1Tag32 => 16,
        }
    }

    /// Octets of a master salt: 112 bits in counter mode (RFC 3711 §8.2), 96 in Galois counter mode (RFC 7714 §12).
    pub fn salt_len(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Octets added to a packet of audio.
    pub fn tag_len(self) -> usize {
        match self {
            SrtpSuite::AeadAes256Gcm | SrtpSuite::AeadAes128Gcm => 16,
            SrtpSuite::Aes256CmSha1Tag80 | SrtpSuite::Aes128CmSha1Tag80 => 10,
            SrtpSuite::Aes128CmSha1Tag32 => 4,
        }
    }

    /// Whether cipher and proof are one construction.
    pub fn is_aead(self) -> bool {
        matches!(self, SrtpSuite::AeadAes256Gcm | SrtpSuite::AeadAes128Gcm)
    }
}

impl fmt::Display for SrtpSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A master key and its salt, for audio in one direction. It prints as `•••`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SrtpKey {
    suite: SrtpSuite,
    octets: [u8; SrtpKey::LEN_MAX],
}

impl SrtpKey {
    /// Octets of the longest key with its salt.
    pub const LEN_MAX: usize = 32 + 14;

    /// Takes key and salt, one behind the other. `None` when they are not as long as the suite's.
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Option<SrtpKey> {
        if key_and_salt.len() != suite.key_len() + suite.salt_len() {
            return None;
        }
        let mut octets = [0; SrtpKey::LEN_MAX];
        octets[..key_and_salt.len()].copy_from_slice(key_and_salt);
        Some(SrtpKey { suite, octets })
    }

    /// What it is for.
    pub fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// The master key. Never for a log.
    pub fn key(&self) -> &[u8] {
        &self.octets[..self.suite.key_len()]
    }

    /// The master salt.
    pub fn salt(&self) -> &[u8] {
        &self.octets[self.suite.key_len()..][..self.suite.salt_len()]
    }

    /// Both, as a session description carries them. Never for a log.
    pub fn key_and_salt(&self) -> &[u8] {
        &self.octets[..self.suite.key_len() + self.suite.salt_len()]
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} •••", self.suite)
    }
}

/// The keys of a leg. Each side says with which key it sends (RFC 4568 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// For what we send.
    pub ours: SrtpKey,
    /// For what they send.
    pub theirs: SrtpKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_long_as_its_suite_says_and_is_never_printed() {
        for suite in SrtpSuite::ALL {
            let octets = vec![0xA5; suite.key_len() + suite.salt_len()];
            let key = SrtpKey::new(suite, &octets).expect("has the right length");

            assert_eq!((key.key().len(), key.salt().len()), (suite.key_len(), suite.salt_len()));
            assert_eq!(key.key_and_salt(), octets);
            assert!(SrtpKey::new(suite, &octets[1..]).is_none());
            assert_eq!(SrtpSuite::of(&suite.name().to_ascii_lowercase()), Some(suite));
            assert_eq!(format!("{key:?}"), format!("{suite} •••"));
        }
    }
}
