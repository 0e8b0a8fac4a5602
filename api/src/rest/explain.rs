//! Why a request goes where it goes.

use super::ms;
use super::service::PortView;
use crate::problem::Problem;
use crate::text::Text;
use model::decision::{Explanation, GroupReason, TierReason, Verdict};
use model::identity::{Proof, Role, SpiffeId, TrustDomain};
use model::ids::SiteId;
use model::locality::Locality;
use model::routing::{Caller, FailoverPolicy};
use model::service::{PortKey, ServiceName};
use serde::{Deserialize, Serialize};

/// `POST /v1/explain`, sent to the site from which the call would come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Service.
    pub service: Text<ServiceName>,
    /// TCP port. Default: the first one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Identity of the caller, `NAMESPACE/ACCOUNT` or a SPIFFE id. Default: that of the node that answers.
    #[serde(default, rename = "as")]
    pub identity: Option<String>,
    /// Locality of the caller. Default: that of the node that answers.
    #[serde(default)]
    pub locality: Option<Text<Locality>>,
    /// Gateway or agent that shall answer. Default: a gateway.
    #[serde(default)]
    pub node: Option<String>,
    /// What if these sites were gone.
    #[serde(default)]
    pub without: Vec<Text<SiteId>>,
}

impl ExplainRequest {
    /// The question for a node of site `site`, whose locality is assumed where none is given.
    ///
    /// # Errors
    /// When the identity is neither `NAMESPACE/ACCOUNT` nor a SPIFFE id.
    pub fn question(
        &self,
        site: &SiteId,
        trust_domain: &TrustDomain,
        locality: &Locality,
    ) -> Result<model::decision::ExplainRequest, Problem> {
        let identity = self.identity.as_deref().map(|text| identity(text, trust_domain)).transpose()?;
        Ok(model::decision::ExplainRequest {
            service: self.service.0.clone(),
            port: self.port.map(PortKey::tcp),
            caller: Caller {
                // Whoever asks with a name asks what a caller gets who can prove it.
                proof: if identity.is_some() { Proof::Mtls } else { Proof::Host },
                identity,
                site: site.clone(),
                locality: self
                    .locality
                    .as_ref()
                    .map_or_else(|| locality.clone(), |locality| locality.0.clone()),
                affinity: None,
            },
            without: self.without.iter().map(|site| site.0.clone()).collect(),
        })
    }
}

