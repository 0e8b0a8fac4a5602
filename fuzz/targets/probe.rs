//! Datagrams of the tunnel.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("probe", fuzz::messages::probe_seeds()), |bytes: &[u8]| fuzz::messages::probe(bytes));
