//! The roots of a site: which sign, which are published, and who has taken them.

use serde::{Deserialize, Serialize};

/// `POST /v1/trust/rotate`: the next step towards a new root, which then signs. `POST /v1/trust/finish`: the last one,
/// after which the old root counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// Also when somebody still waits for it.
    #[serde(default)]
    pub force: bool,
    /// Say what would happen, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Certificate request (PKCS #10, DER) of the administrator who asks, in hexadecimal: the answer then has a certificate
    /// by the root that signs after the step.
    #[serde(default)]
    pub csr_hex: Option<String>,
}

/// Answer to a [`TrustRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustReply {
    /// What was done, or would be.
    pub done: String,
    /// Who was passed over, one line each, with what that means.
    pub passed_over: Vec<String>,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
    /// How things stand now.
    pub trust: TrustView,
    /// What the administrator who asked shows from now on.
    pub admin: Option<AdminCertificate>,
}

/// A certificate for the administrator who asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminCertificate {
    /// The chain, PEM.
    pub certificate: String,
    /// The roots by which the site is known, PEM.
    pub anchors: String,
}

/// `GET /v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustView {
    /// The site.
    pub site: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// `settled`: one root. `published`: the next one is told to everybody, and does not sign yet. `switched`: the new one
    /// signs, and the old one still counts.
    pub step: String,
    /// Number of the bundle; grows with each change of it.
    pub sequence: u64,
    /// The roots, oldest first.
    pub roots: Vec<RootView>,
    /// Linked sites, gateways and agents.
    pub holders: Vec<HolderView>,
    /// Those of them that the next step waits for.
    pub waits_for: Vec<String>,
    /// Join tokens that are open; those that were made before the first step do not outlast the last one.
    pub open_tokens: u32,
    /// The next command.
    pub next: String,
}

/// A root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootView {
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// `signs`, `next` or `old`.
    pub role: String,
    /// When its certificate runs out.
    pub expires_at_ms: u64,
}

/// Somebody who has to know the roots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HolderView {
    /// `peer`, `gateway` or `agent`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The next step need not wait for it.
    pub ready: bool,
    /// Why, in words.
    pub note: String,
}
