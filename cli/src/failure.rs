//! How a command fails: what, what was seen, what to do.

use std::fmt::Write as _;

/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of a command that was called the wrong way.
pub const USAGE: u8 = 2;

/// Why a command did not do what it should, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One line: what failed.
    pub what: String,
    /// Labelled lines below it, in order ("tried", "because", "likely", "do").
    pub notes: Vec<(&'static str, String)>,
    /// Exit code.
    pub code: u8,
    /// `what` is a finished text with its own layout (errors in files).
    pub raw: bool,
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure of this kind.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), notes: Vec::new(), code: FAILED, raw: false }
    }

    /// Wrong usage: exit code 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(what) }
    }

    /// A text that is laid out already, such as an error in a file with its lines.
    pub fn laid_out(text: impl Into<String>) -> Self {
        Self { raw: true, ..Self::new(text) }
    }

    /// A command whose result is itself bad news (`status`: not healthy): nothing is printed.
    pub fn silent() -> Self {
        Self::new("")
    }

    /// What was seen.
    #[must_use]
    pub fn seen(self, text: impl Into<String>) -> Self {
        self.note("because", text)
    }

    /// What to do.
    #[must_use]
    pub fn fix(self, text: impl Into<String>) -> Self {
        self.note("do", text)
    }

    /// A labelled line; a text of several lines is indented under its label.
    #[must_use]
    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.notes.push((label, text));
        }
        self
    }

    /// An error with all its causes, as what was seen.
    pub fn caused(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(what).seen(runtime::telemetry::chain(error).to_string())
    }

    /// The text for standard error, without a final line break. Empty when silent.
    pub fn text(&self) -> String {
        if self.what.is_empty() {
            return String::new();
        }
        let mut text = if self.raw { self.what.clone() } else { format!("error: {}", self.what) };
        let width = self.notes.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (label, note) in &self.notes {
            for (at, line) in note.lines().enumerate() {
                let label = if at == 0 { label } else { "" };
                let _ = write!(text, "\n  {label:width$}  {line}");
            }
        }
        text
    }
}

impl From<api::rest::error::ApiError> for Failure {
    fn from(error: api::rest::error::ApiError) -> Self {
        if !error.diagnostics.is_empty() {
            let texts: Vec<String> = error.diagnostics.iter().map(ToString::to_string).collect();
            return Self::laid_out(texts.join("\n"));
        }
        Self::new(error.message)
            .note("tried", error.tried.join("\n"))
            .note("because", error.cause)
            .note("likely", error.likely)
            .note("do", error.help)
    }
}

impl From<api::diagnostic::Diagnostic> for Failure {
    fn from(diagnostic: api::diagnostic::Diagnostic) -> Self {
        Self::laid_out(diagnostic.to_string())
    }
}

/// Turns errors into failures where they happen.
pub trait OrFail<T> {
    /// Says what failed; the error becomes what was seen.
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::error::Error + 'static> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::caused(what(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_seen_and_what_to_do() {
        let failure = Failure::new("west cannot reach any gateway of east")
            .note("tried", "198.18.4.10:4430/udp: no answer in 3 s\n198.18.4.11:4430/udp: refused")
            .note("likely", "the security group of east blocks UDP 4430")
            .fix("open UDP 4430, then run this again; nothing was changed");
        assert_eq!(
            failure.text(),
            "error: west cannot reach any gateway of east\n\
             \x20 tried   198.18.4.10:4430/udp: no answer in 3 s\n\
             \x20         198.18.4.11:4430/udp: refused\n\
             \x20 likely  the security group of east blocks UDP 4430\n\
             \x20 do      open UDP 4430, then run this again; nothing was changed"
        );
        assert_eq!(Failure::silent().text(), "");
    }
}
