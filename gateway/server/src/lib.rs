//! The gateway process: the data path between sites.
//!
//! A gateway takes streams from peers (gateways of linked sites), siblings (other gateways of its site), agents and
//! programs of its own host, and gets each to an endpoint. What it decides from is `policy`'s; how connections are
//! judged and chosen is `gateway_core`'s; copying is `tunnel`'s. This crate puts them together.
//!
//! - [`run`]: starts one; [`Options`], [`Handle`].
//! - `paths`: all connections. `ways`: how they lead to endpoints and sites. `door`: streams that come in.
//! - `carry`: bytes of federations, which it cannot read. `views`: what it tells agents and siblings. `report`: what
//!   it tells its federation.
//!
//! What this crate deliberately does not know: flags, environment, other processes of the site than by their wires.

mod carry;
mod door;
mod options;
mod paths;
mod process;
mod report;
mod views;
mod ways;

pub use options::{Entry, Local, Options};
pub use process::{Handle, run};
