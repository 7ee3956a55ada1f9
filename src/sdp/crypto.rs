//! Media keys in a session description: `a=crypto` (RFC 4568).
//!
//! A line says how its writer protects what it sends. Lines that we could not honour to the letter are passed over, as
//! if they were of an unknown suite: with a master key identifier, with a lifetime below that of a long call, or with a
//! session parameter that switches protection off.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::limits::{SDP_KEY_LEN_MAX, SDP_KEYS_MAX};
use crate::model::{MediaSecurity, SrtpKey, SrtpKeys, SrtpSuite};

/// One line that we can honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// Names the line within its stream; the answer repeats it.
    pub tag: u32,
    /// What its writer sends with.
    pub key: SrtpKey,
}

/// Why a line is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoFault {
    /// Not of the form of RFC 4568 §9.1, or longer than any.
    Unreadable,
    /// A suite that we do not have.
    Suite,
    /// No base64, or not as long as the suite's key and salt.
    Key,
    /// Packets would bear an identifier of the key, which none of ours do; or there are several keys.
    Identifier,
    /// The key may protect fewer packets than a long call has.
    Lifetime,
    /// A session parameter that we do not follow: unprotected streams, key derivation rates, error correction.
    Parameter,
}

impl Crypto {
    /// Reads what follows `a=crypto:`.
    ///
    /// # Errors
    /// Why the line is of no use to us. Nothing of it is repeated: it holds a key.
    pub fn parse(value: &str) -> Result<Crypto, CryptoFault> {
        if value.len() > SDP_KEY_LEN_MAX {
            return Err(CryptoFault::Unreadable);
        }
        let mut words = value.split_ascii_whitespace();
        let (tag, suite, key) = match (words.next(), words.next(), words.next()) {
            (Some(tag), Some(suite), Some(key)) => (tag, suite, key),
            _ => return Err(CryptoFault::Unreadable),
        };
        // RFC 4568 §9.1: one to nine digits.
        let is_tag = (1..=9).contains(&tag.len()) && tag.bytes().all(|digit| digit.is_ascii_digit());
        let tag = tag.parse().ok().filter(|_| is_tag).ok_or(CryptoFault::Unreadable)?;
        let suite = SrtpSuite::of(suite).ok_or(CryptoFault::Suite)?;
        let key = read_key(suite, key)?;
        match words.all(is_harmless) {
            true => Ok(Crypto { tag, key }),
            false => Err(CryptoFault::Parameter),
        }
    }

    /// Writes the line.
    pub fn write(&self, out: &mut String) {
        let key = BASE64.encode(self.key.key_and_salt());
        let _ = write!(out, "a=crypto:{} {} inline:{key}\r\n", self.tag, self.key.suite());
    }
}

/// How our side wants audio protected, and what its keys are made of. It prints without the latter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    wanted: MediaSecurity,
    secret: Vec<u8>,
    /// Lines that we wrote before, whose keys stay.
    before: Vec<Crypto>,
}

impl Keyring {
    /// Keys made of a random secret of this leg alone.
    pub fn new(wanted: MediaSecurity, secret: [u8; 32]) -> Keyring {
        Keyring { wanted, secret: secret.to_vec(), before: Vec::new() }
    }

    /// As a description of ours left it. What was agreed under protection stays under it; only what we had offered to
    /// whoever can may come back plain. A suite that is chosen anew gets a key made of the one before.
    pub(super) fn after(profile: Profile, ours: &[Crypto]) -> Keyring {
        let wanted = match (profile, ours) {
            (_, []) => MediaSecurity::Off,
            (Profile::Plain, [_, _, ..]) => MediaSecurity::Optional,
            (Profile::Protected, _) | (Profile::Plain, [_]) => MediaSecurity::Required,
        };
        let secret = ours.first().map(|line| line.key.key_and_salt().to_vec()).unwrap_or_default();
        Keyring { wanted, secret, before: ours.to_vec() }
    }

    /// What is wanted.
    pub fn wanted(&self) -> MediaSecurity {
        self.wanted
    }

    fn key(&self, suite: SrtpSuite) -> SrtpKey {
        let known = self.before.iter().find(|line| line.key.suite() == suite);
        known.map_or_else(|| key_of(&self.secret, suite), |line| line.key)
    }

