//! A peer that says well-formed things, one after the other.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("replicator", fuzz::replica::replicator_seeds()), |bytes: &[u8]| fuzz::replica::replicator(bytes));
