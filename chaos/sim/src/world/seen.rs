//! What runs are to reach: a rule that is never tried is never broken.

use super::World;
use federation_core::event::{CloseCause, Event, RaiseCause, Withdrawal};
use model::exchange::PeerMessage;
use model::routing::PeerState;

/// Everything that a thousand seeds are to see at least once.
pub const REACHED: [&str; 24] = [
    "a batch of changes",
    "a complete snapshot in one batch",
    "a digest is compared",
    "a lease runs out",
    "a link is removed by the peer",
    "a part of a snapshot",
    "a peer degrades",
    "a peer is expired and answers again",
    "a session is replaced by another",
    "a session is silent",
    "a snapshot is complete",
    "a tombstone",
    "an epoch is taken: ahead",
    "crash before a commit",
    "crash between commit and message",
    "held: nothing",
    "held: something, not whole",
    "held: something",
    "refused by a peer",
    "wanted: something else",
    "withdrawn by lease",
    "withdrawn by scope",
    "withdrawn by snapshot",
    "withdrawn by unlink",
];

impl World {
    pub(super) fn saw_message(&mut self, message: &PeerMessage) {
        match message {
            PeerMessage::Hello { held: None, .. } => self.saw("held: nothing"),
            PeerMessage::Hello { held: Some(held), .. } if held.digest == [0; 32] => {
                self.saw("held: something, not whole");
            }
            PeerMessage::Hello { .. } => self.saw("held: something"),
            PeerMessage::Batch(batch) => {
                if batch.entries.iter().any(|entry| entry.value.is_none()) {
                    self.saw("a tombstone");
                }
                self.saw(match (batch.snapshot, batch.complete) {
                    (false, _) => "a batch of changes",
                    (true, true) => "a complete snapshot in one batch",
                    (true, false) => "a part of a snapshot",
                });
            }
            PeerMessage::Digest { .. } => self.saw("a digest is compared"),
            PeerMessage::Refused { .. } => self.saw("refused by a peer"),
            PeerMessage::Ack(_)
            | PeerMessage::Resync { .. }
            | PeerMessage::KeepAlive
            | PeerMessage::Trust { .. }
            | PeerMessage::Unlinked => {}
        }
    }

    pub(super) fn saw_event(&mut self, event: &Event) {
        match event {
            Event::Withdrawn { cause, .. } => self.saw(match cause {
                Withdrawal::Tombstone => "withdrawn by tombstone",
                Withdrawal::Snapshot => "withdrawn by snapshot",
                Withdrawal::Lease => "withdrawn by lease",
                Withdrawal::Unlink => "withdrawn by unlink",
                Withdrawal::Scope => "withdrawn by scope",
            }),
            Event::PeerChanged { from: PeerState::Expired, .. } => {
                self.saw("a peer is expired and answers again");
            }
            Event::PeerChanged { to: PeerState::Degraded, .. } => self.saw("a peer degrades"),
            Event::LeaseExpired { .. } => self.saw("a lease runs out"),
            Event::SnapshotComplete { .. } => self.saw("a snapshot is complete"),
            Event::EpochRaised { why: RaiseCause::Ahead, .. } => self.saw("an epoch is taken: ahead"),
            Event::CloneRefused { .. } => self.saw("a second process is refused"),
            Event::UnlinkedByPeer { .. } => self.saw("a link is removed by the peer"),
            Event::Close { why: CloseCause::Duplicate, .. } => self.saw("a session is replaced by another"),
            Event::Close { why: CloseCause::Silent, .. } => self.saw("a session is silent"),
            Event::Close { why: CloseCause::WantChanged, .. } => self.saw("wanted: something else"),
            Event::Applied { .. }
            | Event::PeerChanged { .. }
            | Event::EpochRaised { .. }
            | Event::DigestDiffered { .. }
            | Event::DigestRepaired { .. }
            | Event::ResyncAsked { .. }
            | Event::Close { .. }
            | Event::EventsLost { .. } => {}
        }
    }
}
