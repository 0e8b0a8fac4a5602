//! The screens, from answers of the API. The expected texts are read like code.

use api::rest::explain::{ExplanationView, GroupView, NowView, ThenView, TierView, VerdictView};
use api::rest::link::{LinkView, UnlinkReply};
use api::rest::service::{EndpointView, PortView, ServiceSiteView, ServiceView};
use api::rest::site::{CertificatesView, GatewayView, SiteView, StoreView};
use api::rest::status::{CatalogStatus, Finding, NodeStatus, PeerStatus, StatusView};
use bench::report::{Latency, PhaseReport, Report};
use meshfed::render::demo::{Answers, held, summary};
use meshfed::render::style::Style;
use meshfed::render::{explain, link, service, status};
use std::collections::BTreeMap;
use std::time::Duration;

#[track_caller]
fn check(shown: &str, expected: &str) {
    assert_eq!(shown, expected.trim_start_matches('\n'), "\n{shown}\n");
    let wide: Vec<&str> = shown.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "wider than 100 columns: {wide:?}");
}

fn site(name: &str, healthy: u32, total: u32, state: &str) -> ServiceSiteView {
    ServiceSiteView { site: name.into(), healthy, total, state: state.into(), ..ServiceSiteView::default() }
}

fn cart() -> ServiceView {
    ServiceView {
        service: "shop/cart".into(),
        ports: vec![PortView { port: 8080, protocol: "http".into(), ..PortView::default() }],
        kind: "ClusterSetIP".into(),
        sites: vec![
            site("east", 3, 3, "own"),
            site("west", 2, 2, "connected"),
            site("dc", 1, 1, "unreachable"),
        ],
        healthy: 5,
        total: 6,
        dns_name: "cart.shop.svc.clusterset.local".into(),
        vip: Some("127.64.0.7".into()),
        curl: Some("curl http://127.64.0.7:8080/".into()),
        exported: true,
        offered_to: vec!["west".into(), "dc".into()],
        access: vec!["allow namespace web (AccessPolicy shop/allow-web)".into()],
        failover: vec!["nearest first: own zone, own region, then by round trip".into()],
        endpoints: vec![EndpointView {
            id: "vm-1".into(),
            health: "unhealthy".into(),
            reach: "agent vm-1".into(),
            ports: vec!["8080".into()],
            locality: "eu/fra".into(),
            weight: 1,
            why: "connection refused".into(),
            ..EndpointView::default()
        }],
        ..ServiceView::default()
    }
}

#[test]
fn get_services() {
    let orders = ServiceView {
        service: "shop/orders".into(),
        ports: vec![PortView { port: 5432, protocol: "tcp".into(), ..PortView::default() }],
        kind: "ClusterSetIP".into(),
        sites: vec![site("west", 1, 2, "connected")],
        healthy: 1,
        total: 2,
        dns_name: "orders.shop.svc.clusterset.local".into(),
        vip: Some("127.64.0.9".into()),
        notes: vec!["1 endpoint fails its check".into()],
        ..ServiceView::default()
    };
    check(
        &service::table(&[cart(), orders], Style::PLAIN),
        "
SERVICE      PORTS      TYPE          SITES                                     HEALTHY  VIP
shop/cart    8080/http  ClusterSetIP  east 3/3, west 2/2, dc 1/1 (unreachable)      5/6  127.64.0.7
shop/orders  5432/tcp   ClusterSetIP  west 1/2                                      1/2  127.64.0.9
  ← 1 endpoint fails its check

names: NAME.NAMESPACE.svc.clusterset.local
try:   curl http://127.64.0.7:8080/",
    );
    assert!(service::table(&[], Style::PLAIN).starts_with("no services\n\nnext: "));
}

#[test]
fn describe_service() {
    check(
        &service::describe(&cart(), Style::PLAIN),
        "
shop/cart · 8080/http · ClusterSetIP · 5 of 6 healthy
  name       cart.shop.svc.clusterset.local → 127.64.0.7
  offered    to west and dc
  callers    allow namespace web (AccessPolicy shop/allow-web)
  failover   nearest first: own zone, own region, then by round trip
  try        curl http://127.64.0.7:8080/

SITE  STATE        HEALTHY  RTT ms  LOCALITIES
east  own              3/3       –
west  connected        2/2       –
dc    unreachable      1/1       –

ENDPOINT  HEALTH     REACHED BY  PORTS  WEIGHT  LOCALITY
vm-1      unhealthy  agent vm-1  8080        1  eu/fra  ← connection refused",
    );
}

