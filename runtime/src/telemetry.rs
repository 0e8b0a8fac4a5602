//! Logs, to standard error.

mod json;

pub use json::document;

use std::error::Error;
use std::fmt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter could not be read.
    #[error(
        "the log filter `{filter}` cannot be read: write a level (`info`) or `TARGET=LEVEL`, joined by commas"
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// Where it fails.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging was already set up in this process")]
    Twice,
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document a line: `time`, `level`, `target`, `message`, `fields`.
    Json,
}

/// Sends logs to standard error.
///
/// `filter` is a level or a list of `TARGET=LEVEL`, joined by commas. To be called once, in `main`.
///
/// # Errors
/// The filter cannot be read, or this is the second call.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        Format::Json => {
            std::panic::set_hook(Box::new(|panic| {
                eprintln!("{}", document("ERROR", "panic", &panic.to_string()))
            }));
            lines.event_format(json::Documents).finish().try_init()
        }
        Format::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).with_target(false).finish().try_init()
        }
    };
    set.map_err(|_| TelemetryError::Twice)
}

/// Shows an error with all its causes in one line: `what: why: why`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// An error with its causes; see [`chain`].
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = init(Format::Text, "meshfed=loud").expect_err("no such level");
        assert!(error.to_string().contains("`meshfed=loud`"), "{error}");
    }

    #[test]
    fn a_chain_shows_every_cause() {
        let error = init(Format::Text, "meshfed=loud").expect_err("no such level");
        let shown = chain(&error).to_string();
        assert!(shown.starts_with(&error.to_string()) && shown.len() > error.to_string().len(), "{shown}");
    }
}
