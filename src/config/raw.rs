//! How the files of `sip-config/` look, one type per kind of file.
//!
//! The JSON Schema that checks a file, and that an editor completes from, is made of these types: a field's comment is
//! what an admin reads there. Every struct can be had with fields missing, so that the check goes on behind a mistake;
//! what must be written is named in `required`. Lengths of time are whole numbers with their unit in the name.

mod routes;
mod trunk;
mod webrtc;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::actions::{Method, ParameterType, Phase, SetRecording, TransferMethod};
use crate::guard;
use crate::model::limits;

pub use routes::{Day, Forward, Reject, Route, RouteHeader, RouteHours, RouteIdentity, RoutesFile};
pub use trunk::{
    Allow, Anonymous, Attestation, Codec, Digest, Dtmf, HeaderIn, HeaderOut, Identity, Inbound, Login, MediaSecurity,
    NumberFormat, Outbound, Price, Referrals, Registration, Reliable, SendRefer, Session, Sign, Silence, Telling,
    TrunkFile, TrunkLimits, Verify,
};
pub use webrtc::{Access, Ice, IceServer, WebRtc};

/// `gateway.toml`: what the gateway listens on and what it may use.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "sip", "media"]))]
pub struct GatewayFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where SIP is spoken.
    pub sip: Sip,
    /// Where audio flows.
    pub media: Media,
    /// Where calls, journals and recordings are kept.
    pub store: Store,
    /// How recordings are kept. Which calls are recorded, agents say.
    pub recordings: Recordings,
    /// How much work is taken; more is answered with 503.
    pub limits: Limits,
    /// How strangers are kept out, and how long we call out.
    pub protection: Protection,
    /// Whom actions and webhooks may reach.
    pub egress: Egress,
    /// Whether the SIP messages of calls are kept, for `ringback trace`.
    pub trace: Trace,
    /// Whose signatures of callers' identities are believed (STIR/SHAKEN).
    pub identity: Signers,
    /// Health and metrics; left out, none are served.
    pub admin: Option<Admin>,
    /// Calls of browsers; left out, none are taken.
    pub webrtc: Option<WebRtc>,
    /// Where the prompt clips are.
    pub prompts: Prompts,
}

/// Where SIP is spoken; at least one address in all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// UDP sockets, as `192.0.2.1:5060`.
    #[schemars(length(max = 16))]
    pub udp: Vec<String>,
    /// TCP listeners, as `192.0.2.1:5060`.
    #[schemars(length(max = 16))]
    pub tcp: Vec<String>,
    /// The address or host name that others reach us by, when it is not the one that we listen on: behind a NAT.
    #[schemars(length(min = 1, max = 253))]
    pub advertised: Option<String>,
    /// The DNS servers that SIP names are looked up with, as `192.0.2.53:53`. None: the system's.
    #[schemars(length(max = 8))]
    pub nameservers: Vec<String>,
    /// How often a connection that we opened is kept awake.
    #[schemars(range(min = 10, max = 600))]
    pub keep_alive_s: u64,
    /// SIP within TLS.
    pub tls: SipTls,
    /// SIP over WebSocket, as browsers speak it.
    pub ws: SipWebSocket,
}

impl Default for Sip {
    fn default() -> Sip {
        Sip {
            udp: Vec::new(),
            tcp: Vec::new(),
            advertised: None,
            nameservers: Vec::new(),
            keep_alive_s: 60,
            tls: SipTls::default(),
            ws: SipWebSocket::default(),
        }
    }
}

/// SIP within TLS. Files are PEM; a relative path starts at the configuration's folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SipTls {
    /// TLS listeners, as `192.0.2.1:5061`. They need a certificate.
    #[schemars(length(max = 16))]
    pub listen: Vec<String>,
    /// Our certificate, followed by those that it stands on. It is shown to servers that ask, too.
    #[schemars(length(min = 1, max = 1024))]
    pub certificate: Option<String>,
    /// Its private key.
    pub key: Option<Secret>,
    /// Whether listeners ask for certificates. A trunk with `tls_names` needs them.
    pub client_certificates: ClientCertificates,
    /// The authorities that those stand on.
    #[schemars(length(min = 1, max = 1024))]
    pub client_ca: Option<String>,
    /// The authorities that servers stand on when we connect: `system`, or a file. Nobody is asked whether a certificate
    /// was revoked (no CRL, no OCSP): take an authority out of the file, or wait for the certificate's end.
    #[schemars(length(min = 1, max = 1024))]
    pub trust: String,
    /// Whether `*.example.com` in the certificate of a server stands for its hosts. RFC 5922 says no; some carriers
    /// need it.
    pub wildcards: bool,
}

