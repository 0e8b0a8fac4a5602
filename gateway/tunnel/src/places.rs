//! How many connections others may have with this process: in all, and each peer.

use model::identity::SpiffeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The places of one tunnel.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_per_peer: usize,
    /// At most `most` entries, none of them 0.
    taken: Mutex<HashMap<SpiffeId, usize>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("this process takes {0} connections, and has them")]
    InAll(usize),
    #[error("this process takes {0} connections of one peer, and has them")]
    OfPeer(usize),
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    peer: SpiffeId,
}

impl Places {
    pub(crate) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, taken: Mutex::default() })
    }

    pub(crate) fn take(self: &Arc<Self>, peer: &SpiffeId) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = taken.get(peer).copied().unwrap_or(0);
        if of_peer >= self.most_per_peer {
            return Err(NoPlace::OfPeer(self.most_per_peer));
        }
        if taken.values().sum::<usize>() >= self.most {
            return Err(NoPlace::InAll(self.most));
        }
        taken.insert(peer.clone(), of_peer + 1);
        Ok(Place { places: Arc::clone(self), peer: peer.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_for_one_peer_and_for_all_and_come_back() {
        let ids =
            ["a", "b", "c"].map(|name| format!("spiffe://{name}.mesh/gateway/gw-0").parse().expect("valid"));
        let places = Places::new(3, 2);
        let first = places.take(&ids[0]).expect("free");
        let _second = places.take(&ids[0]).expect("free");
        assert_eq!(places.take(&ids[0]).err(), Some(NoPlace::OfPeer(2)));
        let third = places.take(&ids[1]).expect("others have theirs");
        assert_eq!(places.take(&ids[2]).err(), Some(NoPlace::InAll(3)));
        drop(first);
        places.take(&ids[2]).expect("free again");
        drop(third);
        assert_eq!(places.taken.lock().expect("no panic").len(), 1);
    }
}
