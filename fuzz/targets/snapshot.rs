//! The config of a node on disk.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("snapshot", fuzz::messages::snapshot_seeds()), |bytes: &[u8]| fuzz::messages::snapshot(bytes));
