//! The load generator: open and closed loops over HTTP/1.1, and the echo server that they are pointed at; and plain
//! connections ([`raw`]).
//!
//! Start with [`load::OpenLoop`], then [`report::report`]. How things are counted:
//!
//! - Every request is a GET over a connection of its own, unless `keepalive` is set. It is sent **once**: nothing
//!   here ever retries, so every failure that a caller would see is in the result.
//! - An open loop sends by a constant schedule, whatever the answers do, and latency runs from the moment at
//!   which the request was *due*. A stalled server therefore cannot hide the requests that it held up.
//! - `failed`: no complete answer with a status of 2xx within the timeout (2 s).
//! - `in_flight`: those of `failed` that were open on a part at the moment when it was killed (see
//!   [`report::Kill`]).
//! - `longest_gap_ms`: the longest time without a completed answer.
//!
//! What this crate deliberately does not know: meshfed. It measures whatever speaks HTTP.

pub mod echo;
pub mod http1;
pub mod load;
pub mod raw;
pub mod report;
pub mod sample;