impl Default for SipTls {
    fn default() -> SipTls {
        SipTls {
            listen: Vec::new(),
            certificate: None,
            key: None,
            client_certificates: ClientCertificates::default(),
            client_ca: None,
            trust: "system".to_owned(),
            wildcards: false,
        }
    }
}

/// Whether a TLS listener asks for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// It does not ask.
    #[default]
    Off,
    /// It asks, and takes who has none.
    Request,
    /// It insists.
    Require,
}

/// SIP over WebSocket (RFC 7118).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SipWebSocket {
    /// Listeners without TLS, as `127.0.0.1:8080`: for a proxy in front that has it.
    #[schemars(length(max = 16))]
    pub listen: Vec<String>,
    /// Listeners with the certificate under `[sip.tls]`.
    #[schemars(length(max = 16))]
    pub secure: Vec<String>,
    /// Web pages that may connect, by their origins, as `https://phone.example.com`. Left out, all may: then any page that
    /// a user looks at can speak SIP to us from the user's address. Programs that are no browsers name no origin, and may.
    #[schemars(length(min = 1, max = 64))]
    pub origins: Option<Vec<String>>,
}

/// Where audio flows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub struct Media {
    /// The address that callers send audio to. One of this machine's, not `0.0.0.0`.
    #[schemars(length(min = 1))]
    pub address: String,
    /// The first RTP port; even. Keep the range out of the system's ephemeral ports.
    #[schemars(range(min = 1024, max = 65534))]
    pub port_first: u16,
    /// The last port. A call needs up to four: two legs with RTP and RTCP each.
    #[schemars(range(min = 1025, max = 65535))]
    pub port_last: u16,
    /// Threads that carry audio; one carries a few hundred calls.
    #[schemars(range(min = 1, max = 64))]
    pub threads: u16,
    /// Mean seconds between two reports on what is heard (RTCP); 0 sends none.
    #[schemars(range(min = 0, max = 60))]
    pub rtcp_interval_s: u16,
    /// Audio is neither sent to nor taken from another machine; for demonstrations and tests.
    pub loopback_only: bool,
}

impl Default for Media {
    fn default() -> Media {
        Media {
            address: String::new(),
            port_first: 20_000,
            port_last: 29_999,
            threads: 1,
            rtcp_interval_s: 5,
            loopback_only: false,
        }
    }
}

/// Where things are kept. Relative paths start at the working directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The SQLite database.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The folder of journals and recordings.
    #[schemars(length(min = 1, max = 1024))]
    pub data_dir: String,
}

impl Default for Store {
    fn default() -> Store {
        Store { path: "data/ringback.db".to_owned(), data_dir: "data".to_owned() }
    }
}

/// How recordings are kept: in `recordings` below the data folder, one file for each call and a page about it, `ID.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recordings {
    /// What is in the files.
    pub format: RecordingFormat,
    /// The master key that seals recordings: 32 octets, in base64 or as 64 hexadecimal digits. Left out, they are kept
    /// in the clear. `ringback recording open` reads what it sealed.
    pub key: Option<Secret>,
    /// Days after which recordings are destroyed; 0 keeps them. A file `ID.hold` beside a recording keeps that one.
    #[schemars(range(min = 0, max = 36_500))]
    pub keep_days: u32,
}

impl Default for Recordings {
    fn default() -> Recordings {
        Recordings { format: RecordingFormat::default(), key: None, keep_days: 30 }
    }
}

/// What is in a recording's file. The caller is on the left, what the caller hears on the right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingFormat {
    /// WAV: 115 MB an hour.
    #[default]
    Wav,
    /// Opus in Ogg: some 20 MB an hour, and more work for the processor.
    Opus,
}

/// How much work is taken; more is answered with 503.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls at once.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_calls: u32,
    /// New calls in a second.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_calls_per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_calls: 100, max_calls_per_second: 20 }
    }
}

