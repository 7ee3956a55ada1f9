//! Mistakes shown to people, with the line and a mark under it.

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

impl Diagnostics {
    /// Every mistake with its line, a mark and a hint, then one line that counts them.
    pub fn human(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false).without_syntax_highlighting();
        let mut text = String::new();
        for found in &self.list {
            let source = self.sources.get(&found.file).filter(|source| !source.is_empty());
            let shown = Shown { found, source: source.map(|text| OneLine { name: &found.file, text }) };
            // Writing into a string fails only when a `Display` does, and ours do not.
            let _ = handler.render_report(&mut text, &shown);
            text.push('\n');
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
    source: Option<OneLine<'a>>,
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
        let span = LabeledSpan::new_with_span(None, self.found.span.clone());
        Some(Box::new(std::iter::once(span)))
    }
}

/// A file of which the line in question is shown, without its neighbours.
struct OneLine<'a> {
    name: &'a str,
    text: &'a str,
}

impl SourceCode for OneLine<'_> {
    fn read_span<'b>(
        &'b self,
        span: &SourceSpan,
        _before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'b> + 'b>, MietteError> {
        let at = span.offset();
        let (before, behind) = self.text.split_at_checked(at).ok_or(MietteError::OutOfBounds)?;
        let line_begin = before.rfind('\n').map_or(0, |found| found + 1);
        // Spans never go beyond their line. Of a line without end, as a minified one, only the surroundings are shown.
        let line_end = at + behind.find('\n').unwrap_or(behind.len());
        let begin = line_begin.max(self.text.floor_char_boundary(at.saturating_sub(AROUND)));
        let end = line_end.min(self.text.ceil_char_boundary((at + span.len() + AROUND).min(self.text.len())));
        let line = before.matches('\n').count();
        let text = &self.text.as_bytes()[begin..end];
        let place = SourceSpan::new(begin.into(), end - begin);
        let column = before[line_begin..].chars().count();
        Ok(Box::new(MietteSpanContents::new_named(self.name.to_owned(), text, place, line, column, 1)))
    }
}

/// Bytes of a line shown before and behind a mark.
const AROUND: usize = 200;

/// Columns of a report: what fits a terminal split in two.
const WIDTH: usize = 110;
