//! Complete means complete: what a source had reported stays until that source has reported all of it again.

mod support;
mod world;

use std::net::SocketAddr;
use std::time::Duration;
use world::World;
use world::caller::{Watch, get};

const OFTEN: Duration = Duration::from_millis(100);

fn service(name: &str, port: u16, listen: SocketAddr) -> String {
    format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{ namespace: shop, name: {name} }}\nspec:\n  ports:\n    \
         - {{ port: {port}, targetPort: {}, protocol: http }}\n  endpoints:\n    - {{ address: {} }}\n  check: {{ type: tcp, \
         interval: 250ms }}\n",
        listen.port(),
        listen.ip()
    )
}

/// The file that a site reads its services from is broken when the site starts again, so that its first full report never
/// comes. What it said before stays, at the peer too, and callers are served; what others report is added.
#[test]
fn a_source_that_never_finishes_withdraws_nothing_and_is_named() {
    let world = World::new();
    let (_cart, cart) = world.echo("east", "cart");
    let (_other, other) = world.echo("east", "other");
    let (port, other_port) = (world.free_port(), world.free_port());
    world.init("east", &["--services", "services.yaml"]);
    world.home.write("east/services.yaml", &service("cart", port, cart));
    let mut east = world.start("east", &["site", "east"]);
    world.well("east");
    let _west = world.site("west", &[]);
    let _vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    world.good(&["export", "shop/cart", "--context", "east"]);
    let vip = world.healthy("west", "shop/cart", 1).vip;
    let entry = world.served("west", "shop/cart", port);

    east.kill();
    world.home.write("east/services.yaml", "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {");
    let listed = || world.lists("west", "shop/cart", &vip, "east");
    let answers = || get(entry, "/").map(drop);
    Watch::during(OFTEN, &[&listed], || {
        east.again();
        world.until("east that recovers", || {
            let (site, peer) = (world.try_status("east")?.site, world.try_peer("west", "east")?);
            let back = site.recovering && peer.catalog.live && peer.state == "connected";
            if back { Ok(()) } else { Err(format!("{site:?} {peer:?}")) }
        });
        world.until("answers again", answers);
        Watch::during(OFTEN, &[&answers], || {
            // What others report is added, and reaches the peer.
            world.connected("east", "vm-1");
            world.expose("east", "shop/other", "vm-1", other_port, other);
            world.healthy("west", "shop/other", 1);
            // Longer than anything that could pass for silence between a gateway, an agent and its site.
            std::thread::sleep(Duration::from_secs(20));
        });
    });
    let said = world.run(&["status", "--context", "east"]).out;
    for words in ["recovering: it has not heard from all its sources", "files", "services.yaml"] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    let status = world.status("east");
    let finding = status.findings.iter().find(|finding| finding.what.contains("recovering"));
    let finding = finding.unwrap_or_else(|| panic!("no finding in {:#?}", status.findings));
    assert!(finding.why.contains("files") && !finding.next.is_empty(), "{finding:?}");

    // Mended, with the service left out: now its absence says something.
    world.home.write("east/services.yaml", "# nothing is left\n");
    world.until("a service that is withdrawn", || match world.try_service("west", "shop/cart") {
        Ok(view) if view.sites.iter().any(|site| site.total > 0) => Err(format!("{view:?}")),
        Ok(_) | Err(_) => Ok(()),
    });
    world.healthy("west", "shop/other", 1);
    world.well("east");
    assert!(!world.status("east").site.recovering);
}
