//! What an admin decides about strangers.

use std::time::Duration;

/// How strangers are treated, and how much anybody may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// What those get whom no trunk knows.
    pub strangers: Strangers,
    /// Requests of one unknown source in a second; twice as many may come at once. More get no answer.
    pub stranger_requests_per_second: u32,
    /// Requests outside of dialogs of one trunk in a second; more are told to come back later.
    pub trunk_requests_per_second: u32,
    /// Wrong passwords in a row after which a source is locked out; ten times as many lock a user for unknown sources.
    pub failures_max: u32,
    /// How long the first lock lasts; each further one lasts twice as long.
    pub lockout: Duration,
    /// The longest lock.
    pub lockout_max: Duration,
    /// How long a scanner gets no answer.
    pub silence: Duration,
    /// Words in `User-Agent` that give a scanner away, in lower case, beside [`SCANNERS`].
    pub scanners: Vec<String>,
    /// The protection domain that we challenge for when a trunk names none.
    pub realm: String,
    /// A leg that we called is hung up after this time, whoever forgot it.
    pub outbound_max: Duration,
}

/// What those get whom no trunk knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// No answer: whoever scans the net finds nothing here.
    #[default]
    Silence,
    /// A refusal, the same for everything and everybody.
    Forbidden,
    /// A challenge that nobody can answer; what a trunk with a password alone makes us send in any case.
    Challenge,
}

impl Default for Protection {
    fn default() -> Protection {
        Protection {
            strangers: Strangers::default(),
            stranger_requests_per_second: 10,
            trunk_requests_per_second: 1_000,
            failures_max: 5,
            lockout: Duration::from_secs(60),
            lockout_max: Duration::from_secs(3_600),
            silence: Duration::from_secs(3_600),
            scanners: Vec::new(),
            realm: "sip".to_owned(),
            outbound_max: Duration::from_secs(4 * 3_600),
        }
    }
}

/// How scanners call themselves. Nobody who wants to be taken for a telephone does.
pub const SCANNERS: &[&str] = &[
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sip-scan",
    "sipscan",
    "sipcli",
    "sipsak",
    "sundayddr",
    "iwar",
    "vaxsipuseragent",
    "vaxipuseragent",
    "pplsip",
    "siparmyknife",
    "smap",
    "voipsploit",
    "sivus",
    "gulp",
    "csipsimple-scan",
    "nmap",
    "eyebeam-scan",
    "sipptk",
    "scanner",
];
