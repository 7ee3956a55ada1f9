//! `[webrtc]` of `gateway.toml`.

use std::net::{IpAddr, SocketAddr};

use super::{At, Check, Kind, Mistake, code};
use crate::config::{Browsers, IceServer, raw};
use crate::route::Pattern;

impl Check<'_> {
    pub(super) fn webrtc(&mut self, at: &At, file: &raw::WebRtc) -> Option<Browsers> {
        let udp = self.browsers_sockets(&at.key("udp"), &file.udp);
        let at_advertised = at.key("advertised");
        let advertised = file.advertised.iter().enumerate();
        let advertised =
            advertised.filter_map(|(n, text)| self.told_address(&at_advertised.item(n), text)).collect::<Vec<_>>();
        let is_unreachable = |udp: &SocketAddr| udp.ip().is_unspecified() && advertised.is_empty();
        if let Some(n) = udp.iter().position(is_unreachable) {
            self.report(
                Mistake::error(
                    code::UNREACHABLE_ADDRESS,
                    at.key("udp").item(n),
                    "browsers cannot send to this address",
                )
                .hint("write the address that browsers reach here, or put it into advertised"),
            );
        }
        let stun = file.stun.as_ref().and_then(|stun| self.browsers_socket(&at.key("stun"), stun));
        if file.stun.is_some() && file.ice == raw::Ice::Lite {
            let mistake =
                Mistake::error(code::CONFLICT, at.key("stun").on_key(), "this goes with `ice = \"full\"` only");
            self.report(mistake.hint("a lite gateway tells the addresses under advertised"));
        }
        if !file.trunk.is_empty() {
            self.refer(Kind::Trunk, &at.key("trunk"), &file.trunk);
        }
        let at_numbers = at.key("numbers");
        let mut numbers = Vec::new();
        for (n, number) in file.numbers.iter().enumerate() {
            match number.parse::<Pattern>() {
                Ok(pattern) => numbers.push(pattern),
                Err(fault) => self.report(
                    Mistake::error(code::PATTERN, at_numbers.item(n).offset(fault.at), fault.what)
                        .hint("write a number or name as in a route's `called`"),
                ),
            }
        }
        let at_origins = at.key("origins");
        let origins = file.origins.iter().enumerate();
        let origins = origins.filter_map(|(n, text)| self.browsers_origin(&at_origins.item(n), text)).collect();
        let secret = file.secret.as_ref().map(|secret| self.secret(&at.key("secret"), secret));
        match (file.access, &file.secret) {
            (raw::Access::Token, None) => self.report(
                Mistake::error(code::SECRET, at.clone(), "nothing signs the tokens of browsers")
                    .hint(r#"write secret = { env = "NAME" }, or access = "open" to let everybody call"#)
                    .absence(),
            ),
            (raw::Access::Open, Some(_)) => self.report(
                Mistake::error(
                    code::CONFLICT,
                    at.key("secret").on_key(),
                    "everybody may call, so nobody needs a token",
                )
                .hint("write access = \"token\", or leave the secret out"),
            ),
            (raw::Access::Token, Some(_)) | (raw::Access::Open, None) => {}
        }
        let at_servers = at.key("ice_server");
        let mut ice_servers = Vec::new();
        for (n, server) in file.ice_server.iter().enumerate() {
            let at = at_servers.item(n);
            let is_plain = server.url.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>\";,".contains(&octet));
            let scheme = server.url.split(':').next().unwrap_or_default();
            if !server.url.is_empty() && (!is_plain || !["stun", "stuns", "turn", "turns"].contains(&scheme)) {
                self.report(
                    Mistake::error(code::URL, at.key("url"), "this is no STUN or TURN server")
                        .hint("write it as stun:stun.example.com:3478 or turn:turn.example.com:3478?transport=tcp"),
                );
            }
            let credential = server.credential.as_ref().map(|secret| self.secret(&at.key("credential"), secret));
            if credential.is_some() != server.username.is_some() {
                let mistake = Mistake::error(code::SECRET, at, "username and credential go together");
                self.report(mistake.hint("write both, or neither"));
            }
            ice_servers.push(IceServer { url: server.url.clone(), username: server.username.clone(), credential });
        }
        Some(Browsers {
            listen: self.browsers_socket(&at.key("listen"), &file.listen)?,
            udp,
            advertised,
            is_full: file.ice == raw::Ice::Full,
            stun,
            ice_servers,
            trunk: file.trunk.clone(),
            numbers,
            origins,
            secret,
            calls_per_minute: file.calls_per_minute,
            page: file.page,
        })
    }

    fn browsers_sockets(&mut self, at: &At, texts: &[String]) -> Vec<SocketAddr> {
        let sockets = self.sockets(at, texts);
        if sockets.len() == 2 && sockets[0].is_ipv4() == sockets[1].is_ipv4() {
            self.report(
                Mistake::error(code::CONFLICT, at.item(1), "there is one port for each family of addresses")
                    .hint("leave this one out; all browsers share the other"),
            );
        }
        sockets
    }

    fn browsers_socket(&mut self, at: &At, text: &str) -> Option<SocketAddr> {
        self.sockets(at, std::slice::from_ref(&text.to_owned())).pop()
    }

    /// An address, with a port or without.
    fn told_address(&mut self, at: &At, text: &str) -> Option<SocketAddr> {
        let with_port = text.parse::<SocketAddr>().ok();
        let told = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0)));
        if told.is_none_or(|told| told.ip().is_unspecified()) {
            self.report(
                Mistake::error(code::ADDRESS, at.clone(), "this is no address that browsers can be told")
                    .hint("write it as 198.51.100.7, or 198.51.100.7:3479"),
            );
        }
        told
    }

    /// An origin as browsers write it.
    fn browsers_origin(&mut self, at: &At, text: &str) -> Option<String> {
        self.origin(at, text).map(|_| text.trim_end_matches('/').to_ascii_lowercase())
    }
}
