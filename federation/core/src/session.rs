//! One ordered exchange of messages with a peer, from its first `Hello` to its end.

use crate::producer::Producer;
use model::exchange::PeerMessage;
use model::ids::Incarnation;
use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

/// Names a session; given by the shell, never used twice in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which side opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialled {
    /// This site.
    Here,
    /// The peer.
    There,
}

/// One session with a peer.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub dialled: Dialled,
    /// Own `Hello` was queued.
    pub greeted: bool,
    /// Incarnation from the peer's `Hello`; none: it has not come.
    pub incarnation: Option<Incarnation>,
    /// The origin's side; there once the peer's `Hello` has come.
    pub producer: Option<Producer>,
    /// Messages to send, in order. Bounded: one of each kind, batches by the window of the peer, acknowledgements by
    /// the window that this site gives.
    pub outbox: VecDeque<Queued>,
    /// Acknowledgements in `outbox`.
    pub acks_queued: usize,
    pub heard_at: Instant,
    pub spoke_at: Instant,
    /// For a rival: its `Hello`, kept until it is known which session stays, and since when it waits.
    pub waiting: Option<(PeerMessage, Instant)>,
}

/// A message with the commit that must be durable before it is sent.
#[derive(Debug)]
pub(crate) struct Queued {
    pub after_commit: u64,
    pub message: PeerMessage,
}

impl Session {
    pub fn new(id: SessionId, dialled: Dialled, now: Instant) -> Self {
        Self {
            id,
            dialled,
            greeted: false,
            incarnation: None,
            producer: None,
            outbox: VecDeque::new(),
            acks_queued: 0,
            heard_at: now,
            spoke_at: now,
            waiting: None,
        }
    }

    /// Queues a message. A newer digest, keepalive or resync takes the place of a queued one of its kind.
    pub fn push(&mut self, message: PeerMessage, after_commit: u64) {
        match &message {
            PeerMessage::KeepAlive if !self.outbox.is_empty() => return,
            PeerMessage::Digest { .. } => {
                self.outbox.retain(|queued| !matches!(queued.message, PeerMessage::Digest { .. }));
            }
            PeerMessage::Resync { .. } => {
                self.outbox.retain(|queued| !matches!(queued.message, PeerMessage::Resync { .. }));
            }
            PeerMessage::Ack(_) => self.acks_queued += 1,
            PeerMessage::Hello { .. }
            | PeerMessage::Batch(_)
            | PeerMessage::Refused { .. }
            | PeerMessage::KeepAlive
            | PeerMessage::Trust { .. }
            | PeerMessage::Unlinked => {}
        }
        self.outbox.push_back(Queued { after_commit, message });
    }

    /// The next message whose commit is durable.
    pub fn pop(&mut self, committed: u64) -> Option<PeerMessage> {
        if self.outbox.front().is_none_or(|queued| queued.after_commit > committed) {
            return None;
        }
        let message = self.outbox.pop_front()?.message;
        if matches!(message, PeerMessage::Ack(_)) {
            self.acks_queued -= 1;
        }
        Some(message)
    }
}
