//! How `[webrtc]` of `gateway.toml` looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// Calls of browsers (WHIP, RFC 9725).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen", "udp", "trunk", "numbers"]))]
pub struct WebRtc {
    /// Address of the HTTP listener, as `127.0.0.1:8080`: for a proxy in front that has TLS, without which browsers give no
    /// page the microphone. `localhost` is the exception.
    #[schemars(length(min = 1))]
    pub listen: String,
    /// The UDP ports of all browsers' audio, as `192.0.2.1:3479`: one for IPv4, one for IPv6, or both.
    #[schemars(length(min = 1, max = 2))]
    pub udp: Vec<String>,
    /// The addresses that browsers are told, with a port when it is another: behind a NAT that sends the port on to us. None:
    /// those of `udp`.
    #[schemars(length(max = 4))]
    pub advertised: Vec<String>,
    /// Who looks for a way.
    pub ice: Ice,
    /// With `ice = "full"`: the STUN server that tells our address behind a NAT, as `192.0.2.53:3478`.
    pub stun: Option<String>,
    /// STUN and TURN servers for the browsers themselves: those behind strict firewalls reach us only by a relay.
    #[schemars(length(max = 8))]
    pub ice_server: Vec<IceServer>,
    /// The trunk that browsers' calls come by: routes tell them by it, and its limits and codecs are theirs. It needs
    /// neither `[inbound]` nor `[outbound]`.
    #[schemars(length(min = 1))]
    pub trunk: String,
    /// Whom browsers may call: numbers and names as in routes, `*` at the end for what follows.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 128)))]
    pub numbers: Vec<String>,
    /// Pages that may call, as `https://www.example.com`. Pages on this machine's own addresses always may.
    #[schemars(length(max = 256))]
    pub origins: Vec<String>,
    /// Who may call.
    pub access: Access,
    /// With `access = "token"`: the secret that signs the tokens (HS256), at least 32 characters.
    pub secret: Option<Secret>,
    /// Calls of one address in a minute; more are answered 429.
    #[schemars(range(min = 1, max = 10_000))]
    pub calls_per_minute: u32,
    /// Serves a page at `/call` that calls from a browser, for trying it.
    pub page: bool,
}

impl Default for WebRtc {
    fn default() -> WebRtc {
        WebRtc {
            listen: String::new(),
            udp: Vec::new(),
            advertised: Vec::new(),
            ice: Ice::default(),
            stun: None,
            ice_server: Vec::new(),
            trunk: String::new(),
            numbers: Vec::new(),
            origins: Vec::new(),
            access: Access::default(),
            secret: None,
            calls_per_minute: 20,
            page: false,
        }
    }
}

/// Who looks for a way between browser and gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ice {
    /// The browser: everybody reaches us at the addresses that we tell.
    #[default]
    Lite,
    /// Both: we are behind a NAT that sends nothing on.
    Full,
}

/// Who may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Whoever has a token that is not over: a JSON Web Token with `exp`, and `to`, `sub` and `name` if wanted.
    #[default]
    Token,
    /// Everybody.
    Open,
}

/// A STUN or TURN server for browsers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct IceServer {
    /// As `turn:turn.example.com:3478?transport=udp`.
    #[schemars(length(min = 1, max = 256))]
    pub url: String,
    /// The name at a TURN server. Every caller gets to know it, and the password.
    #[schemars(length(min = 1, max = 256))]
    pub username: Option<String>,
    /// Its password.
    pub credential: Option<Secret>,
}
