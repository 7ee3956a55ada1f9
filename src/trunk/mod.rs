//! A trunk: one SIP peer, who may call us from it, how we call out through it, and what is agreed with it.
//!
//! Plain data, complete and checked. Never knows about sockets or messages: `sip` speaks, `guard` judges, the gateway
//! asks. Start at [`Trunk`].

mod arrival;
pub mod gateways;
mod naming;
mod network;
pub mod numbers;
mod presented;
pub mod registrar;

use std::time::Duration;

use crate::actions::{SecretRef, Template};
use crate::model::{Address, Codec, MediaSecurity};

pub use arrival::{Arrival, Believed, Shown, arrive};
pub use network::Cidr;
pub use presented::{Presented, present};

/// One SIP peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// The file's stem.
    pub id: String,
    /// For people.
    pub title: String,
    /// What it says of a caller is believed: P-Asserted-Identity (RFC 3325 §8), `verstat`, History-Info.
    pub is_trusted: bool,
    /// The country of numbers written without one, as ISO 3166-1 alpha-2. `None`: numbers stay as they are written.
    pub country: Option<String>,
    /// In order of preference, never empty.
    pub codecs: Vec<Codec>,
    /// Our order counts in answers as well, not the peer's.
    pub leads_codecs: bool,
    /// How audio between us and it is protected.
    pub media_security: MediaSecurity,
    /// Who may call us from it.
    pub inbound: Inbound,
    /// How we call out through it; `None`: we do not.
    pub outbound: Option<Outbound>,
    /// How we register with it; `None`: we do not.
    pub registration: Option<Registration>,
    /// How much it may use.
    pub limits: TrunkLimits,
    /// What is agreed on dialogs.
    pub session: SessionRules,
    /// Transfers by REFER.
    pub transfer: ReferRules,
    /// Signed caller identities.
    pub identity: IdentityRules,
}

impl Trunk {
    /// The request URI at one of its gateways for an address, with the number as the trunk wants it written.
    pub fn dialled_uri(&self, outbound: &Outbound, gateway: &str, to: &Address) -> String {
        match to {
            Address::Number(number) => {
                let country = self.country.as_deref().and_then(numbers::Country::of);
                let written = numbers::written(number, outbound.format, country.as_deref());
                outbound.uri_of(gateway, &Address::Number(written))
            }
            Address::Uri(_) => outbound.uri_of(gateway, to),
        }
    }
}

/// Who calls us from a trunk. A call is the trunk's when one of these ways recognises it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbound {
    /// Networks that are believed by their address alone.
    pub allowed: Vec<Cidr>,
    /// The peer proves a password (RFC 3261 §22). Together with `allowed`, it must do so from there.
    pub digest: Option<Credentials>,
    /// DNS names, one of which the peer's TLS client certificate must bear.
    pub tls_names: Vec<String>,
    /// Calls to the Contact that we registered with the trunk's registrar are the trunk's.
    pub over_registration: bool,
    /// Headers that become variables of the call.
    pub headers: Vec<HeaderIn>,
}

/// A header of their INVITE that becomes a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderIn {
    /// The header's name, compared without case; with `*` at the end, all that begin like this.
    pub name: String,
    /// The variable's name. `None`: the header's in lower case, without a leading `x-`, with `_` for `-`.
    pub variable: Option<String>,
}

/// A user name and where its password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// As the peer writes it.
    pub username: String,
    /// Never the password itself.
    pub password: SecretRef,
    /// The protection domain; `None` takes whatever the challenge names.
    pub realm: Option<String>,
}

/// How we call out through a trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbound {
    /// Where numbers are dialled, in order: SIP URIs without a user part. Never empty. The next is tried when one does
    /// not answer, answers 503 or is known to be down.
    pub gateways: Vec<String>,
    /// How long one gateway may keep silent (not even a 100) before the next is tried.
    pub silence: Duration,
    /// Who we are when challenged with 401 or 407.
    pub credentials: Option<Credentials>,
    /// How a called number is written.
    pub format: NumberFormat,
    /// Written before every called number: a technical prefix.
    pub prefix: String,
    /// Whom we show as the caller.
    pub caller: CallerPolicy,
    /// Headers of our INVITEs.
    pub headers: Vec<HeaderOut>,
    /// How often OPTIONS asks each gateway for a sign of life; `None`: never, and all count as up.
    pub probe: Option<Duration>,
    /// Which numbers may be dialled.
    pub dialling: Dialling,
}

