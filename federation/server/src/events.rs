//! What happened, for `meshfed events`: a bounded ring, newest last.

use crate::names::NodeId;
use api::rest::event::{EventList, EventView};
use runtime::clock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tracing::info;

/// Most events that are kept; older ones are dropped, and readers are told.
pub const KEPT_MAX: usize = 1_000;
/// Longest text of an event, in characters; a node may have sent it.
const TEXT_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<EventView>,
    last: u64,
}

/// The events of this federation. Clones share them.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
    last: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Arc::default(), last: watch::Sender::new(0) }
    }
}

impl Events {
    /// Notes something that this federation saw.
    pub fn note(&self, subject: impl Into<String>, what: impl Into<String>, why: impl Into<String>) {
        self.push("federation".to_owned(), subject.into(), what.into(), why.into());
    }

    /// Notes something that a node saw.
    pub fn noted_by(&self, node: &str, what: &str, why: &str) {
        self.push(node.to_owned(), node.to_owned(), cut(what), cut(why));
    }

    /// Notes something that a node saw, of something else.
    pub fn seen_by(&self, node: &NodeId, subject: String, what: &str, why: String) {
        self.push(node.to_string(), cut(&subject), cut(what), cut(&why));
    }

    fn push(&self, seen_by: String, subject: String, what: String, why: String) {
        info!(%subject, %why, "{what}");
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        let sequence = ring.last;
        let time_at_ms = clock::unix_ms();
        if ring.events.len() == KEPT_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(EventView {
            sequence,
            time_at_ms,
            subject,
            what,
            why,
            since_at_ms: None,
            seen_by,
        });
        drop(ring);
        self.last.send_replace(sequence);
    }

    /// Events after a sequence number.
    pub fn after(&self, after: u64) -> EventList {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // Numbers begin anew with each process; a reader that is ahead has asked another one.
        let after = if after > ring.last { 0 } else { after };
        let events: Vec<_> = ring.events.iter().filter(|event| event.sequence > after).cloned().collect();
        let dropped = ring.events.front().is_some_and(|first| first.sequence > after + 1);
        EventList { events, next: ring.last, dropped }
    }

    /// Follows the sequence number of the newest event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_what_it_has_not_seen_and_hears_of_what_it_missed() {
        let events = Events::default();
        for at in 0..KEPT_MAX + 5 {
            events.note("peer west", format!("event {at}"), "");
        }
        let all = events.after(0);
        assert_eq!((all.events.len(), all.dropped), (KEPT_MAX, true));
        let rest = events.after(all.next - 2);
        assert_eq!((rest.events.len(), rest.dropped), (2, false));
        assert!(events.after(all.next).events.is_empty());
        // The sequence of an earlier process.
        assert_eq!(events.after(1_000_000).events.len(), KEPT_MAX);
    }

    #[test]
    fn what_a_node_says_is_cut() {
        let events = Events::default();
        events.noted_by("agent vm-1", &"x\n".repeat(5_000), "");
        assert_eq!(events.after(0).events[0].what.len(), TEXT_MAX);
    }
}
