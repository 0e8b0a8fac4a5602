//! Where words go: the result to standard output, progress and errors to standard error.

use crate::failure::Failure;
use crate::render::style::Style;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// What a command writes with.
#[derive(Debug, Clone)]
pub struct Ui {
    /// Form of the result.
    pub format: Format,
    /// Colours of standard output.
    pub style: Style,
    /// Colours of standard error.
    pub progress_style: Style,
    /// Standard input and error are a terminal, so a question can be asked.
    pub can_ask: bool,
}

impl Ui {
    /// Looks at the terminal and the environment.
    pub fn detect(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let colour = |terminal: bool| Style { on: terminal && !plain };
        Self {
            format,
            style: colour(std::io::stdout().is_terminal()),
            progress_style: colour(std::io::stderr().is_terminal()),
            can_ask: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        }
    }

    /// Prints the result: `text` for people, or `value` as JSON or YAML.
    ///
    /// # Errors
    /// The value cannot be written in that form, or standard output is closed.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> Result<(), Failure> {
        let written = match self.format {
            Format::Text => text(self.style),
            Format::Json => serde_json::to_string_pretty(value)
                .map_err(|e| Failure::new("the result cannot be written as JSON").seen(e.to_string()))?,
            Format::Yaml => api::yaml::write(value)
                .map_err(|e| Failure::caused("the result cannot be written as YAML", &e))?,
        };
        print(&written)
    }

    /// A line of progress.
    pub fn progress(&self, line: impl AsRef<str>) {
        // Nobody reads it: no reason to stop the work.
        let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
    }

    /// Asks before a dangerous step; the answer is the next line of standard input. `yes` skips the question.
    ///
    /// # Errors
    /// The answer is no, or nobody can be asked.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if !self.can_ask {
            // Nobody has ended the line of the question by pressing return.
            self.progress("");
        }
        match read {
            Ok(1..) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            Ok(1..) => Err(Failure::new("stopped; nothing was changed")),
            _ => Err(Failure::usage("nobody is there to answer, so nothing was changed")
                .fix("add --yes when you are sure, or --dry-run to see what would happen")),
        }
    }
}

/// Writes a text to standard output, with a final line break.
///
/// # Errors
/// Standard output cannot be written. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("the result cannot be written to standard output", &error))
        }
        _ => Ok(()),
    }
}
