//! Virtual IPs, the proxy port and DNS, as programs of the host see them.

use crate::federation::{Site, eventually, soon, vip_range};
use crate::imports::{PORT, direct, entry, import, own_group, port, vip};
use crate::tunnels::{Client, any, endpoint};
use local::dns::{Dns, Forward};
use local::vip::VipSettings;
use model::config::{ConfigUpdate, ConfigVersion, VipRange};
use model::endpoint::{Endpoint, Reach};
use model::ids::SiteId;
use model::routing::Import;
use model::service::ServiceName;
use node::route::{Way, Ways};
use node::routes::Routes;
use node::store::ConfigStore;
use node::way_in::{Problems, WayIn, own_vip, start_beside};
use runtime::shutdown::{Shutdown, Tasks};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

struct Directly;

impl Ways for Directly {
    fn to_endpoint(&self, _: &ServiceName, endpoint: &Endpoint, target_port: u16, _: u8) -> Vec<Way> {
        match &endpoint.reach {
            Reach::Direct(address) => vec![Way::Dial(SocketAddr::new(*address, target_port))],
            Reach::Agent(_) => Vec::new(),
        }
    }

    fn to_site(&self, _: &SiteId, _: u8) -> Vec<Way> {
        Vec::new()
    }
}

struct Host {
    site: Arc<Site>,
    store: Arc<ConfigStore>,
    revision: AtomicU64,
    range: VipRange,
    proxy: SocketAddr,
    dns: SocketAddr,
    ports: watch::Sender<BTreeSet<u16>>,
    problems: Problems,
    tasks: Tasks,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl Host {
    async fn start(imports: Vec<Import>) -> Self {
        let site = Site::new("west");
        let folder = tempfile::tempdir().expect("a folder");
        let store = ConfigStore::open(folder.path()).expect("opens");
        let routes = Routes::new(site.id.clone(), "agent vm-1".to_owned());
        let (range, shutdown, tasks) = (vip_range(), Shutdown::new(), Tasks::new());
        let proxy = TcpListener::bind(any()).await.expect("binds");
        let dns = Dns::bind(any(), "--dns-port").await.expect("binds");
        let (proxy_address, dns_address) = (proxy.local_addr().expect("bound"), dns.address());
        tokio::spawn(routes.clone().run(store.clone(), shutdown.clone()));
        let way_in = WayIn {
            routes: routes.clone(),
            ways: Arc::new(Directly),
            store: store.clone(),
            identity: "spiffe://west.mesh/agent/vm-1".parse().expect("valid"),
            site: site.id.clone(),
            locality: None,
            range: Some(range),
            vips: VipSettings { proxy: Some(proxy_address), ..VipSettings::default() },
            redirect: None,
            proxy: Some(proxy),
            dns: Some(dns),
            forward: Forward::Nowhere,
            tasks: tasks.clone(),
        };
        let (ports, receiver) = watch::channel(BTreeSet::new());
        let problems = start_beside(way_in, receiver, &shutdown);
        let host = Self {
            site,
            store,
            revision: AtomicU64::new(0),
            range,
            proxy: proxy_address,
            dns: dns_address,
            ports,
            problems,
            tasks,
            shutdown,
            _folder: folder,
        };
        host.knows(imports);
        eventually("the config", || routes.read(|router| router.imports().count() > 0)).await;
        host
    }

    fn knows(&self, imports: Vec<Import>) {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst) + 1;
        let mut entries = vec![self.site.entry(Vec::new())];
        entries.extend(imports.into_iter().map(entry));
        let version = ConfigVersion { incarnation: 1, revision };
        self.store.apply(ConfigUpdate { version, snapshot: true, complete: true, entries }).expect("applies");
    }

    fn vip(&self, number: u8) -> Ipv4Addr {
        own_vip(vip(number).expect("one"), Some(self.range))
    }

