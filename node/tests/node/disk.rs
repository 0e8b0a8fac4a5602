//! The config on disk.

use crate::federation::{eventually, soon};
use crate::imports::service;
use model::config::{ConfigUpdate, ConfigVersion};
use node::store::ConfigStore;
use runtime::shutdown::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn version(revision: u64) -> ConfigVersion {
    ConfigVersion { incarnation: 1, revision }
}

fn apply(store: &ConfigStore, revision: u64, services: &[&str]) {
    let entries = services.iter().map(|name| service(name)).collect();
    let update = ConfigUpdate { version: version(revision), snapshot: true, complete: true, entries };
    store.apply(update).expect("applies");
}

fn held(folder: &Path) -> Vec<String> {
    let store = ConfigStore::open(folder).expect("opens");
    store.current().services.keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_was_applied_before_the_keeper_began_is_kept_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ConfigStore::open(folder.path()).expect("opens");
    apply(&store, 1, &["shop/cart"]);
    let shutdown = Shutdown::new();
    let keeper = tokio::spawn(store.clone().keep(shutdown.clone()));
    let mut stored = store.stored();
    soon("the write", stored.wait_for(|stored| *stored == Some(version(1)))).await.expect("kept");
    assert_eq!(held(folder.path()), ["shop/cart"]);
    shutdown.begin();
    soon("the end", keeper).await.expect("no panic");
}

#[tokio::test]
async fn the_last_change_reaches_the_disk_when_the_process_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ConfigStore::open(folder.path()).expect("opens");
    let shutdown = Shutdown::new();
    let keeper = tokio::spawn(store.clone().keep(shutdown.clone()));
    apply(&store, 1, &["shop/cart"]);
    shutdown.begin();
    soon("the end", keeper).await.expect("no panic");
    assert_eq!(held(folder.path()), ["shop/cart"]);
    let mode = std::fs::metadata(folder.path().join("config.snapshot")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_the_node_starts_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.snapshot");
    let good = wire::snapshot::encode(version(1), &[service("shop/cart")]);
    for damaged in [&b""[..], b"nonsense", &good[..good.len() - 1], &[&good[..], b"x"].concat()] {
        std::fs::write(&path, damaged).expect("written");
        assert!(held(folder.path()).is_empty());
        let aside = std::fs::read(folder.path().join("config.snapshot.unreadable")).expect("set aside");
        assert_eq!(aside, damaged);
        assert!(!path.exists());
    }
    std::fs::write(&path, &good).expect("written");
    assert_eq!(held(folder.path()), ["shop/cart"]);
}

/// Lets a store write this config, and ends it.
async fn keep(folder: &Path, revision: u64, services: &[&str]) {
    let store = ConfigStore::open(folder).expect("opens");
    let shutdown = Shutdown::new();
    apply(&store, revision, services);
    shutdown.begin();
    soon("the end", store.keep(shutdown)).await;
}

#[tokio::test]
async fn a_snapshot_cut_anywhere_gives_way_to_the_one_before_it_and_never_to_a_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.snapshot");
    keep(folder.path(), 1, &["shop/cart"]).await;
    keep(folder.path(), 2, &["shop/cart", "shop/orders"]).await;
    let (previous, good) =
        (folder.path().join("config.snapshot.previous"), std::fs::read(&path).expect("there"));
    let before = std::fs::read(&previous).expect("the one before is kept");
    for cut in 0..good.len() {
        std::fs::write(&path, &good[..cut]).expect("written");
        std::fs::write(&previous, &before).expect("written");
        assert_eq!(held(folder.path()), ["shop/cart"], "cut at {cut}");
        assert_eq!(
            std::fs::read(folder.path().join("config.snapshot.unreadable")).expect("set aside"),
            &good[..cut]
        );
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).expect("written");
        std::fs::write(&previous, &before).expect("written");
        assert_eq!(held(folder.path()), ["shop/cart"], "changed at {at}");
    }
    std::fs::write(&path, &good).expect("written");
    assert_eq!(held(folder.path()), ["shop/cart", "shop/orders"]);
}

#[tokio::test]
async fn a_previous_snapshot_that_was_used_becomes_the_newest_and_a_damaged_one_never_becomes_the_previous() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.snapshot");
    let encode = |revision, name| wire::snapshot::encode(version(revision), &[service(name)]);
    let previous = folder.path().join("config.snapshot.previous");
    std::fs::write(&path, b"nonsense").expect("written");
    std::fs::write(&previous, encode(1, "shop/cart")).expect("written");
    let store = ConfigStore::open(folder.path()).expect("opens");
    assert_eq!(*store.stored().borrow(), None, "the newest is not on disk");
    let shutdown = Shutdown::new();
    shutdown.begin();
    soon("the end", store.keep(shutdown)).await;
    assert_eq!(std::fs::read(&path).expect("there"), encode(1, "shop/cart"));
    assert_eq!(std::fs::read(&previous).expect("there"), encode(1, "shop/cart"));
}

#[tokio::test]
async fn a_snapshot_of_a_newer_meshfed_is_kept_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.snapshot");
    keep(folder.path(), 1, &["shop/cart"]).await;
    keep(folder.path(), 2, &["shop/orders"]).await;
    let mut newer = std::fs::read(&path).expect("there");
    newer[9] = 2;
    std::fs::write(&path, &newer).expect("written");
    assert_eq!(held(folder.path()), ["shop/cart"], "the one before it is of use");
    keep(folder.path(), 3, &["shop/orders"]).await;
    let kept = std::fs::read(folder.path().join("config.snapshot.newer")).expect("kept");
    assert_eq!(kept, newer);
}

#[tokio::test]
async fn a_write_that_failed_is_tried_again_and_nothing_is_acknowledged_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ConfigStore::open(folder.path()).expect("opens");
    // A folder has the name of the file.
    let path = folder.path().join("config.snapshot");
    std::fs::create_dir(&path).expect("made");
    let shutdown = Shutdown::new();
    let _keeper = tokio::spawn(store.clone().keep(shutdown.clone()));
    apply(&store, 1, &["shop/cart"]);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(*store.stored().borrow(), None);
    std::fs::remove_dir(&path).expect("removed");
    let stored = store.stored();
    eventually("the write", || *stored.borrow() == Some(version(1))).await;
    shutdown.begin();
    drop(Arc::clone(&store));
    assert_eq!(held(folder.path()), ["shop/cart"]);
}
