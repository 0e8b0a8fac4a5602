//! Waiting longer after each failure, and never in step with others.

use std::time::Duration;

/// The waits between attempts: doubling from `first` to `max`, each drawn between half of it and the whole, so that
/// many that lost the same peer do not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Builds one with a seed drawn from the system.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self::seeded(first, max, fastrand::u64(..))
    }

    /// Builds one whose waits repeat with the seed.
    pub fn seeded(first: Duration, max: Duration, seed: u64) -> Self {
        let max = max.max(first);
        Self { first, max, next: first, random: fastrand::Rng::with_seed(seed) }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        whole / 2 + (whole / 2).mul_f64(self.random.f64())
    }

    /// An attempt succeeded: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_max_and_begin_anew_after_a_success() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::seeded(first, max, 7);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let (wait, whole) = (backoff.next_wait(), Duration::from_millis(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }

    #[test]
    fn two_do_not_wait_in_step() {
        let of = |seed| Backoff::seeded(Duration::from_secs(1), Duration::from_secs(1), seed).next_wait();
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }
}
