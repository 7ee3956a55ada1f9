//! How `routes.toml` looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `routes.toml`: which call goes where.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "route"]))]
pub struct RoutesFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// In order; the first that fits decides. The last must be for every number: `called = "*"`.
    #[schemars(length(min = 1, max = 10_000))]
    pub route: Vec<Route>,
}

/// Where calls go: to an `agent`, to another trunk with `forward`, or back with `reject` or `status`. All that is said of
/// the calls must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["called"]))]
pub struct Route {
    /// The called number as `+390212345678`, or as the trunk writes it. `X` stands for any digit, `[2-47]` for one of
    /// these, and `*` at the end for whatever follows: `+3902XXXXXXXX`, `2[0-4]X`, `+44*`.
    #[schemars(length(min = 1, max = 128))]
    pub called: String,
    /// Only calls of this trunk.
    #[schemars(length(min = 1))]
    pub trunk: Option<String>,
    /// Only callers whose number looks like this, written as in `called`; `anonymous`: only those who hide it.
    #[schemars(length(min = 1, max = 128))]
    pub from: Option<String>,
    /// Only calls that bear all of these headers.
    #[schemars(length(max = 16))]
    pub header: Vec<RouteHeader>,
    /// Only callers whose signed identity came to one of these (STIR/SHAKEN). The trunk must `verify`, or be `trusted` with
    /// its verdicts.
    #[schemars(length(max = 6))]
    pub identity: Vec<RouteIdentity>,
    /// Only within one of these times.
    #[schemars(length(max = 32))]
    pub hours: Vec<RouteHours>,
    /// The agent that answers.
    #[schemars(length(min = 1))]
    pub agent: Option<String>,
    /// Another trunk that gets the call.
    pub forward: Option<Forward>,
    /// How the call is refused.
    pub reject: Option<Reject>,
    /// The SIP status with which the call is refused, instead of `reject`.
    #[schemars(range(min = 400, max = 699))]
    pub status: Option<u16>,
    /// With `reject` or `status`: the words beside the status.
    #[schemars(length(min = 1, max = 100))]
    pub reason: Option<String>,
    /// With `reject` or `status`: seconds after which the caller may try again.
    #[schemars(range(min = 1, max = 86_400))]
    pub retry_after_s: Option<u32>,
}

/// A header that a call must bear.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct RouteHeader {
    /// The header's name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value, without regard to case; with `*` at either end for whatever is there. Left out, any.
    #[schemars(length(min = 1, max = 256))]
    pub value: Option<String>,
}

/// What a caller's signed identity came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteIdentity {
    /// It holds, and the signer knows that the caller may use the number.
    A,
    /// It holds, and the signer knows the caller, not the number.
    B,
    /// It holds, and the signer knows only where the call came in.
    C,
    /// It holds, however well the signer knows the caller.
    #[serde(rename = "passed")]
    Passed,
    /// It does not hold.
    #[serde(rename = "failed")]
    Failed,
    /// There is none.
    #[serde(rename = "none")]
    Missing,
}

/// Hours of some days. Those that end before they begin end on the next day.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["zone"]))]
pub struct RouteHours {
    /// The days on which they begin; left out, every day.
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Day>,
    /// As `09:00`.
    #[schemars(length(min = 5, max = 5))]
    pub from: String,
    /// As `18:30`; `24:00` is the end of the day.
    #[schemars(length(min = 5, max = 5))]
    pub to: String,
    /// Whose clock: a zone of the IANA database, as `Europe/Rome`.
    #[schemars(length(min = 1, max = 64))]
    pub zone: String,
}

impl Default for RouteHours {
    fn default() -> RouteHours {
        RouteHours { days: Day::ALL.to_vec(), from: "00:00".to_owned(), to: "24:00".to_owned(), zone: String::new() }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// The week.
    pub const ALL: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
}

/// Another trunk that gets a call.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["trunk"]))]
pub struct Forward {
    /// The trunk, by id; it must have an `outbound`.
    #[schemars(length(min = 1))]
    pub trunk: String,
    /// Whom to call there: a number or SIP URI; may hold variables, but not in a URI's host. Left out, the number that
    /// was called.
    #[schemars(length(min = 1))]
    pub to: Option<String>,
    /// How long it may ring.
    #[schemars(range(min = 1, max = 180))]
    pub ring_s: u64,
}

impl Default for Forward {
    fn default() -> Forward {
        // Carriers give up on a call that rings longer.
        Forward { trunk: String::new(), to: None, ring_s: 120 }
    }
}

/// How a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reject {
    /// The number is busy (486).
    Busy,
    /// There is no such number (404).
    NotFound,
    /// Nobody is there now (480).
    Unavailable,
    /// Nobody wants to take it (603).
    Declined,
    /// Too much work, try later (503).
    Overload,
}
