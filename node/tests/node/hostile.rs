//! The config on disk after any change of its bytes: the node serves what was kept whole, or starts empty.

use crate::imports::service;
use ::hostile::{any_bytes, changed, changes};
use model::config::{ConfigEntry, ConfigVersion};
use node::store::ConfigStore;
use proptest::prelude::*;
use std::path::Path;

const VERSION: ConfigVersion = ConfigVersion { incarnation: 1, revision: 1 };

fn kept() -> Vec<u8> {
    let entries: Vec<ConfigEntry> =
        ["shop/cart", "shop/web", "data/db"].iter().map(|name| service(name)).collect();
    wire::snapshot::encode(VERSION, &entries)
}

/// Services that a node serves from this file; whether the file was set aside.
fn opened(folder: &Path, bytes: &[u8]) -> (usize, bool) {
    std::fs::write(folder.join("config.snapshot"), bytes).expect("written");
    let store = ConfigStore::open(folder).expect("whatever is in the file");
    let services = store.current().services.len();
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let aside: Vec<_> = files.filter(|path| !path.ends_with("config.snapshot")).collect();
    for path in &aside {
        assert_eq!(std::fs::read(path).expect("set aside"), bytes, "as it was, for whoever looks at it");
        std::fs::remove_file(path).expect("removed");
    }
    (services, aside.len() == 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_config_on_disk_is_set_aside(changes in changes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let valid = kept();
        let bytes = changed(&valid, &valid, &changes);
        let expected = if bytes == valid { (3, false) } else { (0, true) };
        prop_assert_eq!(opened(folder.path(), &bytes), expected);
    }

    #[test]
    fn any_bytes_are_set_aside(bytes in any_bytes()) {
        let folder = tempfile::tempdir().expect("a folder");
        prop_assert_eq!(opened(folder.path(), &bytes), (0, true));
    }
}

#[test]
fn a_config_that_was_cut_off_at_any_byte_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let valid = kept();
    assert_eq!(opened(folder.path(), &valid), (3, false));
    for end in 0..valid.len() {
        assert_eq!(opened(folder.path(), &valid[..end]), (0, true), "{end} bytes");
    }
}
