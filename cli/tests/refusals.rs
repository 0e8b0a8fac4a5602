//! What is refused: with words that say who is at fault, what was seen and what to do; and nothing is changed by it.

mod support;
mod world;

use identity::invite::{Invite, JoinToken};
use identity::peer::RoleKind;
use identity::tls::{Expect, client_config, server_name};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use world::{LONG, Part, World, connect_reply, get, http_connect, resolve, socks};

/// Starts a process that must end by itself, with an error.
#[track_caller]
fn dies(world: &World, args: &[&str], says: &[&str]) -> String {
    let name = format!("refused-{}", world.free_port());
    let mut part = world.start(&name, args);
    let status = part.ended(LONG);
    let log = part.log();
    assert_eq!(status.code(), Some(1), "meshfed {}\n{log}", args.join(" "));
    for word in says {
        assert!(log.contains(word), "meshfed {}: no `{word}` in\n{log}", args.join(" "));
    }
    log
}

fn later(ms: u64) -> u64 {
    runtime::clock::unix_ms() + ms
}

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let world = World::new();
    world.init("east", &[]);
    let (address, site) = (world.at("east"), world.read("east/site.yaml"));
    for (port, setting) in [
        (15080, "ports.api"),
        (15010, "ports.config"),
        (15081, "ports.health"),
        (15082, "ports.gatewayHealth"),
        (15053, "ports.dns"),
        (15054, "ports.proxy"),
    ] {
        let taken = TcpListener::bind(world.port_of("east", port)).expect("free");
        let seen = format!("port {port}/tcp on {address} is in use by another process");
        let way_out = format!("set `{setting}`");
        dies(&world, &["site", "east"], &[" of east does not start", &seen, &way_out]);
        // The way out is one: the file takes it, and the process goes on.
        let key = setting.trim_start_matches("ports.");
        let other = format!("{site}  ports: {{ {key}: {} }}\n", port + 100);
        if setting != "ports.api" {
            world.home.write("east/site.yaml", &other);
            let mut running = world.start("east", &["site", "east"]);
            world.well("east");
            assert!(running.runs());
        }
        world.home.write("east/site.yaml", &site);
        drop(taken);
    }
    let taken = UdpSocket::bind(world.port_of("east", 4430)).expect("free");
    let seen = format!("port 4430/udp on {address} is in use by another process");
    dies(&world, &["site", "east"], &["the gateway of east does not start", &seen, "set `ports.tunnel`"]);
    drop(taken);

    let _east = world.start("east", &["site", "east"]);
    world.well("east");
    // Processes that join: the way out is a flag that they have.
    for (kind, name, port) in [("agent", "vm-1", 15083), ("agent", "vm-1", 15053), ("gateway", "gw-1", 4430)] {
        let part = format!("{name}-{port}");
        let (address, place) = (world.at(&part), world.port_of(&part, port));
        let tcp = (port != 4430).then(|| TcpListener::bind(place).expect("free"));
        let udp = (port == 4430).then(|| UdpSocket::bind(place).expect("free"));
        let token = world.token(kind, name, "east", &[]);
        let args = [kind, name, "--dir", &part, "--address", &address, "--join", &token];
        let log = dies(&world, &args, &[&format!("{kind} {name} does not start"), "is in use by another process"]);
        assert!(log.contains(&format!("port {port}/")) && log.contains(&format!("on {address}")), "{log}");
        let flag = log.split('`').find(|word| word.starts_with("--")).unwrap_or_else(|| panic!("no flag in {log}"));
        let help = world.good(&[kind, "--help"]).out;
        assert!(help.contains(flag), "`meshfed {kind}` has no {flag}, which it names:\n{log}");
        drop((tcp, udp));
    }
}

