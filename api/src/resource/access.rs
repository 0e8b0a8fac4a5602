//! Who may call a service.

use super::Envelope;
use super::failover::{LIST_MAX, Selector, selector};
use crate::problem::Problem;
use crate::text::Text;
use model::identity::{Proof, TrustDomain};
use model::ids::{Label, Namespace, SiteId};
use model::routing::{AccessRule as Rule, CallerMatch};
use serde::{Deserialize, Serialize};

/// An access policy. Its namespace is that of the services.
pub type AccessPolicy = Envelope<AccessSpec>;

/// What an access policy says.
///
/// A caller that any `deny` matches is refused. Else, when there is an `allow` for the service, one must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessSpec {
    /// Services of the namespace that it is for. Empty: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Text<Label>>,
    /// Default `allow`.
    pub action: Action,
    /// Whom it speaks of. Empty: everyone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<FromSpec>,
    /// How well the caller's identity must be proven. Default `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_proof: Option<ProofLevel>,
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Those named may call.
    #[default]
    Allow,
    /// Those named may not.
    Deny,
}

/// Matches callers; every field that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FromSpec {
    /// Trust domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<Text<TrustDomain>>,
    /// Site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Text<SiteId>>,
    /// Namespace of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Text<Namespace>>,
    /// Account of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Text<Label>>,
}

/// How well an identity is proven, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofLevel {
    /// Only the host or the site is known.
    Host,
    /// The address of a pod.
    PodIp,
    /// The user id of the local process.
    Uid,
    /// A peer certificate.
    Mtls,
}

impl From<ProofLevel> for Proof {
    fn from(level: ProofLevel) -> Self {
        match level {
            ProofLevel::Host => Self::Host,
            ProofLevel::PodIp => Self::PodIp,
            ProofLevel::Uid => Self::Uid,
            ProofLevel::Mtls => Self::Mtls,
        }
    }
}

/// A policy with the services that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// What it is for.
    pub services: Selector,
    /// What it says.
    pub rule: Rule,
}

impl AccessPolicy {
    /// Checks the policy and fills in its defaults.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn rule(&self) -> Result<AccessRule, Problem> {
        let spec = &self.spec;
        let namespace = self.namespace()?;
        if spec.from.len() > LIST_MAX {
            return Err(Problem::at("spec.from", format!("at most {LIST_MAX} callers can be listed")));
        }
        if let Some(at) = spec.from.iter().position(|from| *from == FromSpec::default()) {
            return Err(Problem::at(&format!("spec.from.{at}"), "this matches everyone")
                .help("name a trustDomain, site, namespace or account, or leave out `from`"));
        }
        if spec.action == Action::Deny && spec.min_proof.is_some() {
            return Err(
                Problem::at("spec.minProof", "`minProof` has no meaning for a deny").help("remove it")
            );
        }
        Ok(AccessRule {
            services: selector(namespace, &spec.services)?,
            rule: Rule {
                policy: format!("{namespace}/{}", self.metadata.name),
                allow: spec.action == Action::Allow,
                from: spec.from.iter().map(FromSpec::caller_match).collect(),
                min_proof: spec.min_proof.map_or(Proof::Host, Proof::from),
            },
        })
    }
}

impl FromSpec {
    fn caller_match(&self) -> CallerMatch {
        CallerMatch {
            trust_domain: self.trust_domain.as_ref().map(|text| text.0.clone()),
            site: self.site.as_ref().map(|text| text.0.clone()),
            namespace: self.namespace.as_ref().map(|text| text.0.clone()),
            account: self.account.as_ref().map(|text| text.0.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    fn rule(spec: &str) -> Result<AccessRule, String> {
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: allow-web, namespace: shop}}\nspec: {spec}\n"
        );
        let mut resources = parse("f.yaml", &text).map_err(|error| error.to_string())?;
        let Resource::AccessPolicy(policy) = resources.remove(0) else { unreachable!("it is one") };
        Ok(policy.rule().expect("was checked"))
    }

    #[test]
    fn a_policy_names_callers_and_what_they_must_prove() {
        let rule =
            rule("{services: [cart], from: [{namespace: web}, {site: west, account: a}], minProof: pod-ip}")
                .expect("valid")
                .rule;
        assert_eq!(rule.policy, "shop/allow-web");
        assert!(rule.allow);
        assert_eq!(rule.from.len(), 2);
        assert_eq!(rule.min_proof, Proof::PodIp);
    }

    #[test]
    fn a_policy_that_says_nothing_or_too_much_is_refused() {
        for (spec, why) in [
            ("{from: [{}]}", "matches everyone"),
            ("{action: deny, minProof: mtls}", "no meaning for a deny"),
            ("{action: forbid}", "unknown value `forbid`"),
            ("{minProof: mtl}", "did you mean `mtls`?"),
            ("{from: [{namspace: web}]}", "did you mean `namespace`?"),
        ] {
            assert!(rule(spec).expect_err(spec).contains(why), "{spec}");
        }
    }
}
