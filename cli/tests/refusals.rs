//! What is refused: with words that say who is at fault, what was seen and what to do; and nothing is changed by it.

#[path = "refusals/files.rs"]
mod files;
#[path = "refusals/folders.rs"]
mod folders;
#[path = "refusals/links.rs"]
mod links;
mod support;
#[path = "refusals/tokens.rs"]
mod tokens;
mod world;

use identity::peer::RoleKind;
use identity::tls::{Expect, client_config, server_name};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use world::caller::{get, http_connect, resolve, socks};
use world::{LONG, World};

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
    for (kind, name, port) in [("agent", "vm-1", 15083), ("agent", "vm-1", 15053), ("gateway", "gw-1", 4430)]
    {
        let part = format!("{name}-{port}");
        let (address, place) = (world.at(&part), world.port_of(&part, port));
        let tcp = (port != 4430).then(|| TcpListener::bind(place).expect("free"));
        let udp = (port == 4430).then(|| UdpSocket::bind(place).expect("free"));
        let token = world.token(kind, name, "east", &[]);
        let args = [kind, name, "--dir", &part, "--address", &address, "--join", &token];
        let log =
            dies(&world, &args, &[&format!("{kind} {name} does not start"), "is in use by another process"]);
        assert!(log.contains(&format!("port {port}/")) && log.contains(&format!("on {address}")), "{log}");
        let flag =
            log.split('`').find(|word| word.starts_with("--")).unwrap_or_else(|| panic!("no flag in {log}"));
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
            dies(
                &world,
                &[verb, "east"],
                &["the federation of east does not start", "store.redb", &holder, way_out],
            );
        }
    });
    assert!(east.runs(), "the first goes on");
    // The lock is the process's own: nothing has to be cleaned up after a crash.
    east.kill();
    east.again();
    world.well("east");
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
    let mut vips = Vec::new();
    for at in ["east", "east-vm-1"] {
        let vip = world.served(at, "shop/cart", port);
        vips.push((at, vip));
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
        assert!(
            no_port.starts_with("HTTP/1.1 502 ") && no_port.contains(&(port + 1).to_string()),
            "{no_port}"
        );
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
    let refused =
        [("CONNECT", "HTTP/1.1 502 "), ("DNS", "no such name"), ("a virtual IP", "Connection refused")];
    for (at, vip) in vips {
        let (proxy, dns) = (world.port_of(at, 15054), world.port_of(at, 15053));
        for (way, says) in refused {
            world.until(&format!("a refusal of {way} at {at}"), || {
                let said = match way {
                    "CONNECT" => http_connect(proxy, &format!("cart.shop.svc.clusterset.local:{port}"))?,
                    "DNS" => format!("{:?}", resolve(dns, "shop/cart", port)),
                    _ => format!("{:?}", get(vip, "/")),
                };
                if said.contains(says) { Ok(()) } else { Err(said) }
            });
        }
    }
    let args = ["describe", "service", "shop/cart", "--context", "east"];
    world.refused(&args, &["shop/cart", "meshfed get services"]);
}

#[test]
fn a_mistake_in_a_file_is_shown_with_its_place() {
    let world = World::new();
    world.init("east", &[]);
    // site.yaml, at the start.
    let site = world.read("east/site.yaml");
    world.home.write(
        "east/site.yaml",
        &site.replace("  locality: ", "  localty: ").replace("  address: ", "  adress: "),
    );
    let line =
        1 + site.lines().position(|line| line.trim_start().starts_with("address:")).expect("it has one");
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
    world.workload("workloads.yaml", "shop/cart", world.free_port(), listen);
    let workload = world.read("workloads.yaml");
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
        if node.problems.iter().any(|problem| problem.contains(says)) {
            Ok(())
        } else {
            Err(format!("{node:?}"))
        }
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
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let stream = tokio::net::TcpStream::connect(api).await?;
            let mut stream = tokio_rustls::TlsConnector::from(config).connect(server_name(), stream).await?;
            stream.write_all(b"GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let mut first = [0; 1];
            stream.read_exact(&mut first).await
        })
    });
    let error = answer.expect_err("no byte of an answer").to_string();
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
