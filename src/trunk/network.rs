//! Networks, as trunks are recognised by them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: `203.0.113.0/28`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    /// The network's address; bits behind the prefix are zero.
    pub network: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address lies in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        Cidr::masked(address, self.prefix).is_some_and(|network| network == self.network)
    }

    fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Some(IpAddr::V4((u32::from(v4) & mask).into()))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Some(IpAddr::V6((u128::from(v6) & mask).into()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// The error is a hint: what to write instead.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || "write a network as 203.0.113.0/28 or 2001:db8::/32, or one address".to_owned();
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => longest,
        };
        let network = Cidr::masked(address, prefix).ok_or_else(|| format!("the prefix is at most {longest}"))?;
        if network != address {
            return Err(format!("bits are set behind the prefix; write {network}/{prefix}"));
        }
        Ok(Cidr { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        let office: Cidr = "203.0.113.16/28".parse().unwrap();
        let world: Cidr = "::/0".parse().unwrap();

        assert!(office.holds("203.0.113.31".parse().unwrap()));
        assert!(!office.holds("203.0.113.32".parse().unwrap()));
        assert!(!office.holds("::1".parse().unwrap()));
        assert!(world.holds("2001:db8::1".parse().unwrap()) && !world.holds("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_with_stray_bits_is_corrected_not_guessed() {
        assert_eq!("10.0.0.1/8".parse::<Cidr>().unwrap_err(), "bits are set behind the prefix; write 10.0.0.0/8");
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("10.0.0.0/+8".parse::<Cidr>().is_err());
        assert!("carrier.example".parse::<Cidr>().is_err());
    }
}
