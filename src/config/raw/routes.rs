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

/// Where calls to a number go: to an `agent`, to another trunk with `forward`, or back with `reject`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["called"]))]
pub struct Route {
    /// The called number as the trunk writes it; with `*` at the end, all that begin like this.
    #[schemars(length(min = 1, max = 128))]
    pub called: String,
    /// Only calls of this trunk.
    #[schemars(length(min = 1))]
    pub trunk: Option<String>,
    /// The agent that answers.
    #[schemars(length(min = 1))]
    pub agent: Option<String>,
    /// Another trunk that gets the call.
    pub forward: Option<Forward>,
    /// How the call is refused.
    pub reject: Option<Reject>,
    /// With `reject`: seconds after which the caller may try again.
    #[schemars(range(min = 1, max = 86_400))]
    pub retry_after_s: Option<u32>,
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
