//! Who may call a service.

use model::identity::Role;
use model::routing::{AccessRule, Caller, CallerMatch};
use model::service::ServiceName;

/// What the access rules of a service say of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// It may call; the rule that says so, or nothing when no rule speaks of the service.
    Allowed(String),
    /// It may not; why.
    Denied(String),
}

/// Applies the rules: any deny that matches refuses; else, where there is an allow, one must match.
///
/// So a service without rules, or with denies only, is open to everyone else: default deny is asked for with an allow.
pub fn permit(service: &ServiceName, rules: &[AccessRule], caller: &Caller) -> Permit {
    let speaks_of =
        |rule: &&AccessRule| rule.from.is_empty() || rule.from.iter().any(|from| matches(from, caller));
    if let Some(rule) = rules.iter().filter(|rule| !rule.allow).find(speaks_of) {
        return Permit::Denied(format!("AccessPolicy {} denies {}", rule.policy, name(caller)));
    }
    let mut allows = rules.iter().filter(|rule| rule.allow).peekable();
    if allows.peek().is_none() {
        return Permit::Allowed(String::new());
    }
    let mut weak = None;
    for rule in allows.filter(speaks_of) {
        if caller.proof >= rule.min_proof {
            return Permit::Allowed(format!("AccessPolicy {} ({})", rule.policy, from_text(rule, caller)));
        }
        weak = weak.or(Some(rule));
    }
    Permit::Denied(match weak {
        Some(rule) => format!(
            "AccessPolicy {} demands an identity proven by {}, and {} is proven by {}",
            rule.policy,
            rule.min_proof,
            name(caller),
            caller.proof
        ),
        None => format!("no AccessPolicy of {service} allows {}", name(caller)),
    })
}

/// Whether every field that is present matches.
fn matches(from: &CallerMatch, caller: &Caller) -> bool {
    let identity = caller.identity.as_ref();
    let workload = identity.and_then(|identity| match &identity.role {
        Role::Workload { namespace, account } => Some((namespace, account)),
        Role::Gateway(_) | Role::Federation(_) | Role::Agent(_) | Role::Admin(_) => None,
    });
    from.trust_domain
        .as_ref()
        .is_none_or(|domain| identity.is_some_and(|identity| identity.trust_domain == *domain))
        && from.site.as_ref().is_none_or(|site| caller.site == *site)
        && from
            .namespace
            .as_ref()
            .is_none_or(|wanted| workload.is_some_and(|(namespace, _)| namespace == wanted))
        && from.account.as_ref().is_none_or(|wanted| workload.is_some_and(|(_, account)| account == wanted))
}

/// The caller, as refusals name it.
fn name(caller: &Caller) -> String {
    match &caller.identity {
        Some(identity) => identity.to_string(),
        None => format!("an unproven caller of site {}", caller.site),
    }
}

/// The part of a rule that let the caller in.
fn from_text(rule: &AccessRule, caller: &Caller) -> String {
    let Some(from) = rule.from.iter().find(|from| matches(from, caller)) else {
        return "from: everyone".to_owned();
    };
    let parts = [
        from.trust_domain.as_ref().map(|domain| format!("trust domain {domain}")),
        from.site.as_ref().map(|site| format!("site {site}")),
        from.namespace.as_ref().map(|namespace| format!("namespace {namespace}")),
        from.account.as_ref().map(|account| format!("account {account}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "from: everyone".to_owned() } else { format!("from: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::identity::Proof;
    use model::locality::Locality;

    fn caller(identity: &str, proof: Proof) -> Caller {
        Caller {
            identity: (!identity.is_empty()).then(|| identity.parse().expect("valid")),
            proof,
            site: "west".parse().expect("valid"),
            locality: Locality::default(),
            affinity: None,
        }
    }

    fn rule(policy: &str, allow: bool, from: &[CallerMatch], min_proof: Proof) -> AccessRule {
        AccessRule { policy: policy.to_owned(), allow, from: from.to_vec(), min_proof }
    }

    fn namespace(name: &str) -> CallerMatch {
        CallerMatch { namespace: Some(name.parse().expect("valid")), ..CallerMatch::default() }
    }

    fn check(rules: &[AccessRule], caller: &Caller, expected: &str) {
        let text = match permit(&"shop/cart".parse().expect("valid"), rules, caller) {
            Permit::Allowed(why) => format!("allowed {why}"),
            Permit::Denied(why) => format!("denied {why}"),
        };
        assert_eq!(text, expected);
    }

    const FRONT: &str = "spiffe://west.mesh/ns/web/sa/front";

    #[test]
    fn a_service_without_rules_is_open() {
        check(&[], &caller("", Proof::Host), "allowed ");
    }

    #[test]
    fn one_allow_makes_the_rest_denied() {
        let rules = [rule("shop/allow-web", true, &[namespace("web")], Proof::Host)];
        check(
            &rules,
            &caller(FRONT, Proof::Uid),
            "allowed AccessPolicy shop/allow-web (from: namespace web)",
        );
        check(
            &rules,
            &caller("spiffe://west.mesh/agent/web", Proof::Mtls),
            "denied no AccessPolicy of shop/cart allows spiffe://west.mesh/agent/web",
        );
        check(
            &rules,
            &caller("", Proof::Host),
            "denied no AccessPolicy of shop/cart allows an unproven caller of site west",
        );
    }

    #[test]
    fn a_deny_wins_over_every_allow() {
        let rules = [
            rule("shop/all", true, &[], Proof::Host),
            rule("shop/no-web", false, &[namespace("web")], Proof::Host),
        ];
        check(
            &rules,
            &caller(FRONT, Proof::Mtls),
            &format!("denied AccessPolicy shop/no-web denies {FRONT}"),
        );
        check(&rules, &caller("", Proof::Host), "allowed AccessPolicy shop/all (from: everyone)");
    }

    #[test]
    fn denies_alone_leave_the_service_open_to_others() {
        let rules = [rule("shop/no-web", false, &[namespace("web")], Proof::Host)];
        check(&rules, &caller("", Proof::Host), "allowed ");
    }

    #[test]
    fn a_weak_proof_is_not_enough_where_more_is_demanded() {
        let rules = [rule("shop/strong", true, &[namespace("web")], Proof::Mtls)];
        check(
            &rules,
            &caller(FRONT, Proof::Uid),
            &format!(
                "denied AccessPolicy shop/strong demands an identity proven by mtls, and {FRONT} is proven by uid"
            ),
        );
        check(&rules, &caller(FRONT, Proof::Mtls), "allowed AccessPolicy shop/strong (from: namespace web)");
    }

    #[test]
    fn every_field_of_a_match_must_match() {
        let from = CallerMatch { site: Some("east".parse().expect("valid")), ..namespace("web") };
        let rules = [rule("shop/a", true, &[from], Proof::Host)];
        check(
            &rules,
            &caller(FRONT, Proof::Mtls),
            &format!("denied no AccessPolicy of shop/cart allows {FRONT}"),
        );
        let domain =
            CallerMatch { trust_domain: Some("west.mesh".parse().expect("valid")), ..CallerMatch::default() };
        let rules = [rule("shop/a", true, &[domain], Proof::Host)];
        check(
            &rules,
            &caller(FRONT, Proof::Host),
            "allowed AccessPolicy shop/a (from: trust domain west.mesh)",
        );
    }
}
