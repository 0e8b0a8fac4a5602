//! Gateways and agents that may not join, or not register.

use crate::world::{LONG, World};
use crate::{dies, later};
use identity::invite::JoinToken;
use std::time::Duration;

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
        join(
            "agent",
            "vm-1",
            "altered.token",
            &["the proof of this token is not good", "copy the token again, whole"],
        );
        let made_up = JoinToken { id: [7; 16], ..read(&token) };
        forge("made-up.token", &made_up);
        join("agent", "vm-1", "made-up.token", &["this token is not known to east", "meshfed token"]);
        // One of west that leads to east is not shown to east: it is not the site of the token.
        forge("astray.token", &JoinToken { addresses: read(&token).addresses, ..read(&foreign) });
        join("agent", "vm-1", "astray.token", &["no gateway of site west lets this host join"]);
    });

    // The first use counts; after it the token is worth nothing, here and elsewhere.
    let _vm = world.agent_with("east", "vm-1", &token, &[]);
    world.unchanged(both, || {
        join("agent", "vm-1", &token, &["this token is not known to east", "was used", "meshfed token"]);
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
fn a_host_of_one_site_takes_no_token_of_another() {
    let world = World::new();
    let (_east, _west) = (world.site("east", &[]), world.site("west", &[]));
    let mut vm = world.agent("east", "vm-1", &[]);
    vm.terminate();
    vm.ended(LONG);
    let (address, foreign) = (world.at("east-vm-1"), world.token("agent", "vm-1", "west", &[]));
    let args = ["agent", "vm-1", "--dir", "east-vm-1", "--address", &address, "--join", &foreign];
    let says = ["belongs to site east, and the token is for site west", "another --dir"];
    world.unchanged(&["east", "west"], || dies(&world, &args, &says));
    // One that it joined with long ago is no reason to stay away.
    let args = ["agent", "vm-1", "--dir", "east-vm-1", "--address", &address, "--join", "east-vm-1.token"];
    let vm = world.start("east-vm-1", &args);
    world.connected("east", "vm-1");
    // That it is not used is said.
    let note = "note: east-vm-1 has joined east already, so the token in east-vm-1.token is not used";
    assert!(vm.log().contains(note), "{}", vm.log());
}

#[test]
fn a_gateway_that_has_joined_says_that_a_token_is_not_used_and_takes_none_of_another_site() {
    let world = World::new();
    let (_east, _west) = (world.site("east", &[]), world.site("west", &[]));
    let mut gateway = world.gateway("east", "gw-1", &["--no-ways-in"]);
    gateway.terminate();
    gateway.ended(LONG);
    let (address, foreign) = (world.at("east-gw-1"), world.token("gateway", "gw-1", "west", &[]));
    let args = |token| {
        ["gateway", "gw-1", "--dir", "east-gw-1", "--no-ways-in", "--address", &address, "--join", token]
            .map(str::to_owned)
    };
    let foreign = args(foreign.as_str());
    let says = ["east-gw-1 belongs to site east, and the token is for site west", "another --dir", "--join"];
    dies(&world, &foreign.each_ref().map(String::as_str), &says);
    let own = args("east-gw-1.token");
    let gateway = world.start("east-gw-1", &own.each_ref().map(String::as_str));
    world.connected("east", "gw-1");
    let note = "note: east-gw-1 has joined east already, so the token in east-gw-1.token is not used";
    assert!(gateway.log().contains(note), "{}", gateway.log());
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
    world.unchanged(&["east"], || {
        dies(&world, &args, &["this token is not known to east", "used", "meshfed token"])
    });
}

#[test]
fn an_agent_registers_within_its_scope() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let (_echo, listen) = world.echo("east", "a");
    let port = world.free_port();
    world.workload("shop.yaml", "shop/api", port, listen);
    world.workload("pay.yaml", "pay/api", port, listen);
    world
        .home
        .write("workloads.yaml", &format!("{}---\n{}", world.read("shop.yaml"), world.read("pay.yaml")));
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
        if node.problems.iter().any(|problem| problem.contains(why)) {
            Ok(())
        } else {
            Err(format!("{node:?}"))
        }
    });
    let names: Vec<String> =
        world.services("east").expect("a list").into_iter().map(|view| view.service).collect();
    assert_eq!(names, ["shop/api"]);

    let target = listen.ip().to_string();
    let ports = format!("{port}:{}", listen.port());
    let expose = |service: &str, host: &str, says: &[&str]| {
        let args =
            ["expose", service, "--on", host, "--port", &ports, "--target", &target, "--context", "east"];
        world.unchanged(&["east"], || world.refused(&args, says));
    };
    expose(
        "pay/api",
        "vm-1",
        &["agent vm-1 may not register in namespace pay", "its token allows shop", "join it again"],
    );
    expose("shop/cart", "vm-7", &["east has no agent on a host vm-7", "meshfed token agent vm-7"]);
    let args = ["export", "shop/crat", "--context", "east"];
    world.unchanged(&["east"], || {
        world.refused(&args, &["east has no service shop/crat", "meshfed get services"])
    });
}

#[test]
fn what_is_exposed_on_one_host_is_not_taken_from_another() {
    let world = World::new();
    let _east = world.site("east", &[]);
    let port = world.free_port();
    let mut parts = Vec::new();
    for (count, host) in (1..).zip(["vm-1", "vm-2"]) {
        parts.push(world.agent("east", host, &[]));
        let (echo, listen) = world.echo("east", host);
        parts.push(echo);
        world.expose("east", "shop/cart", host, port, listen);
        assert_eq!(world.healthy("east", "shop/cart", count).total, count);
    }
    let unexpose =
        |host: &str| ["unexpose", "shop/cart", "--on", host, "--context", "east"].map(str::to_owned);
    let run = |host: &str| world.run(&unexpose(host).each_ref().map(String::as_str));
    assert_eq!(run("vm-1").code, 0);
    let view = world.healthy("east", "shop/cart", 1);
    assert_eq!((view.total, view.endpoints[0].id.as_str()), (1, "vm-2"), "{view:?}");
    let again = world.unchanged(&["east"], || run("vm-1"));
    assert!(
        again.code == 1 && again.err.contains("no workload vm-1 of shop/cart that was exposed"),
        "{}",
        again.err
    );
}