fn peer(name: &str, state: &str, live: u32, total: u32) -> PeerStatus {
    PeerStatus {
        site: name.into(),
        state: state.into(),
        paths_live: live,
        paths_total: total,
        ..PeerStatus::default()
    }
}

fn whole_status() -> StatusView {
    let catalog = |revision, age_s, live| CatalogStatus {
        revision,
        age_s,
        live,
        complete: true,
        ..CatalogStatus::default()
    };
    StatusView {
        healthy: false,
        site: SiteView {
            name: "east".into(),
            locality: "eu/fra".into(),
            gateways: vec![GatewayView::default(), GatewayView::default()],
            services: 14,
            endpoints: 41,
            healthy: 39,
            store: StoreView { kind: "redb".into(), bytes: 1_200_000 },
            certificates: CertificatesView {
                ok: true,
                next_renewal_s: 54_000,
                ..CertificatesView::default()
            },
            ..SiteView::default()
        },
        peers: vec![
            PeerStatus {
                rtt_ms: Some(61.2),
                loss_pct: Some(0.0),
                catalog: catalog(918, 0, true),
                offers: 5,
                takes: 7,
                streams: 212,
                since_s: 3 * 86_400,
                ..peer("west", "connected", 4, 4)
            },
            PeerStatus {
                rtt_ms: Some(118.9),
                loss_pct: Some(1.8),
                catalog: catalog(77, 1, true),
                offers: 2,
                takes: 1,
                streams: 12,
                since_s: 240,
                note: "2 paths to gw-1 dead: gcp gw-1 does not answer".into(),
                ..peer("gcp", "degraded", 2, 4)
            },
            PeerStatus {
                catalog: catalog(12, 360, false),
                offers: 1,
                since_s: 360,
                note: "no path answers; imports kept until 14:17, then withdrawn".into(),
                next: "meshfed describe link lab".into(),
                ..peer("lab", "unreachable", 0, 2)
            },
        ],
        nodes: vec![
            NodeStatus {
                kind: "gateway".into(),
                name: "gw-0".into(),
                connected: true,
                streams: 224,
                since_s: 9000,
                ..NodeStatus::default()
            },
            NodeStatus {
                kind: "agent".into(),
                name: "vm-1".into(),
                since_s: 12,
                workloads: 2,
                problems: vec!["no config stream".into()],
                ..NodeStatus::default()
            },
        ],
        findings: vec![Finding {
            severity: "error".into(),
            subject: "agent vm-1".into(),
            what: "it does not answer".into(),
            why: "3 renewals missed".into(),
            next: "see its log on vm-1".into(),
        }],
    }
}

#[test]
fn status_of_a_site_that_needs_a_person() {
    check(
        &status::status(&whole_status(), 0, Style::PLAIN),
        "
site east · not healthy · eu/fra · 2 gateways · 14 services, 41 endpoints, 39 healthy
  store redb 1.2 MB · certificates ok, next renewal in 15 h

PEER  STATE        PATHS  RTT ms  LOSS %  CATALOG          OFFERS  TAKES  STREAMS  SINCE
west  connected      4/4    61.2     0.0  rev 918, 0 s          5      7      212    3 d
gcp   degraded       2/4   118.9     1.8  rev 77, 1 s           2      1       12    4 m
  ← 2 paths to gw-1 dead: gcp gw-1 does not answer
lab   unreachable    0/2       –       –  rev 12, 6 m old       1      0        0    6 m
  ← no path answers; imports kept until 14:17, then withdrawn; try: meshfed describe link lab

NODE          STATE      STREAMS  WORKLOADS  SINCE
gateway gw-0  connected      224          –    2 h
agent vm-1    gone             0          2   12 s  ← no config stream

error: agent vm-1: it does not answer (3 renewals missed)
  do  see its log on vm-1",
    );
}

#[test]
fn status_of_a_new_site() {
    let view = StatusView {
        healthy: true,
        site: SiteView {
            name: "east".into(),
            gateways: vec![GatewayView::default()],
            store: StoreView { kind: "redb".into(), bytes: 4_000 },
            certificates: CertificatesView {
                ok: true,
                next_renewal_s: 300_000,
                ..CertificatesView::default()
            },
            ..SiteView::default()
        },
        ..StatusView::default()
    };
    check(
        &status::status(&view, 0, Style::PLAIN),
        "
site east · healthy · 1 gateway · 0 services, 0 endpoints, 0 healthy · store redb 4 KB
  certificates ok, next renewal in 3 d

no peers; next: meshfed link SITE SITE",
    );
}

