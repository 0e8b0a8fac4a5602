//! After what silence a packet is missed, and a connection suspect or dead.

use super::Liveness;
use std::time::{Duration, Instant};

/// ln of the number of chances of a false alarm in a day, of which fewer than one may come true: one each 100 ms, and
/// twice that, since both sides judge.
const LN_CHANCES: f64 = 14.4;
/// The limit for loss alone is never longer than this.
const LOSS_LIMIT_MAX: Duration = Duration::from_millis(1_500);

impl Liveness {
    pub(super) fn round_trip(&self) -> Duration {
        self.rtt.smoothed.unwrap_or_default()
    }

    /// How late a packet may be beyond its interval before it counts as missing.
    pub(super) fn slack(&self) -> Duration {
        self.timers.missing_interval + (self.rtt.variation * 4).min(self.timers.busy_interval)
    }

    pub(super) fn miss_at(&self) -> Instant {
        let interval = if self.streams > 0 { self.timers.busy_interval } else { self.timers.idle_interval };
        self.silent_since + interval + self.slack()
    }

    /// How long silence may last so that loss alone causes fewer than one false alarm in a day.
    ///
    /// Within a time T the other side's own probes are T / busy_interval chances to hear something, and from the first
    /// miss on each probe that asks is a chance, which needs luck in both directions.
    pub(super) fn loss_limit(&self) -> Duration {
        let (lost_in, lost_out) = (self.loss_in.at_worst(), self.loss_out.at_worst());
        let own = -lost_in.max(lost_out).ln() / self.timers.busy_interval.as_secs_f64();
        let asked =
            -(1.0 - (1.0 - lost_in) * (1.0 - lost_out)).ln() / self.timers.missing_interval.as_secs_f64();
        let first = (self.timers.busy_interval + self.slack() + self.round_trip()).as_secs_f64();
        let alone = LN_CHANCES / own;
        let time = if alone <= first { alone } else { (LN_CHANCES + first * asked) / (own + asked) };
        Duration::try_from_secs_f64(time).unwrap_or(LOSS_LIMIT_MAX).min(LOSS_LIMIT_MAX)
    }

    pub(super) fn suspect_limit(&self) -> Duration {
        self.timers.suspect_after.max(self.round_trip() * self.timers.suspect_rtts).max(self.loss_limit())
    }

    pub(super) fn dead_limit(&self) -> Duration {
        self.timers.dead_after.max(self.round_trip() * self.timers.dead_rtts).max(self.loss_limit() * 2)
    }

    /// Silence after which a refusal by the other side's host is believed.
    pub(super) fn refused_limit(&self) -> Duration {
        self.timers.busy_interval + self.slack()
    }
}
