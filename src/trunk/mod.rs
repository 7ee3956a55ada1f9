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
    /// How keys come and go.
    pub dtmf: Dtmf,
    /// Silence is described and not sent, where the peer takes that.
    pub comfort_noise: bool,
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

/// How keys come from a trunk's parties and go to them. Keys in INFO requests are understood in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtmf {
    /// As RFC 4733 events where those are agreed on, and else as tones in the audio.
    #[default]
    Auto,
    /// As events, or not at all.
    Rfc4733,
    /// As tones, whatever is agreed on: the peer agrees on events and loses them.
    Inband,
}

/// Who calls us from a trunk. A call is the trunk's when one of these ways recognises it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Networks that are believed by their address alone.
    pub allowed: Vec<Cidr>,
    /// The peer proves a password (RFC 3261 §22). Together with `allowed`, it must do so from there.
    pub digest: Option<Credentials>,
    /// By which algorithms; best first, never empty.
    pub algorithms: Vec<DigestAlgorithm>,
    /// DNS names, one of which the peer's TLS client certificate must bear.
    pub tls_names: Vec<String>,
    /// Calls to the Contact that we registered with the trunk's registrar are the trunk's.
    pub over_registration: bool,
    /// Headers that become variables of the call.
    pub headers: Vec<HeaderIn>,
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound {
            allowed: Vec::new(),
            digest: None,
            algorithms: DigestAlgorithm::ALL.to_vec(),
            tls_names: Vec::new(),
            over_registration: false,
            headers: Vec::new(),
        }
    }
}

/// An algorithm by which somebody proves a password to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// RFC 8760.
    Sha256,
    /// What every telephone knows, and some alone.
    Md5,
}

impl DigestAlgorithm {
    /// In the order in which they are offered: best first (RFC 8760 §2.3).
    pub const ALL: [DigestAlgorithm; 2] = [DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
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
    /// On which calls `Diversion` says who was called before (RFC 5806).
    pub diversion: Telling,
    /// On which calls `History-Info` says so (RFC 7044).
    pub history_info: Telling,
    /// How often OPTIONS asks each gateway for a sign of life; `None`: never, and all count as up.
    pub probe: Option<Duration>,
    /// Which numbers may be dialled.
    pub dialling: Dialling,
    /// What numbers cost, by how they begin: `+39`, or nothing for all others.
    pub prices: Vec<(String, Price)>,
}

impl Outbound {
    /// What a number costs: the price with the longest beginning that fits. `None` when nobody said.
    pub fn price_of(&self, number: &str, e164: Option<&str>) -> Option<Price> {
        let fits = |begins: &String| number.starts_with(begins.as_str()) || e164.is_some_and(|e| e.starts_with(begins));
        let fitting = self.prices.iter().filter(|(begins, _)| fits(begins));
        fitting.max_by_key(|(begins, _)| begins.len()).map(|(_, price)| *price)
    }

    /// Whether a SIP URI is at the host of one of the gateways, so that the call is the trunk's as one to a number is.
    pub fn is_home_of(&self, uri: &str) -> bool {
        let home =
            |gateway: &String| host_of(gateway).zip(host_of(uri)).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
        self.gateways.iter().any(home)
    }

