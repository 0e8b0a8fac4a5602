//! Protobuf messages, generated code, and `convert`, where protobuf meets the model.
//!
//! - [`pb`]: generated from `proto/meshfed/v1`: messages, gRPC clients and servers.
//! - [`convert`]: `From<&model>` for messages, `TryFrom<message>` for the model. Every bound is checked there.
//! - [`frame`]: headers and answers of tunnel streams. [`probe`]: datagrams. [`enroll`]: joining and linking.
//! - [`snapshot`]: the whole config of a node as a file. [`codec`]: how gRPC reads our messages.
//!
//! What this crate deliberately does not do: read or write anything. It turns bytes into values and back.

pub mod codec;
pub mod convert;
pub mod enroll;
pub mod frame;
pub mod probe;
pub mod snapshot;

/// Generated from `proto/meshfed/v1`. Everything in it is unchecked: convert it before use.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("meshfed.v1");
}

/// Most bytes in one [`pb::Chunk`] of a carrier.
pub const CHUNK_MAX: usize = 32 * 1024;
/// Metadata key of a `Carry` call that has the id of its carrier, in decimal digits.
pub const CARRIER_METADATA: &str = "meshfed-carrier";
