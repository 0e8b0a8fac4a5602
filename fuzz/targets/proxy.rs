//! SOCKS5 and HTTP CONNECT, over sockets.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("proxy", fuzz::callers::proxy_seeds()), |bytes: &[u8]| fuzz::callers::proxy(bytes));
