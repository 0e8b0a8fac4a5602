//! YAML of resources.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("resources", fuzz::texts::resources_seeds()), |bytes: &[u8]| fuzz::texts::resources(bytes));
