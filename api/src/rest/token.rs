//! Tokens with which a host or a gateway joins its site.

use crate::text::Text;
use model::ids::{Label, Namespace};
use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What will join.
    pub kind: TokenKind,
    /// Its name: that of the host or of the gateway.
    pub name: Text<Label>,
    /// For agents: namespaces in which it may register workloads. Empty: all.
    #[serde(default)]
    pub namespaces: Vec<Text<Namespace>>,
    /// For agents: accounts whose identity its workloads may assert. Empty: none.
    #[serde(default)]
    pub accounts: Vec<Text<Label>>,
    /// How long it may be used, 10 to 604 800. Default 3 600.
    #[serde(default)]
    pub expires_in_s: Option<u32>,
}

/// What joins with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// An agent.
    Agent,
    /// A gateway.
    Gateway,
}

/// Answer to a [`TokenRequest`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenReply {
    /// The token: one word, secret, to be given to the host.
    pub token: String,
    /// `agent` or `gateway`.
    pub kind: String,
    /// Name that it is for.
    pub name: String,
    /// Namespaces in which it may register; empty: all.
    pub namespaces: Vec<String>,
    /// Accounts that it may assert.
    pub accounts: Vec<String>,
    /// When it can no longer be used.
    pub expires_at_ms: u64,
}

/// The token is a secret, so it does not show in logs.
impl std::fmt::Debug for TokenReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReply")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
