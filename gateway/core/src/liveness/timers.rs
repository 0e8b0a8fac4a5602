//! All numbers of liveness, with their defaults.

use std::time::Duration;

/// How fast probes go, and after what silence a connection is given up.
///
/// Both sides of a connection should have the same intervals: a side judges the other's silence by its own numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// Between two probes of a connection without streams. Default 1 s: an idle pair of gateways costs next to nothing.
    pub idle_interval: Duration,
    /// Between two probes of a connection with streams. Default 100 ms: a third of `suspect_after`.
    pub busy_interval: Duration,
    /// Between two probes from the first miss on. Default 25 ms: enough chances before `suspect_after` that loss of 5 %
    /// is not taken for death.
    pub missing_interval: Duration,
    /// Between two probes once the connection is dead. Default 200 ms: only to see it come back.
    pub dead_interval: Duration,
    /// An open without an answer for this long, or 2 RTT if that is more, is a miss. Default 150 ms.
    pub open_answer_min: Duration,
    /// Silence for this long, or `suspect_rtts`: no new streams. Default 300 ms.
    pub suspect_after: Duration,
    /// See `suspect_after`. Default 3.
    pub suspect_rtts: u32,
    /// Silence for this long, or `dead_rtts`: the connection is given up. Default 600 ms.
    pub dead_after: Duration,
    /// See `dead_after`. Default 6.
    pub dead_rtts: u32,
    /// An own timer that fires later than this begins the count again: it was this process that slept. Default 50 ms.
    pub late_after: Duration,
    /// One probe in so many is padded to the MTU. Default 10.
    pub padded_every: u32,
    /// Data without acknowledgement for this long, or `black_hole_ptos`, while small probes pass: a black hole.
    /// Default 500 ms.
    pub black_hole_min: Duration,
    /// See `black_hole_min`, in probe timeouts of the transport. Default 3.
    pub black_hole_ptos: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            idle_interval: Duration::from_secs(1),
            busy_interval: Duration::from_millis(100),
            missing_interval: Duration::from_millis(25),
            dead_interval: Duration::from_millis(200),
            open_answer_min: Duration::from_millis(150),
            suspect_after: Duration::from_millis(300),
            suspect_rtts: 3,
            dead_after: Duration::from_millis(600),
            dead_rtts: 6,
            late_after: Duration::from_millis(50),
            padded_every: 10,
            black_hole_min: Duration::from_millis(500),
            black_hole_ptos: 3,
        }
    }
}
