//! The link between two gateways as a relay of UDP datagrams in user space: no root, no kernel module.
//!
//! A [`Relay`] listens where a gateway is advertised and passes datagrams on to where it really is. Who sends is told
//! apart by source address, so each pair of gateways has its own [`Link`]: the definition of the way between the two,
//! a [`Shape`] for each direction (cut, MTU, loss, rate, delay, jitter, reordering, duplication), and the handle by
//! which it is changed while traffic flows. Start with [`Relay::bind`].
//!
//! What becomes of a packet is decided by a [`Shaper`], which is pure: told the time, given a seed. It can be asked
//! without any relay. Sizes are those of IP packets: the relay counts [`HEADERS`] bytes for each datagram.
//!
//! Every queue is bounded, and drops what finds it full: the one in front of a narrow place ([`Rate`]), and what is
//! under way ([`pipe::COUNT_MAX`], [`pipe::BYTES_MAX`]), for each direction of a link by itself.
//!
//! What the relay does not do: it lets no ICMP through, so a dead gateway behind it looks like a silent one, as it does
//! over most WANs; and it forwards datagrams whatever their TTL, ECN or fragment bits.
//!
//! `cargo run -p meshfed-relay --example accuracy` prints what was asked of it and what it does.

pub mod link;
pub mod pipe;
pub mod relay;
pub mod shape;
pub mod shaper;

mod courier;
mod flow;
mod socket;

pub use courier::HEADERS;
pub use link::{Count, Direction, Imposed, Link};
pub use relay::{Config, Relay, RelayError, Source};
pub use shape::{Distribution, Jitter, Loss, Rate, Reorder, Shape};
pub use shaper::{Reason, Shaper, Verdict};
