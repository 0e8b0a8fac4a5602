//! Where words go: the result to standard output, progress and errors to standard error.

use crate::failure::Failure;
use crate::render::style::Style;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How long the answer to a question may take where standard input is no terminal: a script may hold it open and never
/// say anything.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest part of an answer that is shown, in characters.
const ANSWER_SHOWN: usize = 40;

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
    /// Standard error is for programs: every line of it is a JSON document.
    pub json_lines: bool,
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
            json_lines: false,
        }
    }

    /// The same, for a process whose standard error is for programs.
    #[must_use]
    pub fn with_json_lines(self) -> Self {
        Self { json_lines: true, progress_style: Style::PLAIN, ..self }
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
        self.say("INFO", line.as_ref());
    }

    /// What failed.
    pub fn error(&self, text: impl AsRef<str>) {
        self.say("ERROR", text.as_ref());
    }

    fn say(&self, level: &str, line: &str) {
        let document = || runtime::telemetry::document(level, "meshfed", line);
        let line = if self.json_lines { document() } else { line.to_owned() };
        // Nobody reads it: no reason to stop the work.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Asks before a dangerous step; the answer is the next line of standard input, typed or piped. `yes` skips the
    /// question.
    ///
    /// # Errors
    /// The answer is no, or nobody can be asked.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let answer = read_answer();
        if !self.can_ask {
            // Nobody has ended the line of the question by pressing return.
            self.progress("");
        }
        match answer.as_deref().map(str::trim) {
            Some("y" | "Y" | "yes") => Ok(()),
            Some("") => Err(Failure::new("stopped; nothing was changed")),
            Some(other) => Err(Failure::new("stopped; nothing was changed")
                .seen(format!("the answer was `{}`", crate::render::table::cut(other, ANSWER_SHOWN)))
                .fix("answer with y to go on")),
            None => Err(Failure::usage("nobody is there to answer, so nothing was changed").fix(
                "add --yes when you are sure, or pipe the answer (`echo y | meshfed …`); --dry-run shows what would \
                 happen",
            )),
        }
    }
}

/// The next line of standard input; none: there is none, or it does not come from where no person types.
fn read_answer() -> Option<String> {
    let patience = if std::io::stdin().is_terminal() { Duration::MAX } else { ANSWER_LIMIT };
    let (sender, answer) = std::sync::mpsc::channel();
    // A read cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        let _ = sender.send(matches!(read, Ok(1..)).then_some(line));
    });
    answer.recv_timeout(patience).ok().flatten()
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
