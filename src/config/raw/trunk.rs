//! How the files in `trunks/` look.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// `trunks/ID.toml`: one SIP peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "title"]))]
pub struct TrunkFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Its name, for people.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// The country of numbers that are written without one, as `IT` (ISO 3166-1). Left out, only numbers with `+` are
    /// understood, and others stay as they are written.
    #[schemars(length(min = 2, max = 2))]
    pub country: Option<String>,
    /// Codecs in order of preference, which also goes before the order that the peer offers. Left out: `pcmu` and `pcma`,
    /// and in answers the peer's order. A wide codec is worth it towards people; an agent that speaks µ-law gains nothing
    /// by it.
    #[schemars(length(min = 1, max = 6))]
    pub codecs: Option<Vec<Codec>>,
    /// How keys pressed on telephones come and go.
    pub dtmf: Dtmf,
    /// What the peer gets while there is nothing to hear. Left out: `packets`.
    pub silence: Silence,
    /// How audio is protected, in both directions: SRTP with keys in the session description (SDES). Keys are only as
    /// secret as the signalling, so use TLS with it.
    pub media_security: MediaSecurity,
    /// What the peer says of a caller is believed: `P-Asserted-Identity`, `Remote-Party-ID`, forwarding headers and
    /// verification results. Only for a carrier or PBX that takes these headers away from its own customers.
    pub trusted: bool,
    /// Calls from it; left out, none are taken.
    pub inbound: Option<Inbound>,
    /// Calls to it; left out, none are made.
    pub outbound: Option<Outbound>,
    /// How we register with it; left out, we do not.
    pub registration: Option<Registration>,
    /// How much it may use, within the limits of the gateway.
    pub limits: TrunkLimits,
    /// What is agreed on dialogs.
    pub session: Session,
    /// Transfers by REFER.
    pub transfer: Referrals,
    /// Signed caller identities (STIR/SHAKEN).
    pub identity: Identity,
}

/// How audio is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// G.711 µ-law: America and Japan.
    Pcmu,
    /// G.711 A-law: everywhere else.
    Pcma,
    /// G.722: twice the bandwidth for the same 64 kbit/s.
    G722,
    /// Opus, mono: as wide in 24 kbit/s, and it hears over lost packets. About 1 % of a core per call.
    Opus,
    /// Linear samples at 8 kHz, 128 kbit/s.
    #[serde(rename = "l16_8k")]
    L16Narrow,
    /// Linear samples at 16 kHz, 256 kbit/s.
    #[serde(rename = "l16_16k")]
    L16Wide,
}

/// What is sent while there is nothing to hear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Silence like any sound, one packet after the other: what most peers expect, and what keeps address translators
    /// open.
    #[default]
    Packets,
    /// A description of it now and then (RFC 3389), and nothing in between, if the peer takes that; Opus its own way.
    ComfortNoise,
}

/// How keys pressed on telephones come and go. Keys in INFO requests are understood in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtmf {
    /// As telephone-events (RFC 4733) where the peer agrees on them; where it does not, as tones, which are then listened
    /// for in the audio.
    #[default]
    Auto,
    /// As telephone-events, or not at all.
    Rfc4733,
    /// As tones, whatever is agreed on: for peers that agree on telephone-events and lose them.
    Inband,
}

/// How audio is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaSecurity {
    /// Not at all. A call that insists on protection is refused with 488.
    #[default]
    Off,
    /// When the peer can: keys are offered beside plain RTP, and taken beside plain and protected RTP.
    Optional,
    /// Always: RTP/SAVP is offered, and a call without keys is refused with 488.
    Required,
}

