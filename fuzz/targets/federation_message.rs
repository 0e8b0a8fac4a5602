//! What a federation says to its gateways and agents.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("federation_message", fuzz::messages::federation_message_seeds()), |bytes: &[u8]| fuzz::messages::federation_message(bytes));
