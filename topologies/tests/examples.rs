//! The shipped examples are read without a warning, planned without a clash, and drawn whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use topologies::plan::{Plan, plan};
use topologies::render;
use topologies::schema::Topology;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Names of the files, in order.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn example(name: &str) -> Topology {
    let text = std::fs::read_to_string(folder().join(name)).expect("the example is there");
    let found = topologies::inspect(name, &text);
    let shown: Vec<String> = found.errors.iter().chain(&found.warnings).map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    assert_eq!(topologies::read(name, &text).as_ref(), Ok(found.topology.as_ref().expect("no errors")));
    found.topology.expect("no errors")
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
    let (mut listening, mut files) = (BTreeSet::new(), BTreeSet::new());
    for process in plan.processes() {
        for listen in &process.listens {
            assert!(listening.insert((listen.address, listen.transport)), "{process:?}");
        }
        assert!(files.insert(process.log.clone()), "{process:?}");
        if let Some(directory) = &process.directory {
            assert!(files.insert(directory.clone()), "{process:?}");
        }
    }
    assert_eq!(listening.iter().filter(|(_, transport)| *transport == "udp").count(), {
        plan.sites.iter().map(|site| site.gateways.len() + site.hosts.len()).sum::<usize>()
    });
}

fn guide() -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topologies.md");
    std::fs::read_to_string(guide).expect("docs/topologies.md")
}

#[test]
fn the_files_and_the_drawing_in_the_guide_are_right() {
    let guide = guide();
    let drawing = render::text(&plan(&example("two-clusters.yaml"), 16));
    assert!(guide.contains(&format!("```text\n{drawing}\n```")), "{drawing}");
    let mut read = 0;
    for block in guide.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        // A part of a file is shown; the rest of it is the smallest file.
        let smallest = "kind: Topology\nsites: { east: {}, west: {} }\n";
        let text = if block.starts_with("kind:") { block.to_owned() } else { format!("{smallest}{block}") };
        if let Err(mistake) = topologies::read("docs/topologies.md", &text) {
            panic!("{mistake}");
        }
        read += 1;
    }
    assert_eq!(read, 3);
}

#[test]
fn the_guide_has_every_field() {
    let guide = guide();
    // One of everything, so that every field is written.
    let full = "kind: Topology\nname: x\nsites:\n  a: { locality: r/z, kind: rack, network: n, nat: true, gateways: 2, \
                hosts: { h: { locality: r/z, kind: server } } }\n  b: {}\nlinks:\n  - { between: [a, b], rtt: 9ms, \
                jitter: 1ms, loss: {average: 1%, burst: 8}, rate: 9Mbit, queue: 9ms, mtu: 1400, duplicate: 1%, \
                reorder: {share: 1%, by: 9ms}, cut: false, from: { a: { delay: 2ms } } }\nworkloads:\n  - { service: s/w, \
                site: b, port: 8080, replicas: 2, command: [x], checkInterval: 1s }\npolicies: []\nclients:\n  - { name: c, \
                site: a, host: h, service: s/w, port: 8080, rate: 1, timeout: 1s }\n";
    let topology = topologies::read("full.yaml", full).expect("valid");
    let yaml = api::yaml::write(&topology).expect("can be written");
    let own = ["a", "b", "h"];
    let mut seen = 0;
    for line in yaml.lines() {
        let line = line.trim_start_matches([' ', '-']);
        let Some((field, _)) = line.split_once(':') else { continue };
        let is_field = field.chars().all(|c| c.is_ascii_alphabetic());
        if is_field && !own.contains(&field) {
            seen += 1;
            let named = guide.contains(&format!("`{field}`")) || guide.contains(&format!("{field}:"));
            assert!(named, "`{field}` is not in docs/topologies.md");
        }
    }
    assert!(seen > 40, "{yaml}");
}

#[test]
fn the_examples_are_those_that_the_guide_names() {
    let expected = [
        "behind-nat.yaml",
        "cluster-with-vms-and-rack.yaml",
        "demo.yaml",
        "eight-sites.yaml",
        "hub-and-spokes.yaml",
        "three-clouds.yaml",
        "two-clusters.yaml",
    ];
    assert_eq!(names(), expected);
    let guide = guide();
    for name in expected {
        assert!(guide.contains(name), "{name} is missing in docs/topologies.md");
    }
}

#[test]
fn the_examples_are_planned_without_a_clash_and_always_alike() {
    for name in names() {
        let topology = example(&name);
        let planned = plan(&topology, 16);
        assert_eq!(plan(&example(&name), 16), planned);
        no_address_twice(&planned);
        for site in &planned.sites {
            for resource in planned.services(&site.name) {
                resource.check().expect("a valid resource");
            }
            if name != "demo.yaml" {
                assert!(site.gateways.len() > 1, "{name}: {} has one gateway", site.name);
            }
        }
        let yaml = api::yaml::write(&topology).expect("can be written");
        assert_eq!(topologies::read("again.yaml", &yaml), Ok(topology), "{yaml}");
    }
    assert_eq!(
        topologies::read(topologies::DEMO_FILE, topologies::DEMO).expect("valid"),
        example("demo.yaml")
    );
}

/// What must be seen on every drawing.
fn words(plan: &Plan) -> BTreeSet<String> {
    let mut words = BTreeSet::from([plan.name.clone()]);
    for site in &plan.sites {
        words.insert(site.name.to_string());
        words.insert(site.locality.to_string());
        words.extend(site.gateways.iter().map(|gateway| gateway.name.to_string()));
        words.extend(site.hosts.iter().map(|host| host.name.to_string()));
    }
    words.extend(plan.workloads.iter().map(|workload| workload.service.to_string()));
    words.extend(plan.clients.iter().map(|client| format!("{} {}/s", client.name, client.rate)));
    for link in &plan.links {
        words.extend(link.labels().into_iter().flat_map(|(_, words)| words));
    }
    words
}

