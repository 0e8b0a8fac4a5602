//! Sites and hosts whose clocks do not agree. The processes are started with clocks that are shifted.

mod support;
mod world;

use std::time::Duration;
use world::World;
use world::caller::{Watch, get};

/// What leaves are dated back by.
const TEN_MINUTES: &str = "600";
const TWENTY_MINUTES: &str = "1200";

/// East is ten minutes ahead of west, of the host of its own agent, and of whoever types the commands.
#[test]
fn sites_whose_clocks_are_ten_minutes_apart_are_linked_and_lose_nothing() {
    let world = World::new();
    world.init("east", &[]);
    let mut east = world.start("east", &["site", "east", "--clock-offset", TEN_MINUTES]);
    world.well("east");
    let mut west = world.site("west", &[]);
    let (_echo, listen) = world.echo("east", "cart");
    let mut vm = world.agent("east", "vm-1", &[]);
    let linked = world.good(&["link", "east", "west"]);
    assert!(
        linked.err.contains("warning: the clocks differ by") && linked.err.contains("set both clocks (NTP)"),
        "{}",
        linked.err
    );
    let port = world.free_port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let vip = world.healthy("west", "shop/cart", 1).vip;
    let entry = world.served("west", "shop/cart", port);

    // The catalog, the lease of the agent, and every certificate are used anew, by processes that start again.
    let answers = || get(entry, "/").map(drop);
    let listed = || world.lists("west", "shop/cart", &vip, "east");
    vm.kill();
    vm.again();
    world.connected("east", "vm-1");
    world.healthy("west", "shop/cart", 1);
    east.kill();
    let peer = world.until("west that misses east", || {
        let peer = world.try_peer("west", "east")?;
        if peer.state == "unreachable" { Ok(peer) } else { Err(format!("{peer:?}")) }
    });
    // The lease runs by the own clock: fifteen minutes, not five and not twenty-five.
    let ends = peer.withdrawn_at_ms.expect("it is said when").saturating_sub(runtime::clock::unix_ms());
    assert!((840_000..=900_000).contains(&ends), "{ends} ms");
    east.again();
    world.healthy("west", "shop/cart", 1);
    world.until("answers again", answers);
    west.kill();
    west.again();
    world.healthy("west", "shop/cart", 1);
    world.until("answers again", answers);
    Watch::during(Duration::from_millis(100), &[&answers, &listed], || {
        for site in ["east", "west"] {
            world.well(site);
            let other = if site == "east" { "west" } else { "east" };
            world.until("a live catalog", || {
                let peer = world.try_peer(site, other)?;
                let live = peer.catalog.live && peer.catalog.complete && peer.state == "connected";
                if live { Ok(()) } else { Err(format!("{peer:?}")) }
            });
        }
        // Some renewals of the agent's lease, and a few digests.
        std::thread::sleep(Duration::from_secs(12));
    });

    // Whoever looks is told, and what to do.
    for args in [["diagnose", "--context", "west"], ["diagnose", "--context", "east"]] {
        let ran = world.run(&args);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("wrong  clock of east: 600 s from the clock here"), "{}", ran.out);
        assert!(ran.out.contains("do  set both clocks (NTP)"), "{}", ran.out);
    }
}

/// With more than what certificates are dated back by, nothing new can begin; it is said why, and nothing is changed.
#[test]
fn a_clock_that_is_too_far_ahead_is_named_as_the_cause() {
    let world = World::new();
    world.init("east", &[]);
    let _east = world.start("east", &["site", "east", "--clock-offset", TWENTY_MINUTES]);
    let _west = world.site("west", &[]);
    let seen = world.until("a refusal that names the clock", || {
        let ran = world.run(&["link", "east", "west"]);
        if ran.err.contains("this host's clock is behind") { Ok(ran) } else { Err(ran.err) }
    });
    assert!(seen.code == 1 && seen.err.contains("set them (NTP)"), "{}", seen.err);
    assert!(world.links("west").links.is_empty());
    let ran = world.run(&["diagnose", "--context", "east"]);
    assert!(ran.code == 1 && ran.out.contains("this host's clock is behind"), "{}{}", ran.out, ran.err);
}
