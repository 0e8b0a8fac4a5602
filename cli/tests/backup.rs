//! A store that is copied while its site runs, and put back.

mod support;
mod world;

use std::os::unix::fs::PermissionsExt;
use world::{LONG, World};

#[test]
fn a_backup_of_a_running_site_brings_back_what_was_there_and_the_link_with_it() {
    let world = World::new();
    let (mut east, _west) = (world.site("east", &[]), world.site("west", &[]));
    world.good(&["link", "east", "west"]);
    let export = |name: &str| {
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata: {{name: {name}, namespace: shop}}\n"
        );
        let file = format!("{name}.yaml");
        std::fs::write(world.path(&file), text).expect("written");
        world.good(&["apply", "-f", &file, "--context", "east"]);
    };
    export("before");
    let said = world.good(&["backup", "--context", "east", "--to", "east.redb"]).out;
    assert!(said.contains("the store of east") && said.contains("stop the site"), "{said}");
    let mode = std::fs::metadata(world.path("east.redb")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has secrets");
    export("since");

    east.terminate();
    east.ended(LONG);
    std::fs::copy(world.path("east.redb"), world.path("east/store.redb")).expect("restored");
    east.again();
    world.well("east");
    let exports = world.good(&["get", "serviceexport", "--context", "east"]).out;
    assert!(exports.contains("before") && !exports.contains("since"), "{exports}");
    world.until("the link, without anything that a person did", || {
        let peer = world.try_peer("west", "east")?;
        if peer.state == "connected" && peer.catalog.live { Ok(()) } else { Err(format!("{peer:?}")) }
    });

    // A copy is a file; what is in it is for no screen.
    let ran = world.run(&["backup", "--context", "east", "--json"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.contains("neither JSON nor YAML") && ran.err.contains("--to store.redb"), "{}", ran.err);
}

#[test]
fn a_store_that_is_no_store_stops_the_site_with_its_cause_and_the_way_out() {
    let world = World::new();
    let mut east = world.site("east", &[]);
    east.terminate();
    east.ended(LONG);
    let store = world.path("east/store.redb");
    let whole = std::fs::read(&store).expect("there");
    std::fs::write(&store, &whole[..whole.len() / 2]).expect("written");
    east.again();
    assert_eq!(east.ended(LONG).code(), Some(1));
    for says in ["east/store.redb is damaged", "Restore it from a backup, or move it away"] {
        assert!(east.log().contains(says), "{}", east.log());
    }
    assert_eq!(std::fs::read(&store).expect("there").len(), whole.len() / 2, "it was changed");
    // The way out works.
    std::fs::rename(&store, world.path("east/store.damaged")).expect("moved away");
    east.again();
    world.well("east");
}
