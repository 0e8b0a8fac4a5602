//! A deterministic world of virtual time for the cores, and its oracles.
//!
//! - Start with [`world::World`]: sites, each a replicator with a store and sources, on a [`fabric::Fabric`].
//! - [`transition::Transition`] is everything that may happen; a [`transition::Plan`] is drawn from a seed.
//! - [`oracle`] says what must hold; it shares nothing with the cores but the words of `model`.
//! - [`run::run_seed`] puts the three together; a failure names its seed and its transitions, and replays exactly.
//! - Faults in hand-written scenarios are guards: `let cut = world.cut(a, b); …; drop(cut);`.
//!
//! What it deliberately does not know: real clocks (only differences of instants count), threads, hash order.

pub mod chance;
pub mod fabric;
pub mod oracle;
pub mod run;
pub mod site;
pub mod stream;
pub mod transition;
pub mod truth;
pub mod world;
