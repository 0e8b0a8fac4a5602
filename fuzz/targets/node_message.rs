//! What gateways and agents say to their federation.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("node_message", fuzz::messages::node_message_seeds()), |bytes: &[u8]| fuzz::messages::node_message(bytes));
