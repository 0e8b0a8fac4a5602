//! The tour of the README, with real processes: two sites, a link, a VM, a service, and back.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Home, Ran};

const LONG: Duration = Duration::from_secs(30);

/// A process of the tour. It ends when this is dropped.
struct Terminal(Child);

impl Terminal {
    fn open(home: &Home, args: &[&str]) -> Self {
        let log = std::fs::File::create(home.path().join(format!("{}.log", args[1]))).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_meshfed"))
            .args(args)
            .arg("--exit-with-parent")
            .current_dir(home.path())
            .env("HOME", home.path())
            .env_remove("MESHFED_CONFIG")
            .env_remove("MESHFED_CONTEXT")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self(child)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command again and again until it says what it should.
#[track_caller]
fn until(home: &Home, args: &[&str], what: &str, good: impl Fn(&Ran) -> bool) -> Ran {
    let begin = Instant::now();
    loop {
        let ran = home.run(args);
        if good(&ran) {
            return ran;
        }
        assert!(
            begin.elapsed() < LONG,
            "no {what} from meshfed {} in {} s\n{}{}\n{}",
            args.join(" "),
            LONG.as_secs(),
            ran.out,
            ran.err,
            logs(home)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn logs(home: &Home) -> String {
    ["east", "west", "vm-1"]
        .map(|name| {
            let text = std::fs::read_to_string(home.path().join(format!("{name}.log"))).unwrap_or_default();
            format!("--- {name}.log\n{text}")
        })
        .join("\n")
}

fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Addresses of this run, so that two runs of the tests do not meet.
fn net() -> u8 {
    1 + u8::try_from(std::process::id() % 200).expect("less than 200")
}

#[test]
fn the_tour_works_as_it_is_written() {
    let home = Home::new();
    let at = |n: u8| Ipv4Addr::new(127, 8, net(), n).to_string();
    home.good(&["init", "east", "--locality", "eu/fra", "--address", &at(1)]);
    home.good(&["init", "west", "--locality", "us/sjc", "--address", &at(2)]);
    let _east = Terminal::open(&home, &["site", "east"]);
    let _west = Terminal::open(&home, &["site", "west"]);
    for context in ["east", "west"] {
        until(&home, &["status", "--context", context], "healthy site", |ran| ran.code == 0);
    }
    let linked = home.good(&["link", "east", "west"]);
    assert!(linked.out.starts_with("linked east and west in "), "{}{}", linked.out, logs(&home));
    let again = home.run(&["link", "east", "west"]);
    assert!(again.code == 1 && again.err.contains("are linked already"), "{}", again.err);

    let token = home.good(&["token", "agent", "vm-1", "--context", "east"]).out;
    home.write("vm-1.token", &token);
    let vm = Terminal::open(&home, &["agent", "vm-1", "--join", "vm-1.token", "--address", &at(3)]);
    let program = std::net::TcpListener::bind((at(4).as_str(), 0)).expect("a free port");
    let port = program.local_addr().expect("bound").port();
    drop(program);
    let listen = format!("{}:{port}", at(4));
    let _program =
        Terminal::open(&home, &["echo", "--instance", "cart", "--site", "east", "--listen", &listen]);
    let ports = format!("8080:{port}");
    let expose =
        ["expose", "shop/cart", "--on", "vm-1", "--port", &ports, "--target", &at(4), "--protocol", "http"];
    let exposed =
        until(&home, &[&expose[..], &["--context", "east"]].concat(), "endpoint", |ran| ran.code == 0);
    assert!(exposed.out.contains("offered   to west"), "{}", exposed.out);

    let services =
        until(&home, &["get", "services", "--context", "west", "--json"], "healthy service", |ran| {
            serde_json::from_str::<serde_json::Value>(&ran.out)
                .is_ok_and(|list| list["services"][0]["healthy"] == 1)
        });
    let list: api::rest::service::ServiceList = serde_json::from_str(&services.out).expect("JSON");
    let service = &list.services[0];
    assert_eq!(service.service, "shop/cart");
    assert_eq!(service.dns_name, "cart.shop.svc.clusterset.local");
    let curl = service.curl.as_deref().expect("a line that can be pasted");
    let address =
        curl.strip_prefix("curl http://").expect("a URL").trim_end_matches('/').parse().expect("an address");
    let begin = Instant::now();
    let answer = loop {
        match get(address) {
            Some(answer) if !answer.is_empty() => break answer,
            seen => assert!(begin.elapsed() < LONG, "{curl}: {seen:?}\n{}", logs(&home)),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(answer.contains("X-Site: east") && answer.ends_with("hello from east (cart)\n"), "{answer}");

    let explained = home.good(&["explain", "shop/cart", "--from", "west"]).out;
    assert!(explained.contains("east eu/fra") && explained.contains("takes 100 %"), "{explained}");
    assert!(home.good(&["events", "--context", "east"]).out.contains("peer west"), "{}", logs(&home));
    assert!(home.good(&["describe", "service", "shop/cart", "--context", "west"]).out.contains("connected"));
    home.good(&["drain", "gateway", "gw-0", "--context", "east", "--wait", "5s"]);
    home.good(&["undrain", "gateway", "gw-0", "--context", "east"]);

    // A used token changes nothing, and an agent that leaves takes its workload back.
    let foreign = home.run(&["agent", "vm-2", "--join", "vm-1.token", "--address", &at(5)]);
    assert_eq!(foreign.code, 1, "{}", foreign.err);
    drop(vm);
    home.good(&["unlink", "east", "west", "--yes"]);
    until(&home, &["get", "services", "--context", "west"], "empty list", |ran| {
        ran.out.starts_with("no services")
    });
    assert!(home.good(&["get", "links", "--context", "east"]).out.starts_with("no links"));
}
