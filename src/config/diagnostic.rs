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
    /// The bytes of the file it is about.
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
