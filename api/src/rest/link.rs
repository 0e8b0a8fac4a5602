//! Making, listing and ending links.

use crate::resource::link::ScopeSpec;
use crate::text::Text;
use model::identity::TrustDomain;
use serde::{Deserialize, Serialize};

/// `POST /v1/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InviteRequest {
    /// Only a site of this trust domain may use the invite. Default: any.
    pub to: Option<Text<TrustDomain>>,
    /// What the other site is told of. Default all.
    pub offer: Option<ScopeSpec>,
    /// What is taken from it. Default: names that no site exports yet.
    pub accept: Option<ScopeSpec>,
    /// How long the invite may be used, 10 to 86 400. Default 900.
    pub expires_in_s: Option<u32>,
}

/// Answer to an [`InviteRequest`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InviteReply {
    /// The invite: one word, secret, to be given to the other site.
    pub invite: String,
    /// When it can no longer be used.
    pub expires_at_ms: u64,
    /// Gateways that it names, `IP:PORT`.
    pub addresses: Vec<String>,
}

/// The invite is a secret, so it does not show in logs.
impl std::fmt::Debug for InviteReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteReply")
            .field("expires_at_ms", &self.expires_at_ms)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// `POST /v1/links`: accept an invite.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// The invite.
    pub invite: String,
    /// What the other site is told of. Default all.
    #[serde(default)]
    pub offer: Option<ScopeSpec>,
    /// What is taken from it. Default: names that no site exports yet.
    #[serde(default)]
    pub accept: Option<ScopeSpec>,
    /// Check, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The invite is a secret, so it does not show in logs.
impl std::fmt::Debug for LinkRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkRequest")
            .field("offer", &self.offer)
            .field("accept", &self.accept)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

/// One link; also the answer to a [`LinkRequest`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkView {
    /// The other site.
    pub site: String,
    /// Its uid.
    pub uid: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// `pending` until both sides have confirmed, then the state of the peer: `connected`, `degraded`, ...
    pub state: String,
    /// When the link was made.
    pub since_at_ms: u64,
    /// Paths that answer.
    pub paths_live: u32,
    /// Paths in all.
    pub paths_total: u32,
    /// Round trip over the best path.
    pub rtt_ms: Option<f64>,
    /// The other site's catalog has been complete at least once.
    pub synced: bool,
    /// Services that are offered to it, `NAMESPACE/NAME`.
    pub offers: Vec<String>,
    /// Services that are taken from it.
    pub takes: Vec<String>,
    /// What may be offered.
    pub offer: ScopeSpec,
    /// What may be taken.
    pub accept: ScopeSpec,
    /// Its gateways, `IP:PORT`.
    pub gateways: Vec<String>,
}

/// `GET /v1/links`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkList {
    /// All links, ordered by site.
    pub links: Vec<LinkView>,
}

/// Answer to `DELETE /v1/links/{site}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UnlinkReply {
    /// The other site.
    pub site: String,
    /// Services that it is no longer offered.
    pub offered: Vec<String>,
    /// Services that are no longer taken from it.
    pub taken: Vec<String>,
    /// It was told; else it withdraws ours when its lease ends.
    pub peer_told: bool,
    /// Why it was not told; empty when it was.
    pub note: String,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
}