    /// Whom a SIP URI at the host of one of the gateways asks the trunk for: its user part as the peer will read it,
    /// without our technical prefix. `None` when it is at another host, or has no user part.
    pub fn asked_for(&self, uri: &str) -> Option<String> {
        let (_, rest) = uri.split_once(':').filter(|_| self.is_home_of(uri))?;
        let (user, _) = rest.split_once('@')?;
        // Escapes first: `%3B` must not hide where the number ends. What follows are parameters, or a password.
        let user = naming::unescaped(user);
        let user = user.split([';', ':']).next()?;
        let user = user.strip_prefix(self.prefix.as_str()).unwrap_or(user);
        let is_bare = self.format == NumberFormat::Digits && user.bytes().all(|octet| octet.is_ascii_digit());
        Some(if is_bare && user.len() > SHORT_MAX { format!("+{user}") } else { user.to_owned() })
    }

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

/// Digits of a number that is nobody's whole number: extensions, services.
const SHORT_MAX: usize = 6;

/// The host of a SIP URI, an IPv6 address without its brackets. `None` when more than one could be meant.
pub fn host_of(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once(':')?;
    let rest = rest.split(['?', ';']).next()?;
    // The user part may hold an escaped @ only; and a parameter of the user part may not hide a second host.
    let place = rest.rsplit('@').next()?;
    let host = match place.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => place.split(':').next()?,
    };
    (!host.is_empty() && uri.matches('@').count() <= 1).then_some(host)
}

/// On which calls something is told about those that were called before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// On none.
    Never,
    /// On those that a route sends on.
    #[default]
    Forwards,
    /// On transfers of a caller as well.
    Always,
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

/// What a call costs. Amounts are millionths of whatever money the admin counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// For being answered.
    pub per_call: i64,
    /// For each minute.
    pub per_minute: i64,
    /// Time is charged in steps of this length, each as soon as it begins; 0 is taken as a millisecond.
    pub step: Duration,
}

impl Price {
    /// What a call costs that has been up for so long.
    pub fn of_ms(&self, up_ms: i64) -> i64 {
        let step_ms = i64::try_from(self.step.as_millis()).unwrap_or(i64::MAX).max(1);
        let charged_ms = up_ms.max(0).saturating_add(step_ms - 1) / step_ms * step_ms;
        let time = i128::from(self.per_minute) * i128::from(charged_ms) / 60_000;
        self.per_call.saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
    }
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
    /// Money spent on calls in one day (UTC), in millionths.
    pub spend_per_day: Option<i64>,
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
    fn a_call_is_charged_in_steps_that_have_begun() {
        let price = Price { per_call: 50_000, per_minute: 120_000, step: Duration::from_secs(30) };

        assert_eq!(price.of_ms(0), 50_000);
        assert_eq!(price.of_ms(1), 110_000);
        assert_eq!(price.of_ms(30_000), 110_000);
        assert_eq!(price.of_ms(30_001), 170_000);
        assert_eq!(Price { per_minute: i64::MAX, ..price }.of_ms(i64::MAX / 2), i64::MAX);
    }

    #[test]
    fn the_longest_beginning_has_the_price() {
        let price = |per_minute| Price { per_minute, ..Price::default() };
        let prices = vec![("+44".into(), price(1)), ("+447".into(), price(2)), ("187".into(), price(3))];
        let out = Outbound { prices, ..outbound("sip:gw.example") };

        assert_eq!(out.price_of("07700900123", Some("+447700900123")), Some(price(2)));
        assert_eq!(out.price_of("+442079460000", None), Some(price(1)));
        assert_eq!(out.price_of("187", None), Some(price(3)));
        assert_eq!(out.price_of("+390212345678", None), None);
    }

    #[test]
    fn addresses_at_a_gateways_host_are_the_trunks() {
        let out = outbound("sip:Sbc.example:5070;transport=tcp");

        for home in ["sip:200@sbc.example", "sips:200@SBC.example:5061;transport=tls"] {
            assert!(out.is_home_of(home), "{home}");
        }
        for strange in ["sip:200@other.example", "sip:sbc.example@other.example", "sip:a@other.example;x=@sbc.example"]
        {
            assert!(!out.is_home_of(strange), "{strange}");
        }
        assert!(outbound("sip:[2001:db8::1]:5060").is_home_of("sip:200@[2001:db8::1]"));
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
            dtmf: Dtmf::default(),
            comfort_noise: false,
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
            diversion: Telling::default(),
            history_info: Telling::Never,
            probe: None,
            dialling: Dialling::default(),
            prices: Vec::new(),
        }
    }
}