/// Calls from a trunk: at least one way to recognise them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// Networks it calls from, as `203.0.113.0/28`. Alone, they are enough to be believed.
    #[schemars(length(max = 256))]
    pub allowed_addresses: Vec<String>,
    /// Names, one of which the peer's TLS client certificate must bear.
    #[schemars(length(max = 16))]
    pub tls_names: Vec<String>,
    /// Calls to the address that we registered with the peer are its calls.
    pub over_registration: bool,
    /// The peer proves a password to us. With `allowed_addresses`, it must do so from there.
    pub login: Option<Login>,
    /// The algorithms by which it may prove the password, which are offered in this order: `sha256` before `md5`. Left
    /// out, both. For a peer that reads only the first challenge and knows MD5 alone, write `["md5"]`, and give it a
    /// realm or addresses of its own; MD5 keeps a password safe only as long as it is long and random.
    #[schemars(length(min = 1, max = 2))]
    pub digest: Option<Vec<Digest>>,
    /// Headers of its calls that become variables. Left out, all `X-…`, `User-to-User` and `Diversion` do.
    #[schemars(length(max = 64))]
    pub header: Vec<HeaderIn>,
}

/// An algorithm by which a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// RFC 8760.
    Sha256,
    /// What every telephone knows, and some alone.
    Md5,
}

/// A user name and a password.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["username", "password"]))]
pub struct Login {
    /// As the peer writes it.
    #[schemars(length(min = 1, max = 128))]
    pub username: String,
    /// Where the password is.
    pub password: Secret,
    /// The protection domain; left out, whatever the challenge names.
    #[schemars(length(min = 1, max = 128))]
    pub realm: Option<String>,
}

/// A header that becomes a variable.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct HeaderIn {
    /// The header's name; with `*` at the end, all that begin like this.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The variable, without its `sip.`: `order` sets `sip.order`. Left out, the header's name in small letters, without
    /// `x-` and with `_` for `-`.
    #[schemars(length(min = 1, max = 64))]
    pub variable: Option<String>,
}

/// Calls to a trunk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Where numbers are dialled: a SIP URI without a user, as `sip:sbc.example:5060`. The number becomes the user.
    #[schemars(length(min = 1))]
    pub uri: Option<String>,
    /// The same for several, in order. The next is tried when one keeps silent, cannot be reached, or answers that it
    /// cannot serve; those that are known to be down come last.
    #[schemars(length(min = 1, max = 16))]
    pub gateways: Vec<String>,
    /// How long one of them may keep silent, not even saying 100, before the next is tried.
    #[schemars(range(min = 200, max = 32_000))]
    pub silence_ms: u64,
    /// How often each is asked with OPTIONS whether it lives. Left out, it is never asked and counts as up.
    #[schemars(range(min = 5, max = 3_600))]
    pub probe_s: Option<u64>,
    /// Who we are when the trunk asks for a proof (401 or 407).
    pub login: Option<Login>,
    /// How numbers are written.
    pub number_format: NumberFormat,
    /// Written before every called number: a technical prefix.
    #[schemars(length(max = 16))]
    pub prefix: String,
    /// The number we show; left out, the caller's own.
    #[schemars(length(min = 1))]
    pub caller_id: Option<String>,
    /// The name beside it.
    #[schemars(length(max = 64))]
    pub caller_name: String,
    /// The host in From; left out, our address. Some carriers want their own or yours here.
    #[schemars(length(min = 1, max = 253))]
    pub caller_host: Option<String>,
    /// `P-Asserted-Identity` is sent, with `caller_id` or else the caller's number.
    pub assert_identity: bool,
    /// What becomes of a caller who asked not to be known.
    pub anonymous: Anonymous,
    /// On which calls `Diversion` says who was called before. With it, most carriers let a caller's own number be shown.
    pub diversion: Telling,
    /// On which calls `History-Info` says so.
    pub history_info: Option<Telling>,
    /// Further headers of our calls: those to numbers, and those to SIP URIs at the host of one of the gateways.
    #[schemars(length(max = 32))]
    pub header: Vec<HeaderOut>,
    /// Which numbers may be dialled; without it the trunk's own country, and nothing premium.
    pub allow: Allow,
    /// What calls cost, for `spend_per_day` under `[limits]`.
    #[schemars(length(max = 1024))]
    pub price: Vec<Price>,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            uri: None,
            gateways: Vec::new(),
            silence_ms: 4_000,
            probe_s: None,
            login: None,
            number_format: NumberFormat::default(),
            prefix: String::new(),
            caller_id: None,
            caller_name: String::new(),
            caller_host: None,
            assert_identity: false,
            anonymous: Anonymous::default(),
            diversion: Telling::default(),
            history_info: None,
            header: Vec::new(),
            allow: Allow::default(),
            price: Vec::new(),
        }
    }
}

