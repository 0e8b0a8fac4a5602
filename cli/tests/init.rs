//! `meshfed init` and `meshfed context`.

mod support;

use std::os::unix::fs::PermissionsExt;
use support::Home;

#[test]
fn init_makes_a_whole_site_and_a_context() {
    let home = Home::new();
    let ran = home.good(&["init", "east", "--locality", "eu/fra", "--address", "127.0.201.1"]);
    assert!(
        ran.out.starts_with("made site east · eu/fra · trust domain east.mesh\n  ./east/"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("next: meshfed site ./east\n"), "{}", ran.out);
    let site = std::fs::read_to_string(home.path().join("east/site.yaml")).expect("there");
    let resources = api::resource::parse("site.yaml", &site).expect("a valid resource");
    assert_eq!(resources.len(), 1);
    let uid = std::fs::read_to_string(home.path().join("east/uid")).expect("there");
    assert!(uid.trim().parse::<model::ids::SiteUid>().is_ok(), "{uid}");
    for (name, mode) in
        [("ca/ca.key", 0o600), ("admin/admin.key", 0o600), ("ca/ca.crt", 0o644), ("admin/admin.crt", 0o644)]
    {
        let metadata = std::fs::metadata(home.path().join("east").join(name)).expect(name);
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    let contexts = std::fs::read_to_string(home.contexts()).expect("there");
    assert!(contexts.contains("current: east") && contexts.contains("api: 127.0.201.1:15080"), "{contexts}");
    assert!(!contexts.contains("PRIVATE KEY"));
}

#[test]
fn sites_of_one_person_take_their_virtual_ips_from_different_blocks() {
    let home = Home::new();
    let mut seen = std::collections::BTreeSet::new();
    let init = |n: u8| {
        let name = format!("site-{n}");
        let ran = home.run(&["init", &name, "--address", &format!("127.0.202.{n}")]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let text = std::fs::read_to_string(home.path().join(&name).join("site.yaml")).expect("there");
        let line = text.lines().find(|line| line.contains("vipRange")).expect("it has one").to_owned();
        let second = line.split('.').nth(1).expect("an address").parse::<u8>().expect("a number");
        // A site gives its nodes the other ranges of the aligned eight.
        (second / 8, second, ran.err)
    };
    let mut ranges = std::collections::BTreeSet::new();
    for n in 1..=8 {
        let (block, range, told) = init(n);
        assert!(seen.insert(block), "127.{range} is in a block that is taken");
        assert!(!told.contains("blocks of virtual IPs"), "{told}");
        ranges.insert(range);
    }
    // There is no ninth block: it has a range of its own all the same, and hears with whom it shares the block.
    let (_, range, told) = init(9);
    assert!(ranges.insert(range), "127.{range} is the range of another site");
    assert!(told.contains("all 8 blocks of virtual IPs") && told.contains("with site-"), "{told}");
}

#[test]
fn init_never_overwrites() {
    let home = Home::new();
    home.good(&["init", "east", "--address", "127.0.201.2"]);
    let uid = std::fs::read(home.path().join("east/uid")).expect("there");
    let ran = home.run(&["init", "east", "--address", "127.0.201.3"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is there already, and is not overwritten"), "{}", ran.err);
    let ran = home.run(&["init", "east", "--dir", "other", "--address", "127.0.201.3"]);
    assert!(ran.err.contains("there is a context `east` already, for 127.0.201.2:15080"), "{}", ran.err);
    assert!(!home.path().join("other").exists());
    assert_eq!(std::fs::read(home.path().join("east/uid")).expect("there"), uid);
}

#[test]
fn a_failed_init_leaves_nothing_behind() {
    let home = Home::new();
    home.write("contexts.yaml", "contexts: [wrong]\n");
    let config = home.path().join("contexts.yaml").display().to_string();
    let ran = home.run_with(&["init", "east", "--address", "127.0.201.4"], &[("MESHFED_CONFIG", &config)]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(!home.path().join("east").exists());
    for name in ["invite", "accept"] {
        let ran = home.run(&["init", name, "--address", "127.0.201.4"]);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(&format!("a site may not be named `{name}`")), "{}", ran.err);
        assert!(!home.path().join(name).exists());
    }
    let ran = home.good(&["init", "west", "--address", "127.0.201.5", "--dry-run"]);
    assert!(ran.out.ends_with("nothing was made\n"), "{}", ran.out);
    assert!(!home.path().join("west").exists() && !home.contexts().exists());
}

#[test]
fn a_site_without_an_address_gets_a_free_one() {
    let home = Home::new();
    let address = |name: &str| {
        let ran = home.good(&["init", name, "--json"]);
        let made: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let address = made["address"].as_str().expect("text").to_owned();
        assert!(address.starts_with("127.0.") && address.ends_with(".1"), "{address}");
        address
    };
    assert_ne!(address("east"), address("west"));
}

#[test]
fn the_contexts_file_is_where_the_environment_says() {
    let home = Home::new();
    let xdg = home.path().join("xdg").display().to_string();
    let ran = home.run_with(&["init", "east", "--address", "127.0.201.6"], &[("XDG_CONFIG_HOME", &xdg)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(home.path().join("xdg/meshfed/contexts.yaml").exists() && !home.contexts().exists());
    let own = home.path().join("own.yaml").display().to_string();
    let both = [("XDG_CONFIG_HOME", xdg.as_str()), ("MESHFED_CONFIG", own.as_str())];
    let ran = home.run_with(&["init", "west", "--address", "127.0.201.7"], &both);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(std::fs::read_to_string(&own).expect("there").contains("current: west"));
}

#[test]
fn contexts_are_listed_chosen_and_forgotten() {
    let home = Home::new();
    home.good(&["init", "east", "--address", "127.0.201.8"]);
    home.good(&["init", "west", "--address", "127.0.201.9"]);
    let list = home.good(&["context"]).out;
    assert!(list.contains("*  east") && list.contains("   west"), "{list}");
    home.good(&["context", "use", "west"]);
    assert!(home.good(&["context", "list"]).out.contains("*  west"));
    let ran = home.run(&["context", "use", "wets"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean `west`?"), "{}", ran.err);
    home.good(&["context", "remove", "west"]);
    assert!(home.path().join("west/site.yaml").exists(), "the site itself stays");
    assert!(!home.good(&["context", "list"]).out.contains("west"));
    let shown: serde_json::Value =
        serde_json::from_str(&home.good(&["context", "show", "--json"]).out).expect("JSON");
    assert_eq!(shown["site"], "east", "the only one left is used");
}
