//! Where a request goes: the part of a URL that decides whom we talk to.

use std::fmt;

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// A name in lower case, or an address; IPv6 without brackets.
    pub host: String,
    /// The port, also when it is the scheme's own.
    pub port: u16,
}

/// The schemes that may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// What is wrong with a URL, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlFault {
    pub at: usize,
    pub what: &'static str,
}

impl Origin {
    /// The origin of a URL, which may hold variables behind the host only.
    pub(super) fn of(url: &str) -> Result<Origin, UrlFault> {
        let fault = |at, what| Err(UrlFault { at, what });
        let (scheme, port) = match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            _ => return fault(0, "a URL begins with http:// or https://"),
        };
        let begin = url.find("://").map_or(0, |at| at + 3);
        let authority = &url[begin..begin + url[begin..].find(['/', '?', '#']).unwrap_or(url.len() - begin)];
        if let Some(at) = authority.find("{{") {
            return fault(begin + at, "a variable may not choose the host");
        }
        if let Some(at) = url.find(|c: char| c.is_control() || c == ' ') {
            let inside = url[..at].rfind("{{").is_some_and(|open| !url[open..at].contains("}}"));
            if !inside {
                return fault(at, "a URL holds no spaces");
            }
        }
        if let Some(at) = authority.find('@') {
            return fault(begin + at, "credentials do not belong into a URL");
        }
        let (host, written_port) = match authority.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, rest),
                _ => return fault(begin, "no IPv6 address stands in the brackets"),
            },
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
        if host.is_empty() || !plain {
            return fault(begin, "no host name stands here");
        }
        let port = match written_port.strip_prefix(':') {
            None if written_port.is_empty() => port,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port > 0 && !digits.starts_with('+') => port,
                _ => {
                    return fault(begin + authority.len() - digits.len(), "no port number from 1 to 65535 stands here");
                }
            },
            None => return fault(begin, "no host name stands here"),
        };
        Ok(Origin { scheme, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_from_urls() {
        assert_eq!(Origin::of("https://CRM.example/v1?tel={{a b}}").unwrap().to_string(), "https://crm.example:443");
        assert_eq!(Origin::of("http://[::1]:8081").unwrap().to_string(), "http://[::1]:8081");
        assert_eq!(Origin::of("http://127.0.0.1:8081/{{x | y z}}").unwrap().port, 8081);
    }

    #[test]
    fn a_url_whose_host_is_not_plain_is_refused_where_it_is_wrong() {
        let at = |url| Origin::of(url).unwrap_err().at;

        assert_eq!(at("ftp://a"), 0);
        assert_eq!(at("http://{{host}}/"), 7);
        assert_eq!(at("http://a.example{{x}}/"), 16);
        assert_eq!(at("http://me:pw@a.example/"), 12);
        assert_eq!(at("http://a.example:99999/"), 17);
        assert_eq!(at("http://a.example/a b"), 18);
        assert_eq!(at("http:///x"), 7);
    }
}
