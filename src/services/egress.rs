//! Where our requests may go.
//!
//! Templates are written by admins and filled with what callers and models say, so a request could be talked into the
//! machine's own network (SSRF). The rule holds for every address a name resolves to, and the connection is made to
//! the very addresses that were checked, so a name that resolves differently a moment later gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where requests may go. The default refuses every private network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// What holds for origins that are not listed.
    pub private: Private,
    /// Origins that may lie in a private network. They too may not be link-local or multicast: a cloud's metadata
    /// service answers there, and nothing an action needs.
    pub allow: Vec<Origin>,
}

/// Whether requests may go to loopback and private networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Private {
    /// Only to the origins listed.
    #[default]
    Deny,
    /// To all of them.
    Allow,
}

/// Scheme, host and port of a URL (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// The text is no `http://host:port` or `https://host:port` without anything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError;

/// How far away an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// On the internet.
    Public,
    /// On this machine or in its network.
    Private,
    /// Not a place to send a request to.
    Never,
}

/// The egress policy said no. It does not say to what: the address may be a caller's doing, and is personal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

impl Egress {
    /// How far a request to this URL may reach, or nothing when the URL itself is refused: another scheme, a user name
    /// in it, or an address written out that lies too far inside.
    pub(super) fn reach(&self, url: &Url) -> Option<Reach> {
        let origin = Origin::of(url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let listed = self.private == Private::Allow || self.allow.contains(&origin);
        let reach = if listed { Reach::Private } else { Reach::Public };
        // A name is judged when it is resolved; an address never is.
        match origin.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if reach_of(address) > reach => None,
            _ => Some(reach),
        }
    }
}

impl Egress {
    /// Whether the origin of a URL stands on the list.
    pub(super) fn lists(&self, url: &Url) -> bool {
        Origin::of(url).is_some_and(|origin| self.allow.contains(&origin))
    }
}

impl Origin {
    fn of(url: &Url) -> Option<Origin> {
        let known = matches!(url.scheme(), "http" | "https");
        let host = url.host_str().filter(|host| known && !host.is_empty())?;
        // `crm.internal.` and `crm.internal` are one host.
        let host = host.strip_suffix('.').unwrap_or(host).to_owned();
        Some(Origin { scheme: url.scheme().to_owned(), host, port: url.port_or_known_default()? })
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let url = Url::parse(text).map_err(|_| OriginError)?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let nobody = url.username().is_empty() && url.password().is_none();
        Origin::of(&url).filter(|_| bare && nobody).ok_or(OriginError)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an origin: write http://host:port or https://host:port, and nothing behind it")
    }
}

impl std::error::Error for OriginError {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the egress policy does not allow this address")
    }
}

impl std::error::Error for Refused {}

/// Resolves a name and refuses it when any of its addresses lies further inside than allowed. One private address
/// among public ones is refused too: it is how a name is made to pass a check and land elsewhere.
pub(super) struct Guarded(pub(super) Reach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let most = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| reach_of(address.ip()) > most) {
                return Err(Refused.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn reach_of(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_of_v4(v4),
        IpAddr::V6(v6) => reach_of_v6(v6),
    }
}

// IANA's special-purpose registry (RFC 6890 and its updates).
fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [224..=255, ..] => Reach::Never,
        [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18 | 19, ..] => {
            Reach::Private
        }
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Reach {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // Addresses that only wrap a v4 address: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056), and the old compatible form.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        [0, 0, 0, 0, 0, 0, high, low] => inner(high, low),
        // Translation inside a network, unique local, documentation.
        [0x64, 0xff9b, 1, ..] | [0xfc00..=0xfdff, ..] | [0x2001, 0xdb8, ..] => Reach::Private,
        // Teredo hides its target; link-local, the old site-local, multicast.
        [0x2001, 0, ..] | [0xfe80..=0xfeff, ..] | [0xff00..=0xffff, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(egress: &Egress, url: &str) -> Option<Reach> {
        egress.reach(&Url::parse(url).unwrap())
    }

    #[test]
    fn private_addresses_are_refused_however_they_are_written() {
        let strict = Egress::default();

        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://10.0.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://0.0.0.0/",
            "http://224.0.0.1/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
        ] {
            assert_eq!(reach(&strict, url), None, "{url}");
        }
        assert_eq!(reach(&strict, "https://93.184.215.14/"), Some(Reach::Public));
        assert_eq!(reach(&strict, "https://[2606:4700::1111]/"), Some(Reach::Public));
        assert_eq!(reach(&strict, "https://crm.example/"), Some(Reach::Public));
    }

    #[test]
    fn a_listed_origin_may_be_private_but_never_link_local() {
        let allow = ["http://127.0.0.1:8080", "http://crm.internal", "http://169.254.169.254"];
        let egress = Egress { private: Private::Deny, allow: allow.iter().map(|o| o.parse().unwrap()).collect() };

        assert_eq!(reach(&egress, "http://127.0.0.1:8080/contacts?tel=1"), Some(Reach::Private));
        assert_eq!(reach(&egress, "http://crm.internal:80/"), Some(Reach::Private));
        assert_eq!(reach(&egress, "http://CRM.internal./"), Some(Reach::Private));
        assert_eq!(reach(&egress, "http://127.0.0.1:8081/"), None);
        assert_eq!(reach(&egress, "https://crm.internal/"), Some(Reach::Public));
        assert_eq!(reach(&egress, "http://169.254.169.254/"), None);
    }

    #[test]
    fn urls_with_a_user_name_or_another_scheme_are_refused() {
        let open = Egress { private: Private::Allow, allow: Vec::new() };

        for url in
            ["http://crm.example@evil.example/", "http://:pw@a.example/", "file:///etc/passwd", "ftp://a.example/"]
        {
            assert_eq!(reach(&open, url), None, "{url}");
        }
    }

    #[test]
    fn an_origin_is_nothing_but_scheme_host_and_port() {
        assert_eq!("https://Crm.Example".parse::<Origin>().unwrap().to_string(), "https://crm.example:443");
        for text in ["crm.example", "https://crm.example/path", "https://a:b@crm.example", "gopher://x:1", ""] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError), "{text}");
        }
    }
}
