//! The main job, end to end, with real processes: what `meshfed demo` promises.

mod support;

use serde_json::Value;
use support::Home;

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {value}"))
}

/// How many of a phase's requests a site answered.
fn answered_by(phase: &Value, site: &str) -> u64 {
    phase["by_site"].get(site).and_then(Value::as_u64).unwrap_or_default()
}

#[test]
fn every_failed_request_of_the_demo_was_in_flight_on_what_was_killed() {
    let home = Home::new();
    let ran = home.run(&["demo", "--json"]);
    let result: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    let shown = format!("{}\n{}", ran.out, ran.err);

    assert_eq!(number(&result, "requests"), 6_000, "{shown}");
    assert_eq!(number(&result, "failed"), number(&result, "in_flight"), "{shown}");
    let phases = result["phases"].as_array().expect("phases");
    let [well, endpoint, gateway, back, federation] = phases.as_slice() else {
        panic!("five phases: {shown}")
    };
    for (phase, site) in [(well, "west"), (endpoint, "east"), (gateway, "dc"), (federation, "west")] {
        let answered = answered_by(phase, site);
        assert!(answered * 10 >= number(phase, "requests") * 8, "{site} answered {answered}: {shown}");
    }
    assert!(answered_by(back, "west") > 0, "load returned to west: {shown}");
    for phase in [well, federation] {
        assert_eq!(number(phase, "failed"), 0, "{shown}");
    }
    // It says when there was no moment at which the endpoint was answering nothing.
    if !ran.err.contains("(this machine is busy") {
        assert_eq!(number(endpoint, "failed"), 0, "{shown}");
    }
    // The demo's own limit of 1 s is for a machine that does nothing else, and figures.md has the tight ones. Here it
    // only must not have stopped.
    let gap = number(&result, "longest_gap_ms");
    assert!(gap < 10_000, "{shown}");
    assert_eq!(ran.code == 0, result["held"] == true, "{shown}");
    assert!(result["held"] == true || gap > 1_000, "only a slow machine may break the promise: {shown}");
}
