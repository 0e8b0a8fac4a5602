//! DNS over UDP and TCP: the zones of the mesh; everything else goes to the resolvers of the host.

mod forward;
mod zone;

pub use forward::{Forward, ForwardError};

use crate::names::NameTable;
use forward::{Forwarder, Upstream};
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, LowerQuery, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use runtime::bind::{BindError, Transport};
use runtime::metrics::Counts;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a TCP connection may be idle.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait per TCP connection.
const TCP_ANSWERS_MAX: usize = 16;
/// Largest UDP answer, whatever the caller offers: what passes without fragments everywhere (DNS flag day 2020).
const UDP_PAYLOAD_MAX: u16 = 1_232;

/// The two sockets of a DNS server, bound to one address.
#[derive(Debug)]
pub struct Dns {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
    answered: Arc<Answered>,
}

/// What was answered, by its code.
#[derive(Debug)]
pub struct Answered {
    /// To questions about the zones of the mesh.
    pub mesh: Counts,
    /// To all others.
    pub other: Counts,
}

/// Codes that are counted, beside all others together.
const CODES: [(ResponseCode, &str); 6] = [
    (ResponseCode::NoError, "found"),
    (ResponseCode::NXDomain, "not found"),
    (ResponseCode::ServFail, "failed"),
    (ResponseCode::Refused, "refused"),
    (ResponseCode::FormErr, "malformed"),
    (ResponseCode::NotImp, "not implemented"),
];
const OTHER_CODE: &str = "other";

impl Default for Answered {
    fn default() -> Self {
        let counts = || Counts::new(CODES.map(|(_, word)| word).into_iter().chain([OTHER_CODE]));
        Self { mesh: counts(), other: counts() }
    }
}

fn count(counts: &Counts, code: ResponseCode) {
    let known = CODES.iter().find(|(known, _)| *known == code);
    counts.add(known.map_or(OTHER_CODE, |(_, word)| word));
}

/// Why a DNS server ended.
#[derive(Debug, thiserror::Error)]
#[error("the DNS server at {address} ended: {reason}")]
pub struct DnsEnded {
    /// Where it was.
    pub address: SocketAddr,
    /// Why, in the words of the library.
    pub reason: String,
}

impl Dns {
    /// Binds both sockets. Port 0 takes one port that is free for both.
    ///
    /// # Errors
    /// The port is taken, forbidden, or the address is not of this host. `setting` names what a person would change.
    pub async fn bind(address: SocketAddr, setting: &str) -> Result<Self, BindError> {
        /// A port that is free for UDP may be taken for TCP; then another is drawn.
        const DRAWS: usize = 16;
        let failed = |transport| move |error: io::Error| BindError::new(address, transport, setting, error);
        let mut draws = 0;
        loop {
            draws += 1;
            let udp = UdpSocket::bind(address).await.map_err(failed(Transport::Udp))?;
            let bound = udp.local_addr().map_err(failed(Transport::Udp))?;
            match TcpListener::bind(bound).await {
                Ok(tcp) => return Ok(Self { udp, tcp, address: bound, answered: Arc::default() }),
                Err(_) if address.port() == 0 && draws < DRAWS => {}
                Err(error) => return Err(failed(Transport::Tcp)(error)),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has answered; it goes on counting while it runs.
    pub fn answered(&self) -> Arc<Answered> {
        self.answered.clone()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// A socket failed for good.
    pub async fn run(
        self,
        names: watch::Receiver<Arc<NameTable>>,
        forward: Forward,
        shutdown: CancellationToken,
    ) -> Result<(), DnsEnded> {
        let address = self.address;
        let forwarder = Forwarder::new(forward, address);
        let handler = Handler { names, forwarder, own: address.ip(), answered: self.answered };
        let mut server = Server::new(handler);
        server.register_socket(self.udp);
        server.register_listener(self.tcp, TCP_IDLE, TCP_ANSWERS_MAX);
        let stop = server.shutdown_token().clone();
        let ended = tokio::select! {
            ended = server.block_until_done() => ended,
            () = shutdown.cancelled() => {
                stop.cancel();
                // Open TCP connections are cut off with the server.
                Ok(())
            }
        };
        ended.map_err(|error| DnsEnded { address, reason: error.to_string() })
    }
}

/// Answers one request at a time.
struct Handler {
    names: watch::Receiver<Arc<NameTable>>,
    forwarder: Forwarder,
    own: IpAddr,
    answered: Arc<Answered>,
}

/// An answer that is ready to be sent.
#[derive(Debug, Default, Clone)]
struct Answer {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Answer {
    fn failed(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Handler {
    async fn answer(&self, request: &Request) -> Answer {
        let (counts, answer) = match question(request) {
            Err(code) => (&self.answered.other, Answer::failed(code)),
            Ok(query) => match self.own_zone(query) {
                Some(answer) => (&self.answered.mesh, answer),
                None => (&self.answered.other, self.foreign(request, query).await),
            },
        };
        count(counts, answer.code);
        answer
    }

    async fn foreign(&self, request: &Request, query: &LowerQuery) -> Answer {
        // Who asks from elsewhere is not served: an open resolver is a weapon.
        let source = request.src().ip();
        if !(source.is_loopback() || source == self.own) {
            return Answer::failed(ResponseCode::Refused);
        }
        self.forward(query).await
    }

    fn own_zone(&self, query: &LowerQuery) -> Option<Answer> {
        let names = Arc::clone(&self.names.borrow());
        zone::answer(&names, query.original().name(), query.query_type())
    }

    async fn forward(&self, query: &LowerQuery) -> Answer {
        match self.forwarder.lookup(query.original().name(), query.query_type()).await {
            Ok(Upstream { code, answers, authorities }) => {
                Answer { code, answers, authorities, ..Answer::default() }
            }
            Err(error) => {
                debug!(%error, name = %query.name(), "cannot forward");
                Answer::failed(ResponseCode::ServFail)
            }
        }
    }
}

/// What is asked, or why that is not answered.
fn question(request: &Request) -> Result<&LowerQuery, ResponseCode> {
    let info = request.request_info().map_err(|_| ResponseCode::FormErr)?;
    if request.metadata.message_type != MessageType::Query || request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    let query = info.query;
    if query.query_class() != DNSClass::IN {
        return Err(ResponseCode::Refused);
    }
    Ok(query)
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let answer = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = true;
        metadata.response_code = answer.code;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, UDP_PAYLOAD_MAX));
            edns.set_rcode_high(answer.code.high());
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let none: &[Record] = &[];
        let response =
            builder.build(metadata, &answer.answers, &answer.authorities, none, &answer.additionals);
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                warn!(%error, "cannot send a DNS answer");
                metadata.response_code = ResponseCode::ServFail;
                let counts = Default::default();
                hickory_server::proto::op::Header { metadata, counts }.into()
            }
        }
    }
}
