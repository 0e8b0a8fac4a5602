//! `meshfed topology`, and topologies of several gateways as real processes.

mod support;

use serde_json::Value;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::Home;

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli lies one folder deep");
    root.join("topologies/examples").join(name).display().to_string()
}

#[test]
fn check_says_that_nothing_is_wrong_or_each_thing_that_is() {
    let home = Home::new();
    let two = example("two-clusters.yaml");
    let ran = home.run(&["topology", "check", &two]);
    let expected = format!("{two}: 2 sites, 4 gateways, 1 link, 3 workloads, 2 clients; nothing is wrong\n");
    assert_eq!((ran.code, ran.out.as_str()), (0, expected.as_str()), "{}", ran.err);

    home.write("mine.yaml", "kind: Topology\nsites: { east: {}, west: {} }\n");
    let ran = home.run(&["topology", "check", "mine.yaml"]);
    let expected = "\
mine.yaml: 2 sites, 2 gateways, 0 links, 0 workloads, 0 clients; 1 warning
warning: mine.yaml:2:26: `west` is linked with no other site
    1 | kind: Topology
    2 | sites: { east: {}, west: {} }
      |                          ^ add a link, if it is to be reached
";
    assert_eq!((ran.code, ran.out.as_str()), (0, expected), "{}", ran.err);

    let wrong = "kind: Topology\nsites: { east: { gateways: 0 } }\nlinks: [{ between: [east, west] }]\n";
    home.write("wrong.yaml", wrong);
    let ran = home.run(&["topology", "check", "wrong.yaml", &two]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("wrong.yaml: 2 mistakes\nerror: wrong.yaml:2:28: "), "{}", ran.out);
    assert!(ran.out.contains("error: wrong.yaml:3:27: there is no site `west`"), "{}", ran.out);
    assert!(ran.out.contains("nothing is wrong"), "{}", ran.out);
    let ran = home.run(&["topology", "check", "wrong.yaml", "--json"]);
    let found: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, found[0]["errors"].as_array().map(Vec::len)), (1, Some(2)), "{}", ran.out);
    assert_eq!(found[0]["errors"][1]["line"], 3);
}

