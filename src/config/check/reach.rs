//! How a trunk is reached: its gateways, and the registrars that make us reachable for it.

use std::time::Duration;

use super::{At, Check, Mistake, code};
use crate::config::raw;
use crate::model::Address;
use crate::trunk::{Credentials, Registration};

impl Check<'_> {
    /// Where numbers are dialled: `gateways`, or `uri` for the only one.
    pub(super) fn gateways(&mut self, at: &At, out: &raw::Outbound) -> Vec<String> {
        match (&out.uri, out.gateways.as_slice()) {
            (Some(uri), []) => {
                self.server(&at.key("uri"), uri, "the dialled number becomes the user");
                vec![uri.clone()]
            }
            (None, gateways) if !gateways.is_empty() => {
                self.servers(&at.key("gateways"), gateways, "the dialled number becomes the user")
            }
            (uri, _) => {
                let mistake = match uri {
                    Some(_) => Mistake::error(code::EXACTLY_ONE, at.key("uri").on_key(), "`gateways` says it already"),
                    None => Mistake::error(code::EXACTLY_ONE, at.clone(), "numbers are dialled nowhere").absence(),
                };
                self.report(mistake.hint(r#"write gateways = ["sip:a.example", "sip:b.example"], or uri for one"#));
                Vec::new()
            }
        }
    }

    pub(super) fn login(&mut self, at: &At, login: Option<&raw::Login>) -> Option<Credentials> {
        let login = login?;
        Some(Credentials {
            username: login.username.clone(),
            password: self.secret(&at.key("password"), &login.password),
            realm: login.realm.clone(),
        })
    }

    pub(super) fn registration(&mut self, at: &At, raw: &raw::Registration) -> Registration {
        let registrars = self.servers(&at.key("registrars"), &raw.registrars, "the user stands in `aor`");
        let is_address = matches!(raw.aor.parse::<Address>(), Ok(Address::Uri(uri)) if uri.contains('@'));
        if !raw.aor.is_empty() && !is_address {
            self.report(
                Mistake::error(code::DIAL, at.key("aor"), "this is no address of record")
                    .hint("write it as sip:user@carrier.example"),
            );
        }
        Registration {
            registrars,
            aor: raw.aor.clone(),
            credentials: self.login(&at.key("login"), raw.login.as_ref()),
            expires: Duration::from_secs(raw.expires_s),
            keep_alive: raw.keep_alive_s.map(Duration::from_secs),
        }
    }

    fn servers(&mut self, at: &At, uris: &[String], user: &str) -> Vec<String> {
        let mut servers: Vec<String> = Vec::new();
        for (n, uri) in uris.iter().enumerate() {
            self.server(&at.item(n), uri, user);
            if servers.contains(uri) {
                self.report(Mistake::error(code::TWICE, at.item(n), "this one stands here twice"));
            }
            servers.push(uri.clone());
        }
        servers
    }

    fn server(&mut self, at: &At, uri: &str, user: &str) {
        let is_uri = matches!(uri.parse::<Address>(), Ok(Address::Uri(_)));
        if !uri.is_empty() && (!is_uri || uri.contains('@')) {
            self.report(
                Mistake::error(code::DIAL, at.clone(), "this is no SIP URI without a user")
                    .hint(format!("write it as sip:sbc.example:5060; {user}")),
            );
        }
        let lower = uri.to_ascii_lowercase();
        if [";transport=ws", ";transport=wss"].iter().any(|ws| lower.split('?').next().is_some_and(|u| u.contains(ws)))
        {
            let what = "SIP over WebSocket is taken from clients, and not spoken to servers";
            self.report(Mistake::error(code::DIAL, at.clone(), what).hint("write transport=tls or transport=tcp"));
        }
    }
}
