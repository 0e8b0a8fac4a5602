//! The shipped examples are read, and planned without a clash.

use std::collections::BTreeSet;
use std::path::Path;
use topologies::plan::{Plan, plan};
use topologies::schema::Topology;

fn example(name: &str) -> Topology {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let text = std::fs::read_to_string(&path).expect("the example is there");
    match topologies::read(name, &text) {
        Ok(topology) => topology,
        Err(diagnostic) => panic!("{diagnostic}"),
    }
}

fn no_address_twice(plan: &Plan) {
    let mut seen = BTreeSet::new();
    for site in &plan.sites {
        assert!(seen.insert(site.federation.to_string()));
        for gateway in &site.gateways {
            assert!(seen.insert(gateway.address.to_string()));
            assert!(seen.insert(gateway.advertise.ip().to_string()));
        }
        for host in &site.hosts {
            assert!(seen.insert(host.address.to_string()));
        }
    }
    let mut listening = BTreeSet::new();
    for workload in &plan.workloads {
        assert!(listening.insert(workload.listen), "{}", workload.listen);
    }
}

#[test]
fn the_examples_are_planned_without_a_clash() {
    for name in ["demo.yaml", "three-clouds.yaml"] {
        let plan = plan(&example(name), 16);
        no_address_twice(&plan);
        for site in &plan.sites {
            for resource in plan.services(&site.name) {
                resource.check().expect("a valid resource");
            }
        }
    }
    assert_eq!(
        topologies::read(topologies::DEMO_FILE, topologies::DEMO).expect("valid"),
        example("demo.yaml")
    );
}

#[test]
fn three_clouds_are_planned_like_this() {
    let lines = plan(&example("three-clouds.yaml"), 16).describe().join("\n");
    let expected = "\
site aws · us/sjc · API 127.16.1.1:15080
  gateway gw-0  127.16.1.10:4430/udp, advertised as 127.16.1.100:4430/udp
  gateway gw-1  127.16.1.11:4430/udp, advertised as 127.16.1.101:4430/udp
  agent client  127.16.1.40
  workload shop/cart  127.16.1.128:8080: echo
  workload shop/cart  127.16.1.129:8080: echo
site gcp · eu/fra · API 127.16.2.1:15080
  gateway gw-0  127.16.2.10:4430/udp, advertised as 127.16.2.100:4430/udp
  gateway gw-1  127.16.2.11:4430/udp, advertised as 127.16.2.101:4430/udp
  workload shop/cart  127.16.2.128:8080: echo
site metal · eu/ams · API 127.16.3.1:15080
  gateway gw-0  127.16.3.10:4430/udp, advertised as 127.16.3.100:4430/udp
  agent vm-1  127.16.3.40
  agent vm-2  127.16.3.41
  workload shop/cart on vm-1  127.16.3.40:8080: echo
  workload shop/files on vm-2  127.16.3.41:8000: python3 -m http.server --bind 127.16.3.41 8000
link aws – gcp · RTT 60 ms · loss 0.1 %
link aws – metal · RTT 74 ms · loss 0 %
link gcp – metal · RTT 9 ms · loss 0 %
client web on client of aws · 50 requests/s to shop/cart:8080";
    assert_eq!(lines, expected, "\n{lines}");
}

#[test]
fn a_site_reads_its_direct_services_from_a_file() {
    let plan = plan(&example("three-clouds.yaml"), 16);
    let aws = plan.sites[0].name.clone();
    let text: Vec<String> =
        plan.services(&aws).iter().map(|r| api::yaml::write(r).expect("can be written")).collect();
    let again = api::resource::parse("services.yaml", &text.join("\n---\n")).expect("valid");
    assert_eq!(again, plan.services(&aws));
    assert_eq!(again.len(), 1);
    assert_eq!(plan.exports(&aws).iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/cart"]);
    let metal = plan.sites[2].name.clone();
    assert!(plan.services(&metal).is_empty(), "its workloads are behind agents");
}
