//! What a link opens: which services are offered to the other site, and which of its are accepted.

use super::Envelope;
use crate::problem::Problem;
use crate::text::Text;
use model::catalog::Scope;
use model::ids::{Namespace, SiteId};
use model::service::ServiceName;
use serde::{Deserialize, Serialize};

/// A link; its name is that of the other site.
pub type Link = Envelope<LinkSpec>;

/// What a link opens, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LinkSpec {
    /// Exported services that the other site is told of. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<ScopeSpec>,
    /// Services of the other site that are taken. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<ScopeSpec>,
}

/// A set of services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScopeSpec {
    /// Every service. Excludes the other fields.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Only for `accept`: besides what is listed, names that no other site exports yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_names: bool,
    /// Whole namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Text<Namespace>>,
    /// Single services, `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Text<ServiceName>>,
}

/// Most namespaces, and most services, of one scope.
pub const SCOPE_MAX: usize = 1_000;

/// What is taken from the other site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// Taken in any case, also into a name that others export.
    pub scope: Scope,
    /// Besides, names that no other site exports yet are taken.
    pub new_names: bool,
}

impl Accept {
    /// Everything.
    pub fn all() -> Self {
        Self { scope: Scope::All, new_names: true }
    }

    /// Names that no site exports yet: what two teams that share nothing begin with.
    pub fn new_names() -> Self {
        Self { scope: Scope::none(), new_names: true }
    }

    /// Whether an export under this name is taken; `taken`: another site, or this one, exports it already.
    pub fn admits(&self, service: &ServiceName, taken: bool) -> bool {
        self.scope.contains(service) || (self.new_names && !taken)
    }
}

/// Both directions of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkScopes {
    /// What the other site is told of.
    pub offer: Scope,
    /// What is taken from it.
    pub accept: Accept,
}

impl ScopeSpec {
    /// Every service.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Names that no site exports yet.
    pub fn new_names() -> Self {
        Self { new_names: true, ..Self::default() }
    }

    /// As something that is offered.
    ///
    /// # Errors
    /// When `all` stands beside something else, a list is too long, or `newNames` is set.
    pub fn offer(&self) -> Result<Scope, Problem> {
        if self.new_names {
            return Err(
                Problem::at("newNames", "`newNames` has a meaning only in `accept`").help("remove it")
            );
        }
        self.scope()
    }

    /// As something that is accepted.
    ///
    /// # Errors
    /// When `all` stands beside something else, or a list is too long.
    pub fn accept(&self) -> Result<Accept, Problem> {
        Ok(Accept { scope: self.scope()?, new_names: self.all || self.new_names })
    }

    fn scope(&self) -> Result<Scope, Problem> {
        if self.all {
            let more = self.new_names || !self.namespaces.is_empty() || !self.services.is_empty();
            return if more {
                Err(Problem::at("all", "`all` leaves nothing to name beside it")
                    .help("keep `all: true` or the list"))
            } else {
                Ok(Scope::All)
            };
        }
        for (path, length) in [("namespaces", self.namespaces.len()), ("services", self.services.len())] {
            if length > SCOPE_MAX {
                return Err(Problem::at(path, format!("at most {SCOPE_MAX} can be listed")));
            }
        }
        Ok(Scope::Only {
            namespaces: self.namespaces.iter().map(|text| text.0.clone()).collect(),
            services: self.services.iter().map(|text| text.0.clone()).collect(),
        })
    }
}

impl From<&Scope> for ScopeSpec {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::All => Self::all(),
            Scope::Only { namespaces, services } => Self {
                namespaces: namespaces.iter().cloned().map(Text).collect(),
                services: services.iter().cloned().map(Text).collect(),
                ..Self::default()
            },
        }
    }
}

impl From<&Accept> for ScopeSpec {
    fn from(accept: &Accept) -> Self {
        let scope = Self::from(&accept.scope);
        Self { new_names: accept.new_names && !scope.all, ..scope }
    }
}

impl LinkSpec {
    /// Both directions; what is left out is all.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn scopes(&self) -> Result<LinkScopes, Problem> {
        let offer = self.offer.as_ref().map_or(Ok(Scope::All), ScopeSpec::offer);
        let accept = self.accept.as_ref().map_or_else(|| Ok(Accept::all()), ScopeSpec::accept);
        Ok(LinkScopes {
            offer: offer.map_err(|problem| problem.under("offer"))?,
            accept: accept.map_err(|problem| problem.under("accept"))?,
        })
    }
}

impl Link {
    /// The other site.
    pub fn peer(&self) -> SiteId {
        self.metadata.name.as_str().parse().expect("a label is a site name")
    }

    /// Both directions; what is left out is all.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn scopes(&self) -> Result<LinkScopes, Problem> {
        self.spec.scopes().map_err(|problem| problem.under("spec"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().expect("valid")
    }

    #[test]
    fn a_partner_cannot_join_a_name_that_was_not_given_to_it() {
        let spec: ScopeSpec =
            serde_json::from_str(r#"{"newNames": true, "services": ["payments/api"]}"#).expect("valid");
        let accept = spec.accept().expect("valid");
        assert!(accept.admits(&service("payments/api"), true));
        assert!(accept.admits(&service("payments/new"), false));
        assert!(!accept.admits(&service("payments/other"), true));
        assert_eq!(ScopeSpec::from(&accept), spec);
    }

    #[test]
    fn what_is_left_out_is_all() {
        let scopes = LinkSpec::default().scopes().expect("valid");
        assert_eq!(scopes, LinkScopes { offer: Scope::All, accept: Accept::all() });
        assert_eq!(ScopeSpec::from(&scopes.accept), ScopeSpec::all());
    }

    #[test]
    fn a_scope_that_contradicts_itself_is_refused() {
        let both: LinkSpec =
            serde_json::from_str(r#"{"offer": {"all": true, "namespaces": ["a"]}}"#).expect("reads");
        assert_eq!(both.scopes().expect_err("both").path, ["offer", "all"]);
        let offer: LinkSpec = serde_json::from_str(r#"{"offer": {"newNames": true}}"#).expect("reads");
        assert_eq!(offer.scopes().expect_err("offer").path, ["offer", "newNames"]);
    }
}
