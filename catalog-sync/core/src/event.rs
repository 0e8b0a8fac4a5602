//! What comes out of the intake.

use crate::source::{SourceId, SourceState};
use model::catalog::{OwnKey, OwnValue};
use std::fmt;

/// Something that the shell must do or an operator would note.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all events are changes, and they are handled one by one"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The site's own catalog changes.
    Change(Change),
    /// Two sources contradict each other; the older claim stands.
    Conflict(Conflict),
    /// A contradiction is over.
    ConflictOver(Conflict),
    /// A source stands elsewhere than before.
    Source {
        /// Which one.
        source: SourceId,
        /// Where it stood.
        from: SourceState,
        /// Where it stands.
        to: SourceState,
    },
    /// Every source that was waited for has completed a full list or let its lease run out. Said once.
    Recovered,
}

/// A change of the site's own catalog: a service or an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Key: [`OwnKey::Service`] or [`OwnKey::Endpoint`].
    pub key: OwnKey,
    /// Value; none: it is gone.
    pub value: Option<OwnValue>,
    /// Whose word it is; of a value that is gone, whose word it was. It has to be stored with the value, for
    /// [`crate::intake::Restored`].
    pub owner: SourceId,
    /// Why.
    pub cause: Cause,
}

/// Why something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The source said so.
    Said(SourceId),
    /// The source deleted it.
    Deleted(SourceId),
    /// The source completed a full list without it.
    NotListed(SourceId),
    /// The source misses renewals.
    Silent(SourceId),
    /// The source renews again.
    Back(SourceId),
    /// The lease of the source has run out.
    Lapsed(SourceId),
    /// The source was removed by a person.
    Forgotten(SourceId),
    /// A store held half of it: an endpoint without its service, or the reverse.
    Orphaned(SourceId),
    /// The scope of the source was narrowed.
    OutOfScope(SourceId),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(source) => write!(f, "{source} said so"),
            Self::Deleted(source) => write!(f, "{source} deleted it"),
            Self::NotListed(source) => write!(f, "{source} completed a full list without it"),
            Self::Silent(source) => write!(f, "{source} misses renewals"),
            Self::Back(source) => write!(f, "{source} renews again"),
            Self::Lapsed(source) => write!(f, "the lease of {source} has run out"),
            Self::Forgotten(source) => write!(f, "{source} was removed"),
            Self::Orphaned(source) => write!(f, "only half of what {source} said was stored"),
            Self::OutOfScope(source) => write!(f, "it lies outside the new scope of {source}"),
        }
    }
}

/// A claim that does not stand, because an older one contradicts it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// What is claimed. [`OwnKey::Endpoint`]: two sources claim one id. [`OwnKey::Service`]: they describe the service
    /// differently; the endpoints of both are used all the same.
    pub key: OwnKey,
    /// Whose claim stands.
    pub winner: SourceId,
    /// Whose claim waits until the winner gives up its own.
    pub loser: SourceId,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, winner, loser } = self;
        match key {
            OwnKey::Endpoint(service, endpoint) => {
                write!(f, "{loser} claims endpoint {endpoint} of {service}, which belongs to {winner}")
            }
            OwnKey::Service(service) | OwnKey::Export(service) => {
                write!(f, "{loser} describes {service} differently than {winner}, which did so first")
            }
            OwnKey::Site => write!(f, "{loser} contradicts {winner}"),
        }
    }
}
