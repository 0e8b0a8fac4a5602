//! Sites that may not be linked, or not take part.

use crate::later;
use crate::world::World;
use crate::world::caller::get;
use crate::world::part::Part;
use api::rest::status::PeerStatus;
use identity::invite::Invite;
use std::time::Duration;

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
    accept(
        "west.invite",
        "dc",
        &["this invite is for west.mesh, and this site is dc.mesh", "ask for an invite"],
    );
    accept("altered.invite", "dc", &["east refused the link", "not known to east", "nothing was changed"]);
    world.home.write("cut.invite", &world.read("east.invite")[..200]);
    accept("cut.invite", "dc", &["the invite cannot be used", "copy it again, whole", "meshfed link invite"]);
    let token = world.token("agent", "vm-1", "east", &[]);
    accept(&token, "dc", &["the invite cannot be used", "this is a join token"]);

    world.good(&["link", "accept", "east.invite", "--context", "west"]);
    world.well("east");
    world.well("west");
    accept(
        "east.invite",
        "dc",
        &["east refused the link", "used already, by another site", "nothing was changed"],
    );
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
        (
            "south",
            ["--trust-domain", "east.mesh"],
            "both sites have the trust domain east.mesh; nothing was changed",
        ),
        ("lab", ["--clusterset", "lab"], "east and lab are in different clustersets; nothing was changed"),
    ] {
        let _site = world.site(name, &more);
        world.unchanged(&["east", name], || world.refused(&["link", "east", name], &[says, "do"]));
    }
    world.unchanged(&["east"], || {
        world.refused(&["link", "east", "east"], &["the same site", "meshfed init"])
    });
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
    assert!(
        world
            .good(&["describe", "service", "pay/api", "--context", "east"])
            .out
            .contains("NotAccepted of west")
    );
    let vip = world.served("east", "pay/api", port);
    for _ in 0..50 {
        assert_eq!(get(vip, "/").expect("an answer").site, "east");
    }
    // West is down: east parts from it at once, and nothing of west is left there.
    west.kill();
    world.until("east that misses west", || {
        let peer = world.try_peer("east", "west")?;
        if peer.state == "unreachable" { Ok(()) } else { Err(format!("{peer:?}")) }
    });
    let parted = world.good(&["unlink", "west", "--context", "east", "--yes"]);
    assert!(
        parted.out.contains("unlinked east from west") && parted.out.contains("does not answer"),
        "{}",
        parted.out
    );
    assert!(world.links("east").links.is_empty());
    let left: Vec<String> =
        world.services("east").expect("a list").into_iter().map(|view| view.service).collect();
    assert_eq!(left, ["pay/api"]);
    assert_eq!(get(vip, "/").expect("an answer").site, "east");

    // West comes back, and learns that it was parted from: it says so, and takes nothing from east any more.
    west.again();
    world.until("word of the end of the link in west", || {
        let status = world.try_status("west")?;
        let says = |peer: &PeerStatus| {
            let why = peer.paths.iter().map(|path| path.problem.as_str()).chain([peer.note.as_str()]);
            peer.state == "unreachable" && why.into_iter().any(|why| why.contains("link"))
        };
        if status.peers.iter().all(says) { Ok(()) } else { Err(format!("{:?}", status.peers)) }
    });
    let view = world.try_service("west", "pay/api").expect("its own");
    assert!(view.healthy == 1 && view.sites[0].site == "west", "{view:?}");
    assert!(world.links("east").links.is_empty(), "it does not come back by itself");
    assert_eq!(parted.out.matches("lease ends").count(), 1, "said once: {}", parted.out);
}