fn tier(
    rank: u32,
    site: &str,
    locality: &str,
    healthy: u32,
    share_pct: f64,
    rtt_ms: Option<f64>,
    note: &str,
) -> TierView {
    TierView {
        rank,
        distance: "same region".into(),
        groups: vec![GroupView {
            site: site.into(),
            locality: locality.into(),
            healthy,
            total: healthy,
            state: rtt_ms.map(|_| "connected".into()),
            rtt_ms,
            ..GroupView::default()
        }],
        healthy,
        total: healthy,
        share_pct,
        note: note.into(),
        chosen: rank == 1,
    }
}

fn explained() -> ExplanationView {
    ExplanationView {
        service: "shop/cart".into(),
        port: Some(PortView { port: 8080, protocol: "http".into(), ..PortView::default() }),
        site: "west".into(),
        locality: "us/sjc/a".into(),
        identity: "spiffe://west.mesh/ns/web/sa/front".into(),
        proof: "mtls".into(),
        node: "gateway gw-0".into(),
        verdict: VerdictView {
            kind: "endpoint".into(),
            site: "west".into(),
            endpoint: Some("10.2.0.14:8080".into()),
            ..VerdictView::default()
        },
        permit: "AccessPolicy shop/allow-web (from: namespace web)".into(),
        tiers: vec![
            tier(1, "west", "us/sjc", 2, 100.0, None, "2/2 × 1.4 ≥ 1"),
            tier(2, "east", "eu/fra", 3, 0.0, Some(61.0), ""),
            tier(3, "dc", "eu/ams", 1, 0.0, Some(74.0), ""),
        ],
        now: vec![
            NowView { endpoint: "10.2.0.14:8080".into(), open_streams: 3 },
            NowView { endpoint: "10.2.0.15:8080".into(), open_streams: 4 },
        ],
        then: Some(ThenView {
            tier: tier(2, "east", "eu/fra", 3, 100.0, Some(61.0), ""),
            within_ms: 400,
            return_delay_s: 10.0,
            return_ramp_s: 10.0,
        }),
        ..ExplanationView::default()
    }
}

#[test]
fn explain_a_local_answer() {
    check(
        &explain::explanation(&explained(), Style::PLAIN),
        "
shop/cart:8080 from west (us/sjc/a) as spiffe://west.mesh/ns/web/sa/front (mtls)
answered by gateway gw-0 of west, which would serve it

allowed   by AccessPolicy shop/allow-web (from: namespace web)
tiers     1  west us/sjc  2 of 2 healthy  takes 100 %  2/2 × 1.4 ≥ 1
          2  east eu/fra  3 of 3 healthy  takes   0 %  RTT 61 ms
          3  dc eu/ams    1 of 1 healthy  takes   0 %  RTT 74 ms
now       10.2.0.14:8080 and 10.2.0.15:8080, by least open streams (3, 4)
if west's endpoints fail: east takes 100 % within 400 ms; load returns 10 s after they are back,
over 10 s",
    );
}

#[test]
fn explain_a_refusal() {
    let view = ExplanationView {
        verdict: VerdictView {
            kind: "refused".into(),
            code: Some("no path".into()),
            ..VerdictView::default()
        },
        identity: String::new(),
        proof: "host".into(),
        permit: String::new(),
        tiers: vec![TierView {
            chosen: false,
            note: "unreachable".into(),
            ..tier(1, "east", "eu/fra", 3, 0.0, None, "")
        }],
        now: Vec::new(),
        then: None,
        isolated: true,
        without: vec!["dc".into()],
        ..explained()
    };
    check(
        &explain::explanation(&view, Style::PLAIN),
        "
shop/cart:8080 from west (us/sjc/a) as an unproven caller (host)
answered by gateway gw-0 of west, which would serve it
as if dc were gone

allowed   no policy speaks of it
tiers     1  east eu/fra  3 of 3 healthy  takes   0 %  unreachable
cut off   all peers are gone, so this site is probably the one that is cut off
now       refused: no path
nobody could serve it",
    );
}

