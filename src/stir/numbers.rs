//! TNAuthList: which numbers a certificate may speak for (RFC 8226 §9).

/// What a certificate may speak for. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TnAuthList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A provider's code: all numbers of the provider, which only the authority that gave it can list.
    Provider,
    Range {
        start: u64,
        digits: usize,
        count: u64,
    },
    One(String),
}

impl TnAuthList {
    /// The value of the extension, in DER. `None` when it is not what RFC 8226 describes.
    pub fn parse(der: &[u8]) -> Option<TnAuthList> {
        let mut input = der;
        let mut list = element(&mut input, SEQUENCE).filter(|_| input.is_empty())?;
        let mut entries = Vec::new();
        while !list.is_empty() {
            entries.push(entry(&mut list)?);
        }
        (!entries.is_empty()).then_some(TnAuthList(entries))
    }

    /// Whether it may speak for a number, written as digits.
    pub fn covers(&self, number: &str) -> bool {
        self.0.iter().any(|entry| match entry {
            Entry::Provider => true,
            Entry::One(one) => one == number,
            Entry::Range { start, digits, count } => {
                let number = Some(number).filter(|number| number.len() == *digits).and_then(value);
                number.and_then(|number| number.checked_sub(*start)).is_some_and(|above| above < *count)
            }
        })
    }
}

// The module has explicit tags: [0] code, [1] range, [2] number.
fn entry(list: &mut &[u8]) -> Option<Entry> {
    let tag = *list.first()?;
    let mut inner = element(list, tag)?;
    let entry = match tag {
        0xA0 => {
            let code = element(&mut inner, IA5)?;
            (!code.is_empty()).then_some(Entry::Provider)?
        }
        0xA1 => {
            let mut range = element(&mut inner, SEQUENCE)?;
            let start = text(element(&mut range, IA5)?)?;
            let count = integer(element(&mut range, INTEGER)?).filter(|count| *count >= 2)?;
            // A range may go on with further ones in later forms; what we cannot read, we do not take for less.
            range.is_empty().then_some(())?;
            Entry::Range { start: value(&start)?, digits: start.len(), count }
        }
        0xA2 => Entry::One(text(element(&mut inner, IA5)?)?),
        _ => return None,
    };
    inner.is_empty().then_some(entry)
}

/// The contents of the next element, when it has this tag.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, rest) = input.split_first().filter(|(first, _)| **first == tag)?;
    debug_assert_eq!(*first, tag);
    let (len, rest) = rest.split_first()?;
    // DER: short lengths in one octet, longer ones in as few as possible. Nothing here is longer than two say.
    let (len, rest) = match len {
        0..=0x7F => (usize::from(*len), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    *input = rest;
    Some(contents)
}

fn text(octets: &[u8]) -> Option<String> {
    let is_number = (1..=15).contains(&octets.len()) && octets.iter().all(|o| b"0123456789*#".contains(o));
    is_number.then(|| octets.iter().map(|octet| char::from(*octet)).collect())
}

fn value(number: &str) -> Option<u64> {
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())?
}

fn integer(octets: &[u8]) -> Option<u64> {
    // Seven octets: more numbers than fifteen digits can write.
    let is_positive = octets.first().is_some_and(|first| *first < 0x80) && octets.len() <= 7;
    is_positive.then(|| octets.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)))
}

const SEQUENCE: u8 = 0x30;
const IA5: u8 = 0x16;
const INTEGER: u8 = 0x02;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_covers_its_numbers_and_ranges_and_no_others() {
        // SEQUENCE { [2] "12155551212", [1] SEQUENCE { "12155551300", 100 } }
        let one = [&[0xA2, 13, 0x16, 11][..], b"12155551212"].concat();
        let range = [&[0xA1, 18, 0x30, 16, 0x16, 11][..], b"12155551300", &[2, 1, 100]].concat();
        let list = [&[0x30, 35][..], &one, &range].concat();

        let list = TnAuthList::parse(&list).unwrap();

        for number in ["12155551212", "12155551300", "12155551399"] {
            assert!(list.covers(number), "{number}");
        }
        for number in ["12155551213", "12155551299", "12155551400", "2155551300", "012155551300", "1215555130*", ""] {
            assert!(!list.covers(number), "{number}");
        }
    }

    #[test]
    fn a_providers_code_covers_every_number() {
        // What certificates of providers bear: 30 08 A0 06 16 04 "1234".
        let list = TnAuthList::parse(&[0x30, 8, 0xA0, 6, 0x16, 4, b'1', b'2', b'3', b'4']).unwrap();

        assert!(list.covers("12155551212"));
    }

    #[test]
    fn half_a_list_is_none() {
        for der in [
            &[][..],
            &[0x30, 0],
            &[0x30, 8, 0xA0, 6, 0x16, 4, b'1', b'2', b'3'],
            &[0x30, 2, 0xA0, 0],
            &[0x30, 4, 0xA0, 2, 0x16, 0],
            &[0x30, 5, 0xA3, 3, 0x16, 1, b'1'],
            &[0x30, 5, 0xA2, 3, 0x16, 1, b'x'],
            &[0x30, 0x84, 0, 0, 0, 0],
        ] {
            assert_eq!(TnAuthList::parse(der), None, "{der:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_bring_it_down(der: Vec<u8>) {
            let _ = TnAuthList::parse(&der);
        }
    }
}