/// How strangers are kept out, and how long we call out. The defaults suit a gateway on the open net.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Protection {
    /// What those get whom no trunk knows.
    pub unknown_sources: Strangers,
    /// Requests of one unknown address in a second; twice as many may come at once. More get no answer.
    #[schemars(range(min = 1, max = 10_000))]
    pub requests_per_second: u32,
    /// Requests of one trunk in a second, outside of calls; more are answered 503.
    #[schemars(range(min = 1, max = 100_000))]
    pub trunk_requests_per_second: u32,
    /// Wrong passwords in a row that lock out an address. Ten times as many lock a user, for addresses that never knew
    /// its password.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures_max: u32,
    /// How long the first lock lasts; each further one lasts twice as long.
    #[schemars(range(min = 1, max = 86_400))]
    pub lockout_s: u64,
    /// The longest lock.
    #[schemars(range(min = 1, max = 604_800))]
    pub lockout_max_s: u64,
    /// How long a scanner gets no answer.
    #[schemars(range(min = 1, max = 604_800))]
    pub silence_s: u64,
    /// Words in `User-Agent` that give a scanner away, beside those we know, without regard to case.
    #[schemars(length(max = 64), inner(length(min = 3, max = 64)))]
    pub scanners: Vec<String>,
    /// The realm of our challenges to trunks that name none.
    #[schemars(length(min = 1, max = 128))]
    pub realm: String,
    /// A leg that we called is hung up after this time.
    #[schemars(range(min = 1, max = 86_400))]
    pub outbound_duration_max_s: u64,
}

impl Default for Protection {
    fn default() -> Protection {
        let rules = guard::Protection::default();
        Protection {
            unknown_sources: Strangers::default(),
            requests_per_second: rules.stranger_requests_per_second,
            trunk_requests_per_second: rules.trunk_requests_per_second,
            failures_max: rules.failures_max,
            lockout_s: rules.lockout.as_secs(),
            lockout_max_s: rules.lockout_max.as_secs(),
            silence_s: rules.silence.as_secs(),
            scanners: rules.scanners,
            realm: rules.realm,
            outbound_duration_max_s: rules.outbound_max.as_secs(),
        }
    }
}

/// What those get whom no trunk knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strangers {
    /// No answer at all: scanners find nothing here.
    #[default]
    Silence,
    /// 403, whatever they ask for.
    Forbidden,
    /// 401, as if a password could help.
    Challenge,
}

/// Whom actions and webhooks may reach.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Whether private, loopback and link-local addresses may be reached.
    pub private: Private,
    /// Origins that may be reached even if private, as `http://127.0.0.1:8081`.
    #[schemars(length(max = 256))]
    pub allow: Vec<String>,
}

/// What happens to a request for a private address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Private {
    /// It is refused, unless its origin is on the list.
    #[default]
    Deny,
    /// It is made.
    Allow,
}

/// Whether the SIP messages of calls are kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// Of which calls. The messages hold numbers and names, but no passwords and keys; the store keeps the last 10,000.
    pub keep: KeepTrace,
}

/// Of which calls the SIP messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepTrace {
    /// Of none.
    Off,
    /// Of those that failed or were not answered: they are asked about, and the others need not be kept for it.
    #[default]
    Failed,
    /// Of all.
    All,
}

/// Whose signatures of callers' identities are believed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Signers {
    /// A file of certificates in PEM: the roots that the certificate of whoever signed a call must lead to. Relative to
    /// the configuration's folder. Trunks that `verify` need it. Lists of revoked certificates (CRL) are not fetched.
    #[schemars(length(min = 1, max = 1024))]
    pub trust: Option<String>,
}

/// Health and metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen"]))]
pub struct Admin {
    /// Address of the HTTP listener, as `127.0.0.1:9090`.
    #[schemars(length(min = 1))]
    pub listen: String,
}

/// Where the prompt clips are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prompts {
    /// A folder of WAV files, relative to the configuration's folder; it may lie outside of it.
    #[schemars(length(min = 1, max = 1024))]
    pub dir: String,
}

impl Default for Prompts {
    fn default() -> Prompts {
        Prompts { dir: "prompts".to_owned() }
    }
}

/// `webhooks.toml`: who is told of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version"]))]
pub struct WebhooksFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Who is told.
    #[schemars(length(max = 64))]
    pub endpoint: Vec<Endpoint>,
}

