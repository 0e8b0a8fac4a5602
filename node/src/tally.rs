//! What a node counts of its clients, its decisions and its config; [`crate::metrics`] reads it.

use local::vip::{SkipReason, Skipped};
use model::decision::{Decision, RefusalCode, Verdict, distance};
use runtime::metrics::{Counts, Durations};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tunnel::Finish;
use tunnel::splice::End;

/// Decisions for endpoints that were healthy when last heard of, since none is.
const LAST_KNOWN: &str = "last known";
/// A candidate could not be dialled, its path died, or it answered nonsense.
const FAILED: &str = "failed";
/// How clients end, beside the ways in which a copy ends.
const REFUSED: &str = "refused";
const GONE: &str = "gone";

/// Plain numbers that only grow, and what there is of virtual IPs.
#[derive(Debug)]
pub struct Tally {
    /// Decisions: the distance of the tier that was chosen, or why it was none.
    pub decisions: Counts,
    /// Candidates that did not take a client, by what they said.
    pub candidates: Counts,
    /// Clients that are done, by how.
    pub clients: Counts,
    /// From a change of the config that came in until streams are routed by it.
    pub routed: Durations,
    /// Certificates that were renewed, or could not be.
    pub renewals: Counts,
    vips: Mutex<Vips>,
}

/// Virtual IPs and ports, now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vips {
    /// Those that are listened on.
    pub open: usize,
    /// Those that cannot be, by reason; every reason is there.
    pub skipped: BTreeMap<&'static str, usize>,
}

/// How an attempt or a renewal went.
pub(crate) const OK: &str = "ok";
/// The other way.
pub(crate) const NOT_OK: &str = "failed";

impl Default for Tally {
    fn default() -> Self {
        let codes = || RefusalCode::ALL.iter().map(ToString::to_string);
        let distances = distance::ALL.iter().map(ToString::to_string);
        let ends = [
            End::Closed.word(),
            "caller reset",
            "endpoint reset",
            "caller lost",
            "endpoint lost",
            "silent",
            REFUSED,
            GONE,
        ];
        Self {
            decisions: Counts::new(distances.chain([LAST_KNOWN.to_owned()]).chain(codes())),
            candidates: Counts::new(codes().chain([FAILED.to_owned()])),
            clients: Counts::new(ends),
            routed: Durations::default(),
            renewals: Counts::new([OK, NOT_OK]),
            vips: Mutex::default(),
        }
    }
}

impl Tally {
    pub(crate) fn decided(&self, decision: &Decision) {
        match (&decision.verdict, decision.reason.chosen) {
            (Verdict::Refused(refusal), _) => self.decisions.add(&refusal.code.to_string()),
            (Verdict::Endpoint { .. } | Verdict::Site { .. }, _) if decision.reason.panic => {
                self.decisions.add(LAST_KNOWN);
            }
            (Verdict::Endpoint { .. } | Verdict::Site { .. }, Some(tier)) => {
                if let Some(tier) = decision.reason.tiers.get(tier) {
                    self.decisions.add(tier.distance);
                }
            }
            (Verdict::Endpoint { .. } | Verdict::Site { .. }, None) => {}
        }
    }

    pub(crate) fn candidate_refused(&self, code: RefusalCode) {
        self.candidates.add(&code.to_string());
    }

    pub(crate) fn candidate_failed(&self) {
        self.candidates.add(FAILED);
    }

    /// A client is done.
    pub fn finished(&self, finish: &Finish) {
        self.clients.add(match finish {
            Finish::Served { transfer, .. } => transfer.end.word(),
            Finish::Refused(_) => REFUSED,
            Finish::ClientGone => GONE,
        });
    }

    pub(crate) fn renewed(&self, ok: bool) {
        self.renewals.add(if ok { OK } else { NOT_OK });
    }

    pub(crate) fn set_vips<'a>(&self, open: usize, skipped: impl Iterator<Item = &'a Skipped>) {
        let mut vips = Vips { open, skipped: SkipReason::WORDS.map(|word| (word, 0)).into() };
        for skipped in skipped {
            *vips.skipped.entry(skipped.reason.word()).or_default() += 1;
        }
        *self.vips.lock().unwrap_or_else(PoisonError::into_inner) = vips;
    }

    /// Virtual IPs, as they were last looked at.
    pub fn vips(&self) -> Vips {
        self.vips.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::decision::{Reason, Refusal, TierReason};

    fn told(counts: &Counts, word: &str) -> u64 {
        counts.iter().find(|(known, _)| known == word).expect("a word of the set").1
    }

    #[test]
    fn every_decision_is_counted_under_its_reason() {
        let tally = Tally::default();
        let group = model::routing::GroupId {
            site: "east".parse().expect("valid"),
            locality: Default::default(),
            subset: Default::default(),
        };
        let to = |distance, panic| Decision {
            verdict: Verdict::Site { group: group.clone() },
            reason: Reason {
                tiers: vec![TierReason {
                    groups: Vec::new(),
                    distance,
                    healthy: 1,
                    total: 1,
                    share: 1.0,
                    note: String::new(),
                }],
                chosen: Some(0),
                panic,
                ..Reason::default()
            },
        };
        for distance in distance::ALL {
            tally.decided(&to(distance, false));
        }
        tally.decided(&to(distance::SAME_ZONE, true));
        for code in RefusalCode::ALL {
            let refusal = Refusal { code, retryable: false, detail: String::new() };
            tally.decided(&Decision { verdict: Verdict::Refused(refusal), reason: Reason::default() });
        }
        let counted: Vec<u64> = tally.decisions.iter().map(|(_, count)| count).collect();
        assert_eq!(counted, vec![1; distance::ALL.len() + 1 + RefusalCode::ALL.len()]);
        assert_eq!(told(&tally.decisions, "last_known"), 1);
    }

    #[test]
    fn every_end_of_a_client_has_a_word() {
        let tally = Tally::default();
        let ends = [
            End::Closed,
            End::FirstReset(tunnel::StreamCode::TcpReset),
            End::SecondReset(tunnel::StreamCode::TcpReset),
            End::FirstLost,
            End::SecondLost,
            End::Silent,
        ];
        for end in ends {
            let transfer = tunnel::splice::Transfer { forward: 0, backward: 0, end };
            tally.finished(&Finish::Served { endpoint: "a".parse().expect("valid"), transfer });
        }
        tally.finished(&Finish::ClientGone);
        let refusal = Refusal { code: RefusalCode::Denied, retryable: false, detail: String::new() };
        tally.finished(&Finish::Refused(refusal));
        assert!(tally.clients.iter().all(|(_, count)| count == 1), "{:?}", tally.clients);
    }
}
