//! Sans-IO data path: is a connection alive, which one takes a stream, may a stream come in, what becomes of it.
//!
//! In reading order:
//! - [`attempt`]: one client connection, from accept until an endpoint has it;
//! - [`liveness`]: one tunnel connection and its probes;
//! - [`path`]: all connections of a gateway or agent, by peer: placement, state of the peer, redialling;
//! - [`admission`]: a stream header from an authenticated peer, taken or refused.
//!
//! What this crate deliberately does not know: QUIC, sockets, protobuf, and how a site is chosen (`policy` does).

pub mod admission;
pub mod attempt;
pub mod liveness;
pub mod path;

/// An instant to begin a test with; which one does not matter.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way")]
pub(crate) fn some_instant() -> std::time::Instant {
    std::time::Instant::now() + std::time::Duration::from_secs(3_600)
}
