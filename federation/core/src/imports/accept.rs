//! What a link lets a peer bring in.

use model::catalog::Scope;
use model::service::ServiceName;

/// What a peer's exports may become part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// Only these names, and any of them, whoever else has them. `Scope::All` is what `meshfed link A B` sets.
    Scope(Scope),
    /// Names that nobody has yet when the peer is first seen to offer them; to join another name it must stand in
    /// `joins`. What invite and accept between two teams set.
    NewNames {
        /// Names that the peer may join.
        joins: Scope,
    },
}

/// How far a peer may go with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Not taken at all.
    None,
    /// Taken while nobody had the name before.
    New,
    /// Taken beside others.
    Join,
}

impl Accept {
    /// All names.
    pub fn all() -> Self {
        Self::Scope(Scope::All)
    }

    /// Names that nobody has, and no others.
    pub fn new_names() -> Self {
        Self::NewNames { joins: Scope::none() }
    }

    /// What the peer may do with this name.
    pub fn permission(&self, service: &ServiceName) -> Permission {
        match self {
            Self::Scope(scope) if scope.contains(service) => Permission::Join,
            Self::Scope(_) => Permission::None,
            Self::NewNames { joins } if joins.contains(service) => Permission::Join,
            Self::NewNames { .. } => Permission::New,
        }
    }

    /// What the peer is asked for: it need not send what would be left out.
    pub fn wanted(&self) -> Scope {
        match self {
            Self::Scope(scope) => scope.clone(),
            Self::NewNames { .. } => Scope::All,
        }
    }
}