#[test]
fn a_directory_is_used_by_one_process() {
    let world = World::new();
    let mut east = world.site("east", &[]);
    let holder = format!("in use by process {} (meshfed)", east.pid());
    let way_out = "stop that process, or run this one on another site directory";
    world.unchanged(&["east"], || {
        for verb in ["site", "federation"] {
            dies(&world, &[verb, "east"], &["the federation of east does not start", "store.redb", &holder, way_out]);
        }
    });
    assert!(east.runs(), "the first goes on");
    // The lock is the process's own: nothing has to be cleaned up after a crash.
    east.kill();
    east.again();
    world.well("east");
}

#[test]
fn a_token_lets_one_node_of_one_name_join_one_site_once() {
    let world = World::new();
    let (_east, _west) = (world.site("east", &[]), world.site("west", &[]));
    let both: &[&str] = &["east", "west"];
    let short = world.token("agent", "vm-9", "east", &["--valid", "10s"]);
    let short_until = later(10_000);
    let token = world.token("agent", "vm-1", "east", &[]);
    let foreign = world.token("agent", "vm-1", "west", &[]);
    let gateway = world.token("gateway", "gw-1", "east", &[]);
    let read = |file: &str| JoinToken::decode(&world.read(file), 0).expect("a token");
    let forge = |file: &str, token: &JoinToken| world.home.write(file, &token.encode());
    let address = world.at("vm");
    let mut tries = 0;
    let mut join = |kind: &str, name: &str, file: &str, says: &[&str]| {
        tries += 1;
        let folder = format!("try-{tries}");
        let args = [kind, name, "--dir", &folder, "--address", &address, "--join", file];
        let log = dies(&world, &args, &[&[&*format!("{kind} {name} does not start")], says].concat());
        assert!(!world.path(&folder).join("joined").exists(), "it is no member\n{log}");
        assert!(!log.contains(&world.read(file)[40..]), "a secret in a log");
    };

    world.unchanged(both, || {
        // Here, before anything is dialled.
        join("agent", "vm-2", &token, &["the token is for host vm-1, not vm-2"]);
        join("agent", "gw-1", &gateway, &["this token lets a gateway join", "meshfed token agent gw-1"]);
        join("gateway", "vm-1", &token, &["this token lets an agent join", "meshfed token gateway vm-1"]);

        // By the site, however it was altered on the way.
        forge("renamed.token", &JoinToken { name: "vm-2".parse().expect("valid"), ..read(&token) });
        join(
            "agent",
            "vm-2",
            "renamed.token",
            &["site east refused the token", "for agent vm-1, not for agent vm-2", "meshfed token"],
        );
        let altered = JoinToken { secret: read(&foreign).secret, ..read(&token) };
        forge("altered.token", &altered);
        join("agent", "vm-1", "altered.token", &["the proof of this token is not good", "copy the token again, whole"]);
        let made_up = JoinToken { id: [7; 16], ..read(&token) };
        forge("made-up.token", &made_up);
        join("agent", "vm-1", "made-up.token", &["this token is not known to east", "meshfed token"]);
        // One of west that leads to east is not shown to east: it is not the site of the token.
        forge("astray.token", &JoinToken { addresses: read(&token).addresses, ..read(&foreign) });
        join("agent", "vm-1", "astray.token", &["no gateway of site west lets this host join"]);
    });

    // The first use counts; after it the token is worth nothing, here and elsewhere.
    let mut vm = world.agent_with("east", "vm-1", &token, &[]);
    world.unchanged(both, || {
        join("agent", "vm-1", &token, &["this token is not known to east", "was used", "meshfed token"]);
    });
    vm.terminate();
    vm.ended(LONG);
    world.unchanged(both, || {
        let args = ["agent", "vm-1", "--dir", "east-vm-1", "--address", &address, "--join", &foreign];
        dies(&world, &args, &["belongs to site east, and the token is for site west", "another --dir"]);
    });

    std::thread::sleep(Duration::from_millis(short_until.saturating_sub(runtime::clock::unix_ms())));
    let args = ["agent", "vm-9", "--address", &address, "--join", &short];
    let said = world.refused(&args, &["is no token that can be used", "ended", "meshfed token"]);
    assert!(said.contains("s ago"), "{said}");
    // A clock of the host that is behind changes nothing. The first one keeps the door of the site open.
    let _open = world.token("agent", "vm-8", "east", &[]);
    forge("late.token", &JoinToken { expires_ms: later(600_000), ..read(&short) });
    world.unchanged(both, || {
        join("agent", "vm-9", "late.token", &["has run out", "meshfed token"]);
    });
}

