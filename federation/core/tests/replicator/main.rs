//! Claims about the replicator, made through its public face: a few sites on a bench, time moved by hand.

#![allow(clippy::disallowed_methods, reason = "a bench has to begin at some instant")]

mod bench;
mod catalogs;
mod epochs;
mod hostile;
mod leases;
mod properties;
mod sessions;
mod wild;
