//! The most that was seen in the last ten minutes.

use std::time::{Duration, Instant};

/// How long a greater number is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// Most steps downwards that are told apart; past this, two become one that lasts longer.
const STEPS_MAX: usize = 16;

/// A number with the greatest value that it had within [`WINDOW`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HighWater {
    current: u32,
    /// Greater values, each with the time until which it held; falling values at rising times. Bound: `STEPS_MAX`.
    past: Vec<(Instant, u32)>,
}

impl HighWater {
    /// The number is now `value`.
    pub fn handle_value(&mut self, value: u32, now: Instant) {
        self.past.retain(|(until, past)| *past > value && now.saturating_duration_since(*until) < WINDOW);
        if value < self.current {
            let full = self.past.len() >= STEPS_MAX;
            match self.past.last_mut().filter(|_| full) {
                Some(last) => last.0 = now,
                None => self.past.push((now, self.current)),
            }
        }
        self.current = value;
    }

    /// The greatest value within the window that ends now.
    pub fn mark(&self, now: Instant) -> u32 {
        let held = self.past.iter().find(|(until, _)| now.saturating_duration_since(*until) < WINDOW);
        held.map_or(self.current, |(_, past)| self.current.max(*past))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::some_instant;

    #[test]
    fn a_greater_number_counts_for_ten_minutes_after_its_end() {
        let start = some_instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut water = HighWater::default();
        water.handle_value(10, at(0));
        water.handle_value(7, at(3_000));
        water.handle_value(3, at(3_100));
        assert_eq!(water.mark(at(3_000)), 10, "how long it held before does not matter");
        assert_eq!(water.mark(at(3_599)), 10);
        assert_eq!(water.mark(at(3_600)), 7);
        assert_eq!(water.mark(at(3_700)), 3);
        water.handle_value(8, at(3_200));
        assert_eq!(water.mark(at(3_599)), 10);
        assert_eq!(water.mark(at(3_700)), 8);
    }

    #[test]
    fn many_steps_need_no_more_room_and_never_lower_the_mark() {
        let start = some_instant();
        let mut water = HighWater::default();
        water.handle_value(100, start);
        for step in 1..100 {
            water.handle_value(100 - step, start + Duration::from_secs(step.into()));
        }
        assert!(water.past.len() <= STEPS_MAX);
        assert_eq!(water.mark(start + Duration::from_secs(100)), 100);
    }
}