#[test]
fn a_token_that_was_used_is_said_to_be_so_when_no_other_is_open() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let token = world.token("agent", "vm-1", "east", &[]);
    let _vm = world.agent_with("east", "vm-1", &token, &[]);
    let address = world.at("other");
    // The door of the site is closed by now, so nobody can say what became of this token; what is likely can be said.
    let args = ["agent", "vm-1", "--dir", "other", "--address", &address, "--join", &token];
    let says = ["no gateway of site east lets this host join", "used", "meshfed token agent vm-1"];
    world.unchanged(&["east"], || dies(&world, &args, &says));
    let _vm = world.gateway("east", "gw-1", &[]);
    let args = ["gateway", "gw-1", "--dir", "again", "--address", &address, "--join", "east-gw-1.token"];
    world.unchanged(&["east"], || dies(&world, &args, &["this token is not known to east", "used", "meshfed token"]));
}

#[test]
fn an_invite_links_one_site_once() {
    let world = World::new();
    let _sites = ["east", "west", "dc"].map(|name| world.site(name, &[]));
    let all: &[&str] = &["east", "west", "dc"];
    let invite = |file: &str, more: &[&str]| {
        let ran = world.good(&[&["link", "invite", "--context", "east"], more].concat());
        world.home.write(file, &ran.out);
    };
    let accept = |file: &str, site: &str, says: &[&str]| {
        world.unchanged(all, || world.refused(&["link", "accept", file, "--context", site], says));
    };
    invite("short.invite", &["--valid", "10s"]);
    let short_until = later(10_000);
    invite("east.invite", &[]);
    invite("west.invite", &["--to", "west.mesh"]);
    let mut altered = Invite::decode(&world.read("east.invite"), 0).expect("an invite");
    altered.id = [7; 16];
    world.home.write("altered.invite", &altered.encode());

    accept("east.invite", "east", &["east is this very site", "link two sites"]);
    accept("west.invite", "dc", &["this invite is for west.mesh, and this site is dc.mesh", "ask for an invite"]);
    accept("altered.invite", "dc", &["east refused the link", "not known to east", "nothing was changed"]);
    world.home.write("cut.invite", &world.read("east.invite")[..200]);
    accept("cut.invite", "dc", &["the invite cannot be used", "copy it again, whole", "meshfed link invite"]);
    let token = world.token("agent", "vm-1", "east", &[]);
    accept(&token, "dc", &["the invite cannot be used", "this is a join token"]);

    world.good(&["link", "accept", "east.invite", "--context", "west"]);
    world.well("east");
    world.well("west");
    accept("east.invite", "dc", &["east refused the link", "used already, by another site", "nothing was changed"]);
    for (one, other) in [("east", "west"), ("west", "east")] {
        let says = format!("{one} and {other} are linked already; nothing was changed");
        world.unchanged(all, || world.refused(&["link", one, other], &[&says, "meshfed status"]));
    }
    // The same site may repeat itself, for example when the answer was lost.
    world.unchanged(all, || world.good(&["link", "accept", "east.invite", "--context", "west"]));

    std::thread::sleep(Duration::from_millis(short_until.saturating_sub(runtime::clock::unix_ms()) + 100));
    accept("short.invite", "dc", &["the invite cannot be used", "s ago", "meshfed link invite"]);
    let mut late = Invite::decode(&world.read("short.invite"), 0).expect("an invite");
    late.expires_ms = later(600_000);
    world.home.write("late.invite", &late.encode());
    accept("late.invite", "dc", &["east refused the link", "has run out"]);
}

