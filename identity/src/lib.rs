//! SPIFFE certificates, verifiers, bundles, invites and tokens.
//!
//! - [`ca::Ca`] issues, [`key::NodeKey`] asks, [`credentials::Credentials`] is what comes of it, and
//!   [`live::LiveCredentials`] is what a running process presents, replaceable while it runs.
//! - [`trust::TrustStore`] holds whose certificates count; [`tls`] makes TLS configs of the two, for quinn and for
//!   tokio-rustls.
//! - [`peer`] says who the other side is, or why it was refused: the rules stand there.
//! - [`rotation`]: the CAs of a site over time. [`bundle`]: anchors in SPIFFE's format. [`invite`]: invites and join tokens. [`proof`]: secrets bound to a
//!   session.
//!
//! What this crate deliberately does not know: files, sockets, clocks (times are arguments, or read by what [`tls::judge_by`] was given), and
//! which sites are linked: it is told.

pub mod bundle;
pub mod ca;
pub mod credentials;
pub mod invite;
pub mod key;
pub mod live;
pub mod peer;
pub mod proof;
pub mod rotation;
pub mod secret;
pub mod tls;
pub mod trust;

mod pem;
mod verify;
mod x509;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The cryptography of all of meshfed's TLS: `ring`, always passed explicitly.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
