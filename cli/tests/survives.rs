//! What goes on when parts die: federations, gateways, agents, a whole site.

mod support;
mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use world::caller::{Held, Watch, get, http_connect, resolve};
use world::{LONG, World};

/// Between two looks of a watch.
const OFTEN: Duration = Duration::from_millis(100);

/// Whether a site still has a service with one healthy endpoint in `of`, at the same virtual IP.
fn still_there(world: &World, site: &str, service: &str, of: &str, vip: Option<&str>) -> Result<(), String> {
    let view = world.try_service(site, service)?;
    let there = view.sites.iter().any(|s| s.site == of && s.healthy == 1);
    if there && view.vip.as_deref() == vip { Ok(()) } else { Err(format!("{view:?}")) }
}

fn answers(address: SocketAddr) -> Result<(), String> {
    get(address, "/").map(drop)
}

/// A service on a VM of east, and callers in west: a program beside an agent, and one beside the gateway.
#[test]
fn nothing_is_lost_with_a_control_plane() {
    let world = World::new();
    let (mut east, _east_gateways) = world.site_in_parts("east", &[("gw-0", &["--no-ways-in"])]);
    let (mut west, mut west_gateways) = world.site_in_parts("west", &[("gw-0", &[])]);
    let mut client = world.agent("west", "client", &[]);
    let (_echo, listen) = world.echo("east", "cart");
    let mut vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let vip = world.healthy("west", "shop/cart", 1).vip;
    let by_agent = world.served("west-client", "shop/cart", port);
    let by_gateway = world.served("west-gw-0", "shop/cart", port);

    // East's federation is killed, stays away, and comes back.
    let listed = || still_there(&world, "west", "shop/cart", "east", vip.as_deref());
    let (agent_answers, gateway_answers) = (|| answers(by_agent), || answers(by_gateway));
    let own = world.healthy("east", "shop/cart", 1).vip;
    Watch::during(OFTEN, &[&listed, &agent_answers, &gateway_answers], || {
        east.kill();
        world.until("west that misses the federation of east", || {
            let peer = world.try_peer("west", "east")?;
            let misses = peer.state == "connected" && !peer.catalog.live && !peer.note.is_empty();
            if misses { Ok(()) } else { Err(format!("{peer:?}")) }
        });
        east.again();
        world.until("the federation of east back", || {
            let (peer, site) = (world.try_peer("west", "east")?, world.try_status("east")?.site);
            if peer.catalog.live && !site.recovering { Ok(()) } else { Err(format!("{peer:?}\n{site:?}")) }
        });
        // What comes after the end of the recovery counts too.
        world.connected("east", "gw-0");
        world.connected("east", "vm-1");
        std::thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(world.healthy("east", "shop/cart", 1).vip, own);
    assert_eq!(world.status("east").peers[0].state, "connected");

    // West's federation is dead; its gateway and its agent start from what they have on disk.
    west.kill();
    west_gateways[0].kill();
    west_gateways[0].again();
    world.until("an answer through the gateway", || answers(by_gateway));
    assert_eq!(
        resolve(world.port_of("west-gw-0", 15053), "shop/cart", port),
        Ok(by_gateway),
        "the same virtual IP"
    );
    world.until("an answer through the agent", || answers(by_agent));
    client.kill();
    client.again();
    world.until("an answer through the agent", || answers(by_agent));
    assert_eq!(
        resolve(world.port_of("west-client", 15053), "shop/cart", port),
        Ok(by_agent),
        "the same virtual IP"
    );
    let gateway_answers = || answers(by_gateway);
    let agent_answers = || answers(by_agent);
    Watch::during(OFTEN, &[&agent_answers, &gateway_answers], || {
        west.again();
        world.connected("west", "gw-0");
        world.connected("west", "client");
        world.until("the catalog of east in west", || {
            let peer = world.try_peer("west", "east")?;
            if peer.catalog.live && peer.catalog.complete { Ok(()) } else { Err(format!("{peer:?}")) }
        });
        std::thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(world.healthy("west", "shop/cart", 1).vip, vip);

    // The agent of the workload restarts while its own federation is dead: it serves what it served.
    east.kill();
    vm.kill();
    vm.again();
    world.until("an answer of the workload", || answers(by_agent));
    let agent_answers = || answers(by_agent);
    Watch::during(OFTEN, &[&agent_answers], || {
        east.again();
        world.connected("east", "vm-1");
        world.healthy("east", "shop/cart", 1);
        world.well("east");
        std::thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(world.healthy("west", "shop/cart", 1).vip, vip);
}

/// Two hosts with agents serve one service of one site.
#[test]
fn an_agent_that_dies_leaves_its_work_to_the_others() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let port = world.free_port();
    let ((_echo_a, a), (_echo_b, b)) = (world.echo("east", "a"), world.echo("east", "b"));
    let files = [("a.yaml", a), ("b.yaml", b)].map(|(file, at)| world.workload(file, "shop/cart", port, at));
    let mut dying = world.agent("east", "a", &["--workloads", &files[0]]);
    let _other = world.agent("east", "b", &["--workloads", &files[1]]);
    world.healthy("east", "shop/cart", 2);
    let vip = world.served("east", "shop/cart", port);
    let mut who = std::collections::BTreeSet::new();
    world.until("answers of both", || {
        who.insert(get(vip, "/")?.instance);
        if who.len() == 2 { Ok(()) } else { Err(format!("{who:?}")) }
    });
    let endpoint = |id: &str| {
        let view = world.try_service("east", "shop/cart")?;
        let found = view.endpoints.iter().find(|endpoint| endpoint.id == id).cloned();
        found.ok_or(format!("{view:?}"))
    };

    // kill -9: whoever calls does not see it; the lease runs out after three missed renewals, and not before.
    let killed = Instant::now();
    dying.kill();
    for _ in 0..30 {
        assert_eq!(get(vip, "/").expect("the other takes over at once").instance, "b");
    }
    let unhealthy = world.until("an endpoint that is unhealthy", || {
        let seen = endpoint("a")?;
        if seen.health == "unhealthy" { Ok((killed.elapsed(), seen)) } else { Err(format!("{seen:?}")) }
    });
    assert!(unhealthy.0 > Duration::from_secs(9), "after {:?}: renewals are 5 s apart", unhealthy.0);
    assert!(!unhealthy.1.why.is_empty(), "{:?}", unhealthy.1);
    let ran = world.run(&["status", "--context", "east"]);
    assert!(ran.code == 1 && ran.out.contains("agent a"), "{}", ran.out);
    dying.again();
    world.healthy("east", "shop/cart", 2);
    world.well("east");

    // Drained: new streams go elsewhere, an open one is finished.
    let mut open = loop {
        let mut held = Held::open(vip).expect("connects");
        if held.ask("/").expect("an answer").instance == "a" {
            break held;
        }
    };
    let drain = ["drain", "endpoint", "shop/cart/a", "--context", "east", "--wait", "0s"];
    let planned = world.unchanged(&["east"], || world.good(&[&drain[..], &["--dry-run"]].concat()));
    assert!(
        planned.err.contains("shop/cart") || planned.out.contains("shop/cart"),
        "{}{}",
        planned.out,
        planned.err
    );
    let drained: api::rest::drain::DrainReply = world.json(&drain);
    assert!(drained.draining && !drained.dry_run, "{drained:?}");
    world.until("an endpoint that drains", || {
        let seen = endpoint("a")?;
        if seen.health == "draining" { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    for _ in 0..20 {
        assert_eq!(get(vip, "/").expect("an answer").instance, "b");
        assert_eq!(open.ask("/").expect("it goes on").instance, "a");
    }
    drop(open);
    let done: api::rest::drain::DrainReply =
        world.json(&["drain", "endpoint", "shop/cart/a", "--context", "east"]);
    assert!(done.done && done.open_streams == 0, "{done:?}");
    world.good(&["undrain", "endpoint", "shop/cart/a", "--context", "east"]);
    world.healthy("east", "shop/cart", 2);

    // SIGTERM: withdrawn at once, long before the lease would have ended; open streams are finished first.
    let mut open = loop {
        let mut held = Held::open(vip).expect("connects");
        if held.ask("/").expect("an answer").instance == "a" {
            break held;
        }
    };
    let asked = Instant::now();
    dying.terminate();
    let gone = world.until("an endpoint that is withdrawn", || match endpoint("a") {
        Ok(seen) => Err(format!("{seen:?}")),
        Err(_) => Ok(asked.elapsed()),
    });
    assert!(gone < Duration::from_secs(9), "after {gone:?}");
    assert_eq!(open.ask("/").expect("it goes on").instance, "a");
    drop(open);
    assert!(dying.ended(LONG).success(), "{}", dying.log());
    assert_eq!(get(vip, "/").expect("an answer").instance, "b");
    assert_eq!(world.healthy("east", "shop/cart", 1).total, 1);
}

/// East in parts, with two gateways; callers in west.
#[test]
fn a_peer_drains_dies_and_comes_back() {
    let world = World::new();
    let ways: &[&str] = &["--no-ways-in"];
    let (federation, gateways) = world.site_in_parts("east", &[("gw-0", ways), ("gw-1", ways)]);
    let mut west = world.site("west", &[]);
    let (_echo, listen) = world.echo("east", "cart");
    let vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let (vip, own) = (world.healthy("west", "shop/cart", 1).vip, world.healthy("east", "shop/cart", 1).vip);
    let entry = world.served("west", "shop/cart", port);
    world.until("a path to each gateway", || {
        let peer = world.try_peer("west", "east")?;
        if (peer.paths_live, peer.paths_total) == (2, 2) { Ok(()) } else { Err(format!("{peer:?}")) }
    });

    // A gateway that drains gets no new streams; the one that is open goes on through it.
    let through = |count: u32| {
        let status = world.status("east");
        let busy = status.nodes.iter().find(|node| node.kind == "gateway" && node.streams >= count);
        busy.map(|node| node.name.clone()).ok_or(format!("{:?}", status.nodes))
    };
    let mut open = Held::open(entry).expect("connects");
    open.ask("/").expect("an answer");
    let busy = world.until("the gateway with the stream", || through(1));
    let other = if busy == "gw-0" { "gw-1" } else { "gw-0" };
    let drain = ["drain", "gateway", &busy, "--context", "east", "--wait", "0s"];
    let drained: api::rest::drain::DrainReply = world.json(&drain);
    assert!(drained.draining && drained.moves.iter().any(|line| line.contains(other)), "{drained:?}");
    world.until("west that heard of it", || {
        let peer = world.try_peer("west", "east")?;
        let heard = peer.paths.iter().any(|path| path.to == busy && path.state == "draining");
        if heard { Ok(()) } else { Err(format!("{:?}", peer.paths)) }
    });
    let mut later: Vec<Held> = (0..4).map(|_| Held::open(entry).expect("connects")).collect();
    for held in &mut later {
        assert_eq!(held.ask("/").expect("an answer").site, "east");
    }
    world.until("the new streams at the other gateway", || {
        let status = world.status("east");
        let streams =
            |name: &str| status.nodes.iter().find(|node| node.name == name).map(|node| node.streams);
        if streams(&busy) == Some(1) && streams(other) == Some(4) {
            Ok(())
        } else {
            Err(format!("{:?}", status.nodes))
        }
    });
    assert_eq!(open.ask("/").expect("it goes on").site, "east");
    drop(open);
    let done: api::rest::drain::DrainReply = world.json(&drain[..5]);
    assert!(done.done && done.open_streams == 0, "{done:?}");
    assert_eq!(later[0].ask("/").expect("it goes on").site, "east");
    drop(later);
    world.good(&["undrain", "gateway", &busy, "--context", "east"]);
    world.until("a path to each gateway", || {
        let peer = world.try_peer("west", "east")?;
        if peer.paths.iter().all(|path| path.state == "live") {
            Ok(())
        } else {
            Err(format!("{:?}", peer.paths))
        }
    });

    // The whole site dies at once.
    let mut parts = vec![federation, vm];
    parts.extend(gateways);
    parts.iter_mut().for_each(world::part::Part::kill);
    let peer = world.until("west that misses east", || {
        let peer = world.try_peer("west", "east")?;
        if peer.state == "unreachable" { Ok(peer) } else { Err(format!("{peer:?}")) }
    });
    assert!(!peer.note.is_empty() && peer.withdrawn_at_ms.is_some() && peer.paths_live == 0, "{peer:?}");
    let ran = world.run(&["status", "--context", "west"]);
    assert!(
        ran.code == 1 && ran.out.contains("unreachable") && ran.out.contains("imports kept for"),
        "{}",
        ran.out
    );
    let view = world.try_service("west", "shop/cart").expect("it is kept");
    assert!(view.vip == vip && view.sites[0].site == "east" && view.sites[0].total == 1, "{view:?}");
    assert!(view.notes.iter().any(|note| note.contains("east is unreachable")), "{view:?}");
    assert_eq!(view.healthy, 0, "{view:?}");
    // Callers are refused at once, and told why where the way in has words for it.
    let begin = Instant::now();
    assert!(answers(entry).is_err());
    let proxy = world.port_of("west", 15054);
    let refused = http_connect(proxy, &format!("cart.shop.svc.clusterset.local:{port}")).expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 50") && refused.contains("east"), "{refused}");
    assert!(begin.elapsed() < Duration::from_secs(5), "not at once: {:?}", begin.elapsed());

    // Everything is down, and comes back: the same virtual IPs, the same answers.
    west.kill();
    parts.iter_mut().for_each(world::part::Part::again);
    west.again();
    assert_eq!(world.healthy("east", "shop/cart", 1).vip, own);
    assert_eq!(world.healthy("west", "shop/cart", 1).vip, vip);
    assert_eq!(world.served("west", "shop/cart", port), entry);
    world.well("east");
    world.well("west");
}