/// Somebody who is told of events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id", "url", "events", "secret"]))]
pub struct Endpoint {
    /// Its name in deliveries.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Where events are posted to.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Which events: `call.ended`.
    #[schemars(length(min = 1, max = 16))]
    pub events: Vec<String>,
    /// The signing secret, `whsec_` and base64 (Standard Webhooks).
    pub secret: Secret,
    /// Time for one attempt.
    #[schemars(range(min = 100, max = 30_000))]
    pub timeout_ms: u64,
    /// Whether it is told at all.
    pub enabled: bool,
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint {
            id: String::new(),
            url: String::new(),
            events: Vec::new(),
            secret: Secret::default(),
            timeout_ms: 10_000,
            enabled: true,
        }
    }
}

/// Where a credential is: `{ env = "NAME" }` or `{ file = "secrets/name" }`. Never the credential itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Secret {
    /// The name of an environment variable.
    #[schemars(length(min = 1))]
    pub env: Option<String>,
    /// A file below the configuration's folder.
    #[schemars(length(min = 1))]
    pub file: Option<String>,
}

/// `agents/ID.toml`: who answers, and what it may do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "title", "connector"]))]
pub struct AgentFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Its name, for people.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// How it is reached: `flow`, `echo`, or a vendor's.
    #[schemars(length(min = 1))]
    pub connector: String,
    /// With `connector = "flow"`: what runs live on the call.
    pub flow: Option<Flow>,
    /// The vendor's own settings.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub settings: Option<Value>,
    /// The credential for the vendor.
    pub secret: Option<Secret>,
    /// What the vendor's agent is told; may hold variables.
    pub instructions: Option<Instructions>,
    /// What the vendor's agent says first; may hold variables. Left out, it waits for the caller.
    pub first_words: Option<String>,
    /// The call is answered when everything of `before` is done, and after this time at the latest.
    #[schemars(range(min = 0, max = RING_BUDGET_MS_MAX))]
    pub ring_budget_ms: u64,
    /// What is done while it rings.
    #[schemars(length(max = 16))]
    pub before: Vec<Before>,
    /// Actions that the agent may ask for during the call, by id.
    #[schemars(length(max = 64))]
    pub during: Vec<String>,
    /// What is done after every call.
    #[schemars(length(max = 16))]
    pub after: Vec<After>,
    /// The workflow that runs live on the call when the agent cannot be reached or is lost.
    #[schemars(length(min = 1))]
    pub fallback: Option<String>,
    /// Said when a step failed and has nowhere to go.
    pub went_wrong: Prompt,
    /// Both sides are recorded.
    pub record: bool,
    /// What happens when the caller speaks while the agent speaks.
    pub barge_in: BargeIn,
    /// What a caller learns before the recording begins.
    pub consent: Consent,
    /// The call is ended after this time.
    #[schemars(range(min = 10, max = 14_400))]
    pub duration_max_s: u64,
}

/// [`limits::RING_BUDGET_MAX`] in milliseconds.
const RING_BUDGET_MS_MAX: u64 = limits::RING_BUDGET_MAX.as_secs() * 1000;

impl Default for AgentFile {
    fn default() -> AgentFile {
        AgentFile {
            version: 0,
            title: String::new(),
            connector: String::new(),
            flow: None,
            settings: None,
            secret: None,
            instructions: None,
            first_words: None,
            ring_budget_ms: 1500,
            before: Vec::new(),
            during: Vec::new(),
            after: Vec::new(),
            fallback: None,
            went_wrong: Prompt {
                clips: Vec::new(),
                // The default sentence of rule R4 of the feature table.
                text: Some("Something went wrong, try again.".to_owned()),
            },
            record: false,
            barge_in: BargeIn::default(),
            consent: Consent::default(),
            duration_max_s: limits::CALL_DURATION_MAX.as_secs(),
        }
    }
}

/// What happens when the caller speaks while a vendor's agent speaks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BargeIn {
    /// Who decides that the caller means to interrupt.
    pub by: DecidedBy,
    /// What may interrupt: `true` for voice and keys, `"dtmf-only"` for keys, `false` for nothing, as legal notices want
    /// it. The agent hears the caller in any case.
    pub interruptible: Interruptible,
    /// With `by = "local"` or `"both"`: speech this long silences the agent. Longer is calmer, shorter is quicker.
    #[schemars(range(min = 100, max = 2_000))]
    pub min_speech_ms: u64,
    /// With `by = "local"` or `"both"`: a soft "mm-hmm" in the middle of an answer does not silence the agent.
    pub backchannels: bool,
    /// With `by = "local"` or `"both"`: noise is taken out of what the gateway judges by, not of what the agent hears.
    /// For callers in cars and halls; costs some 1 % of a core for each call while the agent speaks.
    pub noise_suppression: bool,
}