/// How we register with the trunk, so that its calls find us (RFC 3261).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["registrars", "aor"]))]
pub struct Registration {
    /// Registrars, as `sip:carrier.example`. One is kept until it fails; then the next is asked.
    #[schemars(length(min = 1, max = 8))]
    pub registrars: Vec<String>,
    /// The address that is registered, as `sip:user@carrier.example`.
    #[schemars(length(min = 1, max = 256))]
    pub aor: String,
    /// For how long we ask to be registered; it is renewed in time.
    #[schemars(range(min = 30, max = 86_400))]
    pub expires_s: u64,
    /// How often the registrar gets an OPTIONS between renewals, so that a NAT keeps the way open for its calls: 25 suits
    /// most. Left out, never.
    #[schemars(range(min = 10, max = 300))]
    pub keep_alive_s: Option<u64>,
    /// Who we are when the registrar asks for a proof.
    pub login: Option<Login>,
}

impl Default for Registration {
    fn default() -> Registration {
        Registration { registrars: Vec::new(), aor: String::new(), expires_s: 600, keep_alive_s: None, login: None }
    }
}

/// How a number is written towards a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberFormat {
    /// As it came.
    #[default]
    AsIs,
    /// `+390212345678`.
    Plus,
    /// `390212345678`.
    Digits,
    /// As dialled within the trunk's country; foreign numbers as `international`.
    National,
    /// With the country's own prefix for calls abroad: `00390212345678`.
    International,
}

/// What becomes of a caller who asked not to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// From is anonymous, and `Privacy: id` is sent.
    #[default]
    Hide,
    /// `caller_id` is shown.
    ShowOurs,
}

/// On which calls something is told about those that were called before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// On none.
    Never,
    /// On those that a route sends on.
    #[default]
    Forwards,
    /// On transfers of a caller as well.
    Always,
}

/// A header of our calls.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "value"]))]
pub struct HeaderOut {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value; may hold variables. When nothing is left of it, the header is not sent.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// Which numbers may be dialled.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Allow {
    /// Countries, as `IT`. Left out, the trunk's own, or every one when it has none.
    #[schemars(length(max = 256))]
    pub countries: Vec<String>,
    /// Beginnings of numbers that are allowed whatever the country, as `+4420`, and short numbers as `112`.
    #[schemars(length(max = 256))]
    pub prefixes: Vec<String>,
    /// Beginnings of numbers that are refused whatever else allows them.
    #[schemars(length(max = 256))]
    pub refused: Vec<String>,
    /// Premium-rate, shared-cost and satellite numbers may be dialled.
    pub premium: bool,
    /// Hosts whose SIP URIs may be dialled, or `*`. Numbers need none.
    #[schemars(length(max = 64))]
    pub hosts: Vec<String>,
}

/// What calls to some numbers cost, in the money that the carrier bills.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["prefix", "per_minute"]))]
pub struct Price {
    /// How the numbers begin, as `+39` or `+447`; the longest that fits counts. Empty: all others.
    #[schemars(length(max = 16))]
    pub prefix: String,
    /// For a minute, as 0.012.
    #[schemars(range(min = 0, max = 10_000))]
    pub per_minute: f64,
    /// For being answered.
    #[schemars(range(min = 0, max = 10_000))]
    pub per_call: f64,
    /// Time is charged in steps of so many seconds, each as soon as it begins.
    #[schemars(range(min = 1, max = 3_600))]
    pub step_s: u64,
}

