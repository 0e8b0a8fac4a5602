//! Times and bounds of replication.

use std::time::Duration;

/// Times and bounds of replication. [`Settings::default`] is what the design names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long changes of the own catalog are gathered before they are stored and told.
    ///
    /// Default 5 ms: a deployment's burst becomes few messages, and the delay is lost in any WAN's round trip.
    pub coalesce: Duration,
    /// Estimated size at which a batch is cut. Default 1 MiB: well below gRPC's default limit of 4 MiB.
    pub batch_bytes: usize,
    /// Largest batch that is taken from a peer, in the same estimate. Default 3 MiB.
    pub batch_bytes_max: usize,
    /// A session on which nothing was sent for this long gets a `KeepAlive`. Default 5 s.
    pub keepalive: Duration,
    /// A session on which nothing was heard for this long is closed. Default 15 s: three keepalives.
    pub silence: Duration,
    /// How often digests are compared. Default 10 s.
    pub digest_interval: Duration,
    /// How long an `Unreachable` peer's endpoints are kept. Default 15 min.
    pub lease: Duration,
    /// How long a deletion is remembered, so that a peer that was away can be told. Default 24 h; at least the lease.
    pub tombstone_horizon: Duration,
    /// Most deletions that are remembered per view. Default 100 000; beyond it the oldest are forgotten, and peers
    /// that are behind them get a snapshot.
    pub tombstones_max: usize,
    /// Most batches that a peer may have been sent and not acknowledged. Default 64; beyond it newer values replace
    /// older ones in the catalog and no message is made.
    pub window_batches: usize,
    /// Most estimated bytes that a peer may have been sent and not acknowledged. Default 4 MiB.
    pub window_bytes: usize,
    /// Most entries that are held of one peer. Default 250 000; a peer that says more is refused.
    pub held_entries_max: usize,
    /// Most estimated bytes that are held of one peer. Default 128 MiB; a peer that says more is refused.
    pub held_bytes_max: usize,
    /// Most events that wait to be polled. Default 1 024; beyond it the oldest are dropped and counted. Changes of
    /// entries are not among them: those are kept by key, so they are bounded by the catalogs.
    pub events_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            coalesce: Duration::from_millis(5),
            batch_bytes: 1 << 20,
            batch_bytes_max: 3 << 20,
            keepalive: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            digest_interval: Duration::from_secs(10),
            lease: Duration::from_secs(15 * 60),
            tombstone_horizon: Duration::from_secs(24 * 60 * 60),
            tombstones_max: 100_000,
            window_batches: 64,
            window_bytes: 4 << 20,
            held_entries_max: 250_000,
            held_bytes_max: 128 << 20,
            events_max: 1_024,
        }
    }
}
