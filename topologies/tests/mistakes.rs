//! Every mistake in a topology is shown at its place, with what to do. The expected texts are read like code.

fn check(text: &str, expected: &str) {
    let text = text.trim_start_matches('\n');
    let shown = match topologies::read("mine.yaml", text) {
        Ok(topology) => format!("{topology:?}"),
        Err(diagnostic) => diagnostic.to_string(),
    };
    assert_eq!(shown, expected.trim_start_matches('\n'), "\n{shown}\n");
}

#[test]
fn an_unknown_field_is_shown_with_what_was_meant() {
    check(
        "
kind: Topology
sites:
  east:
    gateways: 2
    localty: eu/fra
",
        "
error: mine.yaml:5:5: unknown field `localty`
    3 |   east:
    4 |     gateways: 2
    5 |     localty: eu/fra
      |     ^^^^^^^ did you mean `locality`?",
    );
}

#[test]
fn another_kind_of_file_is_refused() {
    check(
        "
kind: Site
sites: {}
",
        "
error: mine.yaml:1:7: unknown value `Site`
    1 | kind: Site
      |       ^^^^ possible here: Topology",
    );
    check("", "error: mine.yaml: the file is empty\n  do     write a topology: `kind: Topology`, `sites:`");
}

#[test]
fn a_link_needs_two_different_sites_that_exist() {
    check(
        "
kind: Topology
sites:
  east: {}
  west: {}
links:
  - between: [east, wets]
",
        "
error: mine.yaml:6:21: there is no site `wets`
    4 |   west: {}
    5 | links:
    6 |   - between: [east, wets]
      |                     ^^^^ did you mean `west`?",
    );
    check(
        "
kind: Topology
sites: { east: {} }
links:
  - between: [east, east]
",
        "
error: mine.yaml:4:14: `east` cannot be linked with itself
    2 | sites: { east: {} }
    3 | links:
    4 |   - between: [east, east]
      |              ^ name two different sites",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
  - between: [west, east]
",
        "
error: mine.yaml:5:14: `west` and `east` are linked twice
    3 | links:
    4 |   - between: [east, west]
    5 |   - between: [west, east]
      |              ^ keep one of the two",
    );
}

#[test]
fn values_out_of_range_are_named() {
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rtt: 60
",
        "
error: mine.yaml:5:10: `60` is not a delay: write a number and a unit, us, ms or s, as in `30ms` or `4.5ms`
    3 | links:
    4 |   - between: [east, west]
    5 |     rtt: 60
      |          ^^",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    loss: 101%
",
        "
error: mine.yaml:5:11: `101%` is not a share: it is more than 100%
    3 | links:
    4 |   - between: [east, west]
    5 |     loss: 101%
      |           ^^^^",
    );
    check(
        "
kind: Topology
sites:
  east:
    gateways: 9
",
        "
error: mine.yaml:4:15: a site cannot have 9 gateways
    2 | sites:
    3 |   east:
    4 |     gateways: 9
      |               ^ write 1 to 8",
    );
}

#[test]
fn a_workload_must_fit_where_it_is() {
    check(
        "
kind: Topology
sites:
  east: {}
workloads:
  - { service: shop/cart, site: east, host: vm-1, port: 8080 }
",
        "
error: mine.yaml:5:45: site `east` has no host `vm-1`
    3 |   east: {}
    4 | workloads:
    5 |   - { service: shop/cart, site: east, host: vm-1, port: 8080 }
      |                                             ^^^^ add `hosts: { vm-1: {} }` to the site",
    );
    check(
        "
kind: Topology
sites:
  east: {}
workloads:
  - { service: shop/cart, site: east, port: 80 }
",
        "
error: mine.yaml:5:45: port 80 needs root
    3 |   east: {}
    4 | workloads:
    5 |   - { service: shop/cart, site: east, port: 80 }
      |                                             ^^ use a port of 1024 or above; the VIP listens on the same one",
    );
    check(
        "
kind: Topology
sites:
  east: {}
workloads:
  - { service: shop/cart, site: east, port: 8080 }
  - { service: shop/cart, site: east, port: 8081 }
",
        "
error: mine.yaml:6:45: `shop/cart` has port 8081/tcp here and 8080/tcp in workload 0
    4 | workloads:
    5 |   - { service: shop/cart, site: east, port: 8080 }
    6 |   - { service: shop/cart, site: east, port: 8081 }
      |                                             ^^^^ services of one name are one service: give them the same port",
    );
    check(
        "
kind: Topology
sites:
  east: {}
workloads:
  - { service: cart, site: east, port: 8080 }
",
        "
error: mine.yaml:5:16: `cart` is not a valid service name: it must be NAMESPACE/NAME
    3 |   east: {}
    4 | workloads:
    5 |   - { service: cart, site: east, port: 8080 }
      |                ^^^^",
    );
}