#[test]
fn sites_that_clash_are_not_linked() {
    let (world, other) = (World::new(), World::new());
    let _east = world.site("east", &[]);
    let invite = |world: &World| world.good(&["link", "invite", "--context", "east"]).out;
    for (name, more, says) in [
        ("east", ["--trust-domain", "other.mesh"], "both sites are named east"),
        ("south", ["--trust-domain", "east.mesh"], "both sites have the trust domain east.mesh"),
        ("lab", ["--clusterset", "lab"], "east is of clusterset meshfed, this site of lab"),
    ] {
        let _site = other.site(name, &more);
        other.home.write("east.invite", &invite(&world));
        let ours = || {
            other.unchanged(&[name], || {
                let args = ["link", "accept", "east.invite", "--context", name];
                other.refused(&args, &[says, "nothing was changed", "do"])
            })
        };
        world.unchanged(&["east"], ours);
    }
    // The same, when one person has both contexts: found before anything is begun.
    for (name, more, says) in [
        ("south", ["--trust-domain", "east.mesh"], "both sites have the trust domain east.mesh; nothing was changed"),
        ("lab", ["--clusterset", "lab"], "east and lab are in different clustersets; nothing was changed"),
    ] {
        let _site = world.site(name, &more);
        world.unchanged(&["east", name], || world.refused(&["link", "east", name], &[says, "do"]));
    }
    world.unchanged(&["east"], || world.refused(&["link", "east", "east"], &["the same site", "meshfed init"]));
}

/// Two teams: east has a service and callers of it, west offers the same name.
#[test]
fn a_partner_takes_no_part_in_a_name_without_being_asked() {
    let world = World::new();
    let (_east, mut west) = (world.site("east", &[]), world.site("west", &[]));
    let port = world.free_port();
    let mut parts: Vec<Part> = Vec::new();
    for (site, services) in [("east", &["pay/api"][..]), ("west", &["pay/api", "west/own"])] {
        parts.push(world.agent(site, "vm-1", &[]));
        let (echo, listen) = world.echo(site, "vm-1");
        parts.push(echo);
        for service in services {
            world.expose(site, service, "vm-1", port, listen);
            world.healthy(site, service, 1);
        }
    }
    world.home.write("west.invite", &world.good(&["link", "invite", "--context", "east"]).out);
    world.good(&["link", "accept", "west.invite", "--context", "west"]);
    // A new name of the partner is taken; the one that is ours is not, and both are told.
    world.healthy("east", "west/own", 1);
    let view = world.healthy("east", "pay/api", 1);
    assert_eq!(view.sites.len(), 1, "{view:?}");
    assert!(view.notes.iter().any(|note| note.contains("NotAccepted of west")), "{view:?}");
    let status = world.status("east");
    let finding = status.findings.iter().find(|f| f.subject == "service pay/api").expect("a finding");
    assert!(finding.what.contains("NotAccepted of west") && !finding.next.is_empty(), "{finding:?}");
    assert!(world.good(&["describe", "service", "pay/api", "--context", "east"]).out.contains("NotAccepted of west"));
    let vip = world.served("east", "pay/api", port);
    for _ in 0..50 {
        assert_eq!(get(vip, "/").expect("an answer").site, "east");
    }
    // West is down: east parts from it at once, and nothing of west is left there.
    west.kill();
    let parted = world.good(&["unlink", "west", "--context", "east", "--yes"]);
    assert!(parted.out.contains("unlinked east from west") && parted.out.contains("does not answer"), "{}", parted.out);
    assert_eq!(parted.out.matches("lease ends").count(), 1, "said once: {}", parted.out);
    assert!(world.links("east").links.is_empty());
    let left: Vec<String> = world.services("east").expect("a list").into_iter().map(|view| view.service).collect();
    assert_eq!(left, ["pay/api"]);
    assert_eq!(get(vip, "/").expect("an answer").site, "east");

    // West comes back, and learns that it was parted from: it says so, and takes nothing from east any more.
    west.again();
    world.until("word of the end of the link in west", || {
        let links = world.links("west").links;
        let peer = world.try_peer("west", "east").unwrap_or_default();
        let told = links.is_empty() || (peer.state == "unreachable" && peer.note.contains("link"));
        if told { Ok(()) } else { Err(format!("{links:?}\n{peer:?}")) }
    });
    let view = world.try_service("west", "pay/api").expect("its own");
    assert!(view.healthy == 1 && view.sites[0].site == "west", "{view:?}");
    assert!(world.links("east").links.is_empty(), "it does not come back by itself");
}

