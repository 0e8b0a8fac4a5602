//! The redirect of `agent setup`, in a network namespace of its own: needs root and `nft`.
//!
//! The test runs itself again inside `unshare --net`, so that nothing of the host is touched.

use local::names::NameTable;
use local::setup::{Setup, SetupError};
use local::vip::{VipListeners, VipSettings};
use model::config::VipRange;
use model::routing::Import;
use model::service::{AppProtocol, PortKey, ServiceKind, ServicePort};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const INSIDE: &str = "MESHFED_TEST_IN_NAMESPACE";
const PATIENCE: Duration = Duration::from_secs(30);

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs one test of this file in a namespace; answers whether it could.
fn enter(test: &str) -> bool {
    if !runs("nft", &["--version"]) {
        println!("SKIPPED: {test}: `nft` is not installed (apt install nftables)");
        return false;
    }
    if !runs("unshare", &["--net", "true"]) {
        println!("SKIPPED: {test}: no network namespace can be made (needs root)");
        return false;
    }
    let own = std::env::current_exe().expect("a test has a file");
    let inside = format!("ip link set lo up && exec '{}' --exact {test} --nocapture", own.display());
    let status = Command::new("unshare").args(["--net", "sh", "-c", &inside]).env(INSIDE, "1").status();
    assert!(status.expect("unshare runs").success(), "{test} failed in its namespace");
    true
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn setup(root: PathBuf, redirect: SocketAddrV4) -> Setup {
    let range = VipRange { base: Ipv4Addr::new(127, 70, 0, 0) };
    Setup { range, redirect, dns: None, root, resolved: false, systemd: false }
}

fn names() -> Arc<NameTable> {
    let port = |number| ServicePort {
        key: PortKey::tcp(number),
        name: None,
        app: AppProtocol::Tcp,
        retry_safe: false,
    };
    let cart = Import {
        service: "shop/cart".parse().expect("valid"),
        ports: vec![port(80), port(8080)],
        kind: ServiceKind::ClusterSetIp,
        vip: Some(Ipv4Addr::new(127, 70, 0, 2)),
        groups: Vec::new(),
        failover: Default::default(),
        access: Vec::new(),
    };
    Arc::new(NameTable::new("east".parse().expect("valid"), true, [&cart]))
}

#[test]
fn every_port_of_a_virtual_ip_reaches_the_one_listener_until_it_is_taken_back() {
    if !is_inside() {
        enter("every_port_of_a_virtual_ip_reaches_the_one_listener_until_it_is_taken_back");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.3.1:0").await.expect("binds");
        let std::net::SocketAddr::V4(redirect) = listener.local_addr().expect("bound") else {
            panic!("IPv4")
        };
        let setup = setup(folder.path().to_owned(), redirect);
        setup.apply(|_| {}).expect("applies");
        setup.apply(|_| {}).expect("applies again");
        assert!(setup.is_applied());
        // A program that has the port on all addresses does not matter any more.
        let _program = std::net::TcpListener::bind("0.0.0.0:8080").expect("free in this namespace");
        let mut listeners = VipListeners::redirected(VipSettings::default(), names(), listener);
        for port in [80, 8080] {
            let vip = SocketAddrV4::new(Ipv4Addr::new(127, 70, 0, 2), port);
            let dial = tokio::spawn(async move {
                let mut client = TcpStream::connect(vip).await.expect("redirected");
                client.write_all(b"x").await.expect("open");
                client.read_u8().await.expect("answered")
            });
            let mut accepted = timeout(PATIENCE, listeners.accept()).await.expect("in time");
            assert_eq!((accepted.vip, accepted.target.port.number), (vip, port));
            assert_eq!(accepted.target.service.to_string(), "shop/cart");
            let byte = accepted.stream.read_u8().await.expect("open");
            accepted.stream.write_all(&[byte]).await.expect("open");
            assert_eq!(timeout(PATIENCE, dial).await.expect("in time").expect("no panic"), b'x');
        }
        setup.revert(|_| {}).expect("reverts");
        setup.revert(|_| {}).expect("reverts when there is nothing to revert");
        assert!(!setup.is_applied());
        let vip = SocketAddrV4::new(Ipv4Addr::new(127, 70, 0, 2), 80);
        assert!(TcpStream::connect(vip).await.is_err(), "nobody is there");
    });
}

#[test]
fn without_nft_the_error_says_what_to_install() {
    if is_inside() || runs("nft", &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let setup = setup(folder.path().to_owned(), "127.0.3.1:15001".parse().expect("valid"));
    let error = setup.apply(|_| {}).expect_err("nft is missing");
    assert!(matches!(error, SetupError::Missing { .. }));
    assert!(error.to_string().contains("apt install nftables"), "{error}");
}
