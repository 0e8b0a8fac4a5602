//! Sources: who speaks, what it may say, how long its silence is borne.

use model::ids::{HostName, Label, Namespace};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Names one source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceId {
    /// The agent on this host.
    Agent(HostName),
    /// A connector of the site itself, by its name: `files`.
    Connector(Label),
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(host) => f.pad(&format!("agent {host}")),
            Self::Connector(name) => f.pad(&format!("connector {name}")),
        }
    }
}

/// What a source may speak of. An event outside is refused, and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceScope {
    /// Namespaces that it may register in; none: all.
    pub namespaces: Option<BTreeSet<Namespace>>,
    /// With a host: only endpoints that are reached through the agent on it. Without: only endpoints that are reached
    /// directly, so that a file cannot speak for an agent.
    pub host: Option<HostName>,
}

impl SourceScope {
    /// Every namespace, endpoints that are reached directly: the scope of the site's own connectors.
    pub fn site() -> Self {
        Self { namespaces: None, host: None }
    }

    /// These namespaces on this host: the scope of an agent.
    pub fn agent(host: HostName, namespaces: Option<BTreeSet<Namespace>>) -> Self {
        Self { namespaces, host: Some(host) }
    }
}

/// How long a source may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Then its endpoints are Unhealthy. Default 15 s: three renewals of 5 s missed.
    pub unhealthy_after: Duration,
    /// Then its endpoints are gone. Default 2 min: a host that restarts keeps its endpoints.
    pub gone_after: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Self { unhealthy_after: Duration::from_secs(15), gone_after: Duration::from_secs(120) }
    }
}

/// What is known of a source before it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// What it may speak of.
    pub scope: SourceScope,
    /// How long it may be silent; none: for ever, which is right for files, whose silence means no change.
    pub lease: Option<Lease>,
    /// The catalog is not recovered before this source has completed a full list, or its lease has run out. Sources
    /// with restored endpoints are waited for in any case.
    pub expected: bool,
}

impl SourceConfig {
    /// A connector of the site itself: every namespace, no lease, waited for.
    pub fn connector() -> Self {
        Self { scope: SourceScope::site(), lease: None, expected: true }
    }

    /// An agent: its host, these namespaces (none: all), the default lease, waited for only when it has restored
    /// endpoints.
    pub fn agent(host: HostName, namespaces: Option<BTreeSet<Namespace>>) -> Self {
        Self { scope: SourceScope::agent(host, namespaces), lease: Some(Lease::default()), expected: false }
    }
}

/// One connection of a source. A new one makes those before it stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub(crate) source: SourceId,
    pub(crate) number: u64,
}

impl Session {
    /// Whose connection it is.
    pub fn source(&self) -> &SourceId {
        &self.source
    }
}

/// Where a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceState {
    /// Nothing was heard of it since the start.
    Awaited,
    /// It is connected, and its full list is not complete.
    Listing,
    /// Its full list is complete, and it renews its lease where it has one.
    Live,
    /// It is not connected, and its lease still runs, or it has none.
    Away,
    /// It misses renewals: its endpoints are Unhealthy.
    Silent,
    /// Its lease has run out: its endpoints are gone.
    Gone,
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Awaited => "awaited",
            Self::Listing => "listing",
            Self::Live => "live",
            Self::Away => "away",
            Self::Silent => "silent",
            Self::Gone => "gone",
        })
    }
}

/// Where a source stands, with what `status` prints beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Which one.
    pub source: SourceId,
    /// Where it stands.
    pub state: SourceState,
    /// How many endpoints it claims, also those that another source owns.
    pub instances: usize,
    /// The catalog is not recovered because of it.
    pub holds_up_recovery: bool,
    /// Since when nothing was heard of it; for one that was never heard, since the start.
    pub silent_for: Duration,
}
