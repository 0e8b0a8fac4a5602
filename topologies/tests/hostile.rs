//! Topology files of any content: a plan, or a mistake at its place.

mod decoders;

use decoders::check;
use hostile::{any_bytes, changed_text, changes, within};
use proptest::prelude::*;
use topologies::DEMO;
use topologies::schema::SITES_MAX;

const THREE_CLOUDS: &str = include_str!("../examples/three-clouds.yaml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_no_topology_and_the_mistake_is_readable(bytes in any_bytes()) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_changed_topology_is_planned_or_the_mistake_is_readable(changes in changes(), demo in any::<bool>()) {
        let (valid, other) = if demo { (DEMO, THREE_CLOUDS) } else { (THREE_CLOUDS, DEMO) };
        check(&changed_text(valid, other, &changes));
    }

    #[test]
    fn any_numbers_are_planned_or_refused(
        numbers in proptest::collection::vec(prop_oneof![
            Just(-1_i64), Just(0), Just(1), Just(255), Just(256), Just(65_535), Just(65_536), any::<i64>(),
        ], 7),
        rtt in "[0-9]{1,20}(ms|s|m|h|d)",
    ) {
        check(&format!(
            "kind: Topology\nsites: {{a: {{gateways: {}, hosts: {{h: {{}}}}}}, b: {{}}}}\n\
             links: [{{between: [a, b], rtt: {rtt}, loss: {}%, rate: {}kbit, mtu: {}, \
             from: {{a: {{delay: {rtt}}}}}}}]\n\
             workloads: [{{service: x/y, site: b, port: {}, replicas: {}}}]\n\
             clients: [{{name: c, site: a, host: h, service: x/y, rate: {}}}]\n",
            numbers[0], numbers[1], numbers[5], numbers[6], numbers[2], numbers[3], numbers[4],
        ));
    }
}

#[test]
fn the_samples_that_are_changed_are_good_themselves() {
    assert!(check(DEMO) && check(THREE_CLOUDS));
}

#[test]
fn as_much_of_everything_as_fits_a_file_is_planned_or_refused() {
    let sites = |count: usize| (0..count).map(|n| format!("  s{n}: {{gateways: 8}}\n")).collect::<String>();
    let links = |count: usize| {
        let pairs = (0..count).flat_map(|a| (0..a).map(move |b| format!("  - between: [s{a}, s{b}]\n")));
        pairs.collect::<String>()
    };
    for count in [SITES_MAX, SITES_MAX + 1, 10_000] {
        let linked = count.min(100);
        let text = format!("kind: Topology\nsites:\n{}links:\n{}", sites(count), links(linked));
        within("many sites", move || assert_eq!(check(&text), count <= SITES_MAX));
    }
    let workloads = "  - {service: a/b, site: s0, port: 1}\n".repeat(90_000);
    let text = format!("kind: Topology\nsites:\n{}workloads:\n{workloads}", sites(1));
    within("many workloads", move || assert!(!check(&text)));
    let deep =
        format!("kind: Topology\nsites: {{s0: {{}}}}\npolicies: [{{resource: {}}}]\n", "{a: ".repeat(10_000));
    within("deep policies", move || assert!(!check(&deep)));
    let closed = format!(
        "kind: Topology\nsites: {{s0: {{}}}}\npolicies: [{{resource: {}1{}}}]\n",
        "{a: ".repeat(60),
        "}".repeat(60)
    );
    within("deep policies that end", move || assert!(!check(&closed)));
}
