//! STUN as ICE speaks it (RFC 8489, RFC 8445 §7): binding requests and their answers, and no more.
//!
//! Pure. Reading takes what came from anywhere, so nothing is believed before its signature was checked, and attributes
//! behind the signature count for nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtc::crypto::{HmacAlgorithm, RTCCrypto};

/// Names a request and its answer.
pub(super) type Transaction = [u8; 12];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Success,
    /// An error or an indication, which nobody here acts on.
    Other,
}

/// A message that was read and not yet believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) class: Class,
    pub(super) transaction: Transaction,
    /// `ours:theirs` in a request.
    pub(super) username: Option<&'a str>,
    /// The other side, which decides, chose this path.
    pub(super) use_candidate: bool,
    /// Where the other side saw us.
    pub(super) mapped: Option<SocketAddr>,
    /// The CRC that tells STUN from everything else is there, and right.
    pub(super) has_fingerprint: bool,
    raw: &'a [u8],
    /// Where the signature's attribute begins.
    signature: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads a binding message; `None` for everything else.
    pub(super) fn read(raw: &'a [u8]) -> Option<Message<'a>> {
        let head: &[u8; HEAD] = raw.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[4..8] != COOKIE || length % 4 != 0 || raw.len() != HEAD + length {
            return None;
        }
        let class = match u16::from_be_bytes([head[0], head[1]]) {
            REQUEST => Class::Request,
            SUCCESS => Class::Success,
            INDICATION | ERROR => Class::Other,
            _ => return None,
        };
        let transaction: Transaction = *head.last_chunk()?;
        let mut message = Message {
            class,
            transaction,
            username: None,
            use_candidate: false,
            mapped: None,
            has_fingerprint: false,
            raw,
            signature: None,
        };
        let mut at = HEAD;
        while at < raw.len() {
            let [k0, k1, l0, l1] = *raw[at..].first_chunk()?;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = raw.get(at + 4..at + 4 + length)?;
            match (u16::from_be_bytes([k0, k1]), message.signature) {
                (FINGERPRINT, _) => {
                    // RFC 8489 §14.7: it is the last one.
                    let is_last = at + 8 == raw.len() && length == 4;
                    message.has_fingerprint = is_last && *value == fingerprint(&raw[..at]).to_be_bytes();
                    return message.has_fingerprint.then_some(message);
                }
                (_, Some(_)) => {}
                (USERNAME, None) if length <= USERNAME_MAX => message.username = std::str::from_utf8(value).ok(),
                (USE_CANDIDATE, None) => message.use_candidate = true,
                (XOR_MAPPED_ADDRESS, None) => message.mapped = unmask(value, &transaction),
                (MESSAGE_INTEGRITY, None) if length == SIGNATURE => message.signature = Some(at),
                // What else there is, priorities and roles among it, changes nothing here.
                (_, None) => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        Some(message)
    }

    /// Our own part of the user name.
    pub(super) fn called(&self) -> Option<&'a str> {
        Some(self.username?.split_once(':')?.0)
    }

    /// Whether whoever wrote it knows this password.
    pub(super) fn is_signed_with(&self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        let Some(at) = self.signature else { return false };
        // The length is signed as if the signature were the last attribute (RFC 8489 §14.5).
        let mut head: [u8; HEAD] = [0; HEAD];
        head.copy_from_slice(&self.raw[..HEAD]);
        let Ok(length) = u16::try_from(at - HEAD + 4 + SIGNATURE) else { return false };
        head[2..4].copy_from_slice(&length.to_be_bytes());
        let signature = &self.raw[at + 4..at + 4 + SIGNATURE];
        let mac = crypto.new_hmac(HmacAlgorithm::Sha1, password.as_bytes());
        mac.and_then(|mut mac| mac.verify(&[&head, &self.raw[HEAD..at]], signature)).is_ok()
    }
}

/// A check of a path, by the side that does not decide.
pub(super) fn check(
    transaction: Transaction,
    username: &str,
    priority: u32,
    tie_breaker: u64,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Vec<u8> {
    let mut message = Writer::new(REQUEST, transaction);
    message.add(USERNAME, username.as_bytes());
    message.add(PRIORITY, &priority.to_be_bytes());
    message.add(ICE_CONTROLLED, &tie_breaker.to_be_bytes());
    message.finish(Some(password), crypto)
}

/// A check by the side that decides.
#[cfg(test)]
pub(super) fn test_check(
    transaction: Transaction,
    username: &str,
    use_candidate: bool,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Vec<u8> {
    let mut message = Writer::new(REQUEST, transaction);
    message.add(USERNAME, username.as_bytes());
    if use_candidate {
        message.add(USE_CANDIDATE, &[]);
    }
    message.finish(Some(password), crypto)
}

/// A question of a STUN server: where do you see us?
pub(super) fn question(transaction: Transaction, crypto: &dyn RTCCrypto) -> Vec<u8> {
    Writer::new(REQUEST, transaction).finish(None, crypto)
}

/// The answer to a check.
pub(super) fn success(transaction: Transaction, seen: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Vec<u8> {
    let mut message = Writer::new(SUCCESS, transaction);
    message.add(XOR_MAPPED_ADDRESS, &mask(seen, &transaction));
    message.finish(Some(password), crypto)
}

struct Writer {
    raw: Vec<u8>,
}

impl Writer {
    fn new(kind: u16, transaction: Transaction) -> Writer {
        let mut raw = Vec::with_capacity(128);
        raw.extend(kind.to_be_bytes());
        raw.extend([0, 0]);
        raw.extend(COOKIE);
        raw.extend(transaction);
        Writer { raw }
    }

    fn add(&mut self, kind: u16, value: &[u8]) {
        self.raw.extend(kind.to_be_bytes());
        let length =
            u16::try_from(value.len()).expect("it fits because the longest value is a user name, which is bounded");
        self.raw.extend(length.to_be_bytes());
        self.raw.extend(value);
        self.raw.resize(self.raw.len().next_multiple_of(4), 0);
    }

    /// Announces `more` bytes behind what is written.
    fn set_length(&mut self, more: usize) {
        let length = u16::try_from(self.raw.len() - HEAD + more).unwrap_or(u16::MAX);
        self.raw[2..4].copy_from_slice(&length.to_be_bytes());
    }

    fn finish(mut self, password: Option<&str>, crypto: &dyn RTCCrypto) -> Vec<u8> {
        if let Some(password) = password {
            self.set_length(4 + SIGNATURE);
            let mut signature = [0; SIGNATURE];
            let mac = crypto.new_hmac(HmacAlgorithm::Sha1, password.as_bytes());
            // A crypto library without HMAC-SHA1 makes messages that nobody believes, and the call ends for that.
            let _ = mac.and_then(|mut mac| mac.sign(&[&self.raw], &mut signature));
            self.add(MESSAGE_INTEGRITY, &signature);
        }
        self.set_length(8);
        let crc = fingerprint(&self.raw);
        self.add(FINGERPRINT, &crc.to_be_bytes());
        self.raw
    }
}

/// RFC 8489 §14.2: addresses are masked, because some routers rewrite those that they find.
fn mask(address: SocketAddr, transaction: &Transaction) -> Vec<u8> {
    let port = address.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let [p0, p1] = port.to_be_bytes();
    let masked = |octets: &[u8]| -> Vec<u8> {
        octets.iter().zip(COOKIE.iter().chain(transaction)).map(|(octet, mask)| octet ^ mask).collect()
    };
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => [vec![0, 1, p0, p1], masked(&v4.octets())].concat(),
        IpAddr::V6(v6) => [vec![0, 2, p0, p1], masked(&v6.octets())].concat(),
    }
}

fn unmask(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let [_, family, p0, p1] = *value.first_chunk()?;
    let port = u16::from_be_bytes([p0, p1]) ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let mut mask = COOKIE.iter().chain(transaction);
    let mut open = |octet: &u8| octet ^ mask.next().unwrap_or(&0);
    let ip = match (family, value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from(value.last_chunk::<4>()?.each_ref().map(&mut open))),
        (2, 20) => IpAddr::V6(Ipv6Addr::from(value.last_chunk::<16>()?.each_ref().map(&mut open))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 8489 §14.7: the CRC-32 of ISO 3309, made different from other uses of it.
fn fingerprint(raw: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for octet in raw {
        crc = CRC_TABLE[usize::from((crc ^ u32::from(*octet)) as u8)] ^ (crc >> 8);
    }
    !crc ^ 0x5354_554e
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

const HEAD: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// An HMAC-SHA1.
const SIGNATURE: usize = 20;
/// RFC 8489 §14.3.
const USERNAME_MAX: usize = 508;

const REQUEST: u16 = 0x0001;
const INDICATION: u16 = 0x0011;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::stun::attributes::ATTR_USERNAME;
    use rtc::stun::fingerprint::FINGERPRINT as THEIR_FINGERPRINT;
    use rtc::stun::integrity::MessageIntegrity;
    use rtc::stun::message::{BINDING_REQUEST, Getter, Message as Theirs, TransactionId};
    use rtc::stun::textattrs::TextAttribute;
    use rtc::stun::xoraddr::XorMappedAddress;

    #[test]
    fn a_request_of_another_library_is_read_and_believed() {
        let (crypto, mut theirs) = (crypto(), Theirs::new());
        theirs
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId([7; 12])),
                Box::new(TextAttribute::new(ATTR_USERNAME, "ours:theirs".to_owned())),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                    "password".to_owned(),
                    crypto.crypto(),
                )),
                Box::new(THEIR_FINGERPRINT),
            ])
            .unwrap();

        let message = Message::read(&theirs.raw).unwrap();

        assert_eq!((message.class, message.called()), (Class::Request, Some("ours")));
        assert!(message.has_fingerprint && message.is_signed_with("password", crypto.crypto()));
        assert!(!message.is_signed_with("passwort", crypto.crypto()));
    }

    #[test]
    fn another_library_reads_and_believes_our_answer() {
        let crypto = crypto();
        for seen in ["192.0.2.9:4711", "[2001:db8::9]:4711"] {
            let seen: SocketAddr = seen.parse().unwrap();
            let raw = success([3; 12], seen, "password", crypto.crypto());
            let mut theirs = Theirs { raw: raw.clone(), ..Theirs::default() };
            theirs.decode().unwrap();

            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&theirs).unwrap();

            assert_eq!(SocketAddr::new(mapped.ip, mapped.port), seen);
            assert!(THEIR_FINGERPRINT.check(&theirs).is_ok());
            assert!(MessageIntegrity::check(&mut theirs, b"password", crypto.crypto()).is_ok());
            assert_eq!(Message::read(&raw).unwrap().mapped, Some(seen));
        }
    }

    #[test]
    fn what_stands_behind_the_signature_is_not_believed() {
        let crypto = crypto();
        let mut message = Writer::new(REQUEST, [1; 12]);
        message.set_length(4 + SIGNATURE);
        let mut signature = [0; SIGNATURE];
        let mac = crypto.crypto().new_hmac(HmacAlgorithm::Sha1, b"password");
        mac.unwrap().sign(&[&message.raw], &mut signature).unwrap();
        message.add(MESSAGE_INTEGRITY, &signature);
        message.add(USE_CANDIDATE, &[]);
        let raw = message.finish(None, crypto.crypto());

        let read = Message::read(&raw).unwrap();

        assert!(read.is_signed_with("password", crypto.crypto()));
        assert!(!read.use_candidate);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let crypto = crypto();
        let raw = check([5; 12], "ours:theirs", 1, 2, "password", crypto.crypto());
        for at in 0..raw.len() {
            let mut changed = raw.clone();
            changed[at] ^= 0x10;

            let read = Message::read(&changed).filter(|read| read.has_fingerprint);
            let believed = read.is_some_and(|read| read.is_signed_with("password", crypto.crypto()));

            assert!(!believed, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_harm(head in prop::bool::ANY, mut raw in prop::collection::vec(any::<u8>(), 0..200)) {
            if head && raw.len() >= HEAD {
                let length = u16::try_from(raw.len() - HEAD).unwrap();
                raw[..2].copy_from_slice(&REQUEST.to_be_bytes());
                raw[2..4].copy_from_slice(&length.to_be_bytes());
                raw[4..8].copy_from_slice(&COOKIE);
            }
            if let Some(read) = Message::read(&raw) {
                prop_assert!(!read.is_signed_with("password", crypto().crypto()));
            }
        }
    }

    fn crypto() -> std::sync::Arc<dyn rtc::crypto::RTCCryptoProvider> {
        rtc::crypto::default_provider().unwrap()
    }
}
