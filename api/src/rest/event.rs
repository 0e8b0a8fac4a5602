//! What happened, newest last.

use serde::{Deserialize, Serialize};

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsQuery {
    /// Only events after this sequence number. Default 0: all that are kept.
    pub after: u64,
    /// Wait so long for the first one, at most 60 000. Default 0.
    pub wait_ms: u64,
}

/// Answer to an [`EventsQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventList {
    /// The events, oldest first.
    pub events: Vec<EventView>,
    /// What to ask for `after` next time.
    pub next: u64,
    /// Events before the first one were dropped, since only the last 1 000 are kept.
    pub dropped: bool,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventView {
    /// Grows by one with each event of one federation process.
    pub sequence: u64,
    /// When it was seen.
    pub time_at_ms: u64,
    /// What it is about: `peer west`, `service shop/cart`, `agent vm-1`.
    pub subject: String,
    /// What happened, in words.
    pub what: String,
    /// Why.
    pub why: String,
    /// Since when that has been so, where it began earlier than it was seen.
    pub since_at_ms: Option<u64>,
    /// Who saw it: `federation`, `gateway gw-0`, `agent vm-1`.
    pub seen_by: String,
}
