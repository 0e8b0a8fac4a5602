//! What processes write to standard error with `--log-format json`.

mod support;
mod world;

use std::net::TcpListener;
use world::caller::get;
use world::{LONG, World};

const JSON: [&str; 4] = ["--log-format", "json", "--log", "debug,h2=info,hyper=info"];

/// Checks that every line is a document of the form that is promised; gives the levels.
#[track_caller]
fn documents(log: &str) -> Vec<String> {
    let line = |line: &str| {
        let document: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: `{line}`"));
        let object = document.as_object().expect("an object");
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 5, "{line}");
        for key in ["time", "level", "target", "message"] {
            assert!(object[key].is_string(), "{key} of {line}");
        }
        assert!(object["fields"].is_object(), "{line}");
        object["level"].as_str().expect("text").to_owned()
    };
    log.lines().map(line).collect()
}

/// Everything in the folders of a world that nobody else may know.
fn secrets(world: &World, tokens: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let keys = ["east/ca/ca.key", "west/ca/ca.key", "east-vm-1/node.key", "east-gw-1/node.key"];
    for key in keys {
        let lines = world.read(key).lines().map(str::to_owned).collect::<Vec<_>>();
        found.extend(lines.into_iter().filter(|line| !line.starts_with("-----") && line.len() > 20));
    }
    for token in tokens {
        let text = world.read(token);
        let text = text.trim();
        // The secret is within it; a log that has a part of it has too much.
        found.extend(
            text.as_bytes().chunks(24).skip(1).map(|part| String::from_utf8_lossy(part).into_owned()),
        );
    }
    assert!(found.len() > 10, "the secrets were not found");
    found.retain(|secret| secret.len() >= 16);
    found
}

#[test]
fn every_line_is_a_json_document_and_none_has_a_secret() {
    let world = World::new();
    world.init("east", &[]);
    world.init("west", &[]);
    let east = world.start("east", &[&["site", "east"][..], &JSON].concat());
    let west = world.start("west", &[&["site", "west"][..], &JSON].concat());
    world.well("east");
    world.well("west");
    let (_echo, listen) = world.echo("east", "cart");
    let vm = world.agent("east", "vm-1", &JSON);
    let gateway = world.gateway("east", "gw-1", &JSON);
    let invite = world.good(&["link", "invite", "--context", "east"]);
    world.home.write("east.invite", &invite.out);
    world.good(&["link", "accept", "east.invite", "--context", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    world.healthy("west", "shop/cart", 1);
    let entry = world.served("west", "shop/cart", port);
    get(entry, "/").expect("an answer");
    for part in [&vm, &gateway, &east, &west] {
        part.terminate();
    }
    let secrets = secrets(&world, &["east-vm-1.token", "east-gw-1.token", "east.invite"]);
    for mut part in [vm, gateway, east, west] {
        assert_eq!(part.ended(LONG).code(), Some(0), "{}", part.log());
        let log = part.log();
        let levels = documents(&log);
        assert!(levels.iter().any(|level| level == "INFO"), "{log}");
        assert!(levels.iter().any(|level| level == "DEBUG"), "{log}");
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "`{secret}` is in a log");
        }
    }
}

#[test]
fn the_last_words_of_a_process_that_does_not_start_are_a_document_too() {
    let world = World::new();
    world.init("east", &[]);
    let _taken = TcpListener::bind(world.port_of("east", 15080)).expect("free");
    let mut east = world.start("east", &[&["site", "east"][..], &JSON].concat());
    assert_eq!(east.ended(LONG).code(), Some(1));
    let log = east.log();
    let levels = documents(&log);
    assert_eq!(levels.last().map(String::as_str), Some("ERROR"), "{log}");
    assert!(log.contains("in use by another process"), "{log}");
}
