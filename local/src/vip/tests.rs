use super::*;
use crate::names::NameTable;
use crate::names::tests_support::import;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A table with one service per virtual IP; all on this port.
fn table(vips: &[(&str, Ipv4Addr, u16)]) -> Arc<NameTable> {
    let imports: Vec<_> = vips.iter().map(|(name, vip, port)| import(name, Some(*vip), &[*port])).collect();
    Arc::new(NameTable::new("east".parse().expect("valid"), true, &imports))
}

/// A virtual IP of this test alone, and a port that nobody has on it.
fn free(last: u8) -> (Ipv4Addr, u16) {
    let process = std::process::id().to_be_bytes();
    let vip = Ipv4Addr::new(127, 64 + process[2] % 64, process[3], last);
    let port = std::net::TcpListener::bind((vip, 0)).and_then(|of| of.local_addr()).expect("free").port();
    (vip, port)
}

fn listeners(settings: VipSettings) -> VipListeners {
    VipListeners::new(settings, Arc::new(NameTable::empty("east".parse().expect("valid"))))
}

async fn accept(listeners: &mut VipListeners) -> Accepted {
    timeout(PATIENCE, listeners.accept()).await.expect("in time")
}

#[tokio::test]
async fn a_connection_to_a_virtual_ip_is_one_to_its_service() {
    let (one, port) = free(1);
    let (two, second) = free(2);
    let mut listeners = listeners(VipSettings::default());
    listeners.reconcile(table(&[("shop/cart", one, port), ("shop/web", two, second)]));
    for (address, service, byte) in [((one, port), "shop/cart", 1), ((two, second), "shop/web", 2)] {
        let mut client = TcpStream::connect(address).await.expect("listens");
        let mut accepted = accept(&mut listeners).await;
        assert_eq!(accepted.target.service.to_string(), service);
        assert_eq!(accepted.target.port.number, address.1);
        assert_eq!(accepted.peer, client.local_addr().expect("connected"));
        client.write_all(&[byte]).await.expect("open");
        assert_eq!(accepted.stream.read_u8().await.expect("open"), byte);
    }
}

#[tokio::test]
async fn reconciling_opens_and_closes_without_touching_others() {
    let (one, port) = free(3);
    let (two, second) = free(4);
    let mut listeners = listeners(VipSettings::default());
    listeners.reconcile(table(&[("shop/cart", one, port), ("shop/web", two, second)]));
    let waiting = TcpStream::connect((one, port)).await.expect("listens");
    let mut gone = TcpStream::connect((two, second)).await.expect("listens");
    listeners.reconcile(table(&[("shop/cart", one, port)]));
    let accepted = accept(&mut listeners).await;
    assert_eq!(accepted.peer, waiting.local_addr().expect("connected"));
    assert_eq!(listeners.open().count(), 1);
    // Who waited at the closed one is told so, and who comes later as well.
    let ended = timeout(PATIENCE, async {
        let mut byte = [0];
        let read = gone.read(&mut byte);
        tokio::select! { read = read => read, _ = listeners.accept() => unreachable!("nobody else connects") }
    });
    assert!(!matches!(ended.await.expect("in time"), Ok(1..)));
    assert!(TcpStream::connect((two, second)).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_skipped_with_a_way_out_and_served_once_it_is_free() {
    let (vip, port) = free(5);
    let program = std::net::TcpListener::bind((vip, port)).expect("free");
    let proxy = "127.0.3.1:1080".parse().expect("valid");
    let mut listeners = listeners(VipSettings { proxy: Some(proxy), ..VipSettings::default() });
    listeners.reconcile(table(&[("shop/cart", vip, port)]));
    let skipped = listeners.skipped().next().expect("skipped").clone();
    assert_eq!(skipped.reason, SkipReason::InUse);
    let said = skipped.to_string();
    assert!(
        said.starts_with(&format!("cart.shop.svc.clusterset.local:{port} is not served at {vip}:")),
        "{said}"
    );
    assert!(skipped.way_out().contains("--socks5-hostname 127.0.3.1:1080"), "{}", skipped.way_out());
    drop(program);
    let client = tokio::spawn(async move {
        loop {
            if let Ok(stream) = TcpStream::connect((vip, port)).await {
                return stream;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let accepted = accept(&mut listeners).await;
    assert_eq!(accepted.peer, client.await.expect("ran").local_addr().expect("connected"));
    assert_eq!(listeners.skipped().count(), 0);
}

#[tokio::test]
async fn reserved_ports_and_ports_of_workloads_are_left_alone() {
    let (vip, port) = free(6);
    let settings = VipSettings { reserved_ports: BTreeSet::from([port]), ..VipSettings::default() };
    let mut listeners = listeners(settings);
    let names = table(&[("shop/cart", vip, port)]);
    listeners.reconcile(Arc::clone(&names));
    assert_eq!(listeners.skipped().next().expect("skipped").reason, SkipReason::Reserved);
    listeners.set_settings(VipSettings::default());
    assert_eq!((listeners.open().count(), listeners.skipped().count()), (1, 0));
    let settings = VipSettings { workload_ports: BTreeSet::from([port]), ..VipSettings::default() };
    listeners.set_settings(settings);
    assert_eq!(listeners.skipped().next().expect("skipped").reason, SkipReason::Workload);
    assert_eq!(listeners.open().count(), 0);
    listeners.reconcile(table(&[]));
    assert_eq!(listeners.skipped().count(), 0);
}

#[tokio::test]
async fn the_number_of_listeners_is_bounded() {
    let (one, port) = free(7);
    let (two, second) = free(8);
    let mut listeners = listeners(VipSettings { listeners_max: Some(1), ..VipSettings::default() });
    listeners.reconcile(table(&[("shop/cart", one, port), ("shop/web", two, second)]));
    assert_eq!(listeners.open().count(), 1);
    assert_eq!(listeners.skipped().next().expect("skipped").reason, SkipReason::TooMany { max: 1 });
}

#[tokio::test]
async fn a_connection_to_the_redirect_port_itself_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let names = Arc::new(NameTable::empty("east".parse().expect("valid")));
    let mut listeners = VipListeners::redirected(VipSettings::default(), names, listener);
    let mut client = TcpStream::connect(address).await.expect("listens");
    let read = timeout(PATIENCE, async {
        tokio::select! {
            read = client.read_u8() => read,
            _ = listeners.accept() => unreachable!("nothing was redirected"),
        }
    });
    assert!(read.await.expect("in time").is_err());
}
