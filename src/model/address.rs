//! Whom a leg is, and where it can be reached.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Pii, limits};

/// Who is calling, as the trunk presented it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// The user part of the caller's address: a number where the trunk gives numbers. Empty when anonymous.
    pub user: Pii<String>,
    /// The name shown beside it; empty when none came.
    pub display: Pii<String>,
    /// The caller asked not to be known (RFC 3323), so no lookup may be made by number.
    pub anonymous: bool,
}

/// Where a leg can be dialled: a telephone number, or a SIP URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// `+` and up to 15 digits (ITU-T E.164), or a national or short number as the trunk knows it.
    Number(String),
    /// A `sip:` or `sips:` URI, sent as written.
    Uri(String),
}

impl Address {
    /// The address as written in a configuration.
    pub fn as_str(&self) -> &str {
        match self {
            Address::Number(text) | Address::Uri(text) => text,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        if text.len() > limits::ADDRESS_LEN_MAX {
            return Err(AddressError::TooLong);
        }
        let scheme = text.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        match scheme {
            Some((scheme, rest)) if scheme == "sip" || scheme == "sips" => {
                // A URI from a variable must not smuggle in a second header line.
                let clean = text.bytes().all(|b| (0x21..0x7f).contains(&b) && !b"<>\"".contains(&b));
                let host = rest.rsplit('@').next().unwrap_or("");
                if clean && !host.is_empty() { Ok(Address::Uri(text.to_owned())) } else { Err(AddressError::BadUri) }
            }
            Some((scheme, rest)) if scheme == "tel" => rest.parse(),
            Some(_) => Err(AddressError::BadUri),
            None => number(text).map(Address::Number),
        }
    }
}

fn number(text: &str) -> Result<String, AddressError> {
    let plain: String = text.chars().filter(|c| !" -.()/".contains(*c)).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#');
    // E.164 §6.2.1: an international number has at most 15 digits.
    if whole && digits.len() <= 15 { Ok(plain) } else { Err(AddressError::BadNumber) }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        match address {
            Address::Number(text) | Address::Uri(text) => text,
        }
    }
}

/// Why a text is no address. It never repeats the text, which may be personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Longer than [`limits::ADDRESS_LEN_MAX`].
    TooLong,
    /// Neither digits nor a URI.
    BadNumber,
    /// Not a `sip:`, `sips:` or `tel:` URI that can be put on a request line.
    BadUri,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::TooLong => "the address is longer than 256 characters",
            AddressError::BadNumber => "not a telephone number: write + and up to 15 digits, or a sip: URI",
            AddressError::BadUri => "not a SIP URI: write sip:user@host, without spaces or angle brackets",
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_uris_are_told_apart() {
        assert_eq!("+44 20 7946 0000".parse(), Ok(Address::Number("+442079460000".into())));
        assert_eq!("tel:+33612345678".parse(), Ok(Address::Number("+33612345678".into())));
        assert_eq!("sip:desk@127.0.0.1:5080".parse(), Ok(Address::Uri("sip:desk@127.0.0.1:5080".into())));
    }

    #[test]
    fn an_address_cannot_carry_a_second_header() {
        assert_eq!("sip:a@b\r\nX-Evil: 1".parse::<Address>(), Err(AddressError::BadUri));
        assert_eq!("http://a".parse::<Address>(), Err(AddressError::BadUri));
        assert_eq!("+12345678901234567".parse::<Address>(), Err(AddressError::BadNumber));
        assert_eq!("".parse::<Address>(), Err(AddressError::BadNumber));
    }
}
