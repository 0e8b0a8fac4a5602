//! What the fuzz targets do, and from what they begin: a module for each part of the product, in it a function for each
//! target, which asks of the decoder what the property tests ask, and its seeds, which are made and not kept.
//!
//! `targets/NAME.rs` is a line for each target; `tools/fuzz` runs them.

pub mod callers;
pub mod messages;
pub mod replica;
pub mod texts;
pub mod trust;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::path::Path;

/// Puts seeds where the fuzzer looks for them: `corpus/TARGET`.
///
/// # Panics
/// The folder cannot be written.
pub fn plant(target: &str, seeds: Vec<Vec<u8>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).expect("the corpus can be written");
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("the corpus can be written");
    }
}

/// So many values of a strategy, the same ones each time.
pub(crate) fn some<T>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}