impl Outbound {
    /// The request URI at one gateway for an address: a number becomes the user part of the gateway's URI, a SIP URI
    /// stays as it is.
    pub fn uri_of(&self, gateway: &str, to: &Address) -> String {
        match to {
            Address::Uri(uri) => uri.clone(),
            // RFC 3261 §25.1: `#` may not stand bare in a user part.
            Address::Number(number) => match gateway.split_once(':') {
                Some((scheme, host)) => {
                    format!("{scheme}:{}{}@{host}", self.prefix, number.replace('#', "%23"))
                }
                None => gateway.to_owned(),
            },
        }
    }
}

/// How a number is written towards a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberFormat {
    /// As it came.
    #[default]
    AsIs,
    /// `+390212345678`.
    Plus,
    /// `390212345678`.
    Digits,
    /// As dialled within the trunk's country; a foreign number as [`NumberFormat::International`].
    National,
    /// With the country's own prefix for calls abroad: `00390212345678`.
    International,
}

/// Whom we show as the caller of an outbound call (RFC 3261 §20.20, RFC 3325, RFC 3323).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerPolicy {
    /// Our number; `None` shows the number of the call's own caller.
    pub number: Option<String>,
    /// The name beside it; empty for none.
    pub display: String,
    /// The host of From; `None`: our address.
    pub host: Option<String>,
    /// Whether P-Asserted-Identity is sent. It bears our number even when From shows the caller's.
    pub asserts: bool,
    /// What becomes of a caller who asked not to be known.
    pub anonymous: Anonymous,
}

/// What becomes of a caller who asked not to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// From is anonymous and `Privacy: id` is sent (RFC 3323 §4.1.1.3).
    #[default]
    Hide,
    /// Our own number is shown.
    ShowOurs,
}

/// A header of our INVITE.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderOut {
    /// Its name.
    pub name: String,
    /// Its value, with variables of the call. An empty one is not sent.
    pub value: Template,
}

/// Which numbers may be dialled: the guard against toll fraud. The default allows nothing abroad and nothing premium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialling {
    /// Countries, as ISO 3166-1 alpha-2. Empty: the trunk's own country only, or every one when it has none.
    pub countries: Vec<String>,
    /// Prefixes as `+39`, `+447`, which are allowed whatever the country; short codes as `112`.
    pub prefixes: Vec<String>,
    /// Prefixes that are refused whatever else allows them.
    pub refused: Vec<String>,
    /// Premium-rate, shared-cost and satellite ranges may be dialled.
    pub premium: bool,
    /// SIP URIs may be dialled: their hosts, or `*`. Numbers at the gateways need no leave.
    pub hosts: Vec<String>,
}

/// How we register with a trunk (RFC 3261 §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Registrars, in order: SIP URIs without a user part. Never empty.
    pub registrars: Vec<String>,
    /// The address of record: `sip:user@domain`.
    pub aor: String,
    /// Who we are when challenged.
    pub credentials: Option<Credentials>,
    /// What we ask for; the registrar may grant less.
    pub expires: Duration,
    /// How often the registrar that has us gets an OPTIONS, so that a NAT between us keeps the way open for its calls;
    /// `None`: never.
    pub keep_alive: Option<Duration>,
}

/// How much a trunk may use; `None` is bound by the gateway's own limits alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrunkLimits {
    /// Calls at once, both directions.
    pub calls: Option<u32>,
    /// New calls in a second, both directions.
    pub calls_per_second: Option<u32>,
    /// Minutes called out in one day (UTC).
    pub minutes_per_day: Option<u32>,
    /// New outbound calls of one agent in one hour.
    pub calls_per_agent_hour: Option<u32>,
}

/// What is agreed on dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Session-Expires that we ask for (RFC 4028); `None`: we ask for none, and follow theirs.
    pub expires: Option<Duration>,
    /// The shortest interval that we accept; at least 90 s by the RFC.
    pub expires_min: Duration,
    /// Reliable provisional answers (RFC 3262).
    pub reliable: Reliable,
}