#[test]
fn render_draws_for_a_terminal_and_into_a_file() {
    let home = Home::new();
    let two = example("two-clusters.yaml");
    let ran = home.run(&["topology", "render", &two]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("┌─") && ran.out.contains("RTT 60 ms") && ran.out.contains("[gw-1]"),
        "{}",
        ran.out
    );
    let ran = home.run(&["topology", "render", &two, "--to", "two.svg"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let written = std::fs::read_to_string(home.path().join("two.svg")).expect("written");
    assert!(written.starts_with("<svg ") && written.ends_with("</svg>\n"));
    assert_eq!(ran.out, format!("two.svg: {} bytes\n", written.len()));
    let ran = home.run(&["topology", "render", &two, "--format", "svg"]);
    assert_eq!(ran.out, written);
    let ran = home.run(&["topology", "render", &two, "--json"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
}

/// A topology that runs; it is ended with SIGINT, as by Ctrl-C.
struct Up {
    child: Child,
    directory: PathBuf,
}

impl Up {
    fn start(home: &Home, file: &str) -> Self {
        let directory = home.path().join("run");
        let child = Command::new(env!("CARGO_BIN_EXE_meshfed"))
            .args(["up", file, "--json", "--dir"])
            .arg(&directory)
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("said")).expect("a file"))
            .spawn()
            .expect("it starts");
        Self { child, directory }
    }

    fn wait_until_it_serves(&mut self, home: &Home) {
        let begin = Instant::now();
        let said = || std::fs::read_to_string(home.path().join("said")).unwrap_or_default();
        while !said().contains("workloads are served") {
            assert!(self.child.try_wait().expect("can be asked").is_none(), "it has ended: {}", said());
            assert!(begin.elapsed() < Duration::from_secs(120), "it does not serve: {}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn interrupt(&mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Brings a topology up, holds it against its plan, and ends it. Answers the report of its loads.
fn runs_as_planned(name: &str) -> Value {
    let home = Home::new();
    let file = example(name);
    let planned = home.run(&["topology", "plan", &file, "--json"]);
    let planned: Value = serde_json::from_str(&planned.out).expect("a plan");
    let mut up = Up::start(&home, &file);
    up.wait_until_it_serves(&home);

    // Its addresses lie in another block than those of the plan.
    let contexts = std::fs::read_to_string(up.directory.join("contexts.yaml")).expect("contexts.yaml");
    let block = contexts.split("127.").nth(1).and_then(|rest| rest.split('.').next()).expect("an address");
    let processes = planned["processes"].as_array().expect("processes");
    assert!(!processes.is_empty());
    for process in processes {
        for kind in ["directory", "log"] {
            let Some(path) = process[kind].as_str() else { continue };
            assert!(up.directory.join(path).exists(), "{name}: there is no {path}");
        }
        for listen in process["listens"].as_array().expect("listens") {
            let address = listen["address"].as_str().expect("an address").replacen(
                "127.16.",
                &format!("127.{block}."),
                1,
            );
            if listen["transport"] == "tcp" {
                let address: SocketAddr = address.parse().expect("an address");
                let found = TcpStream::connect_timeout(&address, Duration::from_secs(5));
                assert!(found.is_ok(), "{name}: nobody listens on {address}: {process}");
            } else {
                assert!(std::net::UdpSocket::bind(&address).is_err(), "{name}: {address} is free: {process}");
            }
        }
    }
    // Some load, before it ends.
    std::thread::sleep(Duration::from_secs(3));
    up.interrupt();
    let mut out = String::new();
    let mut pipe = up.child.stdout.take().expect("piped");
    std::io::Read::read_to_string(&mut pipe, &mut out).expect("readable");
    let said = std::fs::read_to_string(home.path().join("said")).unwrap_or_default();
    assert!(up.child.wait().expect("it ends").success(), "{said}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{said}"))
}

/// Requests of a client and how many of them failed.
fn counts(report: &Value, client: &str) -> (u64, u64) {
    let number = |name: &str| report[client][name].as_u64().unwrap_or_else(|| panic!("{report}"));
    (number("requests"), number("failed"))
}

#[test]
fn two_clusters_run_as_they_are_planned_and_serve() {
    let report = runs_as_planned("two-clusters.yaml");
    for client in ["web", "till"] {
        let (requests, failed) = counts(&report, client);
        assert!(requests > 0 && failed * 10 <= requests, "{report}");
    }
}

#[test]
fn three_clouds_run_as_they_are_planned_and_serve() {
    let report = runs_as_planned("three-clouds.yaml");
    let (requests, failed) = counts(&report, "web");
    assert!(requests > 0 && failed * 10 <= requests, "{report}");
}

#[test]
fn a_site_behind_a_nat_is_linked_and_serves_though_nobody_can_dial_it() {
    let report = runs_as_planned("behind-nat.yaml");
    for client in ["press", "desk"] {
        let (requests, failed) = counts(&report, client);
        assert!(requests > 0 && failed * 10 <= requests, "{report}");
    }
}

#[test]
fn faults_are_injected_into_what_runs_refused_where_they_name_nothing_and_healed() {
    let home = Home::new();
    let mut up = Up::start(&home, &example("two-clusters.yaml"));
    up.wait_until_it_serves(&home);
    let dir = up.directory.display().to_string();
    let said = || std::fs::read_to_string(home.path().join("said")).unwrap_or_default();
    let until = |text: &str| {
        let begin = Instant::now();
        while !said().contains(text) {
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not say `{text}`: {}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("chaos inject cut");
    let inject = |args: &[&str]| {
        let all: Vec<&str> = ["chaos", "inject"].iter().chain(args).copied().chain(["--dir", &dir]).collect();
        home.run(&all)
    };
    let ran = inject(&["cut", "--from", "nowhere"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("the topology has no site `nowhere`"), "{}", ran.err);

    // Both ends as the topology names them; it ends by itself.
    let plan: Value =
        serde_json::from_str(&home.good(&["topology", "plan", &example("two-clusters.yaml"), "--json"]).out)
            .expect("JSON");
    let (one, other) = (plan["links"][0]["one"].to_string(), plan["links"][0]["other"].to_string());
    let (one, other) = (one.trim_matches('"').to_owned(), other.trim_matches('"').to_owned());
    let ran = inject(&["cut", "--from", &one, "--to", &other, "--for", "1s"]);
    assert_eq!(ran.out, format!("cut {one}↔{other}, for 1s\n"), "{}", ran.err);
    until(&format!("healed: cut {one}↔{other}"));

    let ran = inject(&["freeze", "gateway", &format!("{one}/gw-0")]);
    assert_eq!(ran.out, format!("freeze gateway {one}/gw-0, until `meshfed chaos heal`\n"), "{}", ran.err);
    let ran = home.good(&["chaos", "heal", "--dir", &dir]);
    assert_eq!(ran.out, format!("healed: freeze gateway {one}/gw-0\n"));
    // One that was frozen and then killed is only started again, and what runs goes on.
    let part = format!("{one}/gw-0");
    inject(&["freeze", "gateway", &part]);
    inject(&["kill", "gateway", &part]);
    let healed = format!("healed: freeze gateway {part}; kill gateway {part}\n");
    assert_eq!(home.good(&["chaos", "heal", "--dir", &dir]).out, healed);
    assert_eq!(home.good(&["chaos", "heal", "--dir", &dir]).out, "there was no fault\n");

    up.interrupt();
    assert!(up.child.wait().expect("it ends").success(), "{}", said());
    let ran = home.run(&["chaos", "heal", "--dir", &dir]);
    assert!(ran.code == 1 && ran.err.contains("is `meshfed up` running there?"), "{}", ran.err);
}
