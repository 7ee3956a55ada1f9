//! Mistakes shown to people, with the line and a mark under it.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

impl Diagnostics {
    /// Every mistake with its line, a mark and a hint, then one line that counts them.
    pub fn human(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(WIDTH)
            .with_links(false)
            .with_context_lines(0)
            .without_syntax_highlighting();
        let mut text = String::new();
        for found in &self.list {
            let source = self.sources.get(&found.file).filter(|source| !source.is_empty());
            let shown = Shown {
                found,
                // The name carries the place: what the frame shows counts columns in its own way.
                source: source.map(|source| NamedSource::new(&found.file, source.clone())),
            };
            // Writing into a string fails only when a `Display` does, and ours do not.
            let _ = handler.render_report(&mut text, &shown);
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// One line: how many there are.
    pub fn summary(&self) -> String {
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let counts = format!("{}, {}", count(self.errors(), "error"), count(self.warnings(), "warning"));
        match self.left_out {
            0 => counts,
            more => format!("{counts}, and {more} more that are not shown"),
        }
    }
}

struct Shown<'a> {
    found: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(_) => f.write_str(&self.found.message),
            None => write!(f, "{}: {}", self.found.file, self.found.message),
        }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.found.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.found.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.found.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let span = LabeledSpan::new_with_span(Some("here".to_owned()), self.found.span.clone());
        Some(Box::new(std::iter::once(span)))
    }
}

/// Columns of a report: what fits a terminal split in two.
const WIDTH: usize = 110;
