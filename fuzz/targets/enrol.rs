//! Joining, linking and renewing.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("enrol", fuzz::messages::enrol_seeds()), |bytes: &[u8]| fuzz::messages::enrol(bytes));
