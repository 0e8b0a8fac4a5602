//! What linked federations say.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("peer_message", fuzz::messages::peer_message_seeds()), |bytes: &[u8]| fuzz::messages::peer_message(bytes));
