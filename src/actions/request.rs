//! What an action asks of the outside world, and what came back. Somebody else does the talking.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Pii;

/// An HTTP request, rendered and ready, but for its credential, which only the shell knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// Absolute `http:` or `https:` URL.
    pub url: Pii<String>,
    /// Header names and values, without credentials.
    pub headers: Vec<(String, Pii<String>)>,
    /// The body as sent; `None` sends none.
    pub body: Option<Pii<String>>,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<SecretRef>,
    /// The whole exchange, from resolving the name to the last byte of the answer.
    pub timeout: Duration,
}

/// HTTP methods that an action may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    #[allow(missing_docs)]
    Get,
    #[allow(missing_docs)]
    Post,
    #[allow(missing_docs)]
    Put,
    #[allow(missing_docs)]
    Patch,
    #[allow(missing_docs)]
    Delete,
}

impl Method {
    /// The word on the request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Where a credential is to be found; never the credential itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// In an environment variable of the gateway.
    Env(String),
    /// In a file, relative to the configuration's folder; trailing line ends are cut off.
    File(String),
}

/// What came back of an [`HttpRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpReply {
    /// The server answered, with any status.
    Answered {
        /// HTTP status.
        status: u16,
        /// The body as text, at most [`crate::model::limits::API_BODY_MAX`] bytes.
        body: Pii<String>,
    },
    /// No whole answer was had.
    Failed(HttpFailure),
}

/// Why no answer was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpFailure {
    /// The time ran out.
    Timeout,
    /// The name did not resolve, or nobody accepted the connection, or it broke off.
    Unreachable,
    /// The answer is longer than we read.
    TooLarge,
    /// The answer is not text.
    NotText,
    /// Not a URL we may call: malformed, or refused by the egress policy.
    Refused,
    /// The credential it needs is not there.
    NoSecret,
}

impl HttpFailure {
    /// The code under which the run is recorded.
    pub fn code(self) -> &'static str {
        match self {
            HttpFailure::Timeout => "timeout",
            HttpFailure::Unreachable => "unreachable",
            HttpFailure::TooLarge => "too_large",
            HttpFailure::NotText => "not_text",
            HttpFailure::Refused => "refused",
            HttpFailure::NoSecret => "no_secret",
        }
    }
}
