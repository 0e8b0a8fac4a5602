//! The tunnel as a shell: one QUIC endpoint per process, its connections, streams, probes, and copying.
//!
//! - [`endpoint::Tunnel`]: binds, dials ([`endpoint::Tunnel::connect`]) and is dialled ([`endpoint::Tunnel::accept`]).
//! - [`connection::Connection`]: who is at the other end, how it is, `open` and `accept_stream`.
//! - [`originate::run`]: one client connection, from its accept to its end, with a [`originate::Route`] that decides.
//! - [`splice`]: copying, with the table of how closes are passed on. [`dial`]: TCP to an endpoint.
//! - [`config::Config`], [`codes`]: settings and numbers, with the reasons for them.
//!
//! What this crate deliberately does not decide: where a stream goes, which peers are dialled, and when silence is
//! death. `gateway_core` and `policy` do.

mod bbr;
pub mod codes;
pub mod config;
pub mod connection;
pub mod counters;
mod credit;
pub mod dial;
mod driver;
pub mod endpoint;
pub mod frame;
pub mod incoming;
mod keys;
mod knock;
pub mod link;
pub mod originate;
mod places;
mod pool;
mod pump;
mod room;
mod socket;
pub mod splice;
pub mod stream;
pub mod tcp;
mod unacked;

pub use codes::{CloseCode, StreamCode};
pub use config::{Config, Congestion, Roles};
pub use connection::{Closed, Connection, Health, Load, OpenError, Opened, State};
pub use counters::Counters;
pub use endpoint::{Accepted, ConnectError, Tunnel, TunnelError};
pub use incoming::IncomingStream;
pub use link::LinkStream;
pub use originate::{Client, Finish, Next, Outcome, Request, Route};
pub use stream::Stream;
pub use tcp::Tcp;
