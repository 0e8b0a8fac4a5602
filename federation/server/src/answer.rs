//! Why something that was asked for was not done.

use api::rest::error::ApiError;

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The request makes no sense.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// It cannot be done now.
    Unavailable,
}

/// Why something that was asked for was not done. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Denied {
    /// Kind.
    pub denial: Denial,
    /// What failed, what was seen, what to do.
    pub error: Box<ApiError>,
}

/// An answer, or why there is none.
pub type Answer<T> = Result<T, Denied>;

impl Denied {
    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>, cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self { denial: Denial::Invalid, error: Box::new(ApiError::new(message, cause, help)) }
    }

    /// What it names is not there.
    pub fn not_found(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { denial: Denial::NotFound, error: Box::new(ApiError::new(message, "", help)) }
    }

    /// It contradicts what is there.
    pub fn conflict(message: impl Into<String>, cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self { denial: Denial::Conflict, error: Box::new(ApiError::new(message, cause, help)) }
    }

    /// It cannot be done now.
    pub fn unavailable(
        message: impl Into<String>,
        cause: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { denial: Denial::Unavailable, error: Box::new(ApiError::new(message, cause, help)) }
    }

    /// The store could not be written.
    pub fn store(error: &crate::store::StoreError) -> Self {
        let cause = runtime::telemetry::chain(error).to_string();
        Self::unavailable(
            "nothing was changed: the store could not be written",
            cause,
            format!("{}; then run this again", error.next_step()),
        )
    }
}

impl From<api::Problem> for Denied {
    fn from(problem: api::Problem) -> Self {
        Self { denial: Denial::Invalid, error: Box::new(problem.into()) }
    }
}

impl From<api::Diagnostic> for Denied {
    fn from(diagnostic: api::Diagnostic) -> Self {
        Self { denial: Denial::Invalid, error: Box::new(diagnostic.into()) }
    }
}