impl Default for BargeIn {
    fn default() -> BargeIn {
        let usual = crate::model::BargeIn::default();
        BargeIn {
            by: DecidedBy::default(),
            interruptible: Interruptible::default(),
            min_speech_ms: usual.speech_min.as_millis() as u64,
            backchannels: usual.tolerates_backchannels,
            noise_suppression: usual.suppresses_noise,
        }
    }
}

/// Who decides that a caller interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// The gateway: the agent becomes softer after some 100 ms of voice, silent after some 300, and goes on when it was a
    /// cough. Its own echo does not interrupt it.
    Local,
    /// The agent's vendor, when its word comes over the network.
    #[default]
    Agent,
    /// Whoever is first.
    Both,
}

/// What may interrupt an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Interruptible {
    /// Voice and keys, or nothing.
    All(bool),
    /// Keys alone.
    Some(KeysOnly),
}

impl Default for Interruptible {
    fn default() -> Interruptible {
        Interruptible::All(true)
    }
}

/// Keys, and no voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeysOnly {
    /// Keys alone.
    DtmfOnly,
}

/// What a caller learns before the recording begins. It is played before the first word of anybody else, and what was
/// said until then is not recorded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Consent {
    /// Whether the caller is told or asked.
    pub policy: ConsentPolicy,
    /// What is said; it needs clips.
    pub prompt: Prompt,
    /// With `ask`: the key that agrees. Any other key, or none in time, refuses.
    #[schemars(length(min = 1, max = 1))]
    pub agree: String,
    /// With `ask`: time to think.
    #[schemars(range(min = 1, max = 30))]
    pub wait_s: u64,
    /// With `ask`: how often the question is put in all.
    #[schemars(range(min = 1, max = 5))]
    pub tries: u8,
}

impl Default for Consent {
    fn default() -> Consent {
        Consent { policy: ConsentPolicy::None, prompt: Prompt::default(), agree: "1".to_owned(), wait_s: 5, tries: 2 }
    }
}

/// Whether a caller is told of the recording, or asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentPolicy {
    /// Neither, by us.
    #[default]
    None,
    /// The recording begins when the announcement was heard to its end.
    Announce,
    /// The recording begins when the caller pressed the key.
    Ask,
}

/// What runs live on the call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["workflow"]))]
pub struct Flow {
    /// The workflow's id.
    #[schemars(length(min = 1))]
    pub workflow: String,
}

/// What an agent is told: `{ file = "support.md" }`, beside the agent's file, or `{ text = "…" }`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Instructions {
    /// A file in `agents/`.
    #[schemars(length(min = 1))]
    pub file: Option<String>,
    /// The text itself.
    pub text: Option<String>,
}

/// One thing that is done while it rings.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["action"]))]
pub struct Before {
    /// The action's id; its phase is `before`.
    #[schemars(length(min = 1))]
    pub action: String,
    /// Actions of this list that must be done first. Without any it starts at once, beside the others.
    #[schemars(length(max = 16))]
    pub after: Vec<String>,
}

/// One thing that is done after every call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["workflow"]))]
pub struct After {
    /// The workflow's id.
    #[schemars(length(min = 1))]
    pub workflow: String,
}

/// Words for a caller.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prompt {
    /// WAV files by name, played one behind the other; may hold variables.
    #[schemars(length(max = 64))]
    pub clips: Vec<String>,
    /// The same in words; may hold variables. Spoken by an agent that can speak, and shown in the record.
    pub text: Option<String>,
}

/// `actions/ID.toml`: one thing an agent can do. It holds exactly one of the tables `say`, `menu`, `api`, `transfer`,
/// `hang_up` and `recording`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "title"]))]
pub struct ActionFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Its name, for people.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// When an agent should do it, in words the agent reads.
    #[schemars(length(max = 2_000))]
    pub when_to_use: String,
    /// When in the life of a call it runs.
    pub phase: Phase,
    /// What the agent must say to run it; they become variables.
    #[schemars(length(max = 32))]
    pub parameters: Vec<Parameter>,
    /// Say something.
    pub say: Option<Say>,
    /// Let the caller choose by key.
    pub menu: Option<Menu>,
    /// Ask a web service.
    pub api: Option<Api>,
    /// Give the caller to somebody else.
    pub transfer: Option<Transfer>,
    /// End the call.
    pub hang_up: Option<HangUp>,
    /// Change what is recorded.
    pub recording: Option<Recording>,
}

