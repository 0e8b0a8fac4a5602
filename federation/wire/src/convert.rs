//! The one place where protobuf meets the model.
//!
//! `From<&model>` makes a message; it never fails, and cuts free texts to their bound. `TryFrom<message>` checks
//! everything that the model promises: labels, counts, lengths, orders, known enum values, and that a value is of
//! the kind of its key. Whatever bytes a peer sends, the answer is a value that keeps those promises or a
//! [`WireError`]; never a panic.

mod check;
mod common;
mod config;
mod decision;
mod exchange;
mod node;
mod tunnel;
mod workload;

pub(crate) use check::{InField, bytes, certificates, convert, count, need, parse, word};
pub(crate) use config::entries as config_entries;
pub(crate) use node::socket_some;

use model::ids::InvalidId;
use std::fmt;

/// Bounds on what is taken from a peer.
pub mod limits {
    /// Ports of a service.
    pub const PORTS_MAX: usize = 64;
    /// Gateways of a site.
    pub const GATEWAYS_MAX: usize = 64;
    /// Sites that one site can know.
    pub const SITES_MAX: usize = 1024;
    /// Anchors of a bundle.
    pub const ANCHORS_MAX: usize = 16;
    /// Certificates that stand beside a bundle, to show that it is the successor of an older one.
    pub const VOUCHERS_MAX: usize = 5;
    /// Bytes of a certificate or a certificate request.
    pub const CERTIFICATE_MAX: usize = 8 * 1024;
    /// Certificates of a chain.
    pub const CHAIN_MAX: usize = 8;
    /// Entries of a batch, an update or a snapshot: more than fit a message of the size that a server takes.
    pub const ENTRIES_MAX: usize = 200_000;
    /// Elements of a scope.
    pub const SCOPE_MAX: usize = 10_000;
    /// Groups of a service.
    pub const GROUPS_MAX: usize = 4096;
    /// Endpoints of a group, listed or counted. With [`GROUPS_MAX`] groups their sum still fits 32 bits.
    pub const ENDPOINTS_MAX: usize = 1_000_000;
    /// Rules of an access policy, and callers that one of them names.
    pub const RULES_MAX: usize = 1024;
    /// Paths of one node.
    pub const PATHS_MAX: usize = 16_384;
    /// Services and sites with open streams on one node.
    pub const STREAMS_MAX: usize = 65_536;
    /// Problems that a node reports.
    pub const PROBLEMS_MAX: usize = 64;
    /// Characters of a reason that a peer gives.
    pub const REASON_MAX: usize = 200;
    /// Characters of a longer text of the own site: problems, notes, events.
    pub const TEXT_MAX: usize = 1000;
    /// Characters of a subset's name.
    pub const SUBSET_MAX: usize = 63;
    /// Words of a health check's command.
    pub const COMMAND_MAX: usize = 64;
    /// Bytes of one word of a command.
    pub const ARGUMENT_MAX: usize = 4096;
    /// Greatest weight of an endpoint.
    pub const WEIGHT_MAX: u32 = 1000;
}

/// A message that breaks its rules. The peer that sent it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}", before(field))]
pub struct WireError {
    /// Path to the field, from the outermost one: `batch.entries[3].value.weight`. Empty: the message as a whole.
    pub field: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It must be there and is not.
    #[error("it is missing")]
    Missing,
    /// A number of an enum that is not known here; the peer is newer, or broken.
    #[error("{0} is not a known value")]
    Unknown(i32),
    /// An identifier, a locality or a name breaks its rules.
    #[error("{0}")]
    Invalid(InvalidId),
    /// A text that should be an address is none.
    #[error("`{0}` is not {1}")]
    Address(String, &'static str),
    /// Bytes of a fixed length have another.
    #[error("it has {found} bytes and not {expected}")]
    Length {
        /// As sent.
        found: usize,
        /// As it should be.
        expected: usize,
    },
    /// Too many elements, bytes or characters.
    #[error("it has {found} {what}, the most are {max}")]
    TooMany {
        /// As sent.
        found: usize,
        /// What was counted.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A number lies outside its range.
    #[error("{found} is not within {min} to {max}")]
    Range {
        /// As sent.
        found: u64,
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// A rule between fields is broken.
    #[error("{0}")]
    Rule(&'static str),
    /// The bytes are no such message.
    #[error("the bytes are not such a message: {0}")]
    Bytes(String),
}

fn before(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

impl WireError {
    /// Builds the error for one field.
    pub fn new(field: impl fmt::Display, cause: Cause) -> Self {
        Self { field: field.to_string(), cause }
    }
}
