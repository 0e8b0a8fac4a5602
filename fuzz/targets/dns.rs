//! DNS, over a socket.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("dns", fuzz::callers::dns_seeds()), |bytes: &[u8]| fuzz::callers::dns(bytes));
