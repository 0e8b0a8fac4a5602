//! The link between two gateways as a relay of UDP datagrams in user space: no root, no kernel module.
//!
//! A [`Relay`] listens where a gateway is advertised and passes datagrams on to where it really is. Who sends is told
//! apart by source address, so each pair of gateways has its own [`Link`]: the definition of the way between the two
//! (delay, loss), and the handle by which it is cut and healed while traffic flows. Start with [`Relay::bind`].
//!
//! What the relay does not do: it never reorders or duplicates, has no rate, and lets no ICMP through, so a dead
//! gateway behind it looks like a silent one, as it does over most WANs.

pub mod link;
pub mod relay;

mod flow;

pub use link::{Direction, Link, Profile};
pub use relay::{Config, Relay, RelayError, Source};
