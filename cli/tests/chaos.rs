//! `meshfed chaos`: experiments that hold, one that must break, and mistakes that are told before anything starts.

mod support;

use serde_json::Value;
use support::Home;

/// Three sites of two gateways, as the shipped experiments have them, for a shorter time.
fn experiment(faults: &str, expect: &str, seconds: u32) -> String {
    format!(
        "kind: Experiment\nname: a test\ntopology: three-sites\nlength: {seconds}s\nfaults:\n{faults}\nexpect:\n{expect}\n"
    )
}

fn number(report: &Value, name: &str) -> u64 {
    report["numbers"][name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {report}"))
}

#[test]
fn a_frozen_gateway_and_a_cut_site_cost_what_was_in_flight_and_nothing_else() {
    let home = Home::new();
    let faults =
        "  - { at: 2s, for: 5s, freeze: gateway near/gw-0 }\n  - { at: 9s, for: 4s, cut: { from: near } }";
    let expect =
        "  failed: in flight\n  lastFailure: 1s\n  longestGap: 1s\n  withdrawn: 0\n  catalogsEqual: true";
    home.write("both.yaml", &experiment(faults, expect, 15));
    // A busy machine may be slow; what fails, and what is withdrawn, is exact.
    let ran = home.run(&["chaos", "run", "both.yaml", "--slack", "5", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    let shown = format!("{}\n{}", report["rows"], report["numbers"]);
    assert_eq!(report["held"], true, "{shown}\n{}", ran.err);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(number(&report, "requests") > 2_900, "{shown}");
    assert_eq!(report["numbers"]["catalogs"], 6, "three sites hold two catalogs each: {shown}");
    let by_far = report["buckets"].as_array().expect("buckets").iter();
    assert!(
        by_far.filter(|bucket| bucket["by_site"]["far"].as_u64() > Some(0)).count() > 4,
        "far took over: {shown}"
    );
    let page = std::fs::read_to_string(home.path().join("chaos-report.html")).expect("the page is written");
    assert!(page.contains("cut near↔all") && page.contains("<svg"), "the page draws it");
}

#[test]
fn with_the_control_plane_dead_and_every_gateway_restarted_no_request_fails() {
    let home = Home::new();
    let faults = "  - { at: 2s, for: 14s, kill: federations }\n  - { at: 3s, restart: gateways }";
    home.write("dead.yaml", &experiment(faults, "  failed: 0\n  withdrawn: 0\n  catalogsEqual: true", 20));
    let ran = home.run(&["chaos", "run", "dead.yaml", "--slack", "5", "--to", "out"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("failed ≤ 0") && ran.out.contains("held."), "{}", ran.out);
    // The report can be shown and drawn again from what was written.
    let again = home.good(&["chaos", "report", "out/dead.json", "--page", "again.html"]);
    assert!(again.out.contains("kill federations from 2.0 s"), "{}", again.out);
    assert!(home.path().join("again.html").is_file());
}

#[test]
fn a_broken_expectation_is_told_with_its_measure_and_exit_code_1() {
    let home = Home::new();
    // With both gateways of the callers' site cut off there is nobody who could answer.
    let faults = "  - { at: 2s, cut: { from: home } }";
    home.write("bad.yaml", &experiment(faults, "  failed: 0\n  catalogsEqual: true", 6));
    let ran = home.run(&["chaos", "run", "bad.yaml"]);
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("broken.") && ran.out.contains('✘'), "{}", ran.out);
    let kept = ran.err.lines().find_map(|line| line.strip_prefix("the logs are kept in ")).expect(&ran.err);
    assert!(std::path::Path::new(kept).join("gateway-gw-0-of-near.log").is_file(), "{kept}");
    let folder = std::path::Path::new(kept).parent().expect("the logs lie in the folder of the run");
    std::fs::remove_dir_all(folder).expect("can be removed");
}

#[test]
fn a_mistake_in_an_experiment_is_shown_at_its_place_before_anything_starts() {
    let home = Home::new();
    for (faults, place, said) in [
        ("  - { at: 2s, cut: { from: nera } }", "6:", "did you mean `near`?"),
        ("  - { at: 2s, kill: gateway near/gw-7 }", "6:", "the topology has no gateway near/gw-7"),
        ("  - { at: 2s, for: 3s }", "6:", "no fault is named"),
        ("  - { at: 2s, kill: federations, freeze: federations }", "6:", "several faults are named at once"),
        ("  - { at: 9s, kill: federations }", "6:", "the run of 6s is over"),
        ("  - { at: 2s, frezze: federations }", "6:", "did you mean `freeze`?"),
        ("  - { at: 2s, every: 1s, kill: federations }", "6:", "add `for:`"),
        ("  - { at: 2s, impair: { from: near, with: { loss: 3 } } }", "6:", "is not a share"),
        ("  - { at: 2s, cut: { from: near, to: near } }", "6:", "are not linked"),
    ] {
        home.write("wrong.yaml", &experiment(faults, "  failed: 0", 6));
        let ran = home.run(&["chaos", "run", "wrong.yaml"]);
        assert_ne!(ran.code, 0, "{faults}");
        let said_place = format!("wrong.yaml:{place}");
        assert!(
            ran.err.contains(said) && ran.err.contains(&said_place),
            "{faults} should say `{said}`:\n{}",
            ran.err
        );
        assert!(!ran.err.contains("starting"), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn experiments_are_listed_shown_and_named_when_misspelt() {
    let home = Home::new();
    let list = home.good(&["chaos", "list"]).out;
    assert!(list.contains("one-way-cut") && list.lines().all(|line| line.chars().count() <= 100), "{list}");
    let show = home.good(&["chaos", "show", "one-way-cut"]).out;
    assert!(show.contains("cut near→home") && show.contains("no import withdrawn"), "{show}");
    let ran = home.run(&["chaos", "run", "one-way-kut"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean `one-way-cut`?"), "{}", ran.err);
    let ran = home.run(&["chaos", "report", "nothing.json"]);
    assert!(ran.code != 0 && ran.err.contains("nothing.json"), "{}", ran.err);
}
