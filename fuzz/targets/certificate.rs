//! Certificates and requests, DER.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("certificate", fuzz::trust::certificate_seeds()), |bytes: &[u8]| fuzz::trust::certificate(bytes));
