//! A value that was well formed and still cannot be: where it is, what is wrong, what to write instead.

/// One value of a resource that breaks a rule.
///
/// The path is that of the value within its document. [`crate::yaml::Document::diagnose`] turns it into a place in
/// a file; over the REST API, where there is no file, the path itself is printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", prefix(path), suffix(help))]
pub struct Problem {
    /// Keys and indices from the top of the document (`spec`, `ports`, `0`, `port`); empty: the document.
    pub path: Vec<String>,
    /// What is wrong, without a final dot.
    pub message: String,
    /// What to do; empty when the message says it.
    pub help: String,
}

impl Problem {
    /// Says what is wrong with the value at `path`, a dotted path as in `spec.ports.0.port`.
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        let path = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { path, message: message.into(), help: String::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Puts the problem under a longer path: what was found at `port` was found at `spec.port`.
    #[must_use]
    pub fn under(mut self, path: &str) -> Self {
        let mut whole: Vec<String> =
            path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        whole.append(&mut self.path);
        self.path = whole;
        self
    }
}

fn prefix(path: &[String]) -> String {
    if path.is_empty() { String::new() } else { format!("{}: ", path.join(".")) }
}

fn suffix(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("; {help}") }
}
