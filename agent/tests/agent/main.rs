//! An agent on loopback: real TLS and QUIC, a federation and gateways that do what the test says. Outcomes are asserted,
//! never durations.

mod clients;
#[path = "../../../node/tests/node/federation.rs"]
mod federation;
mod gateways;
#[path = "../../../node/tests/node/imports.rs"]
mod imports;
mod joining;
mod leaving;
#[path = "../../../node/tests/node/tunnels.rs"]
mod tunnels;
mod workloads;
mod world;
