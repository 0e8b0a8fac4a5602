//! All numbers of paths, with their defaults.

use std::time::Duration;

/// How many connections, when to dial again, and when a path is poor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections that this side dials to each gateway. Default 2: one bulk stream or one dead connection does not
    /// hold up everything.
    pub connections: usize,
    /// Connections with one gateway in all; more are refused. Default 8.
    pub connections_max: usize,
    /// For each connection with so many streams one more is dialled, up to `connections_max`: a peer takes only so many
    /// on one. Default 1 024, half of what the tunnel takes, so that the next one is there before the first is full.
    pub streams_busy: u32,
    /// First wait after a failed dial; doubles up to `redial_max`. Default 100 ms.
    pub redial_min: Duration,
    /// Default 2 s: a gateway that comes back is found soon, and a dead one costs a packet each 2 s.
    pub redial_max: Duration,
    /// How long a connection must have been live to count as another way for the streams of a dead one. Default 500 ms:
    /// connections that were silent together are back within it.
    pub steady_after: Duration,
    /// Loss or round trip must be poor for this long. Default 3 s.
    pub poor_for: Duration,
    /// Loss above this is poor, in 1/1000. Default 20.
    pub poor_loss_permille: u32,
    /// A round trip above this multiple of its minimum is poor. Default 2.
    pub poor_rtt_factor: u32,
    /// ... if it is also longer than the minimum by this. Default 10 ms: on a LAN a busy host doubles the round trip.
    pub poor_rtt_floor: Duration,
    /// How long a minimum round trip is remembered. Default 10 min.
    pub rtt_memory: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 2,
            connections_max: 8,
            streams_busy: 1_024,
            redial_min: Duration::from_millis(100),
            redial_max: Duration::from_secs(2),
            steady_after: Duration::from_millis(500),
            poor_for: Duration::from_secs(3),
            poor_loss_permille: 20,
            poor_rtt_factor: 2,
            poor_rtt_floor: Duration::from_millis(10),
            rtt_memory: Duration::from_secs(600),
        }
    }
}

impl Settings {
    /// How long to wait after so many failures before this one. `jitter`, 0 to 1, takes up to a quarter off, so that
    /// gateways that lost a peer together do not dial it in step.
    pub(super) fn redial_after(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.redial_min.saturating_mul(1 << failures.min(16));
        doubled.min(self.redial_max).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
    }
}
