//! How the files in `trunks/` look.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `trunks/ID.toml`: one SIP peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version", "title", "inbound"]))]
pub struct TrunkFile {
    /// The version of this form; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Its name, for people.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// Calls from it.
    pub inbound: Inbound,
    /// Calls to it; left out, none are made.
    pub outbound: Option<Outbound>,
}

/// Calls from a trunk.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["allowed_addresses"]))]
pub struct Inbound {
    /// Networks it calls from, as `203.0.113.0/28`. Calls from elsewhere are not of this trunk.
    #[schemars(length(min = 1, max = 256))]
    pub allowed_addresses: Vec<String>,
}

/// Calls to a trunk.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["uri"]))]
pub struct Outbound {
    /// Where numbers are dialled: a SIP URI without a user, as `sip:sbc.example:5060`. The number becomes the user.
    #[schemars(length(min = 1))]
    pub uri: String,
    /// The number we show; left out, the caller's own.
    #[schemars(length(min = 1))]
    pub caller_id: Option<String>,
}
