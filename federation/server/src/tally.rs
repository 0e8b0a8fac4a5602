//! What the federation counts outside of its hub, and what its hub leaves for whoever scrapes.

use crate::store::{StoreError, WriteBatch};
use model::catalog::Version;
use model::exchange::PeerMessage;
use runtime::metrics::{Count, Counts, Durations, Reading};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Kinds of messages between federations.
const KINDS: [&str; 9] =
    ["hello", "batch", "ack", "digest", "resync", "refused", "keep alive", "unlinked", "trust"];

/// Plain numbers that only grow.
#[derive(Debug)]
pub struct Tally {
    /// What was told to peers.
    pub sent: Wire,
    /// What was heard from peers.
    pub received: Wire,
    /// What was told to nodes.
    pub told_nodes: Wire,
    /// From a batch of the own catalog that was sent until the peer had stored it.
    pub acknowledged: Durations,
    /// How long commits took that succeeded.
    pub commits: Durations,
    /// Commits that failed.
    pub commits_failed: Count,
    left: Mutex<Option<Left>>,
}

/// Messages, and their bytes before compression, by kind.
#[derive(Debug)]
pub struct Wire {
    /// How many.
    pub messages: Counts,
    /// How long all together.
    pub bytes: Counts,
}

/// What the hub has left.
#[derive(Debug)]
struct Left {
    at: Instant,
    reading: Arc<Reading>,
}

impl Wire {
    fn new(words: &[&str]) -> Self {
        Self { messages: Counts::new(words), bytes: Counts::new(words) }
    }

    /// One more, of so many bytes.
    pub fn add(&self, word: &str, bytes: usize) {
        self.messages.add(word);
        self.bytes.add_many(word, bytes as u64);
    }
}

/// Of a config stream: changes of the config, and all else.
pub(crate) const CONFIG: &str = "config";
/// Orders, questions and answers.
pub(crate) const OTHER: &str = "other";

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: Wire::new(&KINDS),
            received: Wire::new(&KINDS),
            told_nodes: Wire::new(&[CONFIG, OTHER]),
            acknowledged: Durations::default(),
            commits: Durations::default(),
            commits_failed: Count::default(),
            left: Mutex::default(),
        }
    }
}

impl Tally {
    /// The hub leaves its own numbers, so that a scrape need not ask it.
    pub(crate) fn leave(&self, reading: Reading) {
        let left = Left { at: Instant::now(), reading: Arc::new(reading) };
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }

    /// What the hub has left last, and how long ago.
    pub(crate) fn left(&self) -> Option<(Arc<Reading>, Duration)> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.as_ref().map(|left| (left.reading.clone(), left.at.elapsed()))
    }

    /// Writes a batch, and counts how that went. One with nothing in it makes no commit.
    pub(crate) fn commit(
        &self,
        batch: &WriteBatch,
        write: impl FnOnce(&WriteBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let written = write(batch);
        match &written {
            Ok(()) if batch.is_empty() => {}
            Ok(()) => self.commits.note(began.elapsed()),
            Err(_) => self.commits_failed.add(1),
        }
        written
    }
}

/// The kind of a message between federations.
pub(crate) fn kind(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Hello { .. } => KINDS[0],
        PeerMessage::Batch(_) => KINDS[1],
        PeerMessage::Ack(_) => KINDS[2],
        PeerMessage::Digest { .. } => KINDS[3],
        PeerMessage::Resync { .. } => KINDS[4],
        PeerMessage::Refused { .. } => KINDS[5],
        PeerMessage::KeepAlive => KINDS[6],
        PeerMessage::Unlinked => KINDS[7],
        PeerMessage::Trust { .. } => KINDS[8],
    }
}

/// How long one session's peer takes to store what it is sent: one batch at a time is measured.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<Option<(Version, Instant)>>);

impl Measured {
    /// A batch up to here is sent.
    pub(crate) fn sent(&self, version: Version) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.get_or_insert_with(|| (version, Instant::now()));
    }

    /// The peer has stored everything up to here. How long that took for the batch that is measured; none: it is not
    /// that far, or none is measured.
    pub(crate) fn acknowledged(&self, version: Version) -> Option<Duration> {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.take_if(|(sent, _)| version >= *sent).map(|(_, at)| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::catalog::{Epoch, Revision};

    fn at(revision: u64) -> Version {
        Version { epoch: Epoch(1), revision: Revision(revision) }
    }

    #[test]
    fn a_batch_counts_when_all_of_it_is_stored() {
        let measured = Measured::default();
        assert_eq!(measured.acknowledged(at(9)), None, "nothing was sent");
        measured.sent(at(5));
        measured.sent(at(6));
        assert_eq!(measured.acknowledged(at(4)), None, "not that far");
        assert!(measured.acknowledged(at(5)).is_some());
        assert_eq!(measured.acknowledged(at(6)), None, "one is measured at a time");
    }

    #[test]
    fn every_message_has_a_kind_that_is_counted() {
        let tally = Tally::default();
        for message in [PeerMessage::KeepAlive, PeerMessage::Unlinked, PeerMessage::Ack(at(1))] {
            tally.sent.add(kind(&message), 7);
        }
        let bytes: u64 = tally.sent.bytes.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, 21);
    }
}
