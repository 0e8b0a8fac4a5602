//! A site whose disk is full, as a whole process, with a peer and callers. The disk is a small file system in memory, in a
//! mount namespace of its own.

mod support;
mod world;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use world::World;
use world::caller::{Watch, get};

const OFTEN: Duration = Duration::from_millis(100);
/// Says that this process has a mount namespace of its own.
const INSIDE: &str = "MESHFED_TEST_OWN_MOUNTS";

#[test]
fn a_site_on_a_full_disk_serves_on_says_so_and_recovers_without_a_restart() {
    const TEST: &str = "a_site_on_a_full_disk_serves_on_says_so_and_recovers_without_a_restart";
    if std::env::var_os(INSIDE).is_some() {
        on_a_full_disk();
        println!("> held");
        return;
    }
    let own = std::env::current_exe().expect("this test");
    let may_mount = "mount -t tmpfs -o size=1m meshfed-test /mnt || { echo no mount; exit 0; }; umount /mnt; exec \"$0\" \"$@\"";
    let ran = Command::new("unshare")
        .args(["-m", "sh", "-c", may_mount])
        .arg(own)
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => return println!("SKIPPED: {TEST}: `unshare` cannot be run: {error}"),
    };
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if out.contains("no mount") || err.starts_with("unshare:") {
        return println!("SKIPPED: {TEST}: no file system can be mounted (needs root): {err}");
    }
    assert!(ran.status.success() && out.contains("> held"), "{out}\n{err}");
}

/// Takes all space that is left on a file system.
fn fill(file: &Path) {
    let (mut file, mut bytes) = (std::fs::File::create(file).expect("made"), 1 << 20);
    while bytes > 0 {
        if file.write_all(&vec![1; bytes]).is_err() {
            bytes /= 2;
        }
    }
}

fn on_a_full_disk() {
    let world = World::new();
    world.init("east", &[]);
    let (disk, made) = (world.path("east"), world.path("east-as-made"));
    std::fs::rename(&disk, &made).expect("moved");
    std::fs::create_dir(&disk).expect("made");
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).status().expect("it runs");
        assert!(status.success(), "{program} {args:?}");
    };
    let (at, from) = (disk.display().to_string(), format!("{}/.", made.display()));
    run("mount", &["-t", "tmpfs", "-o", "size=16m,mode=700", "meshfed-test", &at]);
    run("cp", &["-a", &from, &at]);
    let mut east = world.start("east", &["site", "east"]);
    world.well("east");
    let _west = world.site("west", &[]);
    let ((_a, a), (_b, b)) = (world.echo("east", "a"), world.echo("east", "b"));
    let mut vm = world.agent("east", "vm-1", &[]);
    world.good(&["link", "east", "west"]);
    let (port, other) = (world.free_port(), world.free_port());
    world.expose("east", "shop/cart", "vm-1", port, a);
    let vip = world.healthy("west", "shop/cart", 1).vip;
    let entry = world.served("west", "shop/cart", port);

    let answers = || get(entry, "/").map(drop);
    let listed = || world.lists("west", "shop/cart", &vip, "east");
    let others = disk.join("others");
    for round in 0..2 {
        Watch::during(OFTEN, &[&answers, &listed], || {
            fill(&others);
            // What a person asks for is refused with its cause. The store may have had a little room within itself.
            let refused = world.until("a refusal", || {
                let ran = world.run(&["token", "agent", "vm-2", "--context", "east"]);
                if ran.code == 1 { Ok(ran.err) } else { Err(format!("it was stored: {}", ran.err)) }
            });
            assert!(
                refused.contains("no space is left on its disk") && refused.contains("nothing was changed"),
                "{refused}"
            );
            let said = world.until("a finding", || {
                let ran = world.run(&["status", "--context", "east"]);
                let says =
                    ran.out.contains("changes cannot be stored") && ran.out.contains("free some space");
                if ran.code == 1 && says { Ok(ran.out) } else { Err(ran.out) }
            });
            assert!(said.contains("no space is left on its disk"), "{said}");
            std::thread::sleep(Duration::from_secs(3));
            std::fs::remove_file(&others).expect("removed");
            // Nobody starts anything again.
            world.well("east");
        });
        assert!(east.runs(), "round {round}");
    }
    assert!(world.events("east").contains("the store can be written again"), "{}", world.events("east"));
    world.expose("east", "shop/other", "vm-1", other, b);
    world.healthy("west", "shop/other", 1);
    // What was acknowledged is there after a restart.
    vm.kill();
    east.kill();
    east.again();
    vm.again();
    world.healthy("west", "shop/cart", 1);
    world.healthy("west", "shop/other", 1);
    assert_eq!(world.healthy("west", "shop/cart", 1).vip, vip);
    drop((east, vm));
    run("umount", &["-l", &at]);
}
