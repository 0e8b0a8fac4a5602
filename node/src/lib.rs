//! What gateways and agents have in common: both are nodes of a site.
//!
//! - [`enroll`]: how a node joins its site and keeps its certificate young.
//! - [`stream`]: the config stream to the federation, over a [`channel`]. [`store`]: the config in memory and on disk.
//!   [`config`]: how updates change it.
//! - [`routes`]: the routing table. [`route`]: one client connection on its way through it.
//! - [`way_in`]: virtual IPs, proxy port and DNS, for programs of the host.
//! - [`tally`]: what is counted on the way. [`metrics`]: how it is told.
//!
//! What this crate deliberately does not know: how a node reaches its federation (it is given a [`stream::Dial`]),
//! and how it reaches endpoints and other sites.

pub mod channel;
pub mod config;
pub mod enroll;
pub mod metrics;
pub mod route;
pub mod routes;
pub mod store;
pub mod stream;
pub mod tally;
pub mod way_in;
