//! What became of one request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One request and its outcome. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Position in the schedule (open loop), or order of sending (closed loop); begins at 0.
    pub index: u64,
    /// When it was due. Equal to `started` in a closed loop.
    pub due: Duration,
    /// When it was begun.
    pub started: Duration,
    /// When its answer was complete, or when it had failed.
    pub ended: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl Sample {
    /// Time from the moment when it was due.
    pub fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.due)
    }

    /// Whether the whole answer came.
    pub fn is_complete(&self) -> bool {
        matches!(self.outcome, Outcome::Complete { .. })
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer came, with a status of 2xx.
    Complete {
        /// Site that says that it answered (`X-Site`); empty when the answer does not say.
        site: Arc<str>,
    },
    /// It did not.
    Failed(Failure),
}

/// Why a request has no complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How far it had come.
    pub stage: Stage,
    /// What ended it.
    pub cause: Cause,
}

/// How far a request had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// No connection yet.
    Connect,
    /// Connected, and the request was not yet written whole.
    Send,
    /// The request was written; not all of the answer has come.
    Answer,
}

/// What ended a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// The time was up.
    TimedOut,
    /// The whole answer came, and its status is not 2xx.
    Status(u16),
    /// The answer is not HTTP/1.1, or breaks a limit of the client.
    Malformed(&'static str),
    /// Any other error of the operating system, in its words.
    Other(String),
    /// The generator itself had too many open requests; the server is not to blame.
    Overrun,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connect => "while connecting",
            Self::Send => "while sending",
            Self::Answer => "while waiting for the answer",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed too early"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::Malformed(why) => write!(f, "malformed answer ({why})"),
            Self::Other(why) => f.write_str(why),
            Self::Overrun => f.write_str("not sent: too many requests are open"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cause, self.stage)
    }
}

impl Cause {
    /// Sorts an error of the operating system.
    pub fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset,
            Kind::UnexpectedEof => Self::Closed,
            Kind::TimedOut => Self::TimedOut,
            _ => Self::Other(error.to_string()),
        }
    }
}
