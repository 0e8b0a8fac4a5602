//! Invites and join tokens.

#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::plant("invite", fuzz::trust::invite_seeds()), |bytes: &[u8]| fuzz::trust::invite(bytes));
