//! Where services come from: files, agents on hosts; and health checks.
//!
//! - [`connector`]: one source as a task: what should be registered, the health of each, and the events that follow.
//! - [`agent`]: what an agent registers: workloads from the config and from a file. [`files`]: services with fixed
//!   endpoints, for the site itself.
//! - [`watch`]: files that are read again when they change, and keep their last good state.
//! - [`health`]: probes over TCP, HTTP and gRPC, and by a command. [`metrics`]: how they go.
//!
//! What this crate deliberately does not know: how events reach the federation, and what becomes of them there.

pub mod agent;
mod announce;
pub mod connector;
pub mod files;
pub mod health;
pub mod metrics;
pub mod watch;
