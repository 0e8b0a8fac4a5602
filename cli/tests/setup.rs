//! `meshfed agent setup`, as a person runs it: needs root, `nft` and `unshare`.
//!
//! The test runs itself again in namespaces of its own: a network, and mounts with a copy of /etc and an empty /run, so
//! that nothing of the host is touched.

mod support;
mod world;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use world::caller::{get, resolve};
use world::{LONG, World};

const INSIDE: &str = "MESHFED_TEST_IN_NAMESPACE";
/// Where the copies are, within the namespace.
const PRIVATE: &str = "set -e; ip link set lo up; mount -t tmpfs none /mnt; cp -a /etc /mnt/etc; mount --bind /mnt/etc /etc; \
                       mount -t tmpfs none /run; mkdir -p /run/systemd/resolve /mnt/bin; \
                       printf '#!/bin/sh\\necho \"$@\" >> /mnt/systemctl.log\\n' > /mnt/bin/systemctl; \
                       chmod 755 /mnt/bin/systemctl; export PATH=/mnt/bin:$PATH; rm -rf /etc/meshfed";

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs one test of this file in namespaces, unless it is there already; answers whether it is.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let why = if !runs("nft", &["--version"]) {
        "`nft` is not installed (apt install nftables)"
    } else if !runs("unshare", &["--net", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        "no namespaces can be made (needs root)"
    } else {
        let own = std::env::current_exe().expect("a test has a file");
        let inside = format!("{PRIVATE}; exec '{}' --exact {test} --nocapture", own.display());
        let ran =
            Command::new("unshare").args(["--net", "--mount", "sh", "-c", &inside]).env(INSIDE, "1").status();
        assert!(ran.expect("unshare runs").success(), "{test} failed in its namespaces");
        return false;
    };
    println!("SKIPPED: {test}: {why}");
    false
}

fn tables() -> String {
    let listed = Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

const SCRIPT: &str = "/etc/meshfed/redirect.nft";
const DROP_IN: &str = "/etc/systemd/resolved.conf.d/meshfed.conf";

#[test]
fn after_setup_every_port_works_and_names_go_to_the_agent_and_revert_takes_all_of_it_back() {
    if !is_inside("after_setup_every_port_works_and_names_go_to_the_agent_and_revert_takes_all_of_it_back") {
        return;
    }
    let world = World::new();
    let _site = world.site("east", &[]);
    let mut agent = world.agent("east", "vm-1", &[]);
    let (_echo, listen) = world.echo("east", "cart");
    // A program of this host has the port on all addresses, so the agent cannot listen on it.
    let taken = TcpListener::bind("0.0.0.0:0").expect("free");
    let port = taken.local_addr().expect("bound").port();
    world.expose("east", "shop/cart", "vm-1", port, listen);
    let dns = world.port_of("east-vm-1", 15053);
    let entry: SocketAddr = world.until("its virtual IP", || resolve(dns, "shop/cart", port));
    assert!(get(entry, "/").is_err(), "the program has the port, and is no web server");

    let setup = ["agent", "setup", "--dir", "east-vm-1"];
    let dry = world.good(&[&setup[..], &["--dry-run"]].concat());
    assert!(
        dry.out.contains(SCRIPT) && dry.out.contains(DROP_IN) && dry.out.contains("nft -f -"),
        "{}",
        dry.out
    );
    assert!(tables().is_empty() && !std::path::Path::new(SCRIPT).exists(), "a dry run changes nothing");

    let done = world.good(&setup);
    assert!(done.out.contains("names are resolved; restart the agent"), "{}", done.out);
    let by_hand =
        format!("by hand: systemd does not run here: have `nft -f {SCRIPT}` run when the host starts");
    assert!(done.out.contains(&by_hand), "{}", done.out);
    world.good(&setup);
    assert!(tables().contains("127."), "{}", tables());
    let drop_in = std::fs::read_to_string(DROP_IN).expect("the drop-in");
    assert!(drop_in.contains(&format!("DNS={dns}")) && drop_in.contains("~clusterset.local"), "{drop_in}");
    let called =
        std::fs::read_to_string("/mnt/systemctl.log").expect("the resolver reads it only when it starts");
    assert!(called.contains("restart systemd-resolved.service"), "{called}");

    agent.terminate();
    agent.ended(LONG);
    agent.again();
    world.connected("east", "vm-1");
    world.until("an answer through the redirect", || get(entry, "/").map(drop));
    assert_eq!(world.run(&setup).code, 0, "it can be run beside the agent, which holds its folder");

    world.good(&[&setup[..], &["--revert"]].concat());
    assert!(!tables().contains("meshfed"), "{}", tables());
    assert!(!std::path::Path::new(SCRIPT).exists() && !std::path::Path::new(DROP_IN).exists());
    assert!(get(entry, "/").is_err(), "the program has the port again");
    world.good(&[&setup[..], &["--revert"]].concat());
}

#[test]
fn setup_before_the_agent_has_run_changes_nothing() {
    let world = World::new();
    world.refused(
        &["agent", "setup", "--dir", "vm-1"],
        &["this host cannot be set up", "start the agent once"],
    );
    assert!(!world.path("vm-1").exists(), "not even the folder");
}
