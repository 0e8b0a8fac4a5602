//! Who may use whom. ARCHITECTURE.md explains the table.

use house::manifests;

/// Folder, and the packages of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("runtime", &[]),
    ("chaos/link", &[]),
    ("api", &["model"]),
    ("policy", &["model"]),
    ("identity", &["model"]),
    ("federation/wire", &["model"]),
    ("federation/core", &["model", "policy"]),
    ("gateway/core", &["model", "policy"]),
    ("catalog-sync/core", &["model", "policy"]),
    ("gateway/tunnel", &["gateway-core", "identity", "wire", "runtime", "policy", "model"]),
    ("local", &["gateway-core", "policy", "model", "runtime"]),
    ("node", &["gateway-core", "tunnel", "local", "identity", "wire", "runtime", "policy", "model"]),
    (
        "gateway/server",
        &["gateway-core", "tunnel", "node", "local", "identity", "wire", "api", "runtime", "policy", "model"],
    ),
    (
        "federation/server",
        &["federation-core", "sync-core", "identity", "wire", "api", "runtime", "policy", "model"],
    ),
    ("catalog-sync/connectors", &["sync-core", "wire", "api", "runtime", "policy", "model"]),
    (
        "agent",
        &[
            "gateway-core",
            "tunnel",
            "node",
            "sync-core",
            "connectors",
            "local",
            "identity",
            "wire",
            "api",
            "runtime",
            "policy",
            "model",
        ],
    ),
    ("topologies", &["api", "model"]),
    ("chaos/sim", &["federation-core", "gateway-core", "sync-core", "policy", "model"]),
    ("chaos/experiment", &["topologies", "bench", "api", "model"]),
    ("chaos/live", &["experiment", "relay", "topologies", "bench", "api", "runtime"]),
    ("bench", &[]),
    ("fuzz", &["federation-core", "topologies", "local", "identity", "wire", "api", "hostile", "model"]),
    ("tools/hostile", &[]),
    ("tools/house", &[]),
];

/// Folders that a core lives in: no I/O, no async, no serialization.
const CORES: &[&str] = &["model", "policy", "federation/core", "gateway/core", "catalog-sync/core"];

/// Libraries that a core may use. Anything else needs a reason here.
const CORE_LIBRARIES: &[&str] = &[
    "thiserror", // error enums
    "ring",      // SHA-256 for digests; pure computation
    "fastrand",  // seeded, small random numbers
];

fn ours() -> Vec<String> {
    manifests().values().filter_map(|m| m.name.strip_prefix("meshfed-").map(str::to_owned)).collect()
}

#[test]
fn every_package_uses_only_what_its_layer_allows() {
    let ours = ours();
    for (folder, manifest) in manifests() {
        if folder == "cli" {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == folder) else {
            panic!("{folder} is not in the table of layers; add it here and to ARCHITECTURE.md");
        };
        for dependency in &manifest.dependencies {
            if ours.contains(dependency) {
                assert!(allowed.contains(&dependency.as_str()), "{folder} may not use {dependency}");
            }
        }
    }
}

#[test]
fn a_core_uses_no_library_that_does_io() {
    for (folder, manifest) in manifests() {
        if !CORES.contains(&folder.as_str()) {
            continue;
        }
        let ours = ours();
        for dependency in manifest.dependencies.iter().filter(|d| !ours.contains(d)) {
            assert!(
                CORE_LIBRARIES.contains(&dependency.as_str()),
                "{folder} is a core and may not use {dependency}"
            );
        }
    }
}

#[test]
fn a_core_forbids_clocks_hash_order_threads_and_sockets() {
    let root = house::root();
    let wanted = std::fs::read_to_string(root.join("policy/clippy.toml")).expect("policy/clippy.toml");
    assert!(wanted.contains("std::time::Instant::now") && wanted.contains("std::collections::HashMap"));
    for folder in CORES {
        let found = std::fs::read_to_string(root.join(folder).join("clippy.toml")).unwrap_or_default();
        assert_eq!(found, wanted, "{folder}/clippy.toml is not the one of the cores (that of policy)");
    }
}

#[test]
fn every_dependency_comes_from_the_workspace_table() {
    for (folder, manifest) in manifests() {
        assert!(
            manifest.not_from_workspace.is_empty(),
            "{folder}: these lines name no `workspace = true`: {:?}",
            manifest.not_from_workspace
        );
    }
}
