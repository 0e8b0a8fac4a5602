//! Probes against real servers on loopback.

use connectors::health::{Checker, Key, ProbeFailure, Target, probe};
use model::config::{HealthCheck, HealthProbe};
use model::endpoint::Health;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

const PATIENCE: Duration = Duration::from_secs(30);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn run(of: HealthProbe) -> Result<(), ProbeFailure> {
    timeout(PATIENCE, probe(&of, HERE, Duration::from_secs(20))).await.expect("in time")
}

/// A server that reads something and answers always the same.
async fn answering(answer: &'static [u8]) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind((HERE, 0)).await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    (port, AbortOnDropHandle::new(task))
}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.expect("binds");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn tcp_passes_when_somebody_listens() {
    let (port, _server) = answering(b"").await;
    assert_eq!(run(HealthProbe::Tcp { port }).await, Ok(()));
    let failure = run(HealthProbe::Tcp { port: closed_port().await }).await.expect_err("nobody listens");
    assert!(failure.to_string().contains("Connection refused"), "{failure}");
}

#[tokio::test]
async fn http_passes_on_200_to_399() {
    for (answer, status) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice(), None),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", None),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Some(404)),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Some(503)),
    ] {
        let (port, _server) = answering(answer).await;
        let result = run(HealthProbe::Http { port, path: "/healthz?a=b".to_owned() }).await;
        let expected = status
            .map_or(Ok(()), |status| Err(ProbeFailure::Status { path: "/healthz?a=b".to_owned(), status }));
        assert_eq!(result, expected);
    }
    for nonsense in [b"".as_slice(), b"SSH-2.0-x\r\n", &[0; 100]] {
        let (port, _server) = answering(nonsense).await;
        let failure = run(HealthProbe::Http { port, path: "/".to_owned() }).await.expect_err("no HTTP");
        assert!(matches!(failure, ProbeFailure::Connection { .. }), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_after_the_timeout() {
    let listener = TcpListener::bind((HERE, 0)).await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let limit = Duration::from_millis(50);
    for of in [
        HealthProbe::Http { port, path: "/".to_owned() },
        HealthProbe::Grpc { port, service: String::new() },
        HealthProbe::Exec { command: vec!["sleep".to_owned(), "60".to_owned()] },
    ] {
        let result = timeout(PATIENCE, probe(&of, HERE, limit)).await.expect("in time");
        assert_eq!(result, Err(ProbeFailure::TimedOut { limit }), "{of:?}");
    }
}

#[tokio::test]
async fn grpc_asks_the_standard_health_service() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", ServingStatus::Serving).await;
    reporter.set_service_status("shop.Down", ServingStatus::NotServing).await;
    let incoming = TcpIncoming::bind((HERE, 0).into()).expect("binds");
    let port = incoming.local_addr().expect("bound").port();
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    let ask = |service: &str| run(HealthProbe::Grpc { port, service: service.to_owned() });
    assert_eq!(ask("").await, Ok(()));
    assert_eq!(ask("shop.Cart").await, Ok(()));
    let down = ask("shop.Down").await.expect_err("it is down").to_string();
    assert_eq!(down, "grpc.health.v1 of `shop.Down`: NOT_SERVING");
    let unknown = ask("shop.New").await.expect_err("it is unknown").to_string();
    assert_eq!(unknown, "grpc.health.v1 of `shop.New`: it is not known to the server");
    let (port, _other) = answering(b"HTTP/1.1 200 OK\r\n\r\n").await;
    assert!(run(HealthProbe::Grpc { port, service: String::new() }).await.is_err(), "it speaks HTTP/1.1");
}

fn shell(script: &str) -> HealthProbe {
    HealthProbe::Exec { command: ["sh", "-c", script].map(str::to_owned).to_vec() }
}

#[tokio::test]
async fn a_command_passes_when_it_ends_with_0() {
    assert_eq!(run(shell("exit 0")).await, Ok(()));
    let failure = run(shell("echo on standard output; echo not  ready >&2; exit 3")).await.expect_err("3");
    assert_eq!(failure.to_string(), "`sh` ended with code 3: not ready");
    let failure = run(shell("kill -TERM $$")).await.expect_err("killed");
    assert_eq!(failure.to_string(), "`sh` ended with signal 15");
    let missing = HealthProbe::Exec { command: vec!["/nowhere/at-all".to_owned()] };
    let failure = run(missing).await.expect_err("missing").to_string();
    assert!(failure.starts_with("`/nowhere/at-all` cannot be run: No such file"), "{failure}");
}

#[tokio::test]
async fn a_command_that_prints_without_end_is_neither_held_up_nor_kept() {
    let failure = run(shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 1")).await.expect_err("1");
    assert!(failure.to_string().len() < 400, "{}", failure.to_string().len());
}

#[tokio::test]
async fn a_command_that_leaves_a_process_behind_ends_with_its_own_end() {
    let began = Instant::now();
    assert_eq!(run(shell("sleep 15 & exit 0")).await, Ok(()));
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for the process that was left behind");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
    let limit = Duration::from_secs(1);
    let result = timeout(PATIENCE, probe(&shell(&script), HERE, limit)).await.expect("in time");
    assert_eq!(result, Err(ProbeFailure::TimedOut { limit }));
    let pids = std::fs::read_to_string(&file).expect("it ran");
    for pid in pids.split_whitespace() {
        let until = Instant::now() + PATIENCE;
        while is_alive(pid) {
            assert!(Instant::now() < until, "{pid} lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether a process runs; one that only waits to be collected does not.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn key(id: &str) -> Key {
    ("shop/cart".parse().expect("valid"), id.parse().expect("valid"))
}

fn target(probe: HealthProbe) -> Target {
    let check = HealthCheck {
        probe,
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        healthy_threshold: 1,
        unhealthy_threshold: 2,
    };
    Target { address: HERE, check }
}

#[tokio::test]
async fn a_checker_follows_a_server_that_goes_and_comes() {
    let mut checker = Checker::new(connectors::metrics::probes());
    let (port, server) = answering(b"").await;
    checker.reconcile(BTreeMap::from([
        (key("a"), target(HealthProbe::Tcp { port })),
        (key("none"), target(HealthProbe::None)),
    ]));
    let state = checker.state(&key("a")).expect("checked").clone();
    assert_eq!((state.health, state.known), (Health::Unhealthy, false), "until its first pass");
    assert_eq!(checker.state(&key("none")).expect("there").health, Health::Healthy);
    let next =
        async |checker: &mut Checker| timeout(PATIENCE, checker.changed()).await.expect("in time").health;
    assert_eq!(next(&mut checker).await, Health::Healthy);
    assert!(checker.all_known());
    drop(server);
    assert_eq!(next(&mut checker).await, Health::Unhealthy);
    let failure = checker.state(&key("a")).expect("checked").failure.clone().expect("failed");
    assert!(failure.to_string().contains("Connection refused"), "{failure}");
    let _again = TcpListener::bind((HERE, port)).await.expect("binds");
    assert_eq!(next(&mut checker).await, Health::Healthy);
    // Another check of the same address: who was healthy stays so until it says otherwise.
    let other = target(HealthProbe::Tcp { port: closed_port().await });
    checker.reconcile(BTreeMap::from([(key("a"), other)]));
    assert_eq!(checker.state(&key("a")).expect("checked").health, Health::Healthy);
    assert_eq!(next(&mut checker).await, Health::Unhealthy);
    checker.reconcile(BTreeMap::new());
    assert_eq!(checker.state(&key("a")), None);
}
