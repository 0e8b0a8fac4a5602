//! What a tunnel has carried, and what it has turned away, as plain numbers that only grow.

use model::decision::RefusalCode;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sums since the tunnel was bound, over all connections, also those that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handshakes turned away unseen, since too many were under way.
    pub handshakes_refused: u64,
    /// Handshakes that were begun and came to nothing: a wrong certificate, or silence.
    pub handshakes_failed: u64,
    /// Diallers whose address was checked by a retry first.
    pub handshakes_retried: u64,
    /// Peers turned away after their handshake by a limit on connections.
    pub connections_refused: u64,
    /// Streams that were refused here, by reason. As many entries as there are reasons.
    pub streams_refused: BTreeMap<RefusalCode, u64>,
    /// Bytes of clients and endpoints that were sent over streams.
    pub bytes_sent: u64,
    /// Bytes of clients and endpoints that were received over streams.
    pub bytes_received: u64,
    /// Datagrams that were no probe and were dropped. What overran the receive buffer is not seen.
    pub datagrams_dropped: u64,
}

/// Where they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) handshakes_refused: Count,
    pub(crate) handshakes_failed: Count,
    pub(crate) handshakes_retried: Count,
    pub(crate) connections_refused: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) datagrams_dropped: Count,
    streams_refused: Mutex<BTreeMap<RefusalCode, u64>>,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(crate) fn stream_refused(&self, code: RefusalCode) {
        *self.streams_refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            handshakes_refused: self.handshakes_refused.get(),
            handshakes_failed: self.handshakes_failed.get(),
            handshakes_retried: self.handshakes_retried.get(),
            connections_refused: self.connections_refused.get(),
            streams_refused: self.streams_refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
        }
    }
}