#[test]
fn an_agent_registers_within_its_scope() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let (_echo, listen) = world.echo("east", "a");
    let port = world.free_port();
    let workload = |namespace: &str| {
        format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata: {{ name: api, namespace: {namespace} }}\nspec: \
             {{ port: {port}, targetPort: {}, address: {}, protocol: http }}\n",
            listen.port(),
            listen.ip()
        )
    };
    world.home.write("workloads.yaml", &format!("{}---\n{}", workload("shop"), workload("pay")));
    let token = world.token("agent", "vm-1", "east", &["--namespace", "shop"]);
    let vm = world.agent_with("east", "vm-1", &token, &["--workloads", "workloads.yaml"]);
    world.healthy("east", "shop/api", 1);
    let why = "agent vm-1 may not register pay/api: namespace pay is outside its scope";
    let line = format!("workload pay/api vm-1: healthy, refused by the site: {why}");
    world.until("the refusal in the agent's output", || {
        let log = vm.log();
        if log.contains(&line) { Ok(()) } else { Err(log) }
    });
    assert!(world.events("east").contains(&format!("agent vm-1: a registration was refused ({why})")));
    world.until("the refusal in status", || {
        let node = world.try_node("east", "vm-1")?;
        if node.problems.iter().any(|problem| problem.contains(why)) { Ok(()) } else { Err(format!("{node:?}")) }
    });
    let names: Vec<String> = world.services("east").expect("a list").into_iter().map(|view| view.service).collect();
    assert_eq!(names, ["shop/api"]);

    let target = listen.ip().to_string();
    let ports = format!("{port}:{}", listen.port());
    let expose = |service: &str, host: &str, says: &[&str]| {
        let args = ["expose", service, "--on", host, "--port", &ports, "--target", &target, "--context", "east"];
        world.unchanged(&["east"], || world.refused(&args, says));
    };
    expose("pay/api", "vm-1", &["agent vm-1 may not register in namespace pay", "its token allows shop", "join it again"]);
    expose("shop/cart", "vm-7", &["east has no agent on a host vm-7", "meshfed token agent vm-7"]);
    let args = ["export", "shop/crat", "--context", "east"];
    world.unchanged(&["east"], || world.refused(&args, &["east has no service shop/crat", "meshfed get services"]));
}

