//! `meshfed diagnose` against real sites: what is well, what is cut, what does not run.

mod support;
mod world;

use serde_json::Value;
use std::net::TcpListener;
use world::World;

/// Checks of a report with this verdict: what they are about, and all that they say.
fn of(report: &Value, verdict: &str) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().expect("checks").iter();
    let checks = checks.filter(|check| check["verdict"] == verdict);
    let text = |check: &Value, key: &str| check[key].as_str().expect("text").to_owned();
    checks
        .map(|check| (text(check, "what"), format!("{} → {}", text(check, "seen"), text(check, "next"))))
        .collect()
}

#[test]
fn a_healthy_pair_says_so_and_a_cut_peer_is_named_with_its_cause() {
    let world = World::new();
    let east = world.site("east", &[]);
    let mut west = world.site("west", &[]);
    world.good(&["link", "east", "west"]);
    world.well("east");
    world.well("west");

    let ran = world.run(&["diagnose", "--context", "east"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("nothing is wrong"), "{}", ran.out);
    let report: Value = world.json(&["diagnose", "--context", "east"]);
    assert_eq!((&report["site"], &report["healthy"]), (&"east".into(), &true.into()), "{report}");
    assert_eq!(of(&report, "wrong"), [], "{report}");
    let well: Vec<String> = of(&report, "ok").into_iter().map(|(what, _)| what).collect();
    for what in [
        "federation of east",
        "clock of east",
        "certificates of east",
        "store of east",
        "sources of east",
        "gateway gw-0",
        "path gw-0 to gw-0 of west",
        "uid of west",
        "clock of west",
    ] {
        assert!(well.iter().any(|found| found == what), "no {what} in {well:#?}");
    }
    let (there, back) = (world.port_of("west", 4430), world.port_of("east", 4430));
    for what in [
        format!("{there}/udp of west from gateway gw-0 of east"),
        format!("{back}/udp of east from gateway gw-0 of west"),
    ] {
        assert!(well.contains(&what), "no {what} in {well:#?}");
    }
    let health = format!("health of the federation on {}/tcp", world.port_of("east", 15081));
    assert!(well.contains(&health), "no {health} in {well:#?}");

    west.kill();
    world.until("east that misses west", || {
        let peer = world.try_peer("east", "west")?;
        if peer.state == "unreachable" { Ok(()) } else { Err(format!("{peer:?}")) }
    });
    let ran = world.run(&["diagnose", "west", "--context", "east", "--json"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("a document");
    let wrong = of(&report, "wrong");
    let says =
        |what: &str, word: &str| wrong.iter().any(|(of, said)| of.contains(what) && said.contains(word));
    assert!(says("peer west", "no path answers"), "{wrong:#?}");
    assert!(says("path gw-0 to gw-0 of west", "dead"), "{wrong:#?}");
    let probe = format!("{there}/udp of west");
    assert!(says(&probe, "nobody listens") || says(&probe, "no answer"), "{wrong:#?}");
    assert!(says("the side of west", "does not answer"), "{wrong:#?}");
    assert!(wrong.iter().all(|(_, said)| !said.ends_with("→ ")), "each says what to do: {wrong:#?}");
    let text = world.run(&["diagnose", "west", "--context", "east"]).out;
    assert!(text.contains("wrong  peer west: no path answers"), "{text}");
    assert!(text.contains("       do  "), "{text}");
    drop(east);
}

#[test]
fn a_site_that_does_not_run_is_told_who_has_its_ports() {
    let world = World::new();
    world.init("east", &[]);
    let ran = world.run(&["diagnose", "--context", "east"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("wrong  federation of east: east does not answer"), "{}", ran.out);
    assert!(ran.out.contains("free: nothing keeps the site from starting"), "{}", ran.out);
    let _taken = TcpListener::bind(world.port_of("east", 15081)).expect("free");
    let ran = world.run(&["diagnose", "--context", "east"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let seen = format!("port 15081/tcp on {} is in use by another process", world.at("east"));
    assert!(ran.out.contains(&seen) && ran.out.contains("set `ports.health`"), "{}", ran.out);
}

#[test]
fn a_peer_that_is_not_linked_is_no_peer() {
    let world = World::new();
    let _east = world.site("east", &[]);
    world.refused(
        &["diagnose", "west", "--context", "east"],
        &["east has no link with west", "no link at all", "meshfed link east west"],
    );
}
