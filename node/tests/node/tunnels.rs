//! Tunnels, gateways that do what the test says, endpoints, and a UDP relay that can be cut.
#![allow(dead_code)]

use crate::federation::{PATIENCE, Site, soon};
use identity::credentials::Credentials;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::decision::{Refusal, RefusalCode};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tunnel::{Accepted, Config, Connection, IncomingStream, Roles, Tunnel};

pub fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The tunnel of a gateway, which others dial.
pub fn gateway(site: &Site, name: &str, address: SocketAddr) -> Tunnel {
    gateway_as(site, site.credentials(&format!("gateway/{name}")), address)
}

pub fn gateway_as(site: &Site, credentials: Credentials, address: SocketAddr) -> Tunnel {
    let config = Config::lan().accepting(Roles::of_gateway());
    Tunnel::bind(address, LiveCredentials::new(credentials), &site.trust(), config).expect("binds")
}

/// The tunnel of a process that only dials.
pub fn dialler(site: &Site, path: &str) -> Tunnel {
    let credentials = LiveCredentials::new(site.credentials(path));
    Tunnel::bind(any(), credentials, &site.trust(), Config::lan()).expect("binds")
}

/// Connects two tunnels of one site.
pub async fn connect(site: &Site, from: &Tunnel, to: &Tunnel) -> (Connection, Connection) {
    let expect = Expect::trusted(&site.trust(), site.domain.clone(), RoleKind::Gateway);
    let accept = async {
        match soon("an accept", to.accept()).await {
            Some(Accepted::Mesh(connection)) => connection,
            other => panic!("not a peer: {other:?}"),
        }
    };
    let (dialled, accepted) = tokio::join!(from.connect(to.local_address(), expect), accept);
    (dialled.expect("connects"), accepted)
}

pub async fn incoming(connection: &Connection) -> IncomingStream {
    soon("a stream", connection.accept_stream()).await.expect("a stream")
}

pub fn refusal(code: RefusalCode, retryable: bool) -> Refusal {
    Refusal { code, retryable, detail: format!("it was {code}") }
}

/// An endpoint that says its name and then echoes.
pub async fn endpoint(name: &'static str) -> SocketAddr {
    endpoint_at(name, any()).await
}

pub async fn endpoint_at(name: &'static str, address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(address).await.expect("binds");
    let bound = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                if tcp.write_all(format!("{name}\n").as_bytes()).await.is_ok() {
                    let (mut read, mut write) = tcp.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }
            });
        }
    });
    bound
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(any()).await.expect("binds");
    listener.local_addr().expect("bound")
}

/// A client connection, by what is seen at its end.
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub async fn dial(address: SocketAddr) -> Self {
        let tcp = soon("a connect", TcpStream::connect(address)).await.expect("connects");
        Self(BufReader::new(tcp))
    }

    /// What the endpoint says first; none: reset or closed before.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match soon("a line", self.0.read_line(&mut line)).await {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn echoes(&mut self) -> bool {
        let echo = async {
            self.0.write_all(b"ping").await.ok()?;
            let mut back = [0; 4];
            self.0.read_exact(&mut back).await.ok()?;
            (back == *b"ping").then_some(())
        };
        matches!(tokio::time::timeout(PATIENCE, echo).await, Ok(Some(())))
    }
}

/// Carries UDP between one client and a server that can be changed, until it is cut.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    /// None: cut.
    server: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let front = UdpSocket::bind(any()).await.expect("binds");
        let address = front.local_addr().expect("bound");
        let server = Arc::new(Mutex::new(Some(server)));
        let relay = Self { address, server };
        tokio::spawn(relay.clone().carry(front));
        relay
    }

    /// Forwards nothing from here on, in silence.
    pub fn cut(&self) {
        *self.server.lock().expect("no panic") = None;
    }

    /// Forwards to this server from here on.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().expect("no panic") = Some(server);
    }

    fn server(&self) -> Option<SocketAddr> {
        *self.server.lock().expect("no panic")
    }

    async fn carry(self, front: UdpSocket) {
        let back = UdpSocket::bind(any()).await.expect("binds");
        let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((n, from)) = front.recv_from(&mut there) => {
                    client = Some(from);
                    if let Some(server) = self.server() {
                        let _ = back.send_to(&there[..n], server).await;
                    }
                }
                Ok((n, from)) = back.recv_from(&mut here) => {
                    if let Some(client) = client && self.server() == Some(from) {
                        let _ = front.send_to(&here[..n], client).await;
                    }
                }
            }
        }
    }
}
