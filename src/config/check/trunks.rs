//! `trunks/`: SIP peers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{At, Check, Mistake, code};
use crate::config::raw;
use crate::model::{Address, Codec, MediaSecurity, limits};
use crate::trunk::{
    Anonymous, CallerPolicy, Cidr, Credentials, Dialling, DigestAlgorithm, Dtmf, HeaderIn, HeaderOut, IdentityRules,
    Inbound, NumberFormat, Outbound, Price, ReferRules, ReferSend, Reliable, SessionRules, Signing, Telling, Trunk,
    TrunkLimits, Verify, numbers,
};

impl Check<'_> {
    pub(super) fn trunks(&mut self) -> BTreeMap<String, Trunk> {
        let mut trunks = BTreeMap::new();
        let mut networks: BTreeMap<Cidr, String> = BTreeMap::new();
        for (id, file) in &self.tree.trunks {
            let at = At::file(format!("trunks/{id}.toml"));
            let country = file.country.as_ref().and_then(|written| self.country(&at.key("country"), written));
            let inbound = file.inbound.as_ref().map(|raw| self.inbound(id, &at.key("inbound"), raw, &mut networks));
            let outbound = file.outbound.as_ref().map(|out| self.trunk_outbound(&at.key("outbound"), out, file));
            let at_registration = at.key("registration");
            let registration = file.registration.as_ref().map(|raw| self.registration(&at_registration, raw));
            if registration.is_none() && inbound.as_ref().is_some_and(|inbound| inbound.over_registration) {
                let at = at.key("inbound").key("over_registration");
                let mistake = Mistake::error(code::CONFLICT, at, "we register nowhere");
                self.report(mistake.hint("add [registration] with registrars and aor").absence());
            }
            let gateway = self.tree.gateway.as_ref();
            let is_of_browsers =
                gateway.and_then(|file| file.webrtc.as_ref()).is_some_and(|webrtc| webrtc.trunk == *id);
            if file.inbound.is_none() && file.outbound.is_none() && !is_of_browsers {
                self.report(
                    Mistake::error(code::EMPTY, at.clone(), "no call can come from this trunk or go to it")
                        .hint("add [inbound] with allowed_addresses, or [outbound] with a uri")
                        .absence(),
                );
            }
            let has_prices = file.outbound.as_ref().is_some_and(|outbound| !outbound.price.is_empty());
            if file.limits.spend_per_day.is_some() && !has_prices {
                let at = at.key("limits").key("spend_per_day");
                let mistake =
                    Mistake::error(code::CONFLICT, at, "nobody says what calls cost, so none would be placed");
                self.report(mistake.hint("add [[outbound.price]] with prefix = \"\" and per_minute").absence());
            }
            let trunk = Trunk {
                id: id.clone(),
                title: file.title.clone(),
                is_trusted: file.trusted,
                country,
                codecs: self.codecs(&at.key("codecs"), file.codecs.as_deref().unwrap_or(&CODECS)),
                leads_codecs: file.codecs.is_some(),
                dtmf: match file.dtmf {
                    raw::Dtmf::Auto => Dtmf::Auto,
                    raw::Dtmf::Rfc4733 => Dtmf::Rfc4733,
                    raw::Dtmf::Inband => Dtmf::Inband,
                },
                comfort_noise: file.silence == raw::Silence::ComfortNoise,
                media_security: match file.media_security {
                    raw::MediaSecurity::Off => MediaSecurity::Off,
                    raw::MediaSecurity::Optional => MediaSecurity::Optional,
                    raw::MediaSecurity::Required => MediaSecurity::Required,
                },
                inbound: inbound.unwrap_or_default(),
                outbound,
                registration,
                limits: TrunkLimits {
                    calls: file.limits.calls,
                    calls_per_second: file.limits.calls_per_second,
                    minutes_per_day: file.limits.minutes_per_day,
                    calls_per_agent_hour: file.limits.calls_per_agent_hour,
                    spend_per_day: file.limits.spend_per_day.map(millionths),
                },
                session: self.session(&at.key("session"), &file.session),
                transfer: ReferRules {
                    accepts: file.transfer.accept_refer,
                    sends: match file.transfer.send_refer {
                        raw::SendRefer::Never => ReferSend::Never,
                        raw::SendRefer::First => ReferSend::First,
                    },
                },
                identity: self.identity(&at.key("identity"), &file.identity, file.trusted),
            };
            trunks.insert(id.clone(), trunk);
        }
        if self.tree.trunks.is_empty() && !self.tree.broken.iter().any(|name| name.starts_with("trunks/")) {
            self.report(
                Mistake::error(code::MISSING_FILE, At::file("trunks"), "there is no trunk, so nobody may call")
                    .hint("write trunks/carrier.toml"),
            );
        }
        trunks
    }

    fn country(&mut self, at: &At, written: &str) -> Option<String> {
        if numbers::Country::of(written).is_some() {
            return Some(written.to_owned());
        }
        let capitals = written.to_ascii_uppercase();
        let mistake = Mistake::error(code::COUNTRY, at.clone(), format!("there is no country {written:?}"));
        let mistake = match numbers::Country::of(&capitals) {
            Some(_) => mistake.hint(format!("write {capitals:?}")),
            None => mistake.hint(r#"write two letters of ISO 3166-1, as "IT" or "US""#),
        };
        self.report(mistake);
        None
    }

    fn codecs(&mut self, at: &At, written: &[raw::Codec]) -> Vec<Codec> {
        let mut codecs = Vec::new();
        for (n, codec) in written.iter().enumerate() {
            let codec = match codec {
                raw::Codec::Pcmu => Codec::Pcmu,
                raw::Codec::Pcma => Codec::Pcma,
                raw::Codec::G722 => Codec::G722,
                raw::Codec::Opus => Codec::Opus,
                raw::Codec::L16Narrow => Codec::L16Narrow,
                raw::Codec::L16Wide => Codec::L16Wide,
            };
            if codecs.contains(&codec) {
                self.report(Mistake::error(code::TWICE, at.item(n), "this codec stands here twice"));
            } else {
                codecs.push(codec);
            }
        }
        codecs
    }

    fn inbound(&mut self, id: &str, at: &At, raw: &raw::Inbound, networks: &mut BTreeMap<Cidr, String>) -> Inbound {
        let is_recognised = !raw.allowed_addresses.is_empty()
            || !raw.tls_names.is_empty()
            || raw.over_registration
            || raw.login.is_some();
        if !is_recognised {
            self.report(
                Mistake::error(code::EMPTY, at.clone(), "nothing tells calls of this trunk from others")
                    .hint("add allowed_addresses, tls_names, over_registration or login; without calls, leave [inbound] out")
                    .absence(),
            );
        }
        let allowed = self.networks(id, &at.key("allowed_addresses"), &raw.allowed_addresses, networks);
        let at_names = at.key("tls_names");
        for (n, name) in raw.tls_names.iter().enumerate() {
            if !is_host(name) || name.parse::<std::net::IpAddr>().is_ok() {
                let mistake = Mistake::error(code::ADDRESS, at_names.item(n), "this is no DNS name");
                self.report(mistake.hint("write it as sbc.carrier.example, as the certificate bears it"));
            }
        }
        let at_login = at.key("login");
        let digest = raw.login.as_ref().map(|login| Credentials {
            username: login.username.clone(),
            password: self.secret(&at_login.key("password"), &login.password),
            realm: login.realm.clone(),
        });
        let at_headers = at.key("header");
        let headers =
            raw.header.iter().enumerate().map(|(n, header)| self.header_in(&at_headers.item(n), header)).collect();
        let algorithms: Vec<DigestAlgorithm> = DigestAlgorithm::ALL
            .into_iter()
            .filter(|algorithm| raw.digest.as_ref().is_none_or(|wanted| wanted.iter().any(|w| known(*w) == *algorithm)))
            .collect();
        if raw.digest.is_some() && raw.login.is_none() {
            let mistake = Mistake::error(code::CONFLICT, at.key("digest"), "the peer proves no password");
            self.report(mistake.hint("add [inbound.login], or leave it out").absence());
        }
        Inbound {
            allowed,
            digest,
            algorithms,
            tls_names: raw.tls_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            over_registration: raw.over_registration,
            headers,
        }
    }

    fn networks(
        &mut self,
        id: &str,
        at_list: &At,
        written: &[String],
        networks: &mut BTreeMap<Cidr, String>,
    ) -> Vec<Cidr> {
        let mut allowed = Vec::new();
        for (n, text) in written.iter().enumerate() {
            let at = at_list.item(n);
            let network = match text.parse::<Cidr>() {
                Ok(network) => network,
                Err(hint) => {
                    self.report(Mistake::error(code::ADDRESS, at, "this is no network").hint(hint));
                    continue;
                }
            };
            if network.prefix == 0 {
                self.report(
                    Mistake::warning(code::OPEN_TRUNK, at.clone(), "the whole world may call by this trunk")
                        .hint("write the networks of the carrier; open trunks are found by scanners within hours"),
                );
            }
            if let Some(other) = networks.insert(network, id.to_owned()) {
                let whose = if other == id { "this trunk".to_owned() } else { format!("trunk {other:?}") };
                self.report(
                    Mistake::error(code::SAME_NETWORK, at, format!("{network} belongs to {whose} already"))
                        .hint("a call must belong to one trunk; write narrower networks"),
                );
            }
            allowed.push(network);
        }
        allowed
    }

    fn header_in(&mut self, at: &At, raw: &raw::HeaderIn) -> HeaderIn {
        let is_group = raw.name.ends_with('*');
        let name = raw.name.strip_suffix('*').unwrap_or(&raw.name);
        if raw.name == "*" {
            let mistake = Mistake::error(code::NAME, at.key("name"), "this would take every header");
            self.report(mistake.hint("write a beginning, as X-Acme-*"));
        } else if !raw.name.is_empty() && !is_token(name) {
            let mistake = Mistake::error(code::NAME, at.key("name"), "this is no name of a header");
            self.report(mistake.hint("write letters, digits and `-`, and `*` at the end for all that begin like this"));
        }
        if let Some(variable) = &raw.variable {
            if is_group {
                let what = "one variable cannot hold several headers";
                let mistake = Mistake::error(code::CONFLICT, at.key("variable"), what);
                self.report(mistake.hint("leave it out; each header gives its variable a name").absence());
            }
            let plain = variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !plain {
                let mistake = Mistake::error(code::VARIABLE_NAME, at.key("variable"), "this is no name of a variable");
                self.report(mistake.hint("write letters, digits and `_`: order becomes sip.order"));
            }
        }
        HeaderIn { name: raw.name.clone(), variable: raw.variable.clone() }
    }

    fn trunk_outbound(&mut self, at: &At, out: &raw::Outbound, file: &raw::TrunkFile) -> Outbound {
        let format = match out.number_format {
            raw::NumberFormat::AsIs => NumberFormat::AsIs,
            raw::NumberFormat::Plus => NumberFormat::Plus,
            raw::NumberFormat::Digits => NumberFormat::Digits,
            raw::NumberFormat::National => NumberFormat::National,
            raw::NumberFormat::International => NumberFormat::International,
        };
        if matches!(format, NumberFormat::National | NumberFormat::International) && file.country.is_none() {
            let what = "this depends on a country, and the trunk names none";
            let mistake = Mistake::error(code::CONFLICT, at.key("number_format"), what);
            self.report(mistake.hint(r#"add country = "IT" at the top of the file"#).absence());
        }
        if !out.prefix.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#' || b == b'+') {
            let mistake = Mistake::error(code::DIAL, at.key("prefix"), "this is no technical prefix");
            self.report(mistake.hint("write digits, `*` or `#`, as the carrier gave them"));
        }
        let anonymous = match out.anonymous {
            raw::Anonymous::Hide => Anonymous::Hide,
            raw::Anonymous::ShowOurs => Anonymous::ShowOurs,
        };
        let caller = self.caller_policy(at, out, anonymous);
        let at_headers = at.key("header");
        Outbound {
            gateways: self.gateways(at, out),
            silence: Duration::from_millis(out.silence_ms),
            credentials: self.login(&at.key("login"), out.login.as_ref()),
            format,
            prefix: out.prefix.clone(),
            caller,
            diversion: telling(out.diversion),
            history_info: telling(out.history_info.unwrap_or(raw::Telling::Never)),
            headers: out.header.iter().enumerate().map(|(n, h)| self.header_out(&at_headers.item(n), h)).collect(),
            probe: out.probe_s.map(Duration::from_secs),
            dialling: self.dialling(&at.key("allow"), &out.allow),
            prices: self.prices(&at.key("price"), &out.price),
        }
    }

    fn caller_policy(&mut self, at: &At, out: &raw::Outbound, anonymous: Anonymous) -> CallerPolicy {
        if let Some(number) = &out.caller_id
            && !matches!(number.parse::<Address>(), Ok(Address::Number(_)))
        {
            let mistake = Mistake::error(code::DIAL, at.key("caller_id"), "this is no telephone number");
            self.report(mistake.hint("write + and up to 15 digits"));
        }
        if out.caller_name.chars().any(char::is_control) {
            let what = "a name on a display holds no control characters";
            self.report(Mistake::error(code::MALFORMED, at.key("caller_name"), what));
        }
        if let Some(host) = &out.caller_host
            && !is_host(host)
        {
            let mistake = Mistake::error(code::ADDRESS, at.key("caller_host"), "this is no host");
            self.report(mistake.hint("write a name or an address, as sip.example.com, without a port"));
        }
        if anonymous == Anonymous::ShowOurs && out.caller_id.is_none() {
            let mistake = Mistake::error(code::CONFLICT, at.key("anonymous"), "there is no number of ours to show");
            self.report(mistake.hint(r#"add caller_id = "+390212345678""#).absence());
        }
        CallerPolicy {
            number: out.caller_id.clone(),
            display: out.caller_name.clone(),
            host: out.caller_host.clone(),
            asserts: out.assert_identity,
            anonymous,
        }
    }

    fn header_out(&mut self, at: &At, raw: &raw::HeaderOut) -> HeaderOut {
        let lower = raw.name.to_ascii_lowercase();
        if !raw.name.is_empty() && !is_token(&raw.name) {
            let mistake = Mistake::error(code::NAME, at.key("name"), "this is no name of a header");
            self.report(mistake.hint("write letters, digits and `-`"));
        } else if OURS.contains(&lower.as_str()) {
            let mistake = Mistake::error(code::NAME, at.key("name"), "this header is written by us");
            self.report(mistake.hint("leave it out; caller_id, assert_identity, diversion, history_info and identity.sign steer what it says"));
        }
        HeaderOut { name: raw.name.clone(), value: self.template(&at.key("value"), &raw.value) }
    }

    fn dialling(&mut self, at: &At, allow: &raw::Allow) -> Dialling {
        let at_countries = at.key("countries");
        let countries =
            allow.countries.iter().enumerate().filter_map(|(n, id)| self.country(&at_countries.item(n), id)).collect();
        for (key, prefixes) in [("prefixes", &allow.prefixes), ("refused", &allow.refused)] {
            for (n, prefix) in prefixes.iter().enumerate() {
                let digits = prefix.strip_prefix('+').unwrap_or(prefix);
                let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#');
                if digits.is_empty() || !plain || digits.len() > 15 {
                    let mistake = Mistake::error(code::PATTERN, at.key(key).item(n), "no number begins like this");
                    self.report(mistake.hint("write + and digits, as +4420, or a short number, as 112"));
                }
            }
        }
        let at_hosts = at.key("hosts");
        for (n, host) in allow.hosts.iter().enumerate() {
            if host != "*" && !is_host(host) {
                let mistake = Mistake::error(code::ADDRESS, at_hosts.item(n), "this is no host");
                self.report(mistake.hint("write a name or an address without a port, or `*` for all"));
            }
        }
        Dialling {
            countries,
            prefixes: allow.prefixes.clone(),
            refused: allow.refused.clone(),
            premium: allow.premium,
            hosts: allow.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    fn prices(&mut self, at: &At, written: &[raw::Price]) -> Vec<(String, Price)> {
        let mut prices: Vec<(String, Price)> = Vec::new();
        for (n, raw) in written.iter().enumerate() {
            let at = at.item(n).key("prefix");
            let digits = raw.prefix.strip_prefix('+').unwrap_or(&raw.prefix);
            if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#') {
                let mistake = Mistake::error(code::PATTERN, at.clone(), "no number begins like this");
                self.report(mistake.hint("write + and digits, as +4420; or nothing for all others"));
            }
            if prices.iter().any(|(prefix, _)| *prefix == raw.prefix) {
                self.report(Mistake::error(code::TWICE, at, "these numbers have a price already"));
            }
            let price = Price {
                per_call: millionths(raw.per_call),
                per_minute: millionths(raw.per_minute),
                step: Duration::from_secs(raw.step_s),
            };
            prices.push((raw.prefix.clone(), price));
        }
        prices
    }

    fn session(&mut self, at: &At, raw: &raw::Session) -> SessionRules {
        let default = SessionRules::default();
        let expires = Duration::from_secs(raw.expires_s);
        if raw.expires_s > 0 && raw.expires_s < raw.expires_min_s {
            self.report(
                Mistake::error(code::CONFLICT, at.key("expires_s"), "this is shorter than what we accept ourselves")
                    .hint(format!("write at least {}, or 0 for none", raw.expires_min_s)),
            );
        }
        SessionRules {
            expires: (!expires.is_zero()).then_some(expires),
            expires_min: Duration::from_secs(raw.expires_min_s).max(default.expires_min),
            reliable: match raw.reliable {
                raw::Reliable::Off => Reliable::Off,
                raw::Reliable::Supported => Reliable::Supported,
                raw::Reliable::Required => Reliable::Required,
            },
        }
    }

    fn identity(&mut self, at: &At, raw: &raw::Identity, is_trusted: bool) -> IdentityRules {
        let at_sign = at.key("sign");
        let sign = raw.sign.as_ref().map(|sign| {
            let is_https = sign.certificate_url.starts_with("https://");
            if !sign.certificate_url.is_empty() && !is_https {
                let mistake = Mistake::error(code::URL, at_sign.key("certificate_url"), "certificates come by https");
                self.report(mistake.hint("write it as https://cert.example.com/shaken.pem"));
            } else if sign.certificate_url.contains("{{") {
                let what = "the URL of a certificate holds no variables";
                self.report(Mistake::error(code::URL, at_sign.key("certificate_url"), what));
            }
            if !sign.origination_id.is_empty() && uuid::Uuid::try_parse(&sign.origination_id).is_err() {
                let mistake = Mistake::error(code::MALFORMED, at_sign.key("origination_id"), "this is no UUID");
                self.report(mistake.hint("write it as 123e4567-e89b-12d3-a456-426614174000; `uuidgen` makes one"));
            }
            let key = self.secret(&at_sign.key("key"), &sign.key);
            self.wanted.keys.push((at_sign.key("key"), key.clone()));
            Signing {
                key,
                certificate_url: sign.certificate_url.clone(),
                attestation: match sign.attestation {
                    raw::Attestation::A => 'A',
                    raw::Attestation::B => 'B',
                    raw::Attestation::C => 'C',
                },
                origination_id: sign.origination_id.clone(),
            }
        });
        let verify = match raw.verify {
            raw::Verify::Off => Verify::Off,
            raw::Verify::Note => Verify::Note,
            raw::Verify::RefuseBad => Verify::RefuseBad,
            raw::Verify::Require => Verify::Require,
        };
        let believes = self.tree.gateway.as_ref().is_none_or(|gateway| gateway.identity.trust.is_some());
        // A trusted trunk may have looked itself, and say so in `verstat`.
        if verify != Verify::Off && !believes && !is_trusted {
            let mistake = Mistake::error(code::NO_TRUST, at.key("verify"), "nobody's signatures are believed");
            self.report(mistake.hint("write trust = \"signers.pem\" under [identity] in gateway.toml"));
        }
        IdentityRules { verify, sign }
    }
}

/// An amount of money; the form has bounded it.
fn millionths(amount: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "a cast of a float is cut at the bounds of the integer")]
    let millionths = (amount * 1e6).round() as i64;
    millionths
}

fn known(raw: raw::Digest) -> DigestAlgorithm {
    match raw {
        raw::Digest::Sha256 => DigestAlgorithm::Sha256,
        raw::Digest::Md5 => DigestAlgorithm::Md5,
    }
}

fn telling(raw: raw::Telling) -> Telling {
    match raw {
        raw::Telling::Never => Telling::Never,
        raw::Telling::Forwards => Telling::Forwards,
        raw::Telling::Always => Telling::Always,
    }
}

/// What is offered where nothing is said.
const CODECS: [raw::Codec; 2] = [raw::Codec::Pcmu, raw::Codec::Pcma];

/// Headers that our calls bear anyway, beside those that steer SIP.
const OURS: [&str; 33] = [
    "via",
    "v",
    "from",
    "f",
    "to",
    "t",
    "call-id",
    "i",
    "cseq",
    "contact",
    "m",
    "max-forwards",
    "content-length",
    "l",
    "content-type",
    "c",
    "route",
    "record-route",
    "require",
    "proxy-require",
    "supported",
    "k",
    "allow",
    "authorization",
    "proxy-authorization",
    "user-agent",
    "p-asserted-identity",
    "privacy",
    "identity",
    "session-expires",
    "min-se",
    "diversion",
    "history-info",
];

/// RFC 3261 §25.1: a token.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// Whether a text can stand as a host in a URI: a name or an address, without a port.
pub(super) fn is_host(text: &str) -> bool {
    let is_v6 = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    is_v6 || (text.len() <= limits::HOST_LEN_MAX && text.split('.').all(is_label))
}
