//! Sizes, words and dependencies that a reader can rely on.

use house::{files, root};
use std::collections::BTreeMap;

/// A file has one subject; past this it has two.
const LINES_MAX: usize = 700;

#[test]
fn no_source_file_is_longer_than_700_lines() {
    for path in files(&root(), &[".rs"]) {
        let lines = std::fs::read_to_string(&path).expect("readable").lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    // Built at run time, so that this file does not find itself.
    let marks: Vec<String> = ["todo!", "unimplemented!", "dbg!"]
        .iter()
        .map(|m| format!("{m}("))
        .chain(["#[ig".to_owned() + "nore"])
        .collect();
    for path in files(&root(), &[".rs"]) {
        let text = std::fs::read_to_string(&path).expect("readable");
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} contains {mark}", path.display());
        }
    }
}

/// Versions by name, from the lock file.
fn locked() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let value = |key: &str| line.strip_prefix(key).map(|v| v.trim_matches('"').to_owned());
        if let Some(found) = value("name = ") {
            name = found;
        } else if let Some(version) = value("version = ") {
            versions.entry(std::mem::take(&mut name)).or_default().push(version);
        }
    }
    versions
}

#[test]
fn there_is_one_version_of_each_heavy_dependency() {
    let locked = locked();
    for name in
        ["tokio", "tonic", "prost", "rustls", "quinn", "hyper", "hickory-proto", "rcgen", "ring", "axum"]
    {
        let versions = locked.get(name).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn there_is_no_second_tls_stack() {
    let locked = locked();
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring"] {
        assert!(!locked.contains_key(name), "{name} is in the tree");
    }
}
