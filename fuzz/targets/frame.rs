//! Headers, answers and peer views of tunnel streams.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("frame", fuzz::messages::frame_seeds()), |bytes: &[u8]| fuzz::messages::frame(bytes));
