//! A mistake in a file: where, what, and what to do, printed with the lines around it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A mistake in a file that a person wrote.
///
/// ```text
/// error: mine.yaml:3:5: unknown field `localty`
///    1 |   east:
///    2 |     gateways: 2
///    3 |     localty: eu/fra
///      |     ^^^^^^^ did you mean `locality`?
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Diagnostic {
    /// File, as the person named it.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole file is meant.
    pub column: usize,
    /// What is wrong, without a final dot.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// The lines up to the one at fault, at most three, the last of them at fault; each cut to 200 characters.
    #[serde(default)]
    pub excerpt: Vec<String>,
    /// How many characters are at fault, from `column`; at least 1 when there is an excerpt.
    #[serde(default)]
    pub width: usize,
}

/// Longest line that an excerpt shows, in characters.
const EXCERPT_WIDTH: usize = 200;
/// Most lines of an excerpt.
const EXCERPT_LINES: usize = 3;

/// A line as an excerpt shows it: each character in its column, none of which moves a terminal's cursor.
fn shown(line: &str) -> String {
    line.chars().take(EXCERPT_WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Diagnostic {
    /// A mistake at a place of `text`, which is the whole file.
    ///
    /// With `width` 0 the word that begins at the place is marked.
    pub fn at(file: &str, text: &str, (line, column): (usize, usize), width: usize) -> Self {
        let mut diagnostic = Self::of_file(file, "");
        if line == 0 {
            return diagnostic;
        }
        let first = line.saturating_sub(2).max(1);
        let excerpt: Vec<&str> = text.lines().skip(first - 1).take(line - first + 1).collect();
        let fault = excerpt.last().copied().unwrap_or_default();
        let word = || fault.chars().skip(column.saturating_sub(1)).take_while(|c| is_of_word(*c)).count();
        diagnostic.line = line;
        diagnostic.column = column.max(1);
        diagnostic.width = if width == 0 { word() } else { width }.clamp(1, EXCERPT_WIDTH);
        diagnostic.excerpt = excerpt.iter().map(|line| shown(line)).collect();
        diagnostic
    }

    /// A mistake of the whole file: it cannot be read, it is empty.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
            help: String::new(),
            excerpt: Vec::new(),
            width: 0,
        }
    }

    /// Says what is wrong.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// Whether a character can stand within a word of YAML that is worth marking as one.
fn is_of_word(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, ':' | ',' | '{' | '}' | '[' | ']' | '"' | '\'')
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "error: {}: {}", self.file, self.message)?;
            return if self.help.is_empty() { Ok(()) } else { write!(f, "\n  do     {}", self.help) };
        }
        write!(f, "error: {}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if self.excerpt.is_empty() {
            return Ok(());
        }
        // Numbers and texts may come from a federation, so nothing is taken for granted.
        let gutter = self.line.to_string().len().max(4) + 1;
        let lines_before = self.excerpt.len().min(EXCERPT_LINES) - 1;
        let first = self.line.saturating_sub(lines_before).max(1);
        for (number, line) in (first..=self.line).zip(&self.excerpt) {
            write!(f, "\n{number:>gutter$} | {}", shown(line))?;
        }
        // A line that is longer than its excerpt is marked at the end of what is shown.
        let indent = " ".repeat(self.column.saturating_sub(1).min(EXCERPT_WIDTH));
        let marks = "^".repeat(self.width.clamp(1, EXCERPT_WIDTH));
        let marked = format!("{:gutter$} | {indent}{marks} {}", "", self.help);
        write!(f, "\n{}", marked.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_lines_and_a_hint() {
        let text = "sites:\n  east:\n    gateways: 2\n    localty: eu/fra\n";
        let shown = Diagnostic::at("topologies/mine.yaml", text, (4, 5), 0)
            .message("unknown field `localty`")
            .help("did you mean `locality`?")
            .to_string();
        let expected = "\
error: topologies/mine.yaml:4:5: unknown field `localty`
    2 |   east:
    3 |     gateways: 2
    4 |     localty: eu/fra
      |     ^^^^^^^ did you mean `locality`?";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_first_line_has_nothing_before_it() {
        let shown =
            Diagnostic::at("a.yaml", "knid: Site", (1, 1), 0).message("unknown field `knid`").to_string();
        assert_eq!(shown, "error: a.yaml:1:1: unknown field `knid`\n    1 | knid: Site\n      | ^^^^");
    }

    #[test]
    fn a_whole_file_can_be_at_fault() {
        let shown = Diagnostic::of_file("a.yaml", "the file is empty").help("write a resource").to_string();
        assert_eq!(shown, "error: a.yaml: the file is empty\n  do     write a resource");
    }

    #[test]
    fn a_place_beyond_the_text_does_no_harm() {
        for place in [(1, 1), (7, 3), (usize::MAX / 2, 1), (1, 400)] {
            let _ = Diagnostic::at("a.yaml", "x", place, 0).message("x").to_string();
        }
    }
}
