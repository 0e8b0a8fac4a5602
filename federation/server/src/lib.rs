//! The federation process: gRPC, REST, store, certificate authority.
//!
//! - [`run::run`] starts a whole federation on a site directory ([`site_dir`]) and gives a [`run::Handle`].
//! - [`hub::Hub`]: the one task that owns the state. It calls the cores and carries out what they say.
//! - [`grpc`]: enrolment, config, exchange. [`rest`]: the API. Both check who calls, ask the hub, and answer.
//! - [`store`]: the one seam to what outlives the process. [`book`]: the config as nodes get it.
//! - [`link`]: taking up an invite. [`session`]: sessions with peers, through [`carriers`].
//!
//! What this crate deliberately does not know: routing, replication and merging, which are decided in the cores; how
//! a carrier gets to another site, which is the gateways' business; flags and the environment.

pub mod answer;
pub mod book;
pub mod carriers;
pub mod docs;
pub mod events;
pub mod grpc;
pub mod hub;
pub mod link;
pub mod listener;
pub mod names;
pub mod options;
pub mod pki;
pub mod rest;
pub mod run;
pub mod session;
pub mod site_dir;
pub mod store;
pub mod tally;
pub mod vip_file;

pub use hub::SourceTrouble;
pub use hub::metrics::specs as metric_specs;
pub use options::Options;
pub use run::{Handle, SourceSender, TroubleSender, run, run_on};