fn identity(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, Problem> {
    let wrong = |why: String| Problem::at("as", why).help("write NAMESPACE/ACCOUNT, or a whole SPIFFE id");
    if text.starts_with("spiffe://") {
        return text.parse().map_err(|error: model::ids::InvalidId| wrong(error.to_string()));
    }
    let short: String = text.chars().take(80).collect();
    let Some((namespace, account)) = text.split_once('/') else {
        return Err(wrong(format!("`{short}` names no identity")));
    };
    let bad = |error: model::ids::InvalidId| wrong(error.to_string());
    let role =
        Role::Workload { namespace: namespace.parse().map_err(bad)?, account: account.parse().map_err(bad)? };
    Ok(SpiffeId { trust_domain: trust_domain.clone(), role })
}

/// Answer to an [`ExplainRequest`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplanationView {
    /// Service, `NAMESPACE/NAME`.
    pub service: String,
    /// Port.
    pub port: Option<PortView>,
    /// Site of the caller.
    pub site: String,
    /// Locality of the caller that was assumed.
    pub locality: String,
    /// Identity of the caller; may be empty.
    pub identity: String,
    /// How it would be proven.
    pub proof: String,
    /// Who answered, and would serve the caller: `gateway gw-0`.
    pub node: String,
    /// What was decided.
    pub verdict: VerdictView,
    /// Rule that allowed or denied; empty: no policy speaks of the service.
    pub permit: String,
    /// Tiers, nearest first.
    pub tiers: Vec<TierView>,
    /// No endpoint that can be reached is healthy: last known ones are used.
    pub panic: bool,
    /// All peers are gone, so this site is probably the one that is cut off.
    pub isolated: bool,
    /// How the endpoint is picked; may be empty.
    pub pick: String,
    /// Endpoints of the own site that would be given now.
    pub now: Vec<NowView>,
    /// What happens if those fail; none: nobody else could serve.
    pub then: Option<ThenView>,
    /// Sites that were left out of account.
    pub without: Vec<String>,
    /// A tier takes `healthy / total` times this, in per cent, of the load, at most 100.
    pub overprovisioning_pct: u32,
    /// A tier with fewer healthy endpoints takes nothing while another can.
    pub min_healthy: u32,
    /// A tier takes all until it is empty.
    pub strict: bool,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerdictView {
    /// `endpoint`, `site` or `refused`.
    pub kind: String,
    /// Site that serves; empty when refused.
    pub site: String,
    /// Locality that serves.
    pub locality: String,
    /// Endpoint, when it is one of the own site.
    pub endpoint: Option<String>,
    /// When refused: the code, as logs and metrics have it.
    pub code: Option<String>,
    /// When refused: why, in words.
    pub detail: String,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TierView {
    /// From 1.
    pub rank: u32,
    /// Its distance, in words.
    pub distance: String,
    /// Its groups.
    pub groups: Vec<GroupView>,
    /// Healthy endpoints.
    pub healthy: u32,
    /// What they are measured against.
    pub total: u32,
    /// Share of the load, 0 to 100.
    pub share_pct: f64,
    /// Why, in words; may be empty.
    pub note: String,
    /// It was drawn.
    pub chosen: bool,
}

/// A group of a tier.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupView {
    /// Site.
    pub site: String,
    /// Locality.
    pub locality: String,
    /// Subset; may be empty.
    pub subset: String,
    /// Healthy endpoints.
    pub healthy: u32,
    /// Endpoints.
    pub total: u32,
    /// Sum of the weights of the healthy ones.
    pub capacity: u64,
    /// State of the peer; none for the own site.
    pub state: Option<String>,
    /// Round trip to it.
    pub rtt_ms: Option<f64>,
    /// Endpoints that are set aside after failures.
    pub outliers: u32,
}

/// An endpoint that would be given now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NowView {
    /// Its id.
    pub endpoint: String,
    /// Open streams.
    pub open_streams: u32,
}

/// What happens if the chosen tier fails.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThenView {
    /// The tier that takes over.
    pub tier: TierView,
    /// Within this time.
    pub within_ms: u64,
    /// Load returns so long after recovery...
    pub return_delay_s: f64,
    /// ...over so long.
    pub return_ramp_s: f64,
}

/// How soon a dead path or endpoint gets nothing new (design: a fault is over in a second).
const TAKEOVER_MS: u64 = 400;

impl ExplanationView {
    /// The answer of a node, with the question that it answers.
    pub fn of(
        request: &model::decision::ExplainRequest,
        explanation: &Explanation,
        port: Option<PortView>,
        failover: &FailoverPolicy,
    ) -> Self {
        let reason = &explanation.decision.reason;
        let caller = &request.caller;
        let tier = |(at, tier): (usize, &TierReason)| TierView {
            rank: u32::try_from(at + 1).unwrap_or(u32::MAX),
            chosen: reason.chosen == Some(at),
            ..TierView::of(tier, failover)
        };
        Self {
            service: request.service.to_string(),
            port,
            site: caller.site.to_string(),
            locality: explanation.locality.to_string(),
            identity: caller.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            proof: caller.proof.to_string(),
            node: explanation.node.clone(),
            verdict: VerdictView::of(&explanation.decision.verdict),
            permit: reason.permit.clone(),
            tiers: reason.tiers.iter().enumerate().map(tier).collect(),
            panic: reason.panic,
            isolated: reason.isolated,
            pick: reason.pick.clone(),
            now: explanation
                .now
                .iter()
                .map(|(endpoint, open)| NowView { endpoint: endpoint.to_string(), open_streams: *open })
                .collect(),
            then: explanation.then.as_ref().map(|tier| ThenView {
                tier: TierView::of(tier, failover),
                within_ms: TAKEOVER_MS,
                return_delay_s: failover.failback_delay.as_secs_f64(),
                return_ramp_s: failover.failback_ramp.as_secs_f64(),
            }),
            without: request.without.iter().map(ToString::to_string).collect(),
            overprovisioning_pct: failover.overprovisioning_pct,
            min_healthy: failover.min_healthy,
            strict: failover.strict,
        }
    }
}

