//! Colours, where there is a terminal.

/// Puts colours around texts, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Colours are on.
    pub on: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { on: false };

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Look at this.
    pub fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// This is broken.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}
