//! What the core tells its shell: things that happened to peers, and sessions to close.

use crate::check::MessageError;
use crate::session::SessionId;
use model::catalog::{EntryKey, Epoch, Version};
use model::exchange::RefusedSession;
use model::ids::{Incarnation, SiteId};
use model::routing::PeerState;
use std::fmt;

/// Something that the shell must know or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry of a peer is there, or has a new value; [`Replicator::held_entry`](crate::Replicator::held_entry) has it.
    Applied {
        /// Origin.
        site: SiteId,
        /// Key.
        key: EntryKey,
    },
    /// An entry of a peer is gone.
    Withdrawn {
        /// Origin.
        site: SiteId,
        /// Key.
        key: EntryKey,
        /// Why.
        cause: Withdrawal,
    },
    /// The state of a peer changed.
    PeerChanged {
        /// Peer.
        site: SiteId,
        /// State before.
        from: PeerState,
        /// State after.
        to: PeerState,
        /// Why, in words.
        reason: String,
    },
    /// A peer was unreachable for the whole lease; its endpoints and groups are withdrawn, its names stay.
    LeaseExpired {
        /// Peer.
        site: SiteId,
        /// How many entries were withdrawn.
        withdrawn: usize,
    },
    /// A snapshot of a peer was complete: what it did not name is gone.
    SnapshotComplete {
        /// Origin.
        site: SiteId,
        /// Position of the snapshot.
        version: Version,
        /// Entries held after it.
        entries: usize,
    },
    /// A second live process speaks for the uid of a peer. The first is kept, the second refused.
    CloneRefused {
        /// Peer.
        site: SiteId,
        /// Incarnation that is kept.
        kept: Incarnation,
        /// Incarnation that was refused.
        refused: Incarnation,
    },
    /// What was held of a peer was not what it said it should be: a bug. A snapshot was asked for.
    DigestDiffered {
        /// Origin.
        site: SiteId,
        /// At this position.
        version: Version,
    },
    /// The snapshot that repairs a difference is applied.
    DigestRepaired {
        /// Origin.
        site: SiteId,
        /// Position of the snapshot.
        version: Version,
    },
    /// A peer asked for a snapshot of the own catalog.
    ResyncAsked {
        /// Peer.
        site: SiteId,
        /// Why, in its words; at most 200 characters.
        reason: String,
    },
    /// The own catalog took a new epoch: a peer held what this store never gave it.
    EpochRaised {
        /// Peer that held it.
        site: SiteId,
        /// Epoch before.
        from: Epoch,
        /// Epoch after.
        to: Epoch,
        /// What was found.
        why: RaiseCause,
    },
    /// The session is to be closed, after what `poll_transmit` still has for it.
    Close {
        /// Peer.
        site: SiteId,
        /// Session.
        session: SessionId,
        /// Why.
        why: CloseCause,
    },
    /// The peer has unlinked this site. Its imports are withdrawn already; the shell forgets the link.
    UnlinkedByPeer {
        /// Peer.
        site: SiteId,
    },
    /// The bound on waiting events was reached; read the views again.
    EventsLost {
        /// How many.
        count: u64,
    },
}

/// Why an entry of a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withdrawal {
    /// Its owner said so.
    Tombstone,
    /// It was absent from a complete snapshot.
    Snapshot,
    /// The lease of its owner ran out.
    Lease,
    /// The link was removed.
    Unlink,
    /// This site no longer accepts it.
    Scope,
}

/// Why the own catalog took a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RaiseCause {
    /// A peer is ahead of what this store ever gave it.
    Ahead,
    /// A peer holds something else at the same revision.
    Differs,
}

/// Why a session is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseCause {
    /// The site is not linked.
    NotLinked,
    /// The link was removed.
    Unlinked,
    /// Another session of the same peer is used.
    Duplicate,
    /// What this site wants from the peer has changed; a new session says so.
    WantChanged,
    /// Nothing was heard for too long.
    Silent,
    /// A second live process speaks for the uid of the peer.
    Clone,
    /// The peer broke the protocol; nothing was changed by the message.
    Broken(MessageError),
    /// The peer refused the session.
    RefusedByPeer(RefusedSession),
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tombstone => "its owner withdrew it",
            Self::Snapshot => "it was absent from a complete snapshot",
            Self::Lease => "the lease of its owner ran out",
            Self::Unlink => "the link was removed",
            Self::Scope => "it is no longer accepted here",
        })
    }
}

impl fmt::Display for RaiseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ahead => {
                "the peer holds more than this store ever gave it: the store is new or was restored"
            }
            Self::Differs => "the peer holds something else at the same revision",
        })
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinked => f.pad("the site is not linked"),
            Self::Unlinked => f.pad("the link was removed"),
            Self::Duplicate => f.pad("another session of the same peer is used"),
            Self::WantChanged => f.pad("what is wanted from the peer has changed"),
            Self::Silent => f.pad("nothing was heard for too long"),
            Self::Clone => f.pad("a second live process speaks for the uid of the peer"),
            Self::Broken(error) => error.fmt(f),
            Self::RefusedByPeer(reason) => f.pad(match reason {
                RefusedSession::WrongUid => "the peer refused: it pinned another uid for this site",
                RefusedSession::Clone => "the peer refused: another live process speaks for this site",
                RefusedSession::NotLinked => "the peer refused: it has no link to this site",
                RefusedSession::Protocol => "the peer refused: a message broke the protocol",
            }),
        }
    }
}