#[test]
fn what_is_not_known_is_refused_at_every_way_in() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let (_echo, listen) = world.echo("east", "a");
    let port = world.free_port();
    let _vm = world.agent("east", "vm-1", &[]);
    world.expose("east", "shop/cart", "vm-1", port, listen);
    world.healthy("east", "shop/cart", 1);
    for at in ["east", "east-vm-1"] {
        let vip = world.served(at, "shop/cart", port);
        let (proxy, dns) = (world.port_of(at, 15054), world.port_of(at, 15053));
        let name = |service: &str| format!("{service}.shop.svc.clusterset.local");
        // RFC 1928: 4 host unreachable, 5 connection refused, 2 not allowed; 0 is yes.
        for (host, port, code) in [
            (name("cart"), port, 0),
            (name("crat"), port, 4),
            (name("cart"), port + 1, 5),
            ("example.com".to_owned(), 80, 2),
            ("127.0.0.1".to_owned(), 15080, 2),
        ] {
            assert_eq!(socks(proxy, &host, port), Ok(code), "{host}:{port} at {at}");
        }
        let unknown = http_connect(proxy, &format!("{}:{port}", name("crat"))).expect("an answer");
        assert!(unknown.starts_with("HTTP/1.1 502 ") && unknown.contains("shop/crat"), "{unknown}");
        let no_port = http_connect(proxy, &format!("{}:{}", name("cart"), port + 1)).expect("an answer");
        assert!(no_port.starts_with("HTTP/1.1 502 ") && no_port.contains(&(port + 1).to_string()), "{no_port}");
        let foreign = http_connect(proxy, "example.com:443").expect("an answer");
        assert!(foreign.starts_with("HTTP/1.1 403 ") && foreign.contains("example.com"), "{foreign}");
        assert!(resolve(dns, "shop/crat", port).expect_err("no such name").contains("no such name"));
        // The same address with another port, and the next address: nobody listens.
        for other in [(vip.ip(), vip.port() + 1), ("127.64.255.9".parse().expect("valid"), port)] {
            let error = get(other.into(), "/").expect_err("nobody listens");
            assert!(error.contains("refused"), "{error}");
        }
        assert_eq!(get(vip, "/").expect("an answer").site, "east");
    }
    // A service that is taken back is unknown from then on.
    world.good(&["unexport", "shop/cart", "--context", "east", "--yes"]);
    world.good(&["unexpose", "shop/cart", "--on", "vm-1", "--context", "east"]);
    let proxy = world.port_of("east-vm-1", 15054);
    world.until("a refusal of what was taken back", || {
        connect_reply(proxy, &format!("cart.shop.svc.clusterset.local:{port}"), &["HTTP/1.1 502 ", "shop/cart"])
    });
    let args = ["describe", "service", "shop/cart", "--context", "east"];
    world.refused(&args, &["shop/cart", "meshfed get services"]);
}

#[test]
fn a_mistake_in_a_file_is_shown_with_its_place() {
    let world = World::new();
    world.init("east", &[]);
    // site.yaml, at the start.
    let site = world.read("east/site.yaml");
    world.home.write("east/site.yaml", &site.replace("  locality: ", "  localty: ").replace("  address: ", "  adress: "));
    let line = 1 + site.lines().position(|line| line.trim_start().starts_with("address:")).expect("it has one");
    let said = dies(&world, &["site", "east"], &[&format!("site.yaml:{line}:3: unknown field `adress`")]);
    assert!(said.contains("did you mean `address`?"), "{said}");
    assert!(!world.path("east/store.redb").exists(), "nothing was begun");
    world.home.write("east/site.yaml", &site);
    let _east = world.start("east", &["site", "east"]);
    world.well("east");

    // Resources: all of them, or none.
    let policy = |name: &str, field: &str| {
        format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata:\n  name: {name}\n  namespace: \
             shop\nspec:\n  {field}: true\n"
        )
    };
    world.home.write("good.yaml", &policy("one", "strict"));
    world.home.write("bad.yaml", &policy("two", "strickt"));
    world.home.write("kind.yaml", &policy("two", "strict").replace("FailoverPolicy", "FailoverPlan"));
    world.home.write("torn.yaml", "apiVersion: meshfed.dev/v1alpha1\nkind: [\n");
    for (file, says) in [
        ("bad.yaml", &["bad.yaml:7:3: unknown field `strickt`", "did you mean `strict`?"][..]),
        ("kind.yaml", &["kind.yaml:2:7", "FailoverPlan"]),
        ("torn.yaml", &["torn.yaml:"]),
        ("east/site.yaml", &["a site is not applied", "edit site.yaml"]),
        ("missing.yaml", &["missing.yaml"]),
    ] {
        let args = ["apply", "-f", "good.yaml", "-f", file, "--context", "east"];
        world.unchanged(&["east"], || world.refused(&args, says));
    }
    world.good(&["apply", "-f", "good.yaml", "--context", "east"]);
    let args = ["delete", "-f", "good.yaml", "-f", "bad.yaml", "--yes", "--context", "east"];
    world.unchanged(&["east"], || world.refused(&args, &["bad.yaml:7:3: unknown field `strickt`"]));

    // Workloads of a host: the last good state stays, and what is wrong is said where people look.
    let (_echo, listen) = world.echo("east", "a");
    let workload = format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: cart\n  namespace: shop\nspec:\n  port: \
         {}\n  targetPort: {}\n  address: {}\n  protocol: http\n",
        world.free_port(),
        listen.port(),
        listen.ip()
    );
    world.home.write("workloads.yaml", &workload);
    let vm = world.agent("east", "vm-1", &["--workloads", "workloads.yaml"]);
    let view = world.healthy("east", "shop/cart", 1);
    world.home.write("workloads.yaml", &workload.replace("protocol", "protocoll"));
    let says = "workloads.yaml:10:3: unknown field `protocoll`";
    world.until("the mistake in the agent's output", || {
        let log = vm.log();
        if log.contains(says) && log.contains("did you mean `protocol`?") { Ok(()) } else { Err(log) }
    });
    world.until("the mistake in status", || {
        let node = world.try_node("east", "vm-1")?;
        if node.problems.iter().any(|problem| problem.contains(says)) { Ok(()) } else { Err(format!("{node:?}")) }
    });
    assert_eq!(world.healthy("east", "shop/cart", 1).vip, view.vip);
}

