//! Which packets are lost.

use super::word;
use crate::quantity::Share;
use api::problem::Problem;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Most packets that a burst of losses may have on average.
pub const BURST_MAX: u32 = 10_000;

/// Which packets are lost.
///
/// Written as `2%`, each packet by itself; or as `{ average: 2%, burst: 8 }`, in bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Each packet by itself, with this chance.
    Uniform(Share),
    /// In bursts.
    Bursty(Burst),
}

impl Default for Loss {
    fn default() -> Self {
        Self::Uniform(Share::NONE)
    }
}

/// Losses in bursts: a chain of two states (Gilbert and Elliott), one that loses every packet and one that loses none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Burst {
    /// Share of packets that are lost, over a long time. Less than all.
    pub average: Share,
    /// How many packets in a row a loss takes, on average; at most [`BURST_MAX`], and no fewer than by chance, which is
    /// `1 / (1 - average)`.
    pub burst: u32,
}

impl Burst {
    /// The chances that a burst begins, with a packet that follows one that arrived, and that it ends, with one that
    /// follows a lost one. Within 0 to 1 also where [`Loss::check`] finds that they cannot be met.
    pub fn chances(&self) -> (f64, f64) {
        let (average, leave) = (self.average.fraction(), 1.0 / f64::from(self.burst.max(1)));
        let enter = if average < 1.0 { (leave * average / (1.0 - average)).min(1.0) } else { 1.0 };
        (enter, leave)
    }
}

impl Loss {
    /// Nothing is lost.
    pub fn is_none(&self) -> bool {
        self.average().is_none()
    }

    /// Share of packets that are lost, over a long time.
    pub fn average(&self) -> Share {
        match self {
            Self::Uniform(share) => *share,
            Self::Bursty(burst) => burst.average,
        }
    }

    /// Decides about the next packet. `in_burst` is the state of the way and begins as false; `draw` gives numbers
    /// that are evenly spread over 0 to 1. It is asked only when chance decides, so a way without loss draws nothing.
    pub fn loses(&self, in_burst: &mut bool, mut draw: impl FnMut() -> f64) -> bool {
        let mut happens = |chance: f64| chance > 0.0 && (chance >= 1.0 || draw() < chance);
        match self {
            Self::Uniform(share) => happens(share.fraction()),
            Self::Bursty(burst) => {
                let (enter, leave) = burst.chances();
                *in_burst ^= happens(if *in_burst { leave } else { enter });
                *in_burst
            }
        }
    }

    /// Checks that there can be such a loss.
    ///
    /// # Errors
    /// The field that does not fit the others.
    pub fn check(&self) -> Result<(), Problem> {
        let Self::Bursty(loss) = self else { return Ok(()) };
        if !(1..=BURST_MAX).contains(&loss.burst) {
            return Err(Problem::at("burst", format!("a burst cannot last {} packets", loss.burst))
                .help(format!("write 1 to {BURST_MAX}")));
        }
        if loss.average == Share::ALL {
            return Err(Problem::at("average", "a burst that loses everything never ends")
                .help("write less than 100%, or `loss: 100%`"));
        }
        let by_chance = 1.0 / (1.0 - loss.average.fraction());
        if f64::from(loss.burst) < by_chance {
            return Err(Problem::at(
                "burst",
                format!("at {:#} a loss takes {by_chance:.1} packets in a row by chance alone", loss.average),
            )
            .help("make the bursts longer, or write the loss as one share"));
        }
        Ok(())
    }
}

/// In words: `2 %`, `2 % in bursts of 8`.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform(share) => write!(f, "{share:#}"),
            Self::Bursty(burst) => write!(f, "{:#} in bursts of {}", burst.average, burst.burst),
        }
    }
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uniform(share) => share.serialize(serializer),
            Self::Bursty(burst) => burst.serialize(serializer),
        }
    }
}

impl From<Share> for Loss {
    fn from(share: Share) -> Self {
        Self::Uniform(share)
    }
}

impl From<Burst> for Loss {
    fn from(burst: Burst) -> Self {
        Self::Bursty(burst)
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a share as in `2%`, or `average` and `burst`";
        word::or_fields::<Self, Burst, D>(deserializer, expecting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().expect("a share")
    }

    /// Lost packets and runs of them, of a million.
    fn lose(loss: Loss) -> (f64, f64) {
        let (mut in_burst, mut was_lost, mut lost, mut runs) = (false, false, 0_u32, 0_u32);
        // A generator that is good enough to tell a share from another (Steele and others, SplitMix64).
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            f64::from(u32::try_from((z ^ (z >> 31)) >> 32).expect("32 bits")) / 4_294_967_296.0
        };
        for _ in 0..1_000_000 {
            let is_lost = loss.loses(&mut in_burst, &mut draw);
            lost += u32::from(is_lost);
            runs += u32::from(is_lost && !was_lost);
            was_lost = is_lost;
        }
        (f64::from(lost) / 1e6, f64::from(lost) / f64::from(runs.max(1)))
    }

    #[test]
    fn losses_have_the_average_and_the_length_that_were_asked_for() {
        let (average, length) = lose(Loss::Uniform(share("2%")));
        assert!((average - 0.02).abs() < 0.001 && length < 1.05, "{average} {length}");
        let (average, length) = lose(Loss::Bursty(Burst { average: share("2%"), burst: 8 }));
        assert!((average - 0.02).abs() < 0.002, "{average}");
        assert!((length - 8.0).abs() < 0.5, "{length}");
    }

    #[test]
    fn a_way_without_loss_draws_nothing() {
        for loss in [Loss::default(), Loss::Uniform(Share::ALL)] {
            loss.loses(&mut false, || panic!("chance does not decide"));
        }
    }

    #[test]
    fn losses_that_cannot_be_are_refused() {
        let good = Burst { average: share("2%"), burst: 8 };
        assert_eq!(Loss::Bursty(good).check(), Ok(()));
        for (bad, field) in [
            (Burst { burst: 0, ..good }, "burst"),
            (Burst { burst: BURST_MAX + 1, ..good }, "burst"),
            (Burst { average: Share::ALL, ..good }, "average"),
            (Burst { average: share("80%"), burst: 4 }, "burst"),
        ] {
            let problem = Loss::Bursty(bad).check().expect_err("cannot be");
            assert_eq!(problem.path, [field], "{problem}");
            let (enter, leave) = bad.chances();
            assert!((0.0..=1.0).contains(&enter) && (0.0..=1.0).contains(&leave), "{enter} {leave}");
        }
    }
}
