//! YAML of topologies.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("topology", fuzz::texts::topology_seeds()), |bytes: &[u8]| fuzz::texts::topology(bytes));