impl Default for SessionRules {
    /// Half an hour, as RFC 4028 §4 recommends; 100rel when they can.
    fn default() -> SessionRules {
        SessionRules {
            expires: Some(Duration::from_secs(1800)),
            expires_min: Duration::from_secs(90),
            reliable: Reliable::Supported,
        }
    }
}

/// Reliable provisional answers (RFC 3262).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliable {
    /// Neither offered nor used, unless they require it.
    Off,
    /// Offered, and used when they can and there is something to say.
    #[default]
    Supported,
    /// Required of them on calls that we place.
    Required,
}

/// Transfers by REFER (RFC 3515).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferRules {
    /// Their REFER is carried out; otherwise it is answered 603.
    pub accepts: bool,
    /// How our own transfers of this trunk's callers are done.
    pub sends: ReferSend,
}

/// How our own transfers are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferSend {
    /// By bridging: the call stays with us.
    #[default]
    Never,
    /// By REFER; when it is refused, by bridging.
    First,
}

/// Signed caller identities (RFC 8224, STIR/SHAKEN).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityRules {
    /// What becomes of their `Identity`.
    pub verify: Verify,
    /// How our own outbound calls are signed; `None`: not at all.
    pub sign: Option<Signing>,
}

/// What becomes of a caller's `Identity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// It is not looked at.
    #[default]
    Off,
    /// The result is noted.
    Note,
    /// A call with a bad one is refused (RFC 8224 §6.2.2); one without is taken.
    RefuseBad,
    /// A call with none is refused as well (428).
    Require,
}

/// How our own calls are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The private key, PKCS #8 PEM, P-256.
    pub key: SecretRef,
    /// Where the certificate can be had: `x5u`.
    pub certificate_url: String,
    /// How well we know the caller (RFC 8588 §4): `A`, `B` or `C`.
    pub attestation: char,
    /// `origid`: a UUID that names us (RFC 8588 §5).
    pub origination_id: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn numbers_are_dialled_at_the_trunk_and_uris_directly() {
        let gateway = "sip:sbc.example:5070;transport=tcp";
        let out = Outbound { prefix: "77".into(), ..outbound(gateway) };
        let at = |to: &str| out.uri_of(gateway, &to.parse().unwrap());

        assert_eq!(at("+4420"), "sip:77+4420@sbc.example:5070;transport=tcp");
        assert_eq!(at("*31#"), "sip:77*31%23@sbc.example:5070;transport=tcp");
        assert_eq!(at("sip:desk@10.0.0.1"), "sip:desk@10.0.0.1");
    }

    #[test]
    fn a_dialled_number_is_written_as_the_trunk_wants_it() {
        let out = Outbound { prefix: "99".into(), format: NumberFormat::Digits, ..outbound("sip:gw.example") };
        let dialled = |to: &str| trunk().dialled_uri(&out, "sip:gw.example", &to.parse().unwrap());

        assert_eq!(dialled("02 1234 5678"), "sip:99390212345678@gw.example");
        assert_eq!(dialled("112"), "sip:99112@gw.example");
        assert_eq!(dialled("sip:desk@10.0.0.1"), "sip:desk@10.0.0.1");
    }

    /// An Italian trunk that nothing is agreed with.
    pub(crate) fn trunk() -> Trunk {
        Trunk {
            id: "carrier".to_owned(),
            title: "Carrier".to_owned(),
            is_trusted: false,
            country: Some("IT".to_owned()),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            leads_codecs: false,
            media_security: MediaSecurity::Off,
            inbound: Inbound::default(),
            outbound: None,
            registration: None,
            limits: TrunkLimits::default(),
            session: SessionRules::default(),
            transfer: ReferRules::default(),
            identity: IdentityRules::default(),
        }
    }

    /// Calls out to one gateway, with nothing said of numbers and callers.
    pub(crate) fn outbound(gateway: &str) -> Outbound {
        Outbound {
            gateways: vec![gateway.to_owned()],
            silence: Duration::from_secs(4),
            credentials: None,
            format: NumberFormat::AsIs,
            prefix: String::new(),
            caller: CallerPolicy::default(),
            headers: Vec::new(),
            probe: None,
            dialling: Dialling::default(),
        }
    }
}