#[test]
fn a_client_needs_a_service_and_a_host() {
    check(
        "
kind: Topology
sites:
  east: { hosts: { vm-1: {} } }
workloads:
  - { service: shop/cart, site: east, port: 8080 }
clients:
  - { name: web, site: east, host: vm-1, service: shop/card, rate: 10 }
",
        "
error: mine.yaml:7:51: there is no service `shop/card`
    5 |   - { service: shop/cart, site: east, port: 8080 }
    6 | clients:
    7 |   - { name: web, site: east, host: vm-1, service: shop/card, rate: 10 }
      |                                                   ^^^^^^^^^ did you mean `shop/cart`?",
    );
}

#[test]
fn a_policy_is_checked_like_a_resource() {
    check(
        "
kind: Topology
sites: { east: {} }
policies:
  - resource:
      apiVersion: meshfed.dev/v1alpha1
      kind: FailoverPolicy
      metadata: { name: slow, namespace: shop }
      spec: { failbackDelay: 2h }
",
        "
error: mine.yaml:8:30: it may not be longer than 1h
    6 |       kind: FailoverPolicy
    7 |       metadata: { name: slow, namespace: shop }
    8 |       spec: { failbackDelay: 2h }
      |                              ^^",
    );
}

#[test]
fn two_sites_behind_nats_cannot_be_linked() {
    check(
        "
kind: Topology
sites: { east: { nat: true }, west: { nat: true } }
links:
  - { between: [east, west], rtt: 10ms }
",
        "
error: mine.yaml:4:16: `east` and `west` are both behind a NAT, so neither can dial the other
    2 | sites: { east: { nat: true }, west: { nat: true } }
    3 | links:
    4 |   - { between: [east, west], rtt: 10ms }
      |                ^ take `nat` from one of them, or link both with a third site",
    );
}

#[test]
fn the_two_ways_of_a_link_must_fit_each_other() {
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rtt: 60ms
    from: { wets: { delay: 10ms } }
",
        "
error: mine.yaml:6:19: there is no end of this link `wets`
    4 |   - between: [east, west]
    5 |     rtt: 60ms
    6 |     from: { wets: { delay: 10ms } }
      |                   ^ did you mean `west`?",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rtt: 60ms
    from: { east: { delay: 61ms } }
",
        "
error: mine.yaml:6:28: the delay one way is longer than the round trip of 60 ms
    4 |   - between: [east, west]
    5 |     rtt: 60ms
    6 |     from: { east: { delay: 61ms } }
      |                            ^^^^ write less, or raise `rtt`",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rtt: 60ms
    from: { east: { delay: 40ms }, west: { delay: 30ms } }
",
        "
error: mine.yaml:5:10: the two delays make a round trip of 70 ms, not 60 ms
    3 | links:
    4 |   - between: [east, west]
    5 |     rtt: 60ms
      |          ^^^^ leave `rtt` out, or one of the delays",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rtt: 60ms
    jitter: 40ms
",
        "
error: mine.yaml:6:13: the jitter is more than the delay of 30 ms each way
    4 |   - between: [east, west]
    5 |     rtt: 60ms
    6 |     jitter: 40ms
      |             ^^^^ write at most the delay, or raise the delay",
    );
}

#[test]
fn a_way_through_which_no_tunnel_passes_is_refused() {
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    from: { west: { mtu: 1200 } }
",
        "
error: mine.yaml:5:26: the tunnel does not pass through so small an MTU
    3 | links:
    4 |   - between: [east, west]
    5 |     from: { west: { mtu: 1200 } }
      |                          ^^^^ write at least 1228: 1200 bytes of QUIC and 28 of UDP and IP; a black hole is a fault of an experiment",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    queue: 50ms
",
        "
error: mine.yaml:5:12: there is a queue and no rate, so nothing ever waits in it
    3 | links:
    4 |   - between: [east, west]
    5 |     queue: 50ms
      |            ^^^^ add `rate`, or take `queue` out",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    rate: 100Mbps
",
        "
error: mine.yaml:5:11: `100Mbps` is not a rate: write a number and a unit, kbit, Mbit or Gbit, as in `100Mbit`
    3 | links:
    4 |   - between: [east, west]
    5 |     rate: 100Mbps
      |           ^^^^^^^",
    );
    check(
        "
kind: Topology
sites: { east: {}, west: {} }
links:
  - between: [east, west]
    loss: { average: 50%, burst: 1 }
",
        "
error: mine.yaml:5:34: at 50 % a loss takes 2.0 packets in a row by chance alone
    3 | links:
    4 |   - between: [east, west]
    5 |     loss: { average: 50%, burst: 1 }
      |                                  ^ make the bursts longer, or write the loss as one share",
    );
}

