//! Credentials and CAs, PEM.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("pem", fuzz::trust::pem_seeds()), |bytes: &[u8]| fuzz::trust::pem(bytes));