    /// A client of a virtual IP, once somebody listens there.
    async fn client(&self, number: u8, port: u16) -> Client {
        let address = SocketAddr::new(IpAddr::V4(self.vip(number)), port);
        soon("a listener", async {
            loop {
                if let Ok(tcp) = TcpStream::connect(address).await {
                    return Client(tokio::io::BufReader::new(tcp));
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn connects(&self, number: u8, port: u16) -> bool {
        TcpStream::connect((self.vip(number), port)).await.is_ok()
    }
}

fn cart(site: &str, number: u8, at: SocketAddr) -> Import {
    let site: SiteId = site.parse().expect("valid");
    let group = own_group(&site, vec![direct(&site, "w-1", at)]);
    Import { vip: vip(number), groups: vec![group], ..import("shop/cart") }
}

#[tokio::test]
async fn a_virtual_ip_socks_and_connect_lead_to_the_endpoint() {
    let host = Host::start(vec![cart("west", 2, endpoint("w-1").await)]).await;
    let mut client = host.client(2, PORT).await;
    assert_eq!(client.line().await.as_deref(), Some("w-1"));
    assert!(client.echoes().await);

    let name = "cart.shop.svc.clusterset.local";
    let mut client = Client::dial(host.proxy).await;
    let request = format!("CONNECT {name}:{PORT} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.0.write_all(request.as_bytes()).await.expect("writes");
    assert!(client.line().await.is_some_and(|line| line.starts_with("HTTP/1.1 200")));
    while client.line().await.is_some_and(|line| !line.is_empty()) {}
    assert_eq!(client.line().await.as_deref(), Some("w-1"));
    assert!(client.echoes().await);

    let mut client = Client::dial(host.proxy).await;
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    request.extend_from_slice(name.as_bytes());
    request.extend(PORT.to_be_bytes());
    client.0.write_all(&request).await.expect("writes");
    let mut reply = [0; 12];
    soon("the reply", client.0.read_exact(&mut reply)).await.expect("reads");
    assert_eq!(reply[..4], [5, 0, 5, 0]);
    assert_eq!(client.line().await.as_deref(), Some("w-1"));
    assert!(client.echoes().await);
}

#[tokio::test]
async fn a_client_that_nobody_takes_is_told() {
    let nobody = crate::tunnels::nobody().await;
    let host = Host::start(vec![cart("west", 2, nobody)]).await;
    assert_eq!(host.client(2, PORT).await.line().await, None, "a reset");
    let mut client = Client::dial(host.proxy).await;
    let request = format!("CONNECT cart.shop.svc.clusterset.local:{PORT} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.0.write_all(request.as_bytes()).await.expect("writes");
    let line = client.line().await.expect("an answer");
    assert!(line.starts_with("HTTP/1.1 50"), "{line}");
}

/// Asks for the A record of a name: the code of the answer, and the last address in it.
async fn resolve(dns: SocketAddr, name: &str) -> (u8, Option<Ipv4Addr>) {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind(any()).await.expect("binds");
    let mut answer = [0; 1_232];
    let size = soon("an answer", async {
        loop {
            socket.send_to(&query, dns).await.expect("sends");
            let received = socket.recv(&mut answer);
            if let Ok(Ok(size)) = tokio::time::timeout(std::time::Duration::from_secs(2), received).await {
                return size;
            }
        }
    })
    .await;
    let records = u16::from_be_bytes([answer[6], answer[7]]);
    let last: [u8; 4] = answer[size - 4..size].try_into().expect("four");
    (answer[3] & 15, (records > 0).then(|| last.into()))
}

#[tokio::test]
async fn a_name_resolves_to_the_virtual_ip_of_this_process() {
    let host = Host::start(vec![cart("west", 2, endpoint("w-1").await)]).await;
    let name = "cart.shop.svc.clusterset.local";
    eventually("the names", || host.store.current().services.len() == 1).await;
    soon("the name", async {
        while resolve(host.dns, name).await != (0, Some(host.vip(2))) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(resolve(host.dns, "none.shop.svc.clusterset.local").await, (3, None), "all names are known");
}

#[tokio::test]
async fn a_service_that_comes_is_listened_on_and_one_that_goes_is_not() {
    let at = endpoint("w-1").await;
    let host = Host::start(vec![cart("west", 2, at)]).await;
    let mut open = host.client(2, PORT).await;
    assert_eq!(open.line().await.as_deref(), Some("w-1"));
    let orders = Import { service: "shop/orders".parse().expect("valid"), ..cart("west", 3, at) };
    host.knows(vec![orders]);
    assert_eq!(host.client(3, PORT).await.line().await.as_deref(), Some("w-1"));
    soon("the end", async {
        while host.connects(2, PORT).await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(open.echoes().await, "what is open stays");
}

#[tokio::test]
async fn a_port_of_a_workload_is_left_to_it_and_the_way_out_is_told() {
    let host = Host::start(vec![Import {
        ports: vec![port(PORT), port(9_090)],
        ..cart("west", 2, endpoint("w-1").await)
    }])
    .await;
    host.client(2, PORT).await;
    host.ports.send_replace(BTreeSet::from([PORT]));
    let workload = SocketAddr::new(host.vip(2).into(), PORT);
    let problems = host.problems.clone();
    eventually("the problem", || !problems.borrow().is_empty()).await;
    let told = host.problems.borrow().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("a workload of this host has the port"), "{told:?}");
    assert!(told[0].contains(&format!("--socks5-hostname {}", host.proxy)), "{told:?}");
    let its = TcpListener::bind(workload).await.expect("the workload can have it");
    assert!(host.connects(2, 9_090).await, "the other port is served as before");
    drop(its);
    host.ports.send_replace(BTreeSet::new());
    assert_eq!(host.client(2, PORT).await.line().await, Some("w-1".to_owned()));
    eventually("the end of it", || problems.borrow().is_empty()).await;
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told_and_served_once_it_is_free() {
    let number = 9;
    let host = Host::start(vec![cart("west", 2, endpoint("w-1").await)]).await;
    let taken = TcpListener::bind((host.vip(number), PORT)).await.expect("binds");
    host.knows(vec![cart("west", number, endpoint("w-1").await)]);
    let problems = host.problems.clone();
    eventually("the problem", || problems.borrow().iter().any(|told| told.contains("another program"))).await;
    drop(taken);
    assert_eq!(host.client(number, PORT).await.line().await.as_deref(), Some("w-1"));
    eventually("the end of it", || problems.borrow().is_empty()).await;
}

#[tokio::test]
async fn clients_that_were_taken_live_on_when_the_process_leaves_and_no_more_come() {
    let host = Host::start(vec![cart("west", 2, endpoint("w-1").await)]).await;
    let mut client = host.client(2, PORT).await;
    assert_eq!(client.line().await.as_deref(), Some("w-1"));
    host.shutdown.begin();
    soon("the end", async {
        while host.connects(2, PORT).await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(client.echoes().await);
    assert_eq!(host.tasks.running(), 1);
    drop(client);
    assert_eq!(host.tasks.finish(crate::federation::PATIENCE).await, 0);
}