#[test]
fn ports_and_files_may_not_clash() {
    check(
        "
kind: Topology
sites:
  east: { hosts: { vm-1: {} } }
workloads:
  - { service: shop/a, site: east, host: vm-1, port: 15083 }
",
        "
error: mine.yaml:5:54: the agent of the host has port 15083 for its health
    3 |   east: { hosts: { vm-1: {} } }
    4 | workloads:
    5 |   - { service: shop/a, site: east, host: vm-1, port: 15083 }
      |                                                      ^^^^^ use another port",
    );
    check(
        "
kind: Topology
sites:
  east: { hosts: { vm-1: {} } }
workloads:
  - { service: shop/a, site: east, host: vm-1, port: 8080 }
  - { service: shop/b, site: east, host: vm-1, port: 8080, command: [serve, --port, '8080'] }
",
        "
error: mine.yaml:6:69: port 8080 of the host is taken by another workload, and the command does not name ${PORT}
    4 | workloads:
    5 |   - { service: shop/a, site: east, host: vm-1, port: 8080 }
    6 |   - { service: shop/b, site: east, host: vm-1, port: 8080, command: [serve, --port, '8080'] }
      |                                                                     ^ listen on ${PORT}, or run it on another host",
    );
    check(
        "
kind: Topology
sites:
  a: { gateways: { b-c: {} } }
  a-b: { hosts: { c: {} } }
",
        "
error: mine.yaml:4:8: `c` of `a-b` and `b-c` of `a` would share one directory, a-b-c
    2 | sites:
    3 |   a: { gateways: { b-c: {} } }
    4 |   a-b: { hosts: { c: {} } }
      |        ^ rename one of them",
    );
    check(
        "
kind: Topology
sites: { east: {} }
workloads:
  - { service: shop/a, site: east, port: 8080, command: [serve, '${PROT}'] }
",
        "
error: mine.yaml:4:65: nothing is filled in for `${PROT}`
    2 | sites: { east: {} }
    3 | workloads:
    4 |   - { service: shop/a, site: east, port: 8080, command: [serve, '${PROT}'] }
      |                                                                 ^ did you mean `${PORT}`?",
    );
}

#[test]
fn a_client_must_be_able_to_reach_its_service() {
    check(
        "
kind: Topology
sites: { east: {}, west: { hosts: { pc: {} } } }
workloads:
  - { service: shop/a, site: east, port: 8080 }
clients:
  - { name: web, site: west, host: pc, service: shop/a, rate: 1 }
",
        "
error: mine.yaml:6:49: nobody that `west` is linked with offers `shop/a`
    4 |   - { service: shop/a, site: east, port: 8080 }
    5 | clients:
    6 |   - { name: web, site: west, host: pc, service: shop/a, rate: 1 }
      |                                                 ^^^^^^ link `west` with `east`, which offers it",
    );
}

/// All that is found, the first line of each.
fn inspect(text: &str) -> String {
    let found = topologies::inspect("mine.yaml", text.trim_start_matches('\n'));
    let first =
        |d: &api::diagnostic::Diagnostic| format!("{}:{} {} ({})", d.line, d.column, d.message, d.help);
    let lines: Vec<String> = found
        .errors
        .iter()
        .map(|d| format!("error {}", first(d)))
        .chain(found.warnings.iter().map(|d| format!("warning {}", first(d))))
        .collect();
    lines.join("\n")
}

#[test]
fn every_mistake_of_a_file_is_named_in_one_go() {
    let found = inspect(
        "
kind: Topology
sites: { east: {}, west: { gateways: 9 } }
links:
  - { between: [east, wets] }
workloads:
  - { service: shop/a, site: east, port: 80 }
  - { service: shop/b, site: easd, port: 8080 }
",
    );
    let expected = "\
error 2:38 a site cannot have 9 gateways (write 1 to 8)
error 4:23 there is no site `wets` (did you mean `west`?)
error 6:42 port 80 needs root (use a port of 1024 or above; the VIP listens on the same one)
error 7:30 there is no site `easd` (did you mean `east`?)";
    assert_eq!(found, expected, "\n{found}");
}

#[test]
fn what_can_be_and_is_probably_not_meant_is_a_warning() {
    let found = inspect(
        "
kind: Topology
sites: { a: {}, b: {}, c: {}, d: {}, lab: {} }
links:
  - { between: [a, b], loss: 50% }
  - { between: [c, d], rate: 30kbit }
  - { between: [a, c], cut: true }
",
    );
    let expected = "\
warning 2:43 `lab` is linked with no other site (add a link, if it is to be reached)
warning 4:30 at so much loss gateways may take the path for dead (up to 40% is borne)
warning 5:30 one full packet takes 400 ms (gateways may take the path for dead after 300ms; write at least 40kbit)
warning 6:29 `a` and `c` are cut both ways (an experiment cuts and heals a link at stated times)";
    assert_eq!(found, expected, "\n{found}");
}
