//! Links of sites: what people write, and what comes of it for each direction.

use crate::impairment::{Change, Impairment, Loss, Reorder};
use crate::quantity::{Delay, Queue, Rate, Share};
use api::problem::Problem;
use api::text::Text;
use model::ids::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest round trip of a link.
pub const RTT_MAX: Duration = Duration::from_secs(10);

/// A link of two sites. What it says holds each way, between any gateway of one and any of the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Link {
    /// The two sites.
    pub between: (Text<SiteId>, Text<SiteId>),
    /// Round trip, on top of the host's own; half of it each way. Default 0, at most [`RTT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Delay>,
    /// See [`Impairment::jitter`]. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Delay>,
    /// See [`Impairment::loss`]. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// See [`Impairment::rate`]. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// See [`Impairment::queue`]. Default [`Queue::DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// See [`Impairment::mtu`]; at least [`crate::impairment::MTU_MIN`]. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// See [`Impairment::duplicate`]. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Share>,
    /// See [`Impairment::reorder`]. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Reorder>,
    /// Nothing passes, from when everything is linked and serves. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<bool>,
    /// What is different for packets that this site sends, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub from: BTreeMap<Text<SiteId>, Change>,
}

impl Link {
    /// What it does to packets, first those from the first site of `between`.
    ///
    /// # Errors
    /// Values that do not fit together, with the path of one of them.
    pub fn ways(&self) -> Result<[Impairment; 2], Problem> {
        let ends = [&self.between.0, &self.between.1];
        let changes = ends.map(|site| self.from.get(site).copied().unwrap_or_default());
        let delays = self.delays(&changes)?;
        let both = Change {
            delay: None,
            jitter: self.jitter,
            loss: self.loss,
            rate: self.rate,
            queue: self.queue,
            mtu: self.mtu,
            duplicate: self.duplicate,
            reorder: self.reorder,
            cut: self.cut,
        };
        let mut ways = [both.of(Impairment::NONE); 2];
        for ((way, delay), (site, change)) in ways.iter_mut().zip(delays).zip(ends.into_iter().zip(changes)) {
            *way = Impairment { delay, ..change.of(*way) };
            way.check().map_err(|problem| self.place(problem, site, &change))?;
        }
        Ok(ways)
    }

    /// The delay of each way: what is written, else what the other leaves of the round trip, else half of it.
    fn delays(&self, changes: &[Change; 2]) -> Result<[Duration; 2], Problem> {
        let written = changes.map(|change| change.delay.map(|delay| delay.0));
        let field = |at: usize| {
            let site = if at == 0 { &self.between.0 } else { &self.between.1 };
            format!("from.{site}.delay")
        };
        if self.rtt.is_some_and(|rtt| rtt.0 > RTT_MAX) {
            return Err(Problem::at("rtt", "the round trip is longer than 10 s").help("write at most 10s"));
        }
        let Some(rtt) = self.rtt.map(|rtt| rtt.0) else {
            return Ok(written.map(Option::unwrap_or_default));
        };
        match written {
            [None, None] => Ok([rtt / 2, rtt - rtt / 2]),
            [Some(forth), Some(back)] if forth + back == rtt => Ok([forth, back]),
            [Some(forth), Some(back)] => Err(Problem::at(
                "rtt",
                format!(
                    "the two delays make a round trip of {:#}, not {:#}",
                    Delay(forth + back),
                    Delay(rtt)
                ),
            )
            .help("leave `rtt` out, or one of the delays")),
            [Some(one), None] if one <= rtt => Ok([one, rtt - one]),
            [None, Some(one)] if one <= rtt => Ok([rtt - one, one]),
            [first, _] => Err(Problem::at(
                &field(usize::from(first.is_none())),
                format!("the delay one way is longer than the round trip of {:#}", Delay(rtt)),
            )
            .help("write less, or raise `rtt`")),
        }
    }

    /// Where a problem of the packets that `site` sends was written: at the site, when that is where the field stands.
    fn place(&self, problem: Problem, site: &SiteId, change: &Change) -> Problem {
        let is_own = match problem.path.first().map(String::as_str) {
            Some("jitter") => change.jitter.is_some(),
            Some("loss") => change.loss.is_some(),
            Some("queue") => change.queue.is_some(),
            Some("mtu") => change.mtu.is_some(),
            _ => change.delay.is_some(),
        };
        if is_own { problem.under(&format!("from.{site}")) } else { problem }
    }
}
