//! What the API answers when it cannot do what was asked.

use crate::diagnostic::Diagnostic;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The body of every answer with a status of 4xx or 5xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ApiError,
}

/// What failed, what was seen, what to do.
///
/// Its `Display` is what the command line prints after `error: `.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, thiserror::Error)]
pub struct ApiError {
    /// What failed, in one line, without a final dot.
    pub message: String,
    /// What was seen, or why that is; may have several lines.
    #[serde(default)]
    pub cause: String,
    /// What to do now.
    #[serde(default)]
    pub help: String,
    /// What was tried, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// What is probably the matter, where that can be guessed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub likely: String,
    /// Mistakes in files that were sent; each is printed on its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

impl ApiError {
    /// An error with what was seen and what to do; either may be empty.
    pub fn new(message: impl Into<String>, cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), cause: cause.into(), help: help.into(), ..Self::default() }
    }
}

impl From<crate::problem::Problem> for ApiError {
    fn from(problem: crate::problem::Problem) -> Self {
        let help = problem.help.clone();
        Self::new(crate::problem::Problem { help: String::new(), ..problem }.to_string(), "", help)
    }
}

impl From<Diagnostic> for ApiError {
    fn from(diagnostic: Diagnostic) -> Self {
        let message = format!("{} has a mistake, and nothing was changed", diagnostic.file);
        Self { diagnostics: vec![diagnostic], ..Self::new(message, "", "correct it and run this again") }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let cause: Vec<&str> = self.cause.lines().collect();
        let tried: Vec<&str> = self.tried.iter().map(String::as_str).collect();
        let one = |line| if str::is_empty(line) { Vec::new() } else { vec![line] };
        for (word, lines) in
            [("tried", tried), ("because", cause), ("likely", one(&self.likely)), ("do", one(&self.help))]
        {
            for (at, line) in lines.into_iter().enumerate() {
                write!(f, "\n  {:<8} {line}", if at == 0 { word } else { "" })?;
            }
        }
        self.diagnostics.iter().try_for_each(|diagnostic| write!(f, "\n{diagnostic}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_seen_and_what_to_do() {
        let error = ApiError {
            tried: vec![
                "198.18.4.10:4430/udp from west gateway gw-0: no answer in 3 s".to_owned(),
                "b".to_owned(),
            ],
            likely: "the security group of east blocks UDP 4430".to_owned(),
            ..ApiError::new("west cannot reach any gateway of east", "", "open UDP 4430, then run this again")
        };
        let expected = "\
west cannot reach any gateway of east
  tried    198.18.4.10:4430/udp from west gateway gw-0: no answer in 3 s
           b
  likely   the security group of east blocks UDP 4430
  do       open UDP 4430, then run this again";
        assert_eq!(error.to_string(), expected);
        let body = serde_json::to_string(&ErrorBody { error: error.clone() }).expect("json");
        assert!(body.starts_with(r#"{"error":{"message":"#), "{body}");
        assert_eq!(serde_json::from_str::<ErrorBody>(&body).expect("reads").error, error);
    }
}
