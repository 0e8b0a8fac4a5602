//! Nodes on loopback: real TLS and QUIC, a federation and gateways that do what the test says. Outcomes are asserted,
//! never durations.

mod config_stream;
mod disk;
mod enrolment;
mod federation;
mod hostile;
mod imports;
mod routes;
mod tunnels;
mod ways_in;
