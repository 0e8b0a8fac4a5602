//! Proofs that the sender holds a secret, worth nothing on another TLS session.
//!
//! A proof is HMAC-SHA256 with the secret over the session's exporter (RFC 8446, section 7.5) and a context that
//! names what is asked for; so who carries the bytes can neither reuse the proof nor change the request.

use crate::bundle;
use crate::secret::Secret;
use model::identity::Bundle;
use model::ids::{Label, SiteUid};
use model::node::NodeKind;
use ring::hmac::{self, HMAC_SHA256};
use rustls::ConnectionCommon;

/// Label of the exporter.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-meshfed-proof-1";

/// What both ends of one TLS session know and nobody else.
pub type Exporter = [u8; 32];

/// Takes the exporter of a session whose handshake is done; the same on both ends. Pass `.get_ref().1` of a
/// `tokio_rustls` stream.
///
/// # Errors
/// The handshake is not done.
pub fn exporter<Data>(session: &ConnectionCommon<Data>) -> Result<Exporter, rustls::Error> {
    session.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

/// Proves that the sender holds the secret, on the session of `exporter`, for `context`.
pub fn prove(secret: &Secret, exporter: &Exporter, context: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(HMAC_SHA256, secret.expose());
    let tag = hmac::sign(&key, &message(exporter, context));
    tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
}

/// Checks a proof, in constant time.
pub fn verify(secret: &Secret, exporter: &Exporter, context: &[u8], proof: &[u8]) -> bool {
    let key = hmac::Key::new(HMAC_SHA256, secret.expose());
    hmac::verify(&key, &message(exporter, context), proof).is_ok()
}

fn message(exporter: &Exporter, context: &[u8]) -> Vec<u8> {
    [exporter, context].concat()
}

/// The context of a `Join`: what the sender is, its name, its certificate request.
pub fn join_context(kind: NodeKind, name: &Label, csr_der: &[u8]) -> Vec<u8> {
    let kind = match kind {
        NodeKind::Gateway => "gateway",
        NodeKind::Agent => "agent",
    };
    let mut context = format!("join\0{kind}\0{name}\0").into_bytes();
    context.extend(bundle::sha256(csr_der));
    context
}

/// The context of a `Redeem`: uid and bundle of the accepter. An invite is bound to them by its first proof.
pub fn redeem_context(uid: SiteUid, accepter: &Bundle) -> Vec<u8> {
    let mut context = b"redeem\0".to_vec();
    context.extend(uid.0);
    context.extend(bundle::digest(accepter));
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_secret_session_and_context_only() {
        let (secret, other) = (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
        let proof = prove(&secret, &[3; 32], b"context");
        assert!(verify(&secret, &[3; 32], b"context", &proof));
        assert!(!verify(&other, &[3; 32], b"context", &proof));
        assert!(!verify(&secret, &[4; 32], b"context", &proof));
        assert!(!verify(&secret, &[3; 32], b"other", &proof));
        assert!(!verify(&secret, &[3; 32], b"context", &proof[..31]));
        assert!(!verify(&secret, &[3; 32], b"context", b""));
    }

    #[test]
    fn contexts_of_different_requests_differ() {
        let name: Label = "vm-1".parse().expect("valid");
        let agent = join_context(NodeKind::Agent, &name, b"csr");
        assert_ne!(agent, join_context(NodeKind::Gateway, &name, b"csr"));
        assert_ne!(agent, join_context(NodeKind::Agent, &name, b"other"));
        assert_ne!(agent, join_context(NodeKind::Agent, &"vm-2".parse().expect("valid"), b"csr"));
    }
}