impl VerdictView {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Endpoint { group, endpoint } => Self {
                kind: "endpoint".to_owned(),
                site: group.site.to_string(),
                locality: group.locality.to_string(),
                endpoint: Some(endpoint.to_string()),
                ..Self::default()
            },
            Verdict::Site { group } => Self {
                kind: "site".to_owned(),
                site: group.site.to_string(),
                locality: group.locality.to_string(),
                ..Self::default()
            },
            Verdict::Refused(refusal) => Self {
                kind: "refused".to_owned(),
                code: Some(refusal.code.to_string()),
                detail: refusal.detail.clone(),
                ..Self::default()
            },
        }
    }
}

impl TierView {
    fn of(tier: &TierReason, failover: &FailoverPolicy) -> Self {
        let note = if tier.note.is_empty() { arithmetic(tier, failover) } else { tier.note.clone() };
        Self {
            rank: 0,
            distance: tier.distance.to_owned(),
            groups: tier.groups.iter().map(GroupView::of).collect(),
            healthy: tier.healthy,
            total: tier.total,
            share_pct: (tier.share * 1e4).round() / 1e2,
            note,
            chosen: false,
        }
    }
}

/// How the share of a tier came about, where nothing else is said of it: `2/2 × 1.4 ≥ 1`.
fn arithmetic(tier: &TierReason, failover: &FailoverPolicy) -> String {
    if tier.share <= 0.0 || tier.healthy == 0 {
        return String::new();
    }
    let factor = f64::from(failover.overprovisioning_pct) / 100.0;
    let could = factor * f64::from(tier.healthy) / f64::from(tier.total.max(1));
    let formula = format!("{}/{} × {factor}", tier.healthy, tier.total);
    if tier.share < could.min(1.0) - 1e-9 {
        format!("{formula} would allow more; nearer ones take the rest")
    } else if could >= 1.0 {
        format!("{formula} ≥ 1")
    } else {
        format!("{formula} = {could:.2}")
    }
}

impl GroupView {
    fn of(group: &GroupReason) -> Self {
        Self {
            site: group.id.site.to_string(),
            locality: group.id.locality.to_string(),
            subset: group.id.subset.0.clone(),
            healthy: group.healthy,
            total: group.total,
            capacity: group.capacity,
            state: group.peer.map(|state| state.to_string()),
            rtt_ms: group.rtt.map(ms),
            outliers: group.outliers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(json: &str) -> Result<model::decision::ExplainRequest, Problem> {
        let request: ExplainRequest = serde_json::from_str(json).expect("reads");
        let domain = "west.mesh".parse().expect("valid");
        request.question(&"west".parse().expect("valid"), &domain, &"us/sjc/a".parse().expect("valid"))
    }

    #[test]
    fn a_short_name_of_a_caller_is_one_of_the_own_trust_domain() {
        let asked =
            question(r#"{"service": "shop/cart", "as": "web/front", "without": ["east"]}"#).expect("valid");
        let identity = asked.caller.identity.expect("given").to_string();
        assert_eq!(identity, "spiffe://west.mesh/ns/web/sa/front");
        assert_eq!(asked.caller.locality.to_string(), "us/sjc/a");
        assert_eq!(asked.without.len(), 1);
        assert!(question(r#"{"service": "shop/cart", "as": "front"}"#).is_err());
        assert!(question(r#"{"service": "shop/cart", "as": "spiffe://x"}"#).is_err());
    }

    #[test]
    fn the_arithmetic_of_a_share_is_shown() {
        let policy = FailoverPolicy::default();
        let note = |healthy, total, share| {
            let tier = TierReason {
                groups: Vec::new(),
                distance: "same zone",
                healthy,
                total,
                share,
                note: String::new(),
            };
            TierView::of(&tier, &policy).note
        };
        assert_eq!(note(2, 2, 1.0), "2/2 × 1.4 ≥ 1");
        assert_eq!(note(1, 2, 0.7), "1/2 × 1.4 = 0.70");
        assert_eq!(note(3, 3, 0.3), "3/3 × 1.4 would allow more; nearer ones take the rest");
        assert_eq!(note(3, 3, 0.0), "");
    }

    #[test]
    fn a_wrong_question_is_refused() {
        assert!(serde_json::from_str::<ExplainRequest>(r#"{"service": "cart"}"#).is_err());
        assert!(serde_json::from_str::<ExplainRequest>(r#"{"service": "shop/cart", "with": []}"#).is_err());
    }
}