    /// The lines of an offer of ours.
    pub(super) fn offered(&self) -> Vec<Crypto> {
        match self.wanted {
            MediaSecurity::Off => Vec::new(),
            MediaSecurity::Optional | MediaSecurity::Required if !self.before.is_empty() => self.before.clone(),
            MediaSecurity::Optional | MediaSecurity::Required => offered(&self.secret, &SUITES_OFFERED),
        }
    }

    /// The profile of an offer of ours. RFC 4568 §6.1 has keys beside `RTP/SAVP` alone; beside `RTP/AVP` they are what
    /// telephones call best effort: who does not know them passes them over, and one offer is enough.
    pub(super) fn profile(&self) -> Profile {
        match self.wanted {
            MediaSecurity::Required => Profile::Protected,
            MediaSecurity::Optional | MediaSecurity::Off => Profile::Plain,
        }
    }

    /// Answers an offer of keys.
    pub(super) fn choose(&self, profile: Profile, theirs: &[Crypto]) -> Result<Option<Protection>, Unprotectable> {
        choose(self.wanted, profile, theirs, |suite| self.key(suite))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({:?})", self.wanted)
    }
}

/// What else an audio stream says beside its codecs; it is the same in offers and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attire {
    pub(super) profile: Profile,
    pub(super) crypto: Vec<Crypto>,
    /// RTCP on the port of audio (RFC 5761).
    pub(super) is_muxed: bool,
    /// Extended reports (RFC 3611 §5.1).
    pub(super) is_extended: bool,
}

impl Attire {
    /// Puts it on the stream that `text` ends with, which begins at `start`.
    pub(super) fn put_on(&self, text: &mut String, start: usize) {
        if self.profile == Profile::Protected
            && let Some(at) = text[start..].find(" RTP/AVP ")
        {
            text.replace_range(start + at..start + at + " RTP/AVP ".len(), " RTP/SAVP ");
        }
        self.crypto.iter().for_each(|line| line.write(text));
        if self.is_muxed {
            text.push_str("a=rtcp-mux\r\n");
        }
        if self.is_extended {
            text.push_str("a=rtcp-xr:voip-metrics\r\n");
        }
    }
}

/// Whether the profile of an `m=` line promises protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `RTP/AVP`; with keys beside it, protection is offered to whoever can.
    Plain,
    /// `RTP/SAVP`.
    Protected,
}

impl Profile {
    /// The profile of this name, if it is one that we speak.
    pub fn of(name: &str) -> Option<Profile> {
        match name {
            name if name.eq_ignore_ascii_case("RTP/AVP") => Some(Profile::Plain),
            name if name.eq_ignore_ascii_case("RTP/SAVP") => Some(Profile::Protected),
            _ => None,
        }
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Plain => "RTP/AVP",
            Profile::Protected => "RTP/SAVP",
        }
    }
}

/// What an offer of keys comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The tag of the line that was taken.
    pub tag: u32,
    /// With what each side sends.
    pub keys: SrtpKeys,
}

/// Why a stream cannot be had as it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprotectable {
    /// We insist on protection, and none is offered.
    Missing,
    /// The other side insists on it, and offers no keys that we can use.
    NoKeys,
    /// The other side insists on it, and we do not do it here.
    Unwanted,
}

/// Answers an offer of keys: the line that the other side likes best among those that we can honour. `ours` makes our
/// key for a suite.
///
/// # Errors
/// Why there can be no audio.
pub fn choose(
    security: MediaSecurity,
    profile: Profile,
    theirs: &[Crypto],
    ours: impl FnOnce(SrtpSuite) -> SrtpKey,
) -> Result<Option<Protection>, Unprotectable> {
    match (security, profile, theirs.first()) {
        (MediaSecurity::Off, Profile::Protected, _) => Err(Unprotectable::Unwanted),
        (_, Profile::Protected, None) => Err(Unprotectable::NoKeys),
        (MediaSecurity::Required, Profile::Plain, None) => Err(Unprotectable::Missing),
        (MediaSecurity::Off, Profile::Plain, _) | (MediaSecurity::Optional, Profile::Plain, None) => Ok(None),
        (MediaSecurity::Optional | MediaSecurity::Required, _, Some(line)) => {
            let keys = SrtpKeys { ours: ours(line.key.suite()), theirs: line.key };
            Ok(Some(Protection { tag: line.tag, keys }))
        }
    }
}

