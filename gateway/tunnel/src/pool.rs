//! The bytes that the tunnel of a process may have in buffers: what peers have sent and nobody has taken, and what was
//! sent and is not acknowledged. Connections have a small part that is always theirs; all beyond comes from here.

use model::identity::SpiffeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The pool of one process.
#[derive(Debug)]
pub(crate) struct Pool {
    most: u64,
    most_per_peer: u64,
    given: Mutex<Given>,
    stuck: AtomicI64,
}

#[derive(Debug, Default)]
struct Given {
    all: u64,
    /// Peers with a connection, none of them 0 for long: at most as many as there are shares.
    peers: HashMap<SpiffeId, u64>,
}

impl Pool {
    pub(crate) fn new(most: u64, most_per_peer: u64) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, given: Mutex::default(), stuck: AtomicI64::new(0) })
    }

    /// A share of a peer, with nothing in it.
    pub(crate) fn share(self: &Arc<Self>, peer: &SpiffeId) -> Share {
        Share { pool: Arc::clone(self), peer: peer.clone(), held: 0 }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all shares hold.
    pub(crate) fn held(&self) -> u64 {
        self.given().all
    }

    /// The most that they may.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// More streams, or fewer, are stuck.
    pub(crate) fn stuck(&self, more: i64) {
        self.stuck.fetch_add(more, Ordering::Relaxed);
    }

    /// Streams that are stuck.
    pub(crate) fn streams_stuck(&self) -> u64 {
        u64::try_from(self.stuck.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// What one connection holds for one purpose; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    pool: Arc<Pool>,
    peer: SpiffeId,
    held: u64,
}

impl Share {
    /// Holds as many bytes as are wanted, or fewer: growth ends at what the peer may have, and at half of what
    /// nobody else holds, so that something is left for whoever comes next. Answers how many it holds.
    pub(crate) fn set(&mut self, wanted: u64) -> u64 {
        if wanted == self.held {
            return self.held;
        }
        let mut given = self.pool.given();
        let of_peer = given.peers.get(&self.peer).copied().unwrap_or(0);
        let left = self.pool.most - given.all + self.held;
        let may = (left / 2).min(self.held + self.pool.most_per_peer - of_peer);
        let held = wanted.min(may.max(self.held));
        let change = |before: u64| before - self.held + held;
        given.all = change(given.all);
        match change(of_peer) {
            0 => drop(given.peers.remove(&self.peer)),
            bytes => drop(given.peers.insert(self.peer.clone(), bytes)),
        }
        drop(given);
        self.held = held;
        held
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> SpiffeId {
        format!("spiffe://{name}.mesh/gateway/gw-0").parse().expect("valid")
    }

    #[test]
    fn nobody_gets_more_than_a_peer_may_have_and_something_is_always_left() {
        let pool = Pool::new(1_000, 400);
        let (mut one, mut same, mut other) =
            (pool.share(&peer("a")), pool.share(&peer("a")), pool.share(&peer("b")));
        assert_eq!(one.set(300), 300);
        assert_eq!(same.set(300), 100, "400 of one peer");
        assert_eq!(other.set(1_000), 300, "half of the 600 that are left");
        let mut late = pool.share(&peer("c"));
        assert_eq!(late.set(1_000), 150);
        assert_eq!(pool.held(), 850);
    }

    #[test]
    fn what_is_given_back_can_be_had_by_others() {
        let pool = Pool::new(1_000, 1_000);
        let mut one = pool.share(&peer("a"));
        assert_eq!(one.set(500), 500);
        assert_eq!(one.set(200), 200);
        drop(one);
        assert_eq!(pool.held(), 0);
        assert!(pool.given().peers.is_empty());
    }
}
