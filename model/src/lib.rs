//! The words everyone shares: ids, localities, services, endpoints, the catalog, identities, messages.
//!
//! Start with [`service::ServiceName`] and [`endpoint::Endpoint`], then [`catalog::Entry`] (what sites tell
//! each other) and [`config::ConfigEntry`] (what a federation tells its own gateways and agents).
//!
//! What this crate deliberately does not know: I/O, clocks, serialization, any wire format.

pub mod catalog;
pub mod config;
pub mod decision;
pub mod endpoint;
pub mod exchange;
pub mod identity;
pub mod ids;
pub mod locality;
pub mod node;
pub mod routing;
pub mod service;
pub mod tunnel;
