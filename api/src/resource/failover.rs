//! How the load of a service moves between tiers.

use super::Envelope;
use crate::problem::Problem;
use crate::text::{Span, Text};
use model::ids::{Label, Namespace, SiteId};
use model::routing::FailoverPolicy as Policy;
use model::service::ServiceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// A failover policy. Its namespace is that of the services.
pub type FailoverPolicy = Envelope<FailoverSpec>;

/// What a failover policy says; what it leaves out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FailoverSpec {
    /// Services of the namespace that it is for. Empty: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Text<Label>>,
    /// Sites in the order in which they take over, before the order by round trip.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<Text<SiteId>>,
    /// A tier takes the whole load down to 100 of this many endpoints, 100 to 1000. Default 140.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overprovisioning_percent: Option<u32>,
    /// A tier with fewer healthy endpoints takes nothing while another can. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<u32>,
    /// A tier takes everything until it is empty. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// How long a recovered tier waits before it takes load back, at most 1 h. Default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback_delay: Option<Span>,
    /// Over what time it then takes its load back, at most 1 h. Default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback_ramp: Option<Span>,
}

/// Services of a namespace that a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Namespace.
    pub namespace: Namespace,
    /// Names; empty: all.
    pub names: BTreeSet<Label>,
}

impl Selector {
    /// Whether the policy is for this service.
    pub fn contains(&self, service: &ServiceName) -> bool {
        self.namespace == service.namespace && (self.names.is_empty() || self.names.contains(&service.name))
    }

    /// Whether it names its services, which weighs more than a whole namespace.
    pub fn is_exact(&self) -> bool {
        !self.names.is_empty()
    }
}

/// A policy with the services that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverRule {
    /// What it is for.
    pub services: Selector,
    /// What it says.
    pub policy: Policy,
}

/// Most services, sites or callers of one policy.
pub(crate) const LIST_MAX: usize = 256;
/// Longest delay and longest ramp.
const FAILBACK_MAX: Duration = Duration::from_secs(3600);

/// The services of a policy.
pub(crate) fn selector(namespace: &Namespace, names: &[Text<Label>]) -> Result<Selector, Problem> {
    if names.len() > LIST_MAX {
        return Err(Problem::at("spec.services", format!("at most {LIST_MAX} services can be listed")));
    }
    let names = names.iter().map(|name| name.0.clone()).collect();
    Ok(Selector { namespace: namespace.clone(), names })
}

impl FailoverPolicy {
    /// Checks the policy and fills in its defaults.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn rule(&self) -> Result<FailoverRule, Problem> {
        let spec = &self.spec;
        let default = Policy::default();
        let mut seen = BTreeSet::new();
        if spec.order.len() > LIST_MAX {
            return Err(Problem::at("spec.order", format!("at most {LIST_MAX} sites can be listed")));
        }
        if let Some(at) = spec.order.iter().position(|site| !seen.insert(&site.0)) {
            return Err(Problem::at(
                &format!("spec.order.{at}"),
                format!("{} is listed twice", spec.order[at]),
            ));
        }
        let overprovisioning_pct = spec.overprovisioning_percent.unwrap_or(default.overprovisioning_pct);
        if !(100..=1_000).contains(&overprovisioning_pct) {
            return Err(Problem::at("spec.overprovisioningPercent", "it must lie between 100 and 1000")
                .help("140 lets a tier lose two of seven endpoints before load spills"));
        }
        let min_healthy = spec.min_healthy.unwrap_or(default.min_healthy);
        if !(1..=10_000).contains(&min_healthy) {
            return Err(Problem::at("spec.minHealthy", "it must lie between 1 and 10000"));
        }
        let span = |path: &str, span: Option<Span>, default: Duration| match span {
            Some(Span(span)) if span > FAILBACK_MAX => Err(Problem::at(path, "it may not be longer than 1h")),
            Some(Span(span)) => Ok(span),
            None => Ok(default),
        };
        Ok(FailoverRule {
            services: selector(self.namespace()?, &spec.services)?,
            policy: Policy {
                order: spec.order.iter().map(|site| site.0.clone()).collect(),
                overprovisioning_pct,
                min_healthy,
                strict: spec.strict,
                failback_delay: span("spec.failbackDelay", spec.failback_delay, default.failback_delay)?,
                failback_ramp: span("spec.failbackRamp", spec.failback_ramp, default.failback_ramp)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    fn rule(spec: &str) -> Result<FailoverRule, String> {
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
        );
        let mut resources = parse("f.yaml", &text).map_err(|error| error.to_string())?;
        let Resource::FailoverPolicy(policy) = resources.remove(0) else { unreachable!("it is one") };
        Ok(policy.rule().expect("was checked"))
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let rule = rule("{}").expect("valid");
        assert_eq!(rule.policy, Policy::default());
        assert!(rule.services.contains(&"shop/cart".parse().expect("valid")));
        assert!(!rule.services.contains(&"other/cart".parse().expect("valid")));
    }

    #[test]
    fn a_policy_can_say_everything() {
        let rule = rule(
            "{services: [cart], order: [west, dc], overprovisioningPercent: 200, minHealthy: 2, strict: true, \
             failbackDelay: 1m, failbackRamp: 0s}",
        )
        .expect("valid");
        assert_eq!(rule.policy.order.len(), 2);
        assert_eq!(rule.policy.failback_ramp, Duration::ZERO);
        assert!(!rule.services.contains(&"shop/orders".parse().expect("valid")));
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        for (spec, why) in [
            ("{overprovisioningPercent: 99}", "between 100 and 1000"),
            ("{minHealthy: 0}", "between 1 and 10000"),
            ("{order: [west, west]}", "listed twice"),
            ("{failbackDelay: 2h}", "longer than 1h"),
            ("{failbackdelay: 2h}", "did you mean `failbackDelay`?"),
        ] {
            assert!(rule(spec).expect_err(spec).contains(why), "{spec}");
        }
    }
}
