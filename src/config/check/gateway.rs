//! `gateway.toml` and `webhooks.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{At, Check, Mistake, code, is_id};
use crate::config::{
    Certificates, Egress, Endpoint, Gateway, KeepTrace, Limits, Media, Origin, Private, Recordings, Signers,
    SipListeners, Store, raw,
};

/// An address, or letters, digits, hyphens and dots, as RFC 1123 wants a host name.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || text.split('.').all(is_label)
}

/// Ports of one call: RTP and RTCP of the caller and of whoever is on the other side.
const PORTS_PER_CALL: u32 = 4;

/// Events that endpoints may ask for.
const EVENTS: [&str; 1] = ["call.ended"];

impl Check<'_> {
    pub(super) fn gateway(&mut self) -> Option<Gateway> {
        let file = self.tree.gateway.as_ref()?;
        let at = At::file("gateway.toml");
        let sip = self.sip(&at.key("sip"), &file.sip);
        let media = self.media(&at.key("media"), &file.media, file.limits.max_calls);
        let allow = file.egress.allow.iter().enumerate();
        let at_allow = at.key("egress").key("allow");
        let allow = allow.filter_map(|(n, text)| self.origin(&at_allow.item(n), text)).collect();
        let private = match file.egress.private {
            raw::Private::Deny => Private::Deny,
            raw::Private::Allow => Private::Allow,
        };
        let admin = file.admin.as_ref().and_then(|admin| self.socket(&at.key("admin").key("listen"), &admin.listen));
        let browsers = file.webrtc.as_ref().and_then(|file| self.webrtc(&at.key("webrtc"), file));
        self.wanted.trust = file.identity.trust.clone().map(|trust| (at.key("identity").key("trust"), trust));
        Some(Gateway {
            sip,
            media,
            store: Store { path: PathBuf::from(&file.store.path), data_dir: PathBuf::from(&file.store.data_dir) },
            recordings: self.recordings(&at.key("recordings"), &file.recordings),
            limits: Limits { max_calls: file.limits.max_calls, max_calls_per_second: file.limits.max_calls_per_second },
            protection: self.protection(&at.key("protection"), &file.protection),
            egress: Egress { private, allow },
            trace: match file.trace.keep {
                raw::KeepTrace::Off => KeepTrace::Off,
                raw::KeepTrace::Failed => KeepTrace::Failed,
                raw::KeepTrace::All => KeepTrace::All,
            },
            identity: Signers { trust: file.identity.trust.as_ref().map(PathBuf::from) },
            admin,
            browsers,
            prompts: PathBuf::from(&file.prompts.dir),
        })
    }

    fn recordings(&mut self, at: &At, recordings: &raw::Recordings) -> Recordings {
        Recordings {
            format: recordings.format,
            key: recordings.key.as_ref().map(|key| self.secret(&at.key("key"), key)),
            keep: (recordings.keep_days > 0).then(|| Duration::from_secs(u64::from(recordings.keep_days) * 86_400)),
        }
    }

    /// Origins as browsers write them (RFC 6454 §6.2): scheme, host, and a port that is not the scheme's own.
    fn origins(&mut self, at: &At, written: &[String]) -> Vec<String> {
        for (n, origin) in written.iter().enumerate() {
            let place = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let (host, port) = place.map_or(("", None), |place| match place.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
                _ => (place, None),
            });
            if !is_host(host) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
                let mistake = Mistake::error(code::URL, at.item(n), "this is no origin of a web page");
                self.report(mistake.hint("write it as https://phone.example.com, without a path"));
            }
        }
        written.iter().map(|origin| origin.to_ascii_lowercase()).collect()
    }

    fn sip(&mut self, at: &At, sip: &raw::Sip) -> SipListeners {
        let (at_tls, at_ws) = (at.key("tls"), at.key("ws"));
        let listeners = SipListeners {
            udp: self.sockets(&at.key("udp"), &sip.udp),
            tcp: self.sockets(&at.key("tcp"), &sip.tcp),
            tls: self.sockets(&at_tls.key("listen"), &sip.tls.listen),
            ws: self.sockets(&at_ws.key("listen"), &sip.ws.listen),
            wss: self.sockets(&at_ws.key("secure"), &sip.ws.secure),
            origins: sip.ws.origins.as_ref().map(|origins| self.origins(&at_ws.key("origins"), origins)),
            advertised: sip.advertised.clone(),
            nameservers: Some(self.sockets(&at.key("nameservers"), &sip.nameservers)).filter(|all| !all.is_empty()),
            keep_alive: Duration::from_secs(sip.keep_alive_s),
            certificates: self.certificates(&at_tls, &sip.tls),
        };
        if [&sip.udp, &sip.tcp, &sip.tls.listen, &sip.ws.listen, &sip.ws.secure].iter().all(|all| all.is_empty()) {
            self.report(
                Mistake::error(code::EMPTY, at.clone(), "SIP is spoken nowhere")
                    .hint(r#"write udp = ["192.0.2.1:5060"], with an address of this machine"#)
                    .absence(),
            );
        }
        let is_missing = sip.tls.certificate.is_none();
        for (at, listeners) in [(at_tls.key("listen"), &sip.tls.listen), (at_ws.key("secure"), &sip.ws.secure)] {
            if is_missing && !listeners.is_empty() {
                self.report(
                    Mistake::error(code::CERTIFICATE, at, "TLS needs a certificate")
                        .hint("write certificate and key under [sip.tls]"),
                );
            }
        }
        if let Some(host) = &sip.advertised
            && !is_host(host)
        {
            self.report(
                Mistake::error(code::ADDRESS, at.key("advertised"), "this is neither an address nor a host name")
                    .hint("write it as 198.51.100.7 or sbc.example.com, without a port"),
            );
        }
        listeners
    }

    fn certificates(&mut self, at: &At, tls: &raw::SipTls) -> Certificates {
        if tls.certificate.is_some() != tls.key.is_some() {
            let (key, other) = if tls.key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
            self.report(
                Mistake::error(code::CERTIFICATE, at.key(key), format!("there is a {key} and no {other}"))
                    .hint(r#"write certificate = "tls/chain.pem" and key = { file = "secrets/tls.pem" }"#),
            );
        }
        let client = tls.client_certificates;
        if client != raw::ClientCertificates::Off && tls.client_ca.is_none() {
            self.report(
                Mistake::error(code::CERTIFICATE, at.key("client_certificates"), "nobody says who signs them")
                    .hint(r#"write client_ca = "tls/clients.pem", with the authorities that are believed"#),
            );
        }
        Certificates {
            certificate: tls.certificate.as_ref().map(PathBuf::from),
            key: tls.key.as_ref().map(|key| self.secret(&at.key("key"), key)),
            client,
            client_ca: tls.client_ca.as_ref().map(PathBuf::from),
            trust: (tls.trust != "system").then(|| PathBuf::from(&tls.trust)),
            wildcards: tls.wildcards,
        }
    }

    pub(super) fn sockets(&mut self, at: &At, texts: &[String]) -> Vec<SocketAddr> {
        let mut sockets = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            match self.socket(&at.item(n), text) {
                // Port 0 takes any, so two of them are two.
                Some(socket) if socket.port() != 0 && sockets.contains(&socket) => {
                    self.report(Mistake::error(code::TWICE, at.item(n), "this address stands here twice"));
                }
                socket => sockets.extend(socket),
            }
        }
        sockets
    }

    fn socket(&mut self, at: &At, text: &str) -> Option<SocketAddr> {
        if text.is_empty() {
            // Its absence was reported already.
            return None;
        }
        let socket = text.parse().ok();
        if socket.is_none() {
            self.report(
                Mistake::error(code::ADDRESS, at.clone(), "this is no address with a port")
                    .hint("write it as 192.0.2.1:5060 or [2001:db8::1]:5060; names are not resolved"),
            );
        }
        socket
    }

    fn media(&mut self, at: &At, media: &raw::Media, max_calls: u32) -> Media {
        let address = media.address.parse::<IpAddr>();
        match address {
            Ok(address) if address.is_unspecified() => self.report(
                Mistake::error(code::UNREACHABLE_ADDRESS, at.key("address"), "nobody can send audio to this address")
                    .hint("write the address of this machine that callers reach, as 192.0.2.1"),
            ),
            Ok(address) if media.loopback_only && !address.is_loopback() => self.report(
                Mistake::error(code::CONFLICT, at.key("address"), "this address is not on the loopback")
                    .hint("write 127.0.0.1, or loopback_only = false"),
            ),
            Ok(_) => {}
            Err(_) if media.address.is_empty() => {}
            Err(_) => self.report(
                Mistake::error(code::ADDRESS, at.key("address"), "this is no address").hint("write it as 192.0.2.1"),
            ),
        }
        let ports = (u32::from(media.port_last) + 1).saturating_sub(u32::from(media.port_first));
        let wanted = max_calls * PORTS_PER_CALL;
        if media.port_first % 2 == 1 {
            self.report(
                // RFC 3550 §11: RTP on the even port, RTCP on the odd one above it.
                Mistake::error(code::PORTS, at.key("port_first"), "the first RTP port must be even")
                    .hint(format!("write {}", media.port_first + 1)),
            );
        } else if ports < wanted {
            let fits = ports / PORTS_PER_CALL;
            self.report(
                Mistake::error(
                    code::PORTS,
                    at.key("port_last"),
                    format!("{ports} ports are too few for {max_calls} calls of {PORTS_PER_CALL} ports each"),
                )
                .hint(match u16::try_from(u32::from(media.port_first) + wanted - 1) {
                    Ok(last) => format!("write port_last = {last}, or max_calls = {fits} under [limits]"),
                    Err(_) => format!("write max_calls = {fits} under [limits], or start at a lower port"),
                }),
            );
        }
        Media {
            address: address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            port_first: media.port_first,
            port_last: media.port_last,
            threads: usize::from(media.threads),
            rtcp_interval: (media.rtcp_interval_s > 0).then(|| Duration::from_secs(media.rtcp_interval_s.into())),
            loopback_only: media.loopback_only,
        }
    }

    /// The origin of a URL without variables, and with nothing behind the port.
    pub(super) fn origin(&mut self, at: &At, text: &str) -> Option<Origin> {
        match Origin::of(text) {
            Ok(origin) => {
                let behind =
                    text.find("://").and_then(|begin| text[begin + 3..].find('/').map(|found| begin + 3 + found));
                if let Some(found) = behind.filter(|found| text[*found..] != *"/") {
                    self.report(
                        Mistake::error(code::URL, at.offset(found), "an origin ends with its port")
                            .hint(format!("write {origin}")),
                    );
                }
                Some(origin)
            }
            Err(fault) => {
                self.report(
                    Mistake::error(code::URL, at.offset(fault.at), fault.what).hint("write it as https://crm.example"),
                );
                None
            }
        }
    }

    /// Checks a URL that we shall call: well-formed, and not refused by our own policy.
    pub(super) fn url(&mut self, at: &At, text: &str) {
        if text.is_empty() {
            return;
        }
        let origin = match Origin::of(text) {
            Ok(origin) => origin,
            Err(fault) => {
                let hint = "write it as https://crm.example/v1/contacts?number={{caller.number}}";
                return self.report(Mistake::error(code::URL, at.offset(fault.at), fault.what).hint(hint));
            }
        };
        let refused = self
            .egress
            .as_ref()
            .is_some_and(|policy| policy.private == Private::Deny && !policy.allow.contains(&origin));
        if refused && is_private(&origin.host) {
            self.report(
                Mistake::error(code::EGRESS, at.clone(), format!("the egress policy refuses {origin}"))
                    .hint(format!("add \"{origin}\" to allow under [egress] in gateway.toml")),
            );
        }
    }

    pub(super) fn endpoints(&mut self) -> Vec<Endpoint> {
        let Some(file) = &self.tree.webhooks else { return Vec::new() };
        let at_list = At::file("webhooks.toml").key("endpoint");
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (n, raw) in file.endpoint.iter().enumerate() {
            let at = at_list.item(n);
            if !raw.id.is_empty() && !is_id(&raw.id) {
                let mistake = Mistake::error(code::BAD_ID, at.key("id"), format!("{:?} is no id", raw.id));
                self.report(mistake.hint("write small letters, digits, `-` and `_`"));
            } else if !raw.id.is_empty() && endpoints.iter().any(|earlier| earlier.id == raw.id) {
                self.report(Mistake::error(
                    code::TWICE,
                    at.key("id"),
                    format!("there is an endpoint {:?} already", raw.id),
                ));
            }
            if raw.url.contains("{{") {
                self.report(Mistake::error(code::URL, at.key("url"), "the URL of an endpoint holds no variables"));
            } else {
                self.url(&at.key("url"), &raw.url);
            }
            for (m, event) in raw.events.iter().enumerate() {
                if !EVENTS.contains(&event.as_str()) {
                    self.report(
                        Mistake::error(
                            code::UNKNOWN_WORD,
                            at.key("events").item(m),
                            format!("there is no event {event:?}"),
                        )
                        .near(event, EVENTS)
                        .hint(format!("one of: {}", EVENTS.join(", "))),
                    );
                }
            }
            let secret = self.secret(&at.key("secret"), &raw.secret);
            endpoints.push(Endpoint {
                id: raw.id.clone(),
                url: raw.url.clone(),
                events: raw.events.clone(),
                secret,
                timeout: Duration::from_millis(raw.timeout_ms),
                enabled: raw.enabled,
            });
        }
        endpoints
    }
}

/// Whether a host as written is on this machine or in a private network. Names are judged when they are resolved.
fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        // RFC 4193 §3.1 and RFC 4291 §2.5.6.
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unspecified() || v6.segments()[0] & 0xfe00 == 0xfc00 || v6.is_unicast_link_local()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}
