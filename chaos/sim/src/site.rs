//! One site of the world: its process with the replicator, its store, its sources, its links.

use crate::oracle::Entries;
use crate::transition::CrashPoint;
use crate::truth::{Change, change_of};
use federation_core::Replicator;
use federation_core::store::Restored;
use model::catalog::{EntryKey, EntryValue, OwnKey, OwnValue, Scope, View};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A link as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Offered to the peer.
    pub offer: Scope,
    /// Wanted from the peer.
    pub want: Scope,
    /// View wanted from the peer.
    pub view: View,
}

/// What is on the disk of a site, with what the oracle must know of it.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// What the core stored.
    pub store: Restored,
    /// For each entry of each peer: when the message was sent that last changed it.
    pub sampled: BTreeMap<(usize, EntryKey), Instant>,
}

/// One site.
#[derive(Debug)]
pub struct Site {
    /// Its process; none while it is down.
    pub process: Option<Replicator>,
    /// Counts the processes that it has had.
    pub life: u64,
    /// Its disk.
    pub disk: Disk,
    /// A copy of its disk.
    pub backup: Option<Disk>,
    /// Its store was lost or restored at some time, so that peers may be ahead of it.
    pub tampered: bool,
    /// What its sources say.
    pub truth: BTreeMap<OwnKey, OwnValue>,
    /// What its sources have yet to say after a start; none: they have said everything.
    pub relist: Option<VecDeque<OwnKey>>,
    /// Its links, by peer.
    pub links: BTreeMap<usize, Terms>,
    /// Peers that it has unlinked at some time.
    pub unlinked: BTreeSet<usize>,
    /// It dies at its next commit.
    pub crash: Option<(CrashPoint, Duration)>,
    /// What the process holds of each peer, shown or not: the values before the next change.
    pub known: BTreeMap<(usize, EntryKey), EntryValue>,
    /// What a reader knows of each peer who heard of every event, and of nothing else.
    pub mirror: BTreeMap<usize, Entries>,
}

impl Site {
    /// A site without services, linked with all others.
    pub fn new(site: usize, sites: usize) -> Self {
        let (key, value) = change_of(site, &Change::Gateways { count: 1 });
        let terms = Terms { offer: Scope::All, want: Scope::All, view: View::Summary };
        Self {
            process: None,
            life: 0,
            disk: Disk::default(),
            backup: None,
            tampered: false,
            truth: value.map(|value| (key, value)).into_iter().collect(),
            relist: None,
            links: (0..sites).filter(|peer| *peer != site).map(|peer| (peer, terms.clone())).collect(),
            unlinked: BTreeSet::new(),
            crash: None,
            known: BTreeMap::new(),
            mirror: BTreeMap::new(),
        }
    }
}