#[test]
fn link_two_sites() {
    let site = SiteView { version: "0.1.0".into(), trust_domain: "east.mesh".into(), ..SiteView::default() };
    let address = "127.0.1.1:15080".parse().expect("valid");
    let view = LinkView {
        site: "west".into(),
        paths_live: 1,
        rtt_ms: Some(0.31),
        offers: vec!["a/a".into(), "a/b".into(), "a/c".into()],
        takes: vec!["b/a".into(), "b/b".into()],
        ..LinkView::default()
    };
    let lines = [
        link::checking(true, "east", address, &site),
        link::checked(2, "1 of 1 gateways reachable each way"),
        link::linked("east", "west", Duration::from_millis(800), &[view], Style::PLAIN),
    ];
    check(
        &lines.join("\n"),
        "
  checking   east   127.0.1.1:15080  meshfed 0.1.0  trust domain east.mesh   ok
             clocks differ by 2 ms · names, ids and trust domains are distinct
             1 of 1 gateways reachable each way
linked east and west in 0.8 s: 1 path, RTT 0.3 ms, 3 services offered by east, 2 by west

next: meshfed export shop/cart --context east      offer a service to linked sites
      meshfed status                               see paths and catalogs",
    );
}

#[test]
fn part_from_a_dead_peer() {
    let reply = UnlinkReply {
        site: "west".into(),
        offered: vec!["shop/cart".into()],
        note: "no path answers".into(),
        ..UnlinkReply::default()
    };
    let text = format!(
        "{}\n{}",
        link::would_unlink("east", &reply),
        link::unlinked("east", &reply, Duration::from_millis(100))
    );
    check(
        &text,
        "
east and west part:
  no longer offered to west  shop/cart
  no longer taken from west  nothing
unlinked east from west in 0.1 s, no path answers; it will withdraw ours when its lease ends",
    );
}

fn phase(name: &str, requests: u64, failed: u64, gap: u64, by_site: &[(&str, u64)]) -> PhaseReport {
    PhaseReport {
        name: name.into(),
        requests,
        failed,
        in_flight: failed,
        longest_gap_ms: gap,
        by_site: by_site.iter().map(|(site, count)| ((*site).to_owned(), *count)).collect(),
        latency: Latency::default(),
        failures: BTreeMap::new(),
    }
}

fn demo() -> (Report, Vec<Answers>) {
    let phases = vec![
        phase("all well", 1000, 0, 11, &[("west", 1000)]),
        phase("endpoint in west killed", 1000, 0, 14, &[("east", 999), ("west", 1)]),
        phase("east gateway killed (kill -9)", 1000, 2, 402, &[("dc", 998)]),
        phase("west and east back", 2000, 0, 12, &[("dc", 900), ("west", 1100)]),
        phase("federation dead, gateway restarted", 1000, 0, 13, &[("west", 1000)]),
    ];
    let report = Report { requests: 6000, failed: 2, in_flight: 2, longest_gap_ms: 402, phases };
    let moved = Answers::Moved { from: "dc".into(), to: "west".into(), over: Duration::from_secs(8) };
    let answers = vec![Answers::Shares, Answers::Shares, Answers::Shares, moved, Answers::Shares];
    (report, answers)
}

#[test]
fn the_end_of_the_demo() {
    let (report, answers) = demo();
    assert!(held(&report));
    check(
        &summary(&report, &answers, &[("dc", "a VM")], Style::PLAIN),
        "
phase                               requests  failed  in flight  longest gap  answered by
all well                               1 000       0          0        11 ms  west 100 %
endpoint in west killed                1 000       0          0        14 ms  east 99.9 %
  ← also west 0.1 %
east gateway killed (kill -9)          1 000       2          2       402 ms  dc 100 % (a VM)
west and east back                     2 000       0          0        12 ms  dc → west over 8 s
federation dead, gateway restarted     1 000       0          0        13 ms  west 100 %

6 000 requests, 2 failed, both in flight on a part that was killed; longest gap 402 ms.
Every promise of the README held.",
    );
}

#[test]
fn a_broken_promise_is_said() {
    let (mut report, answers) = demo();
    report.in_flight = 1;
    assert!(!held(&report));
    let text = summary(&report, &answers, &[], Style::PLAIN);
    assert!(text.ends_with("Requests failed that should not have."), "{text}");
    let (mut report, answers) = demo();
    report.longest_gap_ms = 1001;
    assert!(!held(&report));
    assert!(summary(&report, &answers, &[], Style::PLAIN).ends_with("Callers waited longer than a second."));
    assert!(!held(&Report { requests: 0, failed: 0, in_flight: 0, longest_gap_ms: 0, phases: vec![] }));
}