/// Reads the answer to keys that we offered. An answer with `RTP/AVP` and keys is taken as well as one with `RTP/SAVP`:
/// both are found where keys were offered beside `RTP/AVP`.
///
/// # Errors
/// Why there can be no audio; also when the answer names a tag or a suite that was not offered (RFC 4568 §5.1.3).
pub fn settle(
    security: MediaSecurity,
    profile: Profile,
    ours: &[Crypto],
    theirs: &[Crypto],
) -> Result<Option<Protection>, Unprotectable> {
    match theirs.first() {
        None if profile == Profile::Protected => Err(Unprotectable::NoKeys),
        None if security == MediaSecurity::Required => Err(Unprotectable::Missing),
        None => Ok(None),
        Some(line) => {
            let taken = ours.iter().find(|ours| ours.tag == line.tag && ours.key.suite() == line.key.suite());
            let ours = taken.ok_or(Unprotectable::NoKeys)?.key;
            Ok(Some(Protection { tag: line.tag, keys: SrtpKeys { ours, theirs: line.key } }))
        }
    }
}

/// The lines that we offer: the suites of `suites` in their order, with keys made of `secret`.
pub fn offered(secret: &[u8], suites: &[SrtpSuite]) -> Vec<Crypto> {
    (1..).zip(suites).map(|(tag, suite)| Crypto { tag, key: key_of(secret, *suite) }).collect()
}

/// What an offer of ours names: the short tag is taken from those who have nothing else, but not asked for.
pub const SUITES_OFFERED: [SrtpSuite; 4] =
    [SrtpSuite::AeadAes256Gcm, SrtpSuite::AeadAes128Gcm, SrtpSuite::Aes256CmSha1Tag80, SrtpSuite::Aes128CmSha1Tag80];

/// The lines of a stream that we can honour, in their order. Of two with the same tag the first counts.
pub fn usable<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Crypto> {
    let mut usable: Vec<Crypto> = Vec::new();
    for crypto in values.take(SDP_KEYS_MAX).filter_map(|value| Crypto::parse(value).ok()) {
        if usable.iter().all(|known| known.tag != crypto.tag) {
            usable.push(crypto);
        }
    }
    usable
}

/// A key of ours, made of a secret that is of this leg alone. Each suite gets a key of its own, so that no two ciphers
/// share one, and the same secret gives the same key again: a description that is repeated says the same.
pub fn key_of(secret: &[u8], suite: SrtpSuite) -> SrtpKey {
    let mut octets = [0; 64];
    for (at, half) in octets.chunks_mut(32).enumerate() {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length, RFC 2104 §2");
        mac.update(suite.name().as_bytes());
        mac.update(&[at as u8]);
        half.copy_from_slice(&mac.finalize().into_bytes());
    }
    let len = suite.key_len() + suite.salt_len();
    SrtpKey::new(suite, &octets[..len]).expect("is as long as its suite says, because it was cut to that")
}

/// `inline:` key and salt, and behind bars a lifetime and an identifier, in this order, either of which may be absent.
fn read_key(suite: SrtpSuite, text: &str) -> Result<SrtpKey, CryptoFault> {
    let (method, rest) = text.split_once(':').ok_or(CryptoFault::Unreadable)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(CryptoFault::Unreadable);
    }
    // Several keys are told apart by identifiers.
    if rest.contains(';') {
        return Err(CryptoFault::Identifier);
    }
    let mut parts = rest.split('|');
    let key = BASE64.decode(parts.next().unwrap_or_default()).map_err(|_| CryptoFault::Key)?;
    let key = SrtpKey::new(suite, &key).ok_or(CryptoFault::Key)?;
    let mut has_lifetime = false;
    for part in parts {
        if part.contains(':') {
            return Err(CryptoFault::Identifier);
        }
        if std::mem::replace(&mut has_lifetime, true) {
            return Err(CryptoFault::Unreadable);
        }
        if lifetime(part).ok_or(CryptoFault::Unreadable)? < LIFETIME_MIN {
            return Err(CryptoFault::Lifetime);
        }
    }
    Ok(key)
}