impl Default for ActionFile {
    fn default() -> ActionFile {
        ActionFile {
            version: 0,
            title: String::new(),
            when_to_use: String::new(),
            phase: Phase::During,
            parameters: Vec::new(),
            say: None,
            menu: None,
            api: None,
            transfer: None,
            hang_up: None,
            recording: None,
        }
    }
}

/// One argument of an action.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "type", "description"]))]
pub struct Parameter {
    /// Its name, and the variable it becomes.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// What it must be.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// What it means, in words the agent reads.
    #[schemars(length(min = 1, max = 1_000))]
    pub description: String,
    /// The action cannot run without it.
    pub required: bool,
}

impl Default for Parameter {
    fn default() -> Parameter {
        Parameter { name: String::new(), kind: ParameterType::String, description: String::new(), required: false }
    }
}

/// Say something to the caller.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["prompt"]))]
pub struct Say {
    /// What is said.
    pub prompt: Prompt,
    /// A key press ends it; the key is kept for the menu that follows.
    pub interruptible: bool,
}

/// Let the caller choose by key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["prompt", "options"]))]
pub struct Menu {
    /// Says what can be pressed. A key pressed meanwhile counts at once.
    pub prompt: Prompt,
    /// The keys.
    #[schemars(length(min = 1, max = limits::MENU_OPTIONS_MAX))]
    pub options: Vec<MenuOption>,
    /// Said after a wrong key or silence, before the prompt comes again.
    pub no_match: Prompt,
    /// How long the caller may think after the prompt.
    #[schemars(range(min = 500, max = 60_000))]
    pub wait_ms: u64,
    /// How often the prompt is said in all.
    #[schemars(range(min = 1, max = 10))]
    pub tries: u8,
}

impl Default for Menu {
    fn default() -> Menu {
        Menu { prompt: Prompt::default(), options: Vec::new(), no_match: Prompt::default(), wait_ms: 5000, tries: 3 }
    }
}

/// One key of a menu.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["digit", "label"]))]
pub struct MenuOption {
    /// The key: `0` to `9`, `*` or `#`.
    #[schemars(length(min = 1, max = 1))]
    pub digit: String,
    /// What it stands for, in words.
    #[schemars(length(min = 1, max = 200))]
    pub label: String,
    /// In a workflow: the step to go to, or `end`. The same as `on.key_DIGIT` of the step.
    pub goto: Option<String>,
    /// Variables that choosing it sets.
    pub set: BTreeMap<String, Value>,
}

/// Ask a web service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Api {
    /// The HTTP method.
    pub method: Method,
    /// The URL. Variables may stand behind the host; their values are percent-encoded.
    #[schemars(length(min = 1, max = 2_048))]
    pub url: String,
    /// Further query parameters; values may hold variables.
    pub query: BTreeMap<String, String>,
    /// Headers; values may hold variables.
    pub headers: BTreeMap<String, String>,
    /// A JSON document with variables, as `{"name": "{{customer.name}}"}`.
    pub body: Option<String>,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// Time for the whole exchange.
    #[schemars(range(min = 50, max = 60_000))]
    pub timeout_ms: u64,
    /// Variables, and the JSONPath of what each is set to.
    pub save: BTreeMap<String, String>,
    /// What the caller hears when it takes long.
    pub waiting: Option<Waiting>,
}

impl Default for Api {
    fn default() -> Api {
        Api {
            method: Method::default(),
            url: String::new(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            body: None,
            bearer: None,
            timeout_ms: 5000,
            save: BTreeMap::new(),
            waiting: None,
        }
    }
}

/// What the caller hears when something takes long.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["prompt"]))]
pub struct Waiting {
    /// Silence until then.
    #[schemars(range(min = 0, max = 10_000))]
    pub after_ms: u64,
    /// Said once; it is not cut off when the answer comes.
    pub prompt: Prompt,
    /// A clip repeated after it until the answer is there.
    pub music: Option<String>,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting { after_ms: 1000, prompt: Prompt::default(), music: None }
    }
}

