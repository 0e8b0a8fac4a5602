//! The decision for a question, told to a person: what now, and what then.

use crate::decide::{Input, Tried, decide};
use model::decision::{ExplainRequest, Explanation, TierReason, Verdict};
use model::endpoint::{Endpoint, Health};
use model::ids::{EndpointId, SiteId};
use model::routing::GroupId;
use model::service::PortKey;
use std::collections::BTreeSet;

/// Answers a question with the decision that a stream would get now; `input` is that stream's, with the caller, the
/// sites to leave out and the port of the question (see [`port`]).
pub fn explain(node: &str, request: &ExplainRequest, input: &Input<'_>) -> Explanation {
    let decision = decide(input);
    let chosen = decision.reason.chosen.map(|at| &decision.reason.tiers[at]);
    let now = chosen.map(|tier| takers(input, tier, &decision.verdict)).unwrap_or_default();
    let then = chosen.and_then(|tier| then(input, tier));
    Explanation {
        node: node.to_owned(),
        locality: request.caller.locality.clone(),
        port: Some(input.port).filter(|_| input.import.is_some()),
        decision,
        now,
        then,
    }
}

/// The port of a question: that which it names, else the first of the service.
pub fn port(request: &ExplainRequest, input: Option<&model::routing::Import>) -> PortKey {
    let first = input.and_then(|import| import.ports.first()).map(|port| port.key);
    // Without a service there is no port either, and the decision says so before it looks at one.
    request.port.or(first).unwrap_or(PortKey::tcp(0))
}

/// Endpoints of the own site that the chosen tier would give out, with their open streams.
fn takers(input: &Input<'_>, tier: &TierReason, verdict: &Verdict) -> Vec<(EndpointId, u32)> {
    let Some(import) = input.import else { return Vec::new() };
    let ids: BTreeSet<&GroupId> = tier.groups.iter().map(|group| &group.id).collect();
    let groups =
        import.groups.iter().filter(|group| ids.contains(&group.id) && is_own(&group.id.site, input));
    let mut takers = Vec::new();
    for group in groups {
        let with_port: Vec<&Endpoint> =
            group.endpoints.iter().filter(|endpoint| endpoint.ports.contains_key(&input.port)).collect();
        let aside = input.memory.outliers(input.service, &with_port, input.now);
        for endpoint in with_port {
            let offered = endpoint.health == Health::Healthy && !aside.contains(&endpoint.id);
            // In a panic the one that was picked stands for those that might have been.
            let picked = Tried::of(verdict) == Some(Tried::Endpoint(endpoint.id.clone()));
            if picked || offered {
                takers.push((endpoint.id.clone(), (input.open_streams)(&endpoint.id)));
            }
        }
    }
    takers.sort();
    takers
}

fn is_own(site: &SiteId, input: &Input<'_>) -> bool {
    site == input.own && !input.without.contains(site)
}

/// The tier that takes over when the given one fails.
fn then(input: &Input<'_>, tier: &TierReason) -> Option<Box<TierReason>> {
    let mut failed = input.failed.clone();
    failed.extend(tier.groups.iter().map(|group| group.id.clone()));
    let decision = decide(&Input { failed: &failed, ..*input });
    let tiers = decision.reason.tiers;
    let takes_over = tiers.into_iter().find(|tier| tier.share > 0.0)?;
    Some(Box::new(takes_over))
}
