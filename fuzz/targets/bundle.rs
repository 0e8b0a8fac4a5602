//! Bundles in the SPIFFE format.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("bundle", fuzz::trust::bundle_seeds()), |bytes: &[u8]| fuzz::trust::bundle(bytes));
