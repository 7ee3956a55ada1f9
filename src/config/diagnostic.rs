//! A mistake in the configuration: where it is, what it is, and what would be right.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};

/// One mistake, or something that deserves a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the configuration can be run with it.
    pub severity: Severity,
    /// Stable name of the rule, `RB1002`.
    pub code: &'static str,
    /// The file, relative to the configuration's folder, with `/` between folders.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The bytes of the file it is about, on one line and not more than fit it.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// Whether a configuration can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and somebody should look.
    Warning,
}

/// All that was found in one pass, by file and place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// At most [`crate::model::limits::CONFIG_MISTAKES_MAX`].
    pub list: Vec<Diagnostic>,
    /// How many more there were.
    pub left_out: usize,
    /// The files, for showing the lines; credentials that stand in them by mistake are blotted out.
    pub(super) sources: BTreeMap<String, String>,
}

impl Diagnostics {
    /// How many make the configuration unusable.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many only deserve a look.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One object for scripts: `ok`, `errors`, `warnings`, `left_out`, `diagnostics`.
    pub fn json(&self) -> Value {
        json!({
            "ok": self.errors() == 0,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "left_out": self.left_out,
            "diagnostics": self.list,
        })
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|found| found.severity == severity).count()
    }
}

/// The rules by name. Scripts and documents know them: a number is never given to another rule.
pub(super) mod code {
    /// Not TOML.
    pub(crate) const SYNTAX: &str = "RB1001";
    /// A key that does not exist.
    pub(crate) const UNKNOWN_KEY: &str = "RB1002";
    /// A key that must be there.
    pub(crate) const MISSING_KEY: &str = "RB1003";
    /// A text where a number is wanted, and the like.
    pub(crate) const WRONG_TYPE: &str = "RB1004";
    /// Too small, too big, too long, too many.
    pub(crate) const OUT_OF_RANGE: &str = "RB1005";
    /// Not one of the words that are known here.
    pub(crate) const UNKNOWN_WORD: &str = "RB1006";
    /// A file that must be there.
    pub(crate) const MISSING_FILE: &str = "RB1007";
    /// A file that cannot be read, is too long, or is not UTF-8.
    pub(crate) const UNREADABLE: &str = "RB1008";
    /// More files than we read.
    pub(crate) const TOO_MANY_FILES: &str = "RB1009";
    /// An id that is not in small letters, digits, `-` and `_`.
    pub(crate) const BAD_ID: &str = "RB1010";
    /// A file that nobody reads.
    pub(crate) const UNKNOWN_FILE: &str = "RB1011";
    /// Well-formed, and still not what it should be.
    pub(crate) const MALFORMED: &str = "RB1012";
    /// A text with variables that is wrong.
    pub(crate) const TEMPLATE: &str = "RB1101";
    /// Not a JSONPath.
    pub(crate) const JSON_PATH: &str = "RB1102";
    /// Not a URL we call.
    pub(crate) const URL: &str = "RB1103";
    /// Not an address or network.
    pub(crate) const ADDRESS: &str = "RB1104";
    /// Not a number or SIP URI.
    pub(crate) const DIAL: &str = "RB1105";
    /// A name of a header or query parameter that may not be used.
    pub(crate) const NAME: &str = "RB1106";
    /// Not a JSON document.
    pub(crate) const BODY: &str = "RB1107";
    /// Not a telephone key.
    pub(crate) const DIGIT: &str = "RB1108";
    /// A variable that may not be set.
    pub(crate) const VARIABLE_NAME: &str = "RB1109";
    /// A reference to a credential that is neither `env` nor `file`.
    pub(crate) const SECRET: &str = "RB1110";
    /// A path that leaves its folder.
    pub(crate) const PATH: &str = "RB1111";
    /// Not a number pattern.
    pub(crate) const PATTERN: &str = "RB1112";
    /// Not a country of ISO 3166-1.
    pub(crate) const COUNTRY: &str = "RB1113";
    /// Not a time zone.
    pub(crate) const ZONE: &str = "RB1114";
    /// No such agent.
    pub(crate) const NO_AGENT: &str = "RB1201";
    /// No such action.
    pub(crate) const NO_ACTION: &str = "RB1202";
    /// No such workflow.
    pub(crate) const NO_WORKFLOW: &str = "RB1203";
    /// No such trunk.
    pub(crate) const NO_TRUNK: &str = "RB1204";
    /// No such step.
    pub(crate) const NO_STEP: &str = "RB1205";
    /// No such clip, or not a WAV file.
    pub(crate) const NO_CLIP: &str = "RB1206";
    /// A variable that nothing sets.
    pub(crate) const NO_VARIABLE: &str = "RB1207";
    /// A credential that is not there now.
    pub(crate) const NO_SECRET: &str = "RB1208";
    /// A text file that is not there.
    pub(crate) const NO_TEXT: &str = "RB1209";
    /// A list of certificates that is not there, or cannot be read.
    pub(crate) const NO_TRUST: &str = "RB1210";
    /// A private key that is none.
    pub(crate) const KEY: &str = "RB1211";
    /// The same id twice.
    pub(crate) const TWICE: &str = "RB1301";
    /// None or several where exactly one is wanted.
    pub(crate) const EXACTLY_ONE: &str = "RB1302";
    /// Options that exclude each other, or have no effect here.
    pub(crate) const CONFLICT: &str = "RB1303";
    /// The last route is not for every number.
    pub(crate) const NO_DEFAULT_ROUTE: &str = "RB1304";
    /// A route behind one that takes all its calls.
    pub(crate) const UNREACHABLE_ROUTE: &str = "RB1305";
    /// An action where it makes no sense.
    pub(crate) const PHASE: &str = "RB1306";
    /// A menu that does not say where to go without a choice.
    pub(crate) const NO_MATCH: &str = "RB1307";
    /// Things that wait for each other.
    pub(crate) const CYCLE: &str = "RB1308";
    /// The same network on two trunks.
    pub(crate) const SAME_NETWORK: &str = "RB1309";
    /// Something that must not be empty.
    pub(crate) const EMPTY: &str = "RB1310";
    /// Too few ports for the calls.
    pub(crate) const PORTS: &str = "RB1401";
    /// A trunk that anybody may use.
    pub(crate) const OPEN_TRUNK: &str = "RB1402";
    /// A transfer that ends in nothing when it fails.
    pub(crate) const NO_FALLBACK: &str = "RB1403";
    /// A request that the egress policy will refuse.
    pub(crate) const EGRESS: &str = "RB1404";
    /// An address that callers cannot reach.
    pub(crate) const UNREACHABLE_ADDRESS: &str = "RB1405";
    /// A variable that chooses the host that is dialled.
    pub(crate) const DIAL_HOST: &str = "RB1406";
    /// A number is dialled, and no trunk can.
    pub(crate) const NO_OUTBOUND: &str = "RB1407";
    /// No such connector.
    pub(crate) const NO_CONNECTOR: &str = "RB1501";
    /// A vendor's setting that is wrong.
    pub(crate) const SETTING: &str = "RB1502";
}
