//! Thresholds: how many probes in a row turn a health over.

/// Counts probes of one target.
#[derive(Debug)]
pub(super) struct Tally {
    healthy: bool,
    /// Probes in a row that spoke against `healthy`.
    against: u32,
}

impl Tally {
    pub(super) fn new(healthy: bool) -> Self {
        Self { healthy, against: 0 }
    }

    /// A probe has passed; `needed` in a row make healthy. Answers whether the target is healthy.
    pub(super) fn passed(&mut self, needed: u32) -> bool {
        self.spoke(true, needed)
    }

    /// A probe has failed; `needed` in a row make unhealthy. Answers whether the target is healthy.
    pub(super) fn failed(&mut self, needed: u32) -> bool {
        self.spoke(false, needed)
    }

    fn spoke(&mut self, healthy: bool, needed: u32) -> bool {
        if self.healthy == healthy {
            self.against = 0;
        } else {
            self.against += 1;
            if self.against >= needed {
                *self = Self::new(healthy);
            }
        }
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_in_a_row_turn_it_over() {
        let mut tally = Tally::new(false);
        assert!(!tally.passed(2));
        assert!(!tally.failed(3), "the row is broken");
        assert!(!tally.passed(2));
        assert!(tally.passed(2));
        assert!(tally.failed(3));
        assert!(tally.failed(3));
        assert!(tally.passed(2), "the row is broken");
        assert!(tally.failed(3));
        assert!(tally.failed(3));
        assert!(!tally.failed(3));
    }
}
