//! The tunnel on loopback, with real QUIC. Outcomes are asserted, never durations.

mod closes;
mod failover;
mod handshake;
mod hostile;
mod limits;
mod load;
mod originate;
mod slow;
mod streams;
mod support;
