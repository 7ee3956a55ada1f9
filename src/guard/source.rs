//! Where something comes from, as far as it counts; and tables of sources that never grow beyond their bound.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// An IPv4 address, or the /64 of an IPv6 address: whoever has one address of it has them all (RFC 7721 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    /// A dual-stack socket shows IPv4 peers as `::ffff:a.b.c.d`; here they are the same.
    pub(super) fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4.into()),
            IpAddr::V6(v6) => Source::V6((u128::from(v6) >> 64) as u64),
        }
    }

    pub(super) fn octets(self) -> [u8; 9] {
        let (family, bits) = match self {
            Source::V4(v4) => (4, u64::from(v4)),
            Source::V6(v6) => (6, v6),
        };
        let bits = bits.to_be_bytes();
        std::array::from_fn(|at| if at == 0 { family } else { bits[at - 1] })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::V4(v4) => write!(f, "{}", Ipv4Addr::from(*v4)),
            Source::V6(v6) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*v6) << 64)),
        }
    }
}

/// What is known of each source, for as many as there is room for. The one that was quiet longest is forgotten first.
#[derive(Clone, Debug)]
pub(super) struct Recent<V> {
    most: usize,
    known: BTreeMap<Source, (u64, V)>,
    by_turn: BTreeMap<u64, Source>,
    turn: u64,
}

impl<V: Default> Recent<V> {
    pub(super) fn new(most: usize) -> Recent<V> {
        Recent { most, known: BTreeMap::new(), by_turn: BTreeMap::new(), turn: 0 }
    }

    /// What is known of a source, for a look that is no sign of life.
    pub(super) fn get(&self, source: Source) -> Option<&V> {
        self.known.get(&source).map(|(_, value)| value)
    }

    /// A sign of life; a new source begins with nothing known of it.
    pub(super) fn touch(&mut self, source: Source) -> &mut V {
        self.turn += 1;
        match self.known.get(&source) {
            Some((turn, _)) => {
                self.by_turn.remove(turn);
            }
            None if self.known.len() >= self.most => {
                if let Some((_, quiet)) = self.by_turn.pop_first() {
                    self.known.remove(&quiet);
                }
            }
            None => {}
        }
        self.by_turn.insert(self.turn, source);
        let (turn, value) = self.known.entry(source).or_default();
        *turn = self.turn;
        value
    }

    pub(super) fn remove(&mut self, source: Source) {
        if let Some((turn, _)) = self.known.remove(&source) {
            self.by_turn.remove(&turn);
        }
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.known.len(), self.by_turn.len(), "both know the same sources");
        self.known.len()
    }
}

/// So much in a second, and at first, or after a pause, as much as two seconds bring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Thousandths of what may still come, and when that was so. `None`: full.
    left: Option<(u64, Duration)>,
}

impl Bucket {
    /// Takes one; `false` when there is none left.
    pub(super) fn take(&mut self, now: Duration, per_second: u32) -> bool {
        let full = u64::from(per_second) * 2_000;
        let left = match self.left {
            None => full,
            Some((left, at)) => {
                let since_ms = u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
                left.saturating_add(since_ms.saturating_mul(u64::from(per_second))).min(full)
            }
        };
        let goes = left >= 1_000;
        self.left = Some((if goes { left - 1_000 } else { left }, now));
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_owner_is_one_source() {
        let source = |text: &str| Source::of(text.parse().unwrap());

        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(format!("{:?} {:?}", source("192.0.2.1"), source("2001:db8::1")), "192.0.2.1 2001:db8::/64");
    }

    #[test]
    fn the_quietest_source_is_forgotten_first() {
        let mut recent = Recent::<u32>::new(2);
        let source = |last: u8| Source::of(IpAddr::from([192, 0, 2, last]));
        *recent.touch(source(1)) = 1;
        *recent.touch(source(2)) = 2;
        recent.touch(source(1));

        *recent.touch(source(3)) = 3;

        assert_eq!(recent.len(), 2);
        assert_eq!((recent.get(source(1)), recent.get(source(2)), recent.get(source(3))), (Some(&1), None, Some(&3)));
        recent.remove(source(1));
        assert_eq!(recent.len(), 1);
    }

    #[test]
    fn a_bucket_lets_through_what_a_second_brings() {
        let mut bucket = Bucket::default();
        let ms = Duration::from_millis;
        let taken = |bucket: &mut Bucket, at: u64| (0..100).filter(|_| bucket.take(ms(at), 10)).count();

        assert_eq!(taken(&mut bucket, 0), 20);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 1_099), 10);
        assert_eq!(taken(&mut bucket, 100_000), 20);
        assert!(!bucket.take(ms(0), 10));
    }
}