/// Give the caller to somebody else.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["targets"]))]
pub struct Transfer {
    /// Rung in order until one answers.
    #[schemars(length(min = 1, max = limits::TRANSFER_TARGETS_MAX))]
    pub targets: Vec<Target>,
    /// What to do when a target fails, by how it failed; otherwise the next target is rung.
    pub fallback: Fallbacks,
    /// Said first; the target rings meanwhile.
    pub message: Prompt,
    /// A clip repeated until somebody answers. Left out, the caller hears ringing tone.
    pub music: Option<String>,
    /// Said when nobody was found, before the agent or the workflow goes on.
    pub sorry: Prompt,
    /// How it is done. Left out, as the caller's trunk says under `[transfer]`.
    pub method: Option<TransferMethod>,
    /// Whether the caller hears what a target's network plays before the answer, an announcement or its own ringing tone,
    /// instead of our waiting sound. Left out, it does unless there is `music`.
    pub early_media: Option<bool>,
}

/// Somebody to ring.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
pub struct Target {
    /// A number or SIP URI; may hold variables, but not in a URI's host.
    #[schemars(length(min = 1))]
    pub to: String,
    /// How long it may ring.
    #[schemars(range(min = 1, max = 180))]
    pub ring_s: u64,
}

impl Default for Target {
    fn default() -> Target {
        Target { to: String::new(), ring_s: RING_S }
    }
}

/// How long a target rings unless told otherwise: about five rings.
pub(super) const RING_S: u64 = 20;

/// What to do by how a target failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fallbacks {
    /// On another call.
    pub busy: Option<Fallback>,
    /// Rang, and nobody came.
    pub no_answer: Option<Fallback>,
    /// Refused.
    pub declined: Option<Fallback>,
    /// No such number.
    pub invalid_number: Option<Fallback>,
    /// Nothing there that answers.
    pub unreachable: Option<Fallback>,
    /// No common media.
    pub media_error: Option<Fallback>,
}

/// What to do when a target failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["then"]))]
pub struct Fallback {
    /// What to do.
    pub then: Then,
    /// With `then = "ring"`: whom.
    #[schemars(length(min = 1))]
    pub to: Option<String>,
    /// With `then = "ring"`: for how long.
    #[schemars(range(min = 1, max = 180))]
    pub ring_s: Option<u64>,
}

/// What to do when a target failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Ring the next target.
    #[default]
    Next,
    /// Ring the one named in `to` instead.
    Ring,
    /// Give the caller back at once.
    Back,
}

/// End the call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HangUp {
    /// Said first; heard to its end.
    pub goodbye: Prompt,
    /// A workflow to run after the call, beside those that run after every call.
    #[schemars(length(min = 1))]
    pub workflow: Option<String>,
}

/// Change what is recorded of the call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["set"]))]
pub struct Recording {
    /// What becomes of the recording from here on.
    pub set: SetRecording,
}

/// `workflows/ID.toml`: steps in order, with branches.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "title", "step"]))]
pub struct WorkflowFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Its name, for people.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// The first runs first.
    #[schemars(length(min = 1, max = limits::WORKFLOW_STEPS_MAX))]
    pub step: Vec<Step>,
}

/// One step of a workflow. It holds exactly one of the tables `say`, `menu`, `api`, `transfer`, `hang_up` and
/// `recording`, or names an `action`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id"]))]
pub struct Step {
    /// Its name within the workflow.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Do what this action does.
    #[schemars(length(min = 1))]
    pub action: Option<String>,
    /// Say something.
    pub say: Option<Say>,
    /// Let the caller choose by key.
    pub menu: Option<Menu>,
    /// Ask a web service.
    pub api: Option<Api>,
    /// Give the caller to somebody else.
    pub transfer: Option<Transfer>,
    /// End the call.
    pub hang_up: Option<HangUp>,
    /// Change what is recorded.
    pub recording: Option<Recording>,
    /// The step that follows, or `end`; left out, the one below. The same as `on_success`, and as `on_error` where that
    /// is left out.
    pub next: Option<String>,
    /// The step that follows success, or `end`.
    pub on_success: Option<String>,
    /// The step that follows an error or a timeout, or `end`.
    pub on_error: Option<String>,
    /// The step that follows an outcome, or `end`: `busy`, `no_answer`, `timeout`, `key_1`, `no_match`, `status_404`, …
    pub on: BTreeMap<String, String>,
}
