//! What probes measure: round trip, and loss in each direction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Sent probes that may still be reported as heard; older ones are forgotten.
const SENT_MAX: usize = 256;
/// Loss is reported over so many buckets of [`BUCKET`].
const BUCKETS: usize = 10;
/// Length of one bucket of the loss window.
const BUCKET: Duration = Duration::from_secs(1);
/// A gap counts at most so many losses in the smoothed loss: an outage is not a rate of loss.
const GAP_MAX: u64 = 8;
/// The smoothed loss follows with 1/64 per probe.
const SMOOTHING: f64 = 64.0;

/// A sample counts as twice the smoothed round trip and this, at most: a peer that slept answers late, and how long it
/// slept is not how long the way is. At the idle rate one such sample would lengthen the limits for half a minute.
const RTT_STEP: Duration = Duration::from_millis(100);

/// A probe that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) at: Instant,
}

/// The last probes that were sent, by sequence. Bound: [`SENT_MAX`]; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct SentProbes(VecDeque<Sent>);

impl SentProbes {
    pub(super) fn push(&mut self, sent: Sent) {
        if self.0.len() == SENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sent);
    }

    pub(super) fn find(&self, sequence: u64) -> Option<&Sent> {
        let first = self.0.front()?.sequence;
        self.0.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// The oldest one after `sequence`.
    pub(super) fn first_after(&self, sequence: u64) -> Option<&Sent> {
        let at = self.0.partition_point(|sent| sent.sequence <= sequence);
        self.0.get(at)
    }
}

/// Smoothed round trip and its variation, as in RFC 9002 section 5.3, with a bound on what one sample can do.
#[derive(Debug, Default)]
pub(super) struct Rtt {
    pub(super) smoothed: Option<Duration>,
    pub(super) variation: Duration,
}

impl Rtt {
    pub(super) fn sample(&mut self, sample: Duration) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variation = sample / 2;
            return;
        };
        let sample = sample.min(smoothed * 2 + RTT_STEP);
        self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
        self.smoothed = Some((smoothed * 7 + sample) / 8);
    }
}

/// Loss in one direction.
#[derive(Debug)]
pub(super) struct Loss {
    buckets: [(u64, u64); BUCKETS],
    at: usize,
    bucket_began: Instant,
    smoothed: f64,
}

impl Loss {
    pub(super) fn new(now: Instant) -> Self {
        Self { buckets: [(0, 0); BUCKETS], at: 0, bucket_began: now, smoothed: 0.0 }
    }

    /// Notes that of `expected` further probes `arrived` did. A probe that was counted as lost and came late is
    /// `(0, 1)`.
    pub(super) fn note(&mut self, expected: u64, arrived: u64, now: Instant) {
        self.note_gap(expected, arrived, GAP_MAX, now);
    }

    /// The same for what ends an outage that was noticed: a connection that was given up was not given up too soon, so
    /// the limits need not grow by it, and idle as it may be it would take a minute to forget that.
    pub(super) fn note_outage(&mut self, expected: u64, arrived: u64, now: Instant) {
        self.note_gap(expected, arrived, 1, now);
    }

    fn note_gap(&mut self, expected: u64, arrived: u64, gap_max: u64, now: Instant) {
        self.turn(now);
        let (all, came) = &mut self.buckets[self.at];
        *all = all.saturating_add(expected);
        *came = came.saturating_add(arrived);
        for _ in 0..expected.saturating_sub(arrived).min(gap_max) {
            self.smoothed += (1.0 - self.smoothed) / SMOOTHING;
        }
        for _ in 0..arrived.min(GAP_MAX) {
            self.smoothed -= self.smoothed / SMOOTHING;
        }
    }

    /// Lost and expected over the window.
    pub(super) fn over_window(&self) -> (u64, u64) {
        let (all, came) =
            self.buckets.iter().fold((0u64, 0u64), |(a, c), (all, came)| (a.saturating_add(*all), c + came));
        (all.saturating_sub(came), all)
    }

    /// What the loss may be at worst, given how few probes it was measured with; between 1 % and 50 %.
    pub(super) fn at_worst(&self) -> f64 {
        let p = self.smoothed;
        (p + 2.0 * (p * (1.0 - p) / SMOOTHING).sqrt() + 0.01).clamp(0.01, 0.5)
    }

    pub(super) fn turn(&mut self, now: Instant) {
        for _ in 0..BUCKETS {
            if now.saturating_duration_since(self.bucket_began) < BUCKET {
                return;
            }
            self.at = (self.at + 1) % BUCKETS;
            self.buckets[self.at] = (0, 0);
            self.bucket_began += BUCKET;
        }
        // Longer than the whole window ago: all buckets are empty by now.
        self.bucket_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_leaves_the_window_after_ten_seconds() {
        let start = crate::some_instant();
        let mut loss = Loss::new(start);
        loss.note(10, 7, start);
        assert_eq!(loss.over_window(), (3, 10));
        loss.note(10, 10, start + Duration::from_secs(9));
        assert_eq!(loss.over_window(), (3, 20));
        loss.note(1, 1, start + Duration::from_secs(11));
        assert_eq!(loss.over_window(), (0, 11));
        loss.note(1, 1, start + Duration::from_secs(100));
        assert_eq!(loss.over_window(), (0, 1));
    }

    #[test]
    fn an_outage_is_not_a_rate_of_loss() {
        let start = crate::some_instant();
        let mut loss = Loss::new(start);
        loss.note(1_000, 0, start);
        assert!(loss.at_worst() < 0.25, "{}", loss.at_worst());
    }

    #[test]
    fn one_late_answer_is_not_a_long_way_and_many_are() {
        let mut rtt = Rtt::default();
        let ms = Duration::from_millis;
        (0..20).for_each(|_| rtt.sample(ms(3)));
        rtt.sample(ms(5_000));
        assert!(rtt.smoothed < Some(ms(20)), "{rtt:?}");
        (0..60).for_each(|_| rtt.sample(ms(2_000)));
        assert!(rtt.smoothed > Some(ms(1_900)), "{rtt:?}");
    }

    #[test]
    fn a_sent_probe_is_found_until_it_is_too_old() {
        let start = crate::some_instant();
        let mut sent = SentProbes::default();
        for sequence in 1..=300 {
            sent.push(Sent { sequence, at: start });
        }
        assert!(sent.find(44).is_none());
        assert_eq!(sent.find(45).map(|s| s.sequence), Some(45));
        assert_eq!(sent.first_after(299).map(|s| s.sequence), Some(300));
        assert!(sent.first_after(300).is_none());
    }
}