impl Default for Price {
    fn default() -> Price {
        Price { prefix: String::new(), per_minute: 0.0, per_call: 0.0, step_s: 60 }
    }
}

/// How much a trunk may use. What is left out is bound by the gateway's own limits alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkLimits {
    /// Calls at once, both directions.
    #[schemars(range(min = 1, max = 10_000))]
    pub calls: Option<u32>,
    /// New calls in a second, both directions.
    #[schemars(range(min = 1, max = 1_000))]
    pub calls_per_second: Option<u32>,
    /// Minutes called out in one day (UTC).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub minutes_per_day: Option<u32>,
    /// New outbound calls of one agent in one hour.
    #[schemars(range(min = 1, max = 100_000))]
    pub calls_per_agent_hour: Option<u32>,
    /// Money spent on calls in one day (UTC), by `[[outbound.price]]`. Then nothing more is dialled but emergency numbers,
    /// and calls that cost something are ended. A number without a price is not dialled at all.
    #[schemars(range(min = 0.01, max = 10_000_000))]
    pub spend_per_day: Option<f64>,
}

/// What is agreed on dialogs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long a call lives without a sign of life, which is sent at half of it (RFC 4028); 0 asks for none.
    #[schemars(range(min = 0, max = 86_400))]
    pub expires_s: u64,
    /// The shortest such time that we accept from the peer.
    #[schemars(range(min = 90, max = 86_400))]
    pub expires_min_s: u64,
    /// Whether answers before the final one are acknowledged (100rel, RFC 3262).
    pub reliable: Reliable,
}

impl Default for Session {
    fn default() -> Session {
        Session { expires_s: 1800, expires_min_s: 90, reliable: Reliable::default() }
    }
}

/// Whether answers before the final one are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reliable {
    /// Not offered; used only where the peer requires it.
    Off,
    /// When the peer can.
    #[default]
    Supported,
    /// Calls to a peer that cannot fail.
    Required,
}

/// Signed caller identities (STIR/SHAKEN, RFC 8224).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// What becomes of the signature of their calls.
    pub verify: Verify,
    /// How our own calls are signed; left out, they are not.
    pub sign: Option<Sign>,
}

/// What becomes of a caller's signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// It is not looked at.
    #[default]
    Off,
    /// The result is noted.
    Note,
    /// A call with a bad one is refused.
    RefuseBad,
    /// A call with none is refused as well.
    Require,
}

/// How our own calls are signed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["key", "certificate_url", "origination_id"]))]
pub struct Sign {
    /// Where the private key is: PKCS #8 in PEM, on the curve P-256.
    pub key: Secret,
    /// Where everybody can fetch the certificate.
    #[schemars(length(min = 1, max = 512))]
    pub certificate_url: String,
    /// How well we know the caller.
    pub attestation: Attestation,
    /// A UUID that names us as the origin.
    #[schemars(length(min = 36, max = 36))]
    pub origination_id: String,
}

/// How well the caller is known (RFC 8588).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Attestation {
    /// The caller is our customer and may use the number.
    A,
    /// The caller is our customer; the number was not checked.
    B,
    /// We only pass the call on.
    #[default]
    C,
}

/// Transfers by REFER (RFC 3515).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Referrals {
    /// A party of this trunk may refer whom it talks to to somebody else, who is then dialled by this trunk. Only for
    /// a PBX or telephones that you trust: every referral is a call that you pay. Left out, a REFER is answered 603.
    pub accept_refer: bool,
    /// Whether our transfers of this trunk's callers are tried by REFER, where an action does not say how.
    pub send_refer: SendRefer,
}

/// Whether our transfers are tried by REFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendRefer {
    /// No: we ring the target, and the call stays with us.
    #[default]
    Never,
    /// First; when the trunk refuses, we ring the target.
    First,
}