#[test]
fn the_api_is_for_administrators_of_the_site() {
    let world = World::new();
    let (_east, _west) = (world.site("east", &[]), world.site("west", &[]));
    let _vm = world.agent("east", "vm-1", &[]);
    let both: &[&str] = &["east", "west"];
    // Without any certificate.
    let expect = Expect::bundle(
        meshfed::commands::init::read_ca(&world.path("east"), &"east.mesh".parse().expect("valid"))
            .expect("a CA")
            .bundle(1),
        RoleKind::Federation,
    )
    .expect("a good bundle");
    let config = Arc::new(client_config(None, &expect, &[b"http/1.1"]));
    let api = world.port_of("east", 15080);
    let answer = world.unchanged(both, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(tokio::time::timeout(LONG, async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let stream = tokio::net::TcpStream::connect(api).await?;
            let mut stream = tokio_rustls::TlsConnector::from(config).connect(server_name(), stream).await?;
            stream.write_all(b"GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let mut first = [0; 1];
            stream.read_exact(&mut first).await
        }))
    });
    let error = answer.expect("an answer in time").expect_err("no byte of an answer").to_string();
    assert!(error.contains("CertificateRequired") || error.contains("alert"), "{error}");

    // With one of another site, and with one of this site that is no administrator's.
    let contexts = std::fs::read_to_string(world.home.contexts()).expect("there");
    let home = world.home.path().display().to_string();
    for (name, folder, files) in [
        ("west", format!("{home}/west/admin"), ["admin.crt", "admin.key"]),
        ("vm-1", format!("{home}/east-vm-1"), ["node.crt", "node.key"]),
    ] {
        let file = format!("{name}-contexts.yaml");
        let text = contexts
            .replace(&format!("{home}/east/admin/admin.crt"), &format!("{folder}/{}", files[0]))
            .replace(&format!("{home}/east/admin/admin.key"), &format!("{folder}/{}", files[1]));
        assert_ne!(text, contexts);
        world.home.write(&file, &text);
        let config = world.path(&file).display().to_string();
        for args in [&["status", "--context", "east"][..], &["token", "agent", "vm-2", "--context", "east"]] {
            let ran = world.unchanged(both, || world.home.run_with(args, &[("MESHFED_CONFIG", &config)]));
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
            assert!(ran.err.contains("east at") && ran.err.contains("did not believe us"), "{}", ran.err);
        }
    }
    // Plain HTTP on a port of TLS gets no answer, and hurts nobody.
    assert!(get(api, "/v1/site").is_err());
    world.well("east");
}
