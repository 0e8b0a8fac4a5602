//! Two processes on one folder.

use crate::dies;
use crate::world::World;

#[test]
fn a_second_process_on_a_nodes_folder_is_refused_and_the_first_goes_on() {
    let world = World::new();
    let (_federation, mut gateways) = world.site_in_parts("east", &[("gw-0", &["--no-ways-in"])]);
    let mut agent = world.agent("east", "vm-1", &[]);
    let status = world.status("east").nodes.len();
    for (part, kind, name) in [(&mut agent, "agent", "vm-1"), (&mut gateways[0], "gateway", "gw-0")] {
        let folder = format!("east-{name}");
        let before = world.read(&format!("{folder}/node.yaml"));
        // On other ports, so that it is not the ports that keep it out.
        let elsewhere = world.at(&format!("second-{name}"));
        let args = [kind, name, "--dir", &folder, "--address", &elsewhere];
        let holder = format!("{folder} is in use by process {} (meshfed)", part.pid());
        dies(&world, &args, &[&format!("{kind} {name} does not start"), &holder, "--dir"]);
        assert_eq!(world.read(&format!("{folder}/node.yaml")), before, "the second changed something");
        assert!(part.runs(), "the first was displaced");
        world.connected("east", name);

        // kill -9 leaves no lock behind.
        part.kill();
        part.again();
        world.connected("east", name);
    }
    assert_eq!(world.status("east").nodes.len(), status);
}

#[test]
fn a_token_survives_the_refusal_of_a_second_process() {
    let world = World::new();
    let _site = world.site("east", &[]);
    let mut agent = world.agent("east", "vm-1", &[]);
    let token = world.token("agent", "vm-1", "east", &[]);
    let args = ["agent", "vm-1", "--dir", "east-vm-1", "--address", &world.at("second"), "--join", &token];
    dies(&world, &args, &["is in use by process"]);
    agent.kill();
    // On a host that is new, the token is still good.
    std::fs::remove_dir_all(world.path("east-vm-1")).expect("removed");
    let _again = world.agent_with("east", "vm-1", &token, &[]);
}

#[test]
fn a_second_site_on_a_directory_is_refused() {
    let world = World::new();
    let mut first = world.site("east", &[]);
    let holder = format!("process {}", first.pid());
    dies(&world, &["site", "east"], &[" of east does not start", &holder]);
    assert!(first.runs());
    world.well("east");
}
