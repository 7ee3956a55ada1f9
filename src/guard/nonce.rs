//! Nonces that prove their own age: nothing is remembered of those that nobody uses.
//!
//! A nonce is the time it was drawn, a serial number, and a MAC over both with the source and the realm it was drawn for.
//! What was used with a right password is remembered until it is old, so that an answer that was overheard is of no use.

use std::collections::BTreeMap;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::digest::hex;
use super::source::Source;
use crate::model::limits;

/// Draws nonces and knows them again.
#[derive(Clone)]
pub(super) struct Nonces {
    key: [u8; 32],
    serial: u32,
    /// The highest count that each was used with. In the order of their ages.
    used: BTreeMap<Id, u32>,
    /// Those up to this one count as old, because what is known of them was forgotten.
    forgotten: Option<Id>,
}

/// Milliseconds since the guard's beginning, and the serial number.
pub(super) type Id = (u64, u32);

/// What a nonce turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Ours, drawn for this source, and still good.
    Fresh(Id),
    /// Ours, and too old.
    Old,
    /// Not ours, or of another process, or drawn for somebody else.
    Foreign,
}

impl Nonces {
    /// The key must be drawn at random, once for each process.
    pub(super) fn new(key: [u8; 32]) -> Nonces {
        Nonces { key, serial: 0, used: BTreeMap::new(), forgotten: None }
    }

    pub(super) fn draw(&mut self, now: Duration, source: Source, realm: &str) -> String {
        self.serial = self.serial.wrapping_add(1);
        let id = (ms(now), self.serial);
        let (time, serial) = (id.0.to_be_bytes(), id.1.to_be_bytes());
        [hex(&time[2..]), hex(&serial), hex(&self.mac(id, source, realm))].concat()
    }

    pub(super) fn look(&self, now: Duration, source: Source, realm: &str, nonce: &str) -> Age {
        let read = |from: usize, to: usize| nonce.get(from..to).and_then(|part| u64::from_str_radix(part, 16).ok());
        let id = match (nonce.len(), read(0, 12), read(12, 20)) {
            (LENGTH, Some(time), Some(serial)) => (time, u32::try_from(serial).unwrap_or(0)),
            _ => return Age::Foreign,
        };
        let mac = hex(&self.mac(id, source, realm));
        let is_ours = subtle::ConstantTimeEq::ct_eq(mac.as_bytes(), nonce.as_bytes().get(20..).unwrap_or_default());
        match () {
            () if !bool::from(is_ours) => Age::Foreign,
            () if ms(now).saturating_sub(id.0) > ms(limits::NONCE_AGE_MAX) => Age::Old,
            () if self.forgotten.is_some_and(|forgotten| id <= forgotten) => Age::Old,
            () => Age::Fresh(id),
        }
    }

    /// Uses a nonce; `false` when it was used with this count or a higher one before.
    pub(super) fn spend(&mut self, now: Duration, id: Id, count: u32) -> bool {
        let oldest = ms(now).saturating_sub(ms(limits::NONCE_AGE_MAX));
        while self.used.first_key_value().is_some_and(|(id, _)| id.0 < oldest) {
            self.used.pop_first();
        }
        let highest = self.used.get(&id).copied();
        if highest.is_some_and(|highest| count <= highest) {
            return false;
        }
        if highest.is_none()
            && self.used.len() >= limits::NONCES_MAX
            && let Some((forgotten, _)) = self.used.pop_first()
        {
            self.forgotten = Some(forgotten);
            if id <= forgotten {
                return false;
            }
        }
        self.used.insert(id, count);
        true
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    fn mac(&self, id: Id, source: Source, realm: &str) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length, RFC 2104 §2");
        mac.update(&id.0.to_be_bytes());
        mac.update(&id.1.to_be_bytes());
        mac.update(&source.octets());
        mac.update(realm.as_bytes());
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|at| whole[at])
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").field("used", &self.used.len()).finish_non_exhaustive()
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Six octets of time, four of the serial number, sixteen of the MAC.
const LENGTH: usize = 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_own_source_and_time_only() {
        let mut nonces = Nonces::new([7; 32]);
        let (here, there) = (Source::of("192.0.2.1".parse().unwrap()), Source::of("192.0.2.2".parse().unwrap()));
        let nonce = nonces.draw(at(10), here, "sip");

        assert!(matches!(nonces.look(at(10), here, "sip", &nonce), Age::Fresh(_)));
        assert_eq!(nonces.look(at(10), there, "sip", &nonce), Age::Foreign);
        assert_eq!(nonces.look(at(10), here, "other", &nonce), Age::Foreign);
        assert_eq!(Nonces::new([8; 32]).look(at(10), here, "sip", &nonce), Age::Foreign);
        assert_eq!(nonces.look(at(10) + limits::NONCE_AGE_MAX * 2, here, "sip", &nonce), Age::Old);
        for bad in ["", "00", &"é".repeat(26), &nonce.replace('0', "1"), &nonce[..51], &format!("{nonce}0")] {
            assert_eq!(nonces.look(at(10), here, "sip", bad), Age::Foreign, "{bad}");
        }
    }

    #[test]
    fn a_count_is_used_once_and_counts_only_grow() {
        let mut nonces = Nonces::new([7; 32]);

        assert!(nonces.spend(at(1), (1000, 1), 1) && nonces.spend(at(1), (1000, 1), 2));
        assert!(!nonces.spend(at(1), (1000, 1), 2) && !nonces.spend(at(1), (1000, 1), 1));
        assert!(nonces.spend(at(1), (1000, 2), 1));
    }

    #[test]
    fn what_is_forgotten_counts_as_old() {
        let mut nonces = Nonces::new([7; 32]);
        let here = Source::of("::1".parse().unwrap());
        let first = nonces.draw(at(1), here, "sip");
        let Age::Fresh(id) = nonces.look(at(1), here, "sip", &first) else { panic!("not fresh") };
        assert!(nonces.spend(at(1), id, 1));

        for serial in 0..u32::try_from(limits::NONCES_MAX).unwrap() {
            assert!(nonces.spend(at(2), (2000, serial), 1));
        }

        assert_eq!(nonces.len(), limits::NONCES_MAX);
        assert_eq!(nonces.look(at(2), here, "sip", &first), Age::Old);
        assert!(!nonces.spend(at(2), id, 2));
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }
}
