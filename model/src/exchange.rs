//! What two federations say to each other, in both directions, over one ordered session.
//!
//! A session is symmetric: each side is the origin of its own catalog and a consumer of the other's.

use crate::catalog::{Entry, Scope, Version, View};
use crate::identity::Bundle;
use crate::ids::{Incarnation, SiteUid};

/// What a consumer holds of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Last position that was heard of.
    pub version: Version,
    /// Digest over the held entries (see the digest rules in docs/protocol.md). All zeros, the digest of nothing: they
    /// are not whole at that position, and a snapshot is needed.
    pub digest: [u8; 32],
}

/// One message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// First message of either side: who speaks, and what it holds of the other. Nothing else is sent before.
    Hello {
        /// Speaker.
        uid: SiteUid,
        /// Drawn at the start of the speaker's process.
        incarnation: Incarnation,
        /// What the speaker holds of the listener's catalog, under `scope` and `view`; none: nothing.
        held: Option<Held>,
        /// The services that the speaker wants to hear of.
        scope: Scope,
        /// How much of them.
        view: View,
    },
    /// Changes of the speaker's catalog.
    Batch(Batch),
    /// The listener's catalog is applied and stored up to here.
    Ack(Version),
    /// Digest of what the listener should hold at this version.
    Digest {
        /// At this version.
        version: Version,
        /// Over the entries in scope and view.
        digest: [u8; 32],
    },
    /// The speaker asks for a snapshot: a gap, or a digest that differs.
    Resync {
        /// Why, for the other side's log; at most 200 characters.
        reason: String,
    },
    /// The speaker will not talk; the session ends.
    Refused {
        /// Why.
        reason: RefusedSession,
    },
    /// The speaker is alive; sent when nothing else was for 5 s.
    KeepAlive,
    /// As `KeepAlive`, with the anchors of the speaker's site, and which of the listener's the speaker holds. Said at the
    /// beginning, and when one of them changes. One that does not know it takes it for a `KeepAlive`.
    Trust {
        /// Anchors of the speaker.
        bundle: Bundle,
        /// Certificates of newer keys under older ones, newest first, at most 5: by them whoever holds an older bundle
        /// knows that this one is its successor.
        vouchers: Vec<Vec<u8>>,
        /// Sequence of the listener's bundle that the speaker has stored.
        holds: u64,
    },
    /// The speaker has unlinked the listener, who should withdraw its imports and forget the link.
    Unlinked,
}

/// A run of changes of one origin's catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Position that the entries build on. For the first batch of a snapshot, the version of the snapshot itself.
    pub base: Version,
    /// Position after the entries.
    pub version: Version,
    /// Part of a snapshot.
    pub snapshot: bool,
    /// Last batch of a snapshot; always true outside one. Only then may absence delete.
    pub complete: bool,
    /// Entries, ordered by key, no key twice.
    pub entries: Vec<Entry>,
}

/// Why a session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedSession {
    /// The uid is not the one that was pinned when the sites were linked.
    WrongUid,
    /// Another live process speaks for the same uid: one of the two is a clone.
    Clone,
    /// The sites are not linked.
    NotLinked,
    /// A message broke the protocol.
    Protocol,
}
