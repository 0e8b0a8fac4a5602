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
error: mine.yaml:5:10: `60` is not a span of time: write a number and a unit, ms, s, m, h or d, as in `10s`
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
    lossPct: 101
",
        "
error: mine.yaml:5:14: 101 is not a share of datagrams
    3 | links:
    4 |   - between: [east, west]
    5 |     lossPct: 101
      |              ^^^ write 0 to 100",
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