#[test]
fn a_drawing_shows_every_name_and_every_property_of_a_link() {
    for name in names() {
        let plan = plan(&example(&name), 16);
        let (text, svg) = (render::text(&plan), render::svg(&plan));
        for word in words(&plan) {
            assert!(text.contains(&word), "{name}: `{word}` is not in\n{text}");
            assert!(svg.contains(&word), "{name}: `{word}` is not in the SVG");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= render::TEXT_WIDTH, "{name}: {line}");
        }
        assert_eq!(render::svg(&plan), svg, "{name}: the drawing is not stable");
        let lines = svg.matches("<line ").count();
        assert_eq!(lines, plan.links.len(), "{name}: a link is missing");
        let alone = ["href", "http:", "https:", "url(", "<image", "<script", "@import"];
        let body = svg.replace("http://www.w3.org/2000/svg", "").replace("url(#tip)", "");
        for word in alone {
            assert!(!body.contains(word), "{name}: the SVG needs something else: {word}");
        }
    }
}

#[test]
fn no_box_and_no_label_of_a_drawing_lies_on_another() {
    for name in names() {
        let svg = render::svg(&plan(&example(&name), 16));
        let areas: Vec<(f64, f64, f64, f64)> = svg
            .lines()
            .filter(|line| {
                line.starts_with("<rect class=\"site\"") || line.starts_with("<rect class=\"label\"")
            })
            .map(|line| {
                let number = |field: &str| {
                    let rest = line.split(&format!(" {field}=\"")).nth(1).expect("the field");
                    rest.split('"').next().and_then(|text| text.parse::<f64>().ok()).expect("a number")
                };
                (number("x"), number("y"), number("width"), number("height"))
            })
            .collect();
        for (at, (x, y, w, h)) in areas.iter().enumerate() {
            for (x2, y2, w2, h2) in &areas[..at] {
                let apart = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
                assert!(apart, "{name}: {:?} and {:?}", areas[at], (x2, y2, w2, h2));
            }
        }
    }
}

#[test]
fn three_clouds_are_planned_like_this() {
    let lines = plan(&example("three-clouds.yaml"), 16).describe().join("\n");
    let expected = "\
site aws · us/sjc · cluster
  federation  127.16.1.1  15080/tcp API, 15010/tcp config, 15081/tcp health
  gateway gw-0  127.16.1.10  4430/udp tunnel, 15082/tcp health, advertised as 127.16.1.100:4430/udp
  gateway gw-1  127.16.1.11  4430/udp tunnel, 15082/tcp health, advertised as 127.16.1.101:4430/udp
  agent client  127.16.1.40  15053/udp DNS, 15054/tcp proxy, 15083/tcp health
  workload shop/cart  127.16.1.128:8080: echo
  workload shop/cart  127.16.1.129:8080: echo
site azure · eu/ams · VMs
  federation  127.16.2.1  15080/tcp API, 15010/tcp config, 15081/tcp health
  gateway gw-0  127.16.2.10  4430/udp tunnel, 15082/tcp health, advertised as 127.16.2.100:4430/udp
  gateway gw-1  127.16.2.11  4430/udp tunnel, 15082/tcp health, advertised as 127.16.2.101:4430/udp
  agent vm-1  127.16.2.40  15053/udp DNS, 15054/tcp proxy, 15083/tcp health
  agent vm-2  127.16.2.41  15053/udp DNS, 15054/tcp proxy, 15083/tcp health
  workload shop/cart on vm-1  127.16.2.40:8080: echo
  workload shop/files on vm-2  127.16.2.41:8000: python3 -m http.server --bind 127.16.2.41 8000
site gcp · eu/fra · cluster
  federation  127.16.3.1  15080/tcp API, 15010/tcp config, 15081/tcp health
  gateway gw-0  127.16.3.10  4430/udp tunnel, 15082/tcp health, advertised as 127.16.3.100:4430/udp
  gateway gw-1  127.16.3.11  4430/udp tunnel, 15082/tcp health, advertised as 127.16.3.101:4430/udp
  workload shop/cart  127.16.3.128:8080: echo
link aws – gcp · RTT 146 ms · loss 0.1 % · 1 Gbit/s
link aws – azure · RTT 152 ms · jitter 3 ms · loss 0.5 % in bursts of 6 · from aws: delay 81 ms · \
from azure: delay 71 ms, 300 Mbit/s
link azure – gcp · RTT 9 ms · MTU 1400
client web on client of aws · 50 requests/s to shop/cart:8080, timeout 2 s";
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
    let azure = plan.sites[1].name.clone();
    assert!(plan.services(&azure).is_empty(), "its workloads are behind agents");
}

#[test]
fn a_site_behind_a_nat_accepts_and_never_invites() {
    let plan = plan(&example("behind-nat.yaml"), 16);
    let edge: model::ids::SiteId = "edge".parse().expect("a name");
    let links: Vec<_> = plan.links.iter().filter(|link| link.one == edge || link.other == edge).collect();
    assert_eq!(links.len(), 2);
    for link in links {
        assert_eq!(link.other, edge, "who accepts dials who has invited");
        // The file names edge first, so the directions were turned with the ends.
        let mbit =
            |way: &topologies::impairment::Impairment| way.rate.map(|rate| rate.bits_per_s() / 1_000_000);
        assert_eq!((mbit(&link.forth), mbit(&link.back)), (Some(200), Some(20)));
    }
    let processes = plan.processes();
    let of_edge = processes.iter().filter(|process| process.site == "edge");
    assert!(of_edge.clone().count() > 2 && of_edge.into_iter().all(|process| process.advertised.is_none()));
}
