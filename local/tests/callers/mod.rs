//! Callers of the proxy and of DNS over real sockets, and what is asked of whoever serves them. The fuzz targets ask the
//! same.

#![allow(dead_code, reason = "each user takes its part")]

use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_server::proto::rr::{Name, RecordType};
use hostile::{chain, is_readable};
use local::dns::{Dns, Forward};
use local::names::NameTable;
use local::proxy::{HandshakeError, ProxyLimits, handshake};
use model::routing::Import;
use model::service::{AppProtocol, PortKey, ServiceKind, ServicePort};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far more than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A table with one service; complete or not.
pub fn names(complete: bool) -> NameTable {
    let cart = Import {
        service: "shop/cart".parse().expect("valid"),
        ports: vec![ServicePort {
            key: PortKey::tcp(8080),
            name: Some("http".parse().expect("valid")),
            app: AppProtocol::Http,
            retry_safe: false,
        }],
        kind: ServiceKind::ClusterSetIp,
        vip: Some([127, 64, 0, 2].into()),
        groups: Vec::new(),
        failover: Default::default(),
        access: Vec::new(),
    };
    NameTable::new("east".parse().expect("valid"), complete, [&cart])
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// Requests that are served, as their callers send them.
pub fn requests() -> Vec<Vec<u8>> {
    let host = b"cart.shop.svc.clusterset.local";
    let named = [&[5, 1, 0, 5, 1, 0, 3, host.len() as u8][..], host, &[0x1f, 0x90]].concat();
    let addressed = vec![5, 2, 2, 0, 5, 1, 0, 1, 127, 64, 0, 2, 0x1f, 0x90];
    let connect = b"CONNECT cart.shop.svc.clusterset.local:8080 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let pinned = b"CONNECT cart.shop.svc.west.meshfed.internal:8080 HTTP/1.0\r\nA: b\r\n\r\n".to_vec();
    vec![named, addressed, connect, pinned]
}

/// What came of a handshake: the service, or why not.
pub type Outcome = Result<String, HandshakeError>;

/// A caller that sends `pieces`, closes its half, and reads to the end. Gives the outcome, and all that it was told.
pub async fn call(pieces: &[&[u8]]) -> (Outcome, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listens");
    client.set_nodelay(true).expect("a socket");
    let (stream, _) = listener.accept().await.expect("accepts");
    let serve = async {
        let pending = handshake(stream, &names(true), &ProxyLimits::default()).await?;
        let service = pending.target().service.to_string();
        let _ = pending.granted().await;
        Ok(service)
    };
    let (mut reader, mut writer) = client.into_split();
    let send = async {
        for piece in pieces {
            // It may be turned away while it still sends.
            if writer.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    let hear = async {
        let mut told = Vec::new();
        let _ = reader.read_to_end(&mut told).await;
        told
    };
    let (outcome, (), told) = soon("the end of a handshake", async { tokio::join!(serve, send, hear) }).await;
    if let Err(error) = &outcome {
        is_readable(&chain(error));
    }
    assert!(told.len() <= 1_024, "{} bytes of reply", told.len());
    (outcome, told)
}

pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("valid"), kind));
    message
}

pub fn questions() -> Vec<Vec<u8>> {
    let mut extended = question("cart.shop.svc.clusterset.local.", RecordType::AAAA);
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    extended.set_edns(edns);
    let messages = [
        question("cart.shop.svc.clusterset.local.", RecordType::A),
        question("_http._tcp.cart.shop.svc.clusterset.local.", RecordType::SRV),
        question("cart.shop.svc.west.meshfed.internal.", RecordType::ANY),
        question("dns-version.clusterset.local.", RecordType::TXT),
        question("example.com.", RecordType::MX),
        extended,
    ];
    messages.iter().map(|message| message.to_vec().expect("encodes")).collect()
}

/// A DNS server, and a socket that asks it.
pub struct Server {
    pub address: SocketAddr,
    pub socket: UdpSocket,
    asked: u16,
    _names: watch::Sender<Arc<NameTable>>,
}

impl Server {
    pub async fn start() -> Self {
        let dns = Dns::bind("127.0.0.1:0".parse().expect("valid"), "ports.dns").await.expect("binds");
        let (sender, names) = watch::channel(Arc::new(names(true)));
        let address = dns.address();
        tokio::spawn(dns.run(names, Forward::Nowhere, CancellationToken::new()));
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        socket.connect(address).await.expect("connects");
        Self { address, socket, asked: 0, _names: sender }
    }

    /// It still answers what it knows; answers to anything else are looked at on the way.
    pub async fn serves(&mut self) {
        self.asked = self.asked.wrapping_add(1).max(1);
        let mut asked = question("cart.shop.svc.clusterset.local.", RecordType::A);
        // A number that no hostile message has, so that its answer is known.
        asked.metadata.id = 0x8000 | self.asked & 0x7fff;
        self.socket.send(&asked.to_vec().expect("encodes")).await.expect("sends");
        let mut buffer = [0; 4_096];
        loop {
            let length = soon("an answer", self.socket.recv(&mut buffer)).await.expect("a datagram");
            assert!(length <= 1_232, "an answer of {length} bytes");
            let answer = Message::from_vec(&buffer[..length]).expect("what it sends is a message");
            assert_eq!(answer.metadata.message_type, MessageType::Response);
            if answer.metadata.id == asked.metadata.id && answer.answers.len() == 1 {
                return;
            }
        }
    }
}
