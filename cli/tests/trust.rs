//! Trust over time: certificates that live for seconds, renewed or not.

mod support;
mod world;

use identity::credentials::Credentials;
use std::time::{Duration, Instant};
use world::caller::{Held, get};
use world::part::Part;
use world::{LONG, World};

/// A site in parts whose certificates live for so long.
fn site(world: &World, name: &str, life: &str) -> (Part, Part) {
    world.init(name, &[]);
    let yaml = world.read(&format!("{name}/site.yaml"));
    world.home.write(&format!("{name}/site.yaml"), &format!("{yaml}  leafLifetime: {life}\n"));
    let federation = world.start(&format!("{name}-federation"), &["federation", name]);
    world.until("an API", || world.try_status(name));
    let gateway = world.gateway(name, "gw-0", &[]);
    world.well(name);
    (federation, gateway)
}

/// The certificate of a node, as its folder has it.
fn certificate(world: &World, node: &str) -> Option<Credentials> {
    let read = |name: &str| std::fs::read_to_string(world.path(&format!("{node}/{name}"))).ok();
    // Between the two files of a pair it is none.
    Credentials::from_pem(&read("node.crt")?, &read("node.key")?).ok()
}

fn has_run_out(world: &World, node: &str) -> bool {
    // The second in which it ends is its last one.
    let end_ms = certificate(world, node).map(|held| held.not_after_ms() + 1_000);
    end_ms.is_some_and(|end_ms| end_ms <= runtime::clock::unix_ms())
}

#[test]
fn certificates_are_renewed_under_load_and_no_stream_is_dropped() {
    let world = World::new();
    let (_east, _east_gateway) = site(&world, "east", "6s");
    let (_west, mut west_gateway) = site(&world, "west", "6s");
    let (_echo, listen) = world.echo("east", "cart");
    let _vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let entry = world.served("west-gw-0", "shop/cart", port);

    let nodes = ["east-gw-0", "west-gw-0", "east-vm-1"];
    let first: Vec<u64> =
        nodes.map(|node| certificate(&world, node).expect("a pair").not_after_ms()).to_vec();
    let mut held: Vec<Held> = (0..4).map(|_| Held::open(entry).expect("connects")).collect();
    let begin = Instant::now();
    // The first certificates have long run out when every node has one that ends two lives later.
    loop {
        for held in &mut held {
            assert_eq!(held.ask("/").expect("a stream that was opened at the start").site, "east");
        }
        get(entry, "/").expect("a new stream");
        let renewed = |(node, first): (&&str, &u64)| {
            certificate(&world, node).is_some_and(|now| now.not_after_ms() >= first + 12_000)
        };
        if nodes.iter().zip(&first).all(renewed) {
            break;
        }
        assert!(begin.elapsed() < 2 * LONG, "not renewed");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The renewed ones are good for new handshakes, and so is that of the federation.
    west_gateway.kill();
    west_gateway.again();
    world.connected("west", "gw-0");
    assert_eq!(world.served("west-gw-0", "shop/cart", port), entry);
}

#[test]
fn with_its_federation_dead_what_is_open_stays_when_certificates_run_out_and_new_handshakes_say_why() {
    let world = World::new();
    let (mut east, east_gateway) = site(&world, "east", "6s");
    let (mut west, mut west_gateway) = site(&world, "west", "6s");
    let (_echo, listen) = world.echo("east", "cart");
    let vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let entry = world.served("west-gw-0", "shop/cart", port);
    let mut held = Held::open(entry).expect("connects");

    east.kill();
    west.kill();
    world.until("certificates that have run out", || {
        let over = ["east-gw-0", "west-gw-0", "east-vm-1"].map(|node| has_run_out(&world, node));
        if over == [true; 3] { Ok(()) } else { Err(format!("{over:?}")) }
    });
    assert_eq!(held.ask("/").expect("it was open").site, "east");
    get(entry, "/").expect("a new stream on a connection that was open");
    world.until("the reason in the log", || {
        let log = west_gateway.log();
        if log.contains("the certificate has run out and could not be renewed") { Ok(()) } else { Err(log) }
    });

    // A new handshake fails, with that reason.
    west_gateway.kill();
    west_gateway.again();
    world.until("a handshake that fails", || {
        let log = west_gateway.log();
        if log.contains("the certificate of this gateway has run out") { Ok(()) } else { Err(log) }
    });
    assert!(get(entry, "/").is_err());

    // The federation that is back says what is wrong and what to do, and that is a way out.
    west.again();
    east.again();
    let finding = world.until("a finding", || {
        let status = world.try_status("west")?;
        let of = status.findings.iter().find(|finding| finding.what.contains("certificate has run out"));
        of.cloned().ok_or(format!("{:?}", status.findings))
    });
    assert!(
        finding.subject.contains("gw-0") && finding.next.contains("meshfed token gateway gw-0"),
        "{finding:?}"
    );
    let mut parts = [west_gateway, east_gateway, vm];
    for (part, (kind, name, site)) in parts.iter_mut().zip([
        ("gateway", "gw-0", "west"),
        ("gateway", "gw-0", "east"),
        ("agent", "vm-1", "east"),
    ]) {
        part.kill();
        // An agent joins through a gateway, which has to lead to the federation first.
        let token = world.until("a token", || {
            let ran = world.run(&["token", kind, name, "--context", site]);
            if ran.code == 0 { Ok(ran.out) } else { Err(ran.err) }
        });
        let folder = format!("{site}-{name}");
        world.home.write(&format!("{folder}-again.token"), &token);
        let (address, file) = (world.at(&folder), format!("{folder}-again.token"));
        *part = world.start(&folder, &[kind, name, "--dir", &folder, "--address", &address, "--join", &file]);
        world.connected(site, name);
    }
    world.served("west-gw-0", "shop/cart", port);
    world.well("west");
}
