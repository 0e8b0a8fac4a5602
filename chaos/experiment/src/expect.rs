//! What an experiment expects. Every field is optional; what is left out is measured and not judged.

use api::text::{Span, Text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is expected of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectations {
    /// Failed requests: a number (`0`), a share of all (`1%`), or `in flight`: only those that were open on a part
    /// when it was hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Text<Failures>>,
    /// No request fails later than this after the beginning or the end of a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Span>,
    /// Longest time without a completed answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_gap: Option<Span>,
    /// From the end of the last fault until the load is divided as before, apart from the configured delay and ramp
    /// of the return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_return: Option<Span>,
    /// Most imports that any site may lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<u32>,
    /// At the end every site holds of each linked one what that one says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogs_equal: Option<bool>,
    /// Most changes of direction of the load: it left a site and came back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swings: Option<u32>,
}

/// A bound for failed requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Failures {
    /// At most so many.
    Count(u64),
    /// At most this share of all, in per cent.
    Percent(f64),
    /// Only those that were open on a part when it was hit.
    InFlight,
}

impl FromStr for Failures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no bound: write a number, a share as in `1%`, or `in flight`",
                api::text::plain(text, 40)
            )
        };
        if text == "in flight" {
            return Ok(Self::InFlight);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(wrong()) };
        }
        text.parse().map(Self::Count).map_err(|_| wrong())
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::InFlight => f.write_str("in flight"),
        }
    }
}

impl Expectations {
    /// The same with every bound of time multiplied, for a machine that is busy. Counts stay as they are.
    #[must_use]
    pub fn with_slack(&self, slack: f64) -> Self {
        let longer = |span: Option<Span>| {
            span.map(|Span(time)| {
                Span(Duration::try_from_secs_f64(time.as_secs_f64() * slack).unwrap_or(time))
            })
        };
        Self {
            last_failure: longer(self.last_failure),
            longest_gap: longer(self.longest_gap),
            full_return: longer(self.full_return),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_for_failures_is_a_number_a_share_or_in_flight() {
        assert_eq!("0".parse(), Ok(Failures::Count(0)));
        assert_eq!("1%".parse(), Ok(Failures::Percent(1.0)));
        assert_eq!("in flight".parse(), Ok(Failures::InFlight));
        for text in ["", "-1", "101%", "few", "NaN%"] {
            assert!(text.parse::<Failures>().is_err(), "{text}");
        }
    }

    #[test]
    fn slack_stretches_time_and_nothing_else() {
        let expect = Expectations {
            failed: Some(Text(Failures::Count(3))),
            last_failure: Some(Span(Duration::from_secs(1))),
            ..Expectations::default()
        };
        let loose = expect.with_slack(3.0);
        assert_eq!(loose.last_failure, Some(Span(Duration::from_secs(3))));
        assert_eq!(loose.failed, expect.failed);
    }
}
