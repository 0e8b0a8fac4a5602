//! What a tunnel has carried, and what it has turned away, as plain numbers that only grow, and what it holds.

use crate::codes::StreamCode;
use crate::pool::Pool;
use model::decision::RefusalCode;
use runtime::metrics::Count;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

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
    /// Streams that this process has opened to others.
    pub streams_opened: u64,
    /// Streams that others have opened to this process and whose header was understood.
    pub streams_taken: u64,
    /// Those of them to which this process has said that an endpoint has the connection.
    pub streams_accepted: u64,
    /// Streams that were open and are not any more.
    pub streams_closed: u64,
    /// Streams that did not end with the FIN of both sides, by the code that was passed on; numbers that this version
    /// does not know are counted under [`StreamCode::Unknown`] of 0. As many entries as there are codes.
    pub streams_reset: BTreeMap<StreamCode, u64>,
    /// Streams that were refused here, by reason. As many entries as there are reasons.
    pub streams_refused: BTreeMap<RefusalCode, u64>,
    /// Bytes of clients and endpoints that were sent over streams.
    pub bytes_sent: u64,
    /// Bytes of clients and endpoints that were received over streams.
    pub bytes_received: u64,
    /// Bytes that peers may send before anything of it is taken, and that may be sent before anything is acknowledged,
    /// beyond what every connection has anyway. It rises and falls.
    pub buffer_bytes: u64,
    /// The most that it may be.
    pub buffer_max: u64,
    /// Streams whose reader here does not take what is there. It rises and falls.
    pub streams_stuck: u64,
    /// Datagrams that were no probe and were dropped. What overran the receive buffer is not seen.
    pub datagrams_dropped: u64,
}

impl Counters {
    /// Streams that are open now.
    pub fn streams_open(&self) -> u64 {
        (self.streams_opened + self.streams_taken).saturating_sub(self.streams_closed)
    }
}

/// Where they are counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) handshakes_refused: Count,
    pub(crate) handshakes_failed: Count,
    pub(crate) handshakes_retried: Count,
    pub(crate) connections_refused: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) datagrams_dropped: Count,
    pub(crate) streams_opened: Count,
    pub(crate) streams_taken: Count,
    pub(crate) streams_accepted: Count,
    pub(crate) streams_closed: Count,
    streams_reset: Mutex<BTreeMap<StreamCode, u64>>,
    streams_refused: Mutex<BTreeMap<RefusalCode, u64>>,
}

impl Default for Tally {
    fn default() -> Self {
        let codes = StreamCode::KNOWN.iter().copied().chain([StreamCode::Unknown(0)]);
        Self {
            handshakes_refused: Count::default(),
            handshakes_failed: Count::default(),
            handshakes_retried: Count::default(),
            connections_refused: Count::default(),
            bytes_sent: Count::default(),
            bytes_received: Count::default(),
            datagrams_dropped: Count::default(),
            streams_opened: Count::default(),
            streams_taken: Count::default(),
            streams_accepted: Count::default(),
            streams_closed: Count::default(),
            // Those that never happened are there too, as zeros.
            streams_reset: Mutex::new(codes.map(|code| (code, 0)).collect()),
            streams_refused: Mutex::new(RefusalCode::ALL.map(|code| (code, 0)).into()),
        }
    }
}

impl Tally {
    pub(crate) fn stream_refused(&self, code: RefusalCode) {
        *self.streams_refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    pub(crate) fn stream_reset(&self, code: StreamCode) {
        let known = match code {
            StreamCode::Unknown(_) => StreamCode::Unknown(0),
            known => known,
        };
        *self.streams_reset.lock().unwrap_or_else(PoisonError::into_inner).entry(known).or_default() += 1;
    }

    pub(crate) fn read(&self, pool: &Pool) -> Counters {
        Counters {
            // First, so that a stream that opens and closes meanwhile never makes fewer open than there are.
            streams_closed: self.streams_closed.get(),
            streams_opened: self.streams_opened.get(),
            streams_taken: self.streams_taken.get(),
            streams_accepted: self.streams_accepted.get(),
            streams_reset: self.streams_reset.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            handshakes_refused: self.handshakes_refused.get(),
            handshakes_failed: self.handshakes_failed.get(),
            handshakes_retried: self.handshakes_retried.get(),
            connections_refused: self.connections_refused.get(),
            streams_refused: self.streams_refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
            buffer_bytes: pool.held(),
            buffer_max: pool.most(),
            streams_stuck: pool.streams_stuck(),
        }
    }
}
