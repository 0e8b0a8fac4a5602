//! Signs that full packets are lost where small ones pass: an MTU that is too great for the path.

use super::Timers;
use std::time::{Duration, Instant};

/// So many padded probes lost in a row, where others pass, are a black hole.
const PADDED_LOST_MAX: u32 = 6;
/// After a lost padded probe one in so many is padded, so that the judgement does not take long.
const PADDED_EVERY_IN_DOUBT: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BlackHole {
    unacked_since: Option<Instant>,
    pto: Duration,
    since_padded: u32,
    /// Sequence of the last padded probe, until a report covers it.
    padded: Option<u64>,
    padded_lost: u32,
    mtu_lowered: bool,
    dead: bool,
}

impl BlackHole {
    /// Whether the MTU was lowered in vain. That does not pass.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the probe with this sequence is to be padded.
    pub(super) fn pad(&mut self, sequence: u64, timers: &Timers) -> bool {
        let every = if self.padded_lost > 0 { PADDED_EVERY_IN_DOUBT } else { timers.padded_every };
        self.since_padded += 1;
        let padded = self.since_padded >= every;
        if padded {
            self.since_padded = 0;
            self.padded = Some(sequence);
        }
        padded
    }

    /// The other side has reported all probes up to `heard`; `lossy`: some of the newly reported ones were lost.
    pub(super) fn note_report(&mut self, heard: u64, lossy: bool) {
        if self.padded.is_some_and(|padded| padded <= heard) {
            self.padded = None;
            self.padded_lost = if lossy { self.padded_lost + 1 } else { 0 };
        }
    }

    pub(super) fn note_unacked(&mut self, since: Option<Instant>, pto: Duration) {
        if since.is_none() {
            self.mtu_lowered = false;
        }
        self.unacked_since = since;
        self.pto = pto;
    }

    pub(super) fn begin_again(&mut self, now: Instant) {
        self.unacked_since = self.unacked_since.map(|since| since.max(now));
    }

    /// When unacknowledged data will be a black hole.
    pub(super) fn due(&self, timers: &Timers) -> Option<Instant> {
        if self.dead {
            return None;
        }
        Some(self.unacked_since? + timers.black_hole_min.max(self.pto * timers.black_hole_ptos))
    }

    pub(super) fn padded_are_lost(&self) -> bool {
        !self.dead && self.padded_lost >= PADDED_LOST_MAX
    }

    /// It is one. The first time the MTU is to be lowered (true), the second time the path is dead.
    pub(super) fn found(&mut self, now: Instant) -> bool {
        self.padded_lost = 0;
        self.begin_again(now);
        let first = !self.mtu_lowered;
        self.mtu_lowered = true;
        self.dead = !first;
        first
    }
}
