//! Bodies of the REST API.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("rest", fuzz::texts::rest_seeds()), |bytes: &[u8]| fuzz::texts::rest(bytes));
