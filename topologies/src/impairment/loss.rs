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
        }
    }
}
