//! Sans-IO replication of catalogs between linked sites: epochs, revisions, snapshots, tombstones, leases.
//!
//! - Start with [`Replicator`]: inputs are its `handle_*`, outputs its `poll_*`; time is an argument.
//! - [`store`] says what must outlive the process, and in which order things are stored and sent.
//! - [`event`] says what a shell hears of; [`peer`] what a link is, and the states of a peer.
//! - [`digest`] has the rules by which two sides tell that they hold the same.
//! - [`imports`] merges what all sites offer under one name.
//!
//! What it deliberately does not know: sockets, clocks, gRPC, protobuf, files, who may connect (the shell proves that a
//! session is with the linked site before it says so).

pub mod check;
pub mod digest;
pub mod event;
pub mod imports;
pub mod peer;
pub mod session;
pub mod settings;
pub mod store;

mod held;
mod own;
mod producer;
mod projection;
mod replicator;

pub use replicator::{Backlog, Counters, OwnError, Replicator};