/// Packets that a key may protect: a number, or a power of two. What exceeds the most there can be counts as that.
fn lifetime(text: &str) -> Option<u64> {
    match text.strip_prefix("2^") {
        Some(power) => power.parse::<u32>().ok().map(|power| 1_u64.checked_shl(power).unwrap_or(u64::MAX)),
        None => text.parse().ok(),
    }
}

/// Whether a session parameter changes nothing for us: the window of the other side, and what may be ignored by its name
/// (RFC 4568 §6.3).
fn is_harmless(parameter: &str) -> bool {
    parameter.starts_with('-') || parameter.to_ascii_uppercase().starts_with("WSH=")
}

/// Padding is often forgotten.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// More than the packets of 20 ms in the longest call, four hours: we do not change keys by ourselves.
const LIFETIME_MIN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4568 §6.1 has a line like this one, with a lifetime and an identifier.
    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    #[test]
    fn a_line_is_read_with_its_lifetime_and_what_else_may_stand_there() {
        for tail in ["", "|2^31", "|2^48", "|1048576", "|2^20 WSH=128", "|2^31 -whatever=1"] {
            let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{tail}");
            let crypto = Crypto::parse(&line).unwrap_or_else(|fault| panic!("{line}: {fault:?}"));
            assert_eq!((crypto.tag, crypto.key.suite()), (1, SrtpSuite::Aes128CmSha1Tag80));
            assert_eq!(crypto.key.key(), b"wDfvg&T+)xG7@fb5");
        }
    }

    #[test]
    fn what_we_could_not_honour_is_passed_over() {
        for (line, fault) in [
            ("", CryptoFault::Unreadable),
            ("1 AES_CM_128_HMAC_SHA1_80", CryptoFault::Unreadable),
            ("x AES_CM_128_HMAC_SHA1_80 inline:KEY", CryptoFault::Unreadable),
            ("+1 AES_CM_128_HMAC_SHA1_80 inline:KEY", CryptoFault::Unreadable),
            ("1234567890 AES_CM_128_HMAC_SHA1_80 inline:KEY", CryptoFault::Unreadable),
            ("1 AES_CM_128_HMAC_SHA1_80 outline:KEY", CryptoFault::Unreadable),
            ("1 F8_128_HMAC_SHA1_80 inline:KEY", CryptoFault::Suite),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEYA", CryptoFault::Key),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:", CryptoFault::Key),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:%%%%", CryptoFault::Key),
            ("1 AEAD_AES_128_GCM inline:KEY", CryptoFault::Key),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|1:4", CryptoFault::Identifier),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:4", CryptoFault::Identifier),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|1:4;inline:KEY|2^20|2:4", CryptoFault::Identifier),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^19", CryptoFault::Lifetime),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|50", CryptoFault::Lifetime),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|soon", CryptoFault::Unreadable),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|2^31", CryptoFault::Unreadable),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTP", CryptoFault::Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTCP", CryptoFault::Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNAUTHENTICATED_SRTP", CryptoFault::Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=1", CryptoFault::Parameter),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY WSH=64 FEC_ORDER=FEC_SRTP", CryptoFault::Parameter),
        ] {
            assert_eq!(Crypto::parse(&line.replace("KEY", KEY)), Err(fault), "{line}");
        }
        let long = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", "A".repeat(2 * SDP_KEY_LEN_MAX));
        assert_eq!(Crypto::parse(&long), Err(CryptoFault::Unreadable));
    }

    #[test]
    fn every_suite_is_read_as_it_is_written() {
        for suite in SrtpSuite::ALL {
            let crypto = Crypto { tag: 7, key: key_of(b"secret", suite) };
            let mut line = String::new();

            crypto.write(&mut line);

            let value = line.strip_prefix("a=crypto:").and_then(|line| line.strip_suffix("\r\n")).unwrap();
            assert_eq!(Crypto::parse(value), Ok(crypto));
            assert_eq!(Crypto::parse(value.trim_end_matches('=')), Ok(crypto), "without padding");
        }
    }

    #[test]
    fn keys_of_ours_differ_by_secret_and_by_suite_and_are_the_same_again() {
        let key = key_of(b"secret", SrtpSuite::AeadAes128Gcm);
        assert_eq!(key, key_of(b"secret", SrtpSuite::AeadAes128Gcm));
        assert_ne!(key.key(), key_of(b"other", SrtpSuite::AeadAes128Gcm).key());
        assert_ne!(key.key(), key_of(b"secret", SrtpSuite::Aes128CmSha1Tag80).key());
        assert_ne!(
            &key_of(b"secret", SrtpSuite::AeadAes256Gcm).key()[..12],
            key_of(b"secret", SrtpSuite::AeadAes256Gcm).salt()
        );
    }

    #[test]
    fn of_lines_with_one_tag_the_first_counts_and_many_are_not_all_read() {
        let line = |tag: usize| format!("{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        let twice = [line(1), line(1).replace("_80", "_32"), line(2)];
        let many: Vec<String> = (1..100).map(line).collect();

        let tags = |lines: &[String]| usable(lines.iter().map(String::as_str)).len();

        assert_eq!(tags(&twice), 2);
        assert_eq!(usable(twice.iter().map(String::as_str))[0].key.suite(), SrtpSuite::Aes128CmSha1Tag80);
        assert_eq!(tags(&many), SDP_KEYS_MAX);
    }

    #[test]
    fn what_is_wished_and_what_is_offered_decide() {
        use MediaSecurity::{Off, Optional, Required};
        use Profile::{Plain, Protected};
        let line = Crypto { tag: 4, key: key_of(b"theirs", SrtpSuite::Aes128CmSha1Tag80) };
        let ours = |suite| key_of(b"ours", suite);
        let keys = SrtpKeys { ours: ours(SrtpSuite::Aes128CmSha1Tag80), theirs: line.key };
        let protected = Ok(Some(Protection { tag: 4, keys }));
        for (security, profile, is_keyed, expected) in [
            (Off, Plain, false, Ok(None)),
            (Off, Plain, true, Ok(None)),
            (Off, Protected, true, Err(Unprotectable::Unwanted)),
            (Optional, Plain, false, Ok(None)),
            (Optional, Plain, true, protected),
            (Optional, Protected, true, protected),
            (Optional, Protected, false, Err(Unprotectable::NoKeys)),
            (Required, Plain, false, Err(Unprotectable::Missing)),
            (Required, Plain, true, protected),
            (Required, Protected, true, protected),
            (Required, Protected, false, Err(Unprotectable::NoKeys)),
        ] {
            let theirs = [line];
            let theirs = if is_keyed { &theirs[..] } else { &[] };
            assert_eq!(choose(security, profile, theirs, ours), expected, "{security:?} {profile:?} {is_keyed}");
        }
    }

    #[test]
    fn an_answer_must_name_what_was_offered() {
        let ours = offered(b"ours", &SUITES_OFFERED);
        let answer = |tag, suite| [Crypto { tag, key: key_of(b"theirs", suite) }];
        let read = |theirs: &[Crypto]| settle(MediaSecurity::Optional, Profile::Protected, &ours, theirs);

        let taken = read(&answer(4, SrtpSuite::Aes128CmSha1Tag80)).unwrap().unwrap();
        assert_eq!((taken.tag, taken.keys.ours), (4, ours[3].key));
        assert_eq!(read(&answer(1, SrtpSuite::Aes128CmSha1Tag80)), Err(Unprotectable::NoKeys));
        assert_eq!(read(&answer(9, SrtpSuite::Aes128CmSha1Tag80)), Err(Unprotectable::NoKeys));
        assert_eq!(read(&[]), Err(Unprotectable::NoKeys));
        assert_eq!(settle(MediaSecurity::Optional, Profile::Plain, &ours, &[]), Ok(None));
        assert_eq!(settle(MediaSecurity::Required, Profile::Plain, &ours, &[]), Err(Unprotectable::Missing));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,100}") {
            let _ = Crypto::parse(&text);
            let _ = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{text}"));
        }
    }
}
