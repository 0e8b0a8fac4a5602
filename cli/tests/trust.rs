//! Trust over time: certificates that live for seconds, renewed or not, and roots that are rotated under load.

mod support;
mod world;

use api::rest::trust::TrustView;
use identity::credentials::Credentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use world::caller::{Held, Watch, get};
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

/// Waits until these hold up the next step of a rotation, and nobody else.
#[track_caller]
fn waits_for(world: &World, site: &str, names: &[&str]) -> TrustView {
    world.until(&format!("a rotation of {site} that waits for {names:?}"), || {
        let view: TrustView = world.try_json(&["trust", "status", "--context", site])?;
        if view.waits_for == names { Ok(view) } else { Err(format!("{view:#?}")) }
    })
}

/// Whether the CA that signs for a site has signed the certificate of one of its nodes.
fn is_of_the_root_that_signs(world: &World, site: &str, node: &str) -> bool {
    let text = world.read(&format!("{site}/ca/ca.crt"));
    let root = CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    certificate(world, node).is_some_and(|held| held.is_signed_by(&root))
}

#[test]
fn a_root_is_rotated_through_all_steps_under_load_and_no_request_fails_and_no_stream_is_dropped() {
    let world = World::new();
    let (_east, _gateway) = site(&world, "east", "7d");
    let (_west, mut west_gateway) = site(&world, "west", "7d");
    let (_echo, listen) = world.echo("east", "cart");
    let _vm = world.agent("east", "vm-1", &[]);
    let mut other = world.agent("east", "vm-2", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let entry = world.served("west-gw-0", "shop/cart", port);
    let step = |verb: &str| world.good(&["trust", verb, "--context", "east", "--yes"]).out;
    let first = world.read("east/ca/ca.crt");

    let held: Vec<_> = (0..4).map(|_| Mutex::new(Held::open(entry).expect("connects"))).collect();
    let streams = || held.iter().try_for_each(|held| held.lock().expect("no panic").ask("/").map(drop));
    let requests = || get(entry, "/").map(drop);
    Watch::during(Duration::from_millis(20), &[&streams, &requests], || {
        let dry = world.good(&["trust", "rotate", "--context", "east", "--dry-run"]).out;
        assert!(dry.contains("would publish the next root; nothing was changed"), "{dry}");
        let said = step("rotate");
        assert!(said.contains("step 1 of 3") && said.contains("peer west"), "{said}");
        let view = waits_for(&world, "east", &[]);
        assert_eq!((view.roots.len(), view.next.as_str()), (2, "meshfed trust rotate --context east"));
        world.refused(
            &["trust", "finish", "--context", "east"],
            &["does not sign yet", "meshfed trust rotate"],
        );

        // One agent is away from here on, and named when it would be cut off.
        other.kill();
        let said = step("rotate");
        assert!(said.contains("step 2 of 3") && said.contains("waits for agent vm-2"), "{said}");
        waits_for(&world, "east", &["agent vm-2"]);
        world.refused(
            &["trust", "finish", "--context", "east", "--yes"],
            &["the old root is still needed: agent vm-2 holds it up", "cut off", "--force"],
        );
        let status = world.status("east");
        let finding = status.findings.iter().find(|finding| finding.subject == "trust").expect("a finding");
        assert!(finding.why.contains("agent vm-2 holds it up"), "{finding:?}");
        for node in ["east-gw-0", "east-vm-1"] {
            assert!(is_of_the_root_that_signs(&world, "east", node), "{node}");
        }
        other.again();
        waits_for(&world, "east", &[]);
        let said = step("finish");
        assert!(said.contains("the old root is retired") && said.contains("no rotation under way"), "{said}");
        waits_for(&world, "east", &[]);
    });

    let events = world.events("west");
    assert!(events.contains("peer east: has other roots"), "{events}");
    assert!(!events.contains("does not answer"), "a session has ended: {events}");

    // Nothing of the old root is left, and what is made anew is believed.
    assert_ne!(first, world.read("east/ca/ca.crt"));
    assert!(!world.path("east/ca/old.crt").exists() && !world.path("east/ca/next.key").exists());
    west_gateway.kill();
    west_gateway.again();
    world.connected("west", "gw-0");
    assert_eq!(world.served("west-gw-0", "shop/cart", port), entry);
    world.well("east");
    world.well("west");
}

#[test]
fn a_site_that_was_dead_through_all_steps_comes_back_and_serves() {
    let world = World::new();
    let (_east, _gateway) = site(&world, "east", "7d");
    let (mut west, mut west_gateway) = site(&world, "west", "7d");
    let (_echo, listen) = world.echo("east", "cart");
    let _vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let entry = world.served("west-gw-0", "shop/cart", port);

    west.kill();
    west_gateway.kill();
    world.good(&["trust", "rotate", "--context", "east"]);
    waits_for(&world, "east", &["peer west"]);
    world.refused(&["trust", "rotate", "--context", "east"], &["peer west holds it up", "--force"]);
    let forced = world.good(&["trust", "rotate", "--context", "east", "--force", "--yes", "--wait", "0s"]);
    assert!(forced.err.contains("passed over  peer west"), "{}", forced.err);
    waits_for(&world, "east", &["peer west"]);
    world.refused(&["trust", "finish", "--context", "east"], &["peer west holds it up"]);
    world.good(&["trust", "finish", "--context", "east", "--force", "--yes", "--wait", "0s"]);

    // Neither its federation nor its gateway has heard of any of this.
    west.again();
    west_gateway.again();
    world.connected("west", "gw-0");
    assert_eq!(world.served("west-gw-0", "shop/cart", port), entry);
    world.until("west that holds the new root", || {
        let view: TrustView = world.try_json(&["trust", "status", "--context", "east"])?;
        let west = view.holders.iter().find(|holder| holder.name == "west");
        let holds = west.is_some_and(|west| west.note == "holds bundle 3");
        if holds { Ok(()) } else { Err(format!("{view:#?}")) }
    });
    world.well("east");
    world.well("west");
}

#[test]
fn an_administrator_on_another_host_who_rotates_a_root_keeps_the_way_to_the_site() {
    let world = World::new();
    let (_east, _gateway) = site(&world, "east", "7d");
    std::fs::create_dir(world.path("far")).expect("made");
    for (from, to) in
        [("admin/admin.crt", "admin.crt"), ("admin/admin.key", "admin.key"), ("ca/ca.crt", "ca.crt")]
    {
        std::fs::copy(world.path("east").join(from), world.path("far").join(to)).expect("copied");
    }
    let far = world.path("far").display().to_string();
    let api = world.port_of("east", 15_080);
    let contexts = std::fs::read_to_string(world.home.contexts()).expect("contexts");
    let context = format!(
        "  far:\n    site: east\n    trustDomain: east.mesh\n    api: {api}\n    certificate: {far}/admin.crt\n    key: \
         {far}/admin.key\n    ca: {far}/ca.crt\n"
    );
    let contexts = contexts.replacen("contexts:\n", &format!("contexts:\n{context}"), 1);
    std::fs::write(world.home.contexts(), contexts).expect("written");

    for (verb, step) in [("rotate", "published"), ("rotate", "switched"), ("finish", "settled")] {
        world.good(&["trust", verb, "--context", "far", "--yes"]);
        assert_eq!(waits_for(&world, "far", &[]).step, step);
    }
    // The one with the site's directory has not asked for anything, and is believed too.
    assert_eq!(waits_for(&world, "east", &[]).sequence, 3);
    let root = std::fs::read_to_string(world.path("far/ca.crt")).expect("a root");
    assert_eq!(root, world.read("east/ca/ca.crt"), "the roots that it is known by");
}
