//! What `/metrics` of real processes says, and whether the document about it is true.

mod support;
mod world;

use meshfed::commands::process::metric_specs;
use runtime::metrics::{Kind, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use world::World;
use world::caller::{get, socks};

/// One scrape: values by name and labels, as they stand in the text.
struct Scrape {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Scrape {
    fn of(address: SocketAddr) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
        stream.set_read_timeout(Some(limit)).map_err(failed)?;
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.to_owned());
        }
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').ok_or(format!("no value in `{line}`"))?;
            Ok((series.to_owned(), value.parse().map_err(|error| format!("{line}: {error}"))?))
        });
        Ok(Self { text: body.to_owned(), values: values.collect::<Result<_, String>>()? })
    }

    fn get(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    /// Sum of all series of a name.
    fn sum(&self, name: &str) -> f64 {
        let of = |series: &&String| series.split('{').next() == Some(name);
        self.values.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// Labels of all series, with their values.
    fn labels(&self) -> BTreeSet<(String, String)> {
        let mut labels = BTreeSet::new();
        for series in self.values.keys() {
            let Some((_, rest)) = series.split_once('{') else { continue };
            for pair in rest.trim_end_matches('}').split("\",") {
                let (name, value) = pair.split_once("=\"").expect("a label");
                labels.insert((name.to_owned(), value.trim_end_matches('"').to_owned()));
            }
        }
        labels
    }
}

/// Waits until `say` finds nothing to say against a scrape.
#[track_caller]
fn until(world: &World, what: &str, address: SocketAddr, say: impl Fn(&Scrape) -> bool) -> Scrape {
    world.until(what, || {
        let scrape = Scrape::of(address)?;
        if say(&scrape) { Ok(scrape) } else { Err(scrape.text) }
    })
}

#[test]
fn values_move_with_what_happens() {
    const CALLS: f64 = 20.0;
    let world = World::new();
    let mut east = world.site("east", &[]);
    let _west = world.site("west", &[]);
    let (_echo, listen) = world.echo("east", "cart");
    let _vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    world.healthy("west", "shop/cart", 1);
    let entry = world.served("west", "shop/cart", port);

    let ports = [("west", 15081), ("west", 15082), ("east", 15081), ("east-vm-1", 15083)];
    let [west, west_gateway, east_at, vm] = ports.map(|(part, port)| world.port_of(part, port));
    let scrape = |address| Scrape::of(address).expect("a scrape");
    let before = [west, east_at, vm].map(scrape);
    for _ in 0..CALLS as u32 {
        get(entry, "/").expect("an answer");
    }

    // The first process of the way: who called, where it was sent, and how it ended.
    let grown = |after: &Scrape, at: usize, name: &str| after.sum(name) - before[at].sum(name);
    let closed = "meshfed_clients_total{end=\"closed\"}";
    let first = until(&world, "clients that are done", west, |now| {
        now.get(closed) >= before[0].get(closed) + CALLS && now.sum("meshfed_clients_open") == 0.0
    });
    assert_eq!(grown(&first, 0, "meshfed_decisions_total"), CALLS, "{}", first.text);
    assert!(grown(&first, 0, "meshfed_streams_opened_total") >= CALLS);
    assert!(grown(&first, 0, "meshfed_tunnel_received_bytes_total") > CALLS * 50.0);
    assert!(grown(&first, 0, "meshfed_tunnel_sent_bytes_total") > CALLS * 20.0);
    assert!(first.get("meshfed_vip_listeners") >= 1.0);
    assert!(first.get("meshfed_dns_queries_total{zone=\"mesh\",result=\"found\"}") >= 1.0);
    // The gateway in the middle opens what it takes, and the agent at the end takes it.
    let middle = scrape(east_at);
    assert!(grown(&middle, 1, "meshfed_streams_taken_total") >= CALLS);
    assert!(grown(&middle, 1, "meshfed_streams_accepted_total") >= CALLS);
    let last = scrape(vm);
    assert!(grown(&last, 2, "meshfed_streams_accepted_total") >= CALLS);
    assert!(last.get("meshfed_health_checks_total{result=\"passed\"}") >= 1.0);
    assert_eq!(last.get("meshfed_path_state{peer=\"east\",gateway=\"gw-0\",state=\"live\"}"), 1.0);
    assert_eq!(last.get("meshfed_up{process=\"agent\"}"), 1.0);

    // The federation: what it holds of the peer, what went over the wire, what was stored.
    let held = until(&world, "the catalog of east", west, |now| {
        now.values.get("meshfed_catalog_entries{peer=\"east\"}").is_some_and(|entries| *entries >= 3.0)
            && now.get("meshfed_peer_state{peer=\"east\",state=\"connected\"}") == 1.0
    });
    assert!(held.get("meshfed_catalog_age_seconds{peer=\"east\"}") < 30.0);
    assert!(held.get("meshfed_exchange_messages_total{direction=\"received\",kind=\"batch\"}") >= 1.0);
    let (ack, bytes) = ("kind=\"ack\"}", "meshfed_exchange_bytes_total{direction=\"sent\",");
    assert!(held.get(&format!("{bytes}{ack}")) > 0.0);
    assert!(held.get("meshfed_store_commit_seconds_count") >= 1.0);
    assert!(held.get("meshfed_config_routed_seconds_count") >= 1.0);
    assert_eq!(held.get("meshfed_config_stream_connected"), 1.0);
    assert_eq!(held.get("meshfed_config_age_seconds"), 0.0);
    assert!(held.get("meshfed_snapshot_writes_total{result=\"ok\"}") >= 1.0);
    assert!(held.get("meshfed_hub_age_seconds") < 30.0);
    assert!(held.get("meshfed_process_cpu_seconds_total") > 0.0);
    assert!(held.get("meshfed_path_mtu_bytes{peer=\"east\",gateway=\"gw-0\"}") >= 1_200.0);
    let ends = held.get("meshfed_certificate_expiry_timestamp_seconds{of=\"gateways\"}");
    assert!(ends * 1_000.0 > runtime::clock::unix_ms() as f64);
    assert_eq!(
        held.get("meshfed_streams_refused_total{reason=\"too_many_hops\"}"),
        0.0,
        "there before its first"
    );
    // A change of east is acknowledged by west, by the clock of east.
    until(&world, "an acknowledgement", east_at, |now| {
        now.get("meshfed_catalog_acknowledged_seconds_count") >= 1.0
    });
    // The gateway of a site process shares the registry of the process.
    let names = |scrape: &Scrape| scrape.values.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&scrape(west_gateway)), names(&scrape(west)));

    // A peer that dies is seen, and so is what that does to callers.
    let refused = "meshfed_clients_total{end=\"refused\"}";
    let so_far = scrape(west).get(refused);
    east.kill();
    until(&world, "a dead path", west, |now| {
        now.get("meshfed_path_state{peer=\"east\",gateway=\"gw-0\",state=\"dead\"}") == 1.0
            && now.get("meshfed_peer_state{peer=\"east\",state=\"unreachable\"}") == 1.0
            && !now.values.contains_key("meshfed_path_rtt_seconds{peer=\"east\",gateway=\"gw-0\"}")
    });
    assert!(get(entry, "/").is_err(), "nobody serves it");
    until(&world, "a caller that was refused", west, |now| now.get(refused) > so_far);
    let proxy = world.port_of("west", 15054);
    assert_ne!(socks(proxy, "nothing.shop.svc.clusterset.local", port), Ok(0), "there is no such service");
    until(&world, "a decision about it", west, |now| {
        now.get("meshfed_decisions_total{reason=\"unknown_service\"}") >= 1.0
    });

    // Labels have values of closed sets, and of names that people gave to sites and gateways.
    for scrape in [scrape(west), scrape(vm), middle] {
        for (name, value) in scrape.labels() {
            let is_known = match name.as_str() {
                "peer" => ["east", "west"].contains(&value.as_str()),
                "gateway" => value == "gw-0",
                "version" => value == env!("CARGO_PKG_VERSION"),
                "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
                _ => !value.is_empty() && value.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            };
            assert!(is_known, "{name}=\"{value}\"");
            assert!(!value.contains("cart") && !value.contains("vm"), "services and hosts are no labels");
        }
    }
}

#[test]
fn every_metric_of_every_process_is_in_the_document_and_nothing_else_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    let mut told = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `meshfed_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
        assert!(!cells[4].is_empty(), "{name} says nothing");
        assert!(told.insert(name.clone(), (cells[2].to_owned(), labels)).is_none(), "{name} is there twice");
    }
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let are: BTreeMap<String, (String, Vec<String>)> = metric_specs()
        .map(|spec: &Spec| {
            let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
            (spec.name.to_owned(), (kind(spec.kind).to_owned(), labels))
        })
        .collect();
    assert_eq!(told, are);
    // The examples of the document speak of metrics that there are.
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let of_one = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        let known = are.contains_key(word) || of_one.is_some_and(|name| are.contains_key(name));
        assert!(!word.starts_with("meshfed_") || known, "{word} is no metric");
    }
}

#[test]
fn every_metric_follows_the_conventions() {
    let specs: Vec<&Spec> = metric_specs().collect();
    assert_eq!(runtime::metrics::lint(&specs), Vec::<String>::new());
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), specs.len(), "a name is given twice");
}
