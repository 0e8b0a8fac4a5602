//! Endpoints that keep failing although their check passes.

use std::time::{Duration, Instant};

/// Failures in a row that set an endpoint aside.
pub const FAILURES: u32 = 3;
/// How long it is set aside the first time; each time in a row doubles it...
pub const ASIDE_FIRST: Duration = Duration::from_secs(5);
/// ...up to this.
pub const ASIDE_MAX: Duration = Duration::from_secs(60);

/// One endpoint that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlier {
    failures: u32,
    /// Times that it was set aside without having done well in between.
    times: u32,
    aside: Option<Aside>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Aside {
    until: Instant,
    lasted: Duration,
}

impl Outlier {
    /// It refused or timed out.
    pub fn handle_failed(&mut self, now: Instant) {
        // What was on its way when it was set aside says nothing new.
        if self.aside_until(now).is_some() {
            return;
        }
        self.failures += 1;
        if self.failures < FAILURES {
            return;
        }
        let lasted = ASIDE_FIRST.saturating_mul(1_u32 << self.times.min(8)).min(ASIDE_MAX);
        self.aside = Some(Aside { until: now + lasted, lasted });
        self.times = self.times.saturating_add(1);
        self.failures = 0;
    }

    /// It accepted.
    pub fn handle_ok(&mut self, now: Instant) {
        self.failures = 0;
        // It has done well for as long as it was set aside: the next time counts as the first.
        let well = self.aside.as_ref().is_none_or(|aside| now >= aside.until + aside.lasted);
        if well {
            *self = Self::default();
        }
    }

    /// Until when it is set aside, if it is.
    pub fn aside_until(&self, now: Instant) -> Option<Instant> {
        self.aside.as_ref().map(|aside| aside.until).filter(|until| now < *until)
    }

    /// Whether there is nothing to remember.
    pub fn is_forgotten(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::some_instant;

    /// How long it is set aside when it fails three times now.
    fn fail(outlier: &mut Outlier, now: Instant) -> Option<Duration> {
        (0..FAILURES).for_each(|_| outlier.handle_failed(now));
        outlier.aside_until(now).map(|until| until - now)
    }

    #[test]
    fn three_failures_in_a_row_set_it_aside() {
        let now = some_instant();
        let mut outlier = Outlier::default();
        outlier.handle_failed(now);
        outlier.handle_failed(now);
        outlier.handle_ok(now);
        outlier.handle_failed(now);
        outlier.handle_failed(now);
        assert_eq!(outlier.aside_until(now), None);
        outlier.handle_failed(now);
        assert_eq!(outlier.aside_until(now), Some(now + ASIDE_FIRST));
        assert_eq!(outlier.aside_until(now + ASIDE_FIRST), None);
    }

    #[test]
    fn each_time_lasts_twice_as_long_up_to_a_minute() {
        let mut now = some_instant();
        let mut outlier = Outlier::default();
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert_eq!(fail(&mut outlier, now), Some(Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn doing_well_as_long_as_it_was_aside_forgives_it() {
        let start = some_instant();
        let mut outlier = Outlier::default();
        fail(&mut outlier, start);
        outlier.handle_ok(start + Duration::from_secs(9));
        assert!(!outlier.is_forgotten());
        outlier.handle_ok(start + Duration::from_secs(10));
        assert!(outlier.is_forgotten());
    }

    #[test]
    fn what_was_on_its_way_does_not_count_again() {
        let start = some_instant();
        let mut outlier = Outlier::default();
        fail(&mut outlier, start);
        fail(&mut outlier, start + Duration::from_secs(1));
        assert_eq!(outlier.aside_until(start), Some(start + ASIDE_FIRST));
    }
}
