//! One client connection, from its accept until an endpoint has it.

use crate::support::{Pair, Relay, Site, connect, header, incoming, locality, pair, soon, tcp_pair};
use gateway_core::attempt::Settings;
use model::decision::{Refusal, RefusalCode};
use model::tunnel::StreamKind;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tunnel::originate::{Replies, run};
use tunnel::{Client, Connection, Finish, Next, Outcome, Request, Route};

/// Names what it is given, in order, and writes down what it is told.
struct List {
    next: Mutex<VecDeque<Next>>,
    told: Mutex<Vec<String>>,
    elsewhere: bool,
}

impl List {
    fn of(next: impl IntoIterator<Item = Next>) -> Arc<Self> {
        let next = Mutex::new(next.into_iter().collect());
        Arc::new(Self { next, told: Mutex::default(), elsewhere: true })
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().expect("no panic").clone()
    }
}

impl Route for List {
    fn next(&self) -> Next {
        let none = Refusal { code: RefusalCode::NoEndpoint, retryable: false, detail: "none is left".into() };
        self.next.lock().expect("no panic").pop_front().unwrap_or(Next::Refuse(none))
    }

    fn report(&self, outcome: Outcome<'_>) {
        let words = match outcome {
            Outcome::Accepted { endpoint, .. } => format!("accepted {endpoint}"),
            Outcome::Refused(refusal) => format!("refused {}", refusal.code),
            Outcome::Failed { .. } => "failed".to_owned(),
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Ended(_) => "ended".to_owned(),
        };
        self.told.lock().expect("no panic").push(words);
    }

    fn elsewhere(&self) -> bool {
        self.elsewhere
    }
}

fn dial(address: SocketAddr, endpoint: &str) -> Next {
    Next::Dial { address, endpoint: endpoint.parse().expect("valid"), locality: locality("eu/fra") }
}

fn open(connection: &Connection) -> Next {
    Next::Open { connection: connection.clone(), header: Box::new(header()) }
}

fn serve(client: Client, retry_safe: bool, route: &Arc<List>) -> JoinHandle<Finish> {
    let request = Request { client, retry_safe, settings: Settings::default() };
    tokio::spawn(run(request, Arc::clone(route) as Arc<dyn Route>))
}

/// Sends everything back, with a greeting before it.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tcp.into_split();
                write.write_all(b"hello ").await.expect("writes");
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("bound")
}

async fn ask(client: &mut TcpStream, question: &[u8]) -> String {
    client.write_all(question).await.expect("writes");
    client.shutdown().await.expect("ends");
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("a clean end");
    answer
}

async fn is_reset(client: &mut TcpStream) {
    let error = soon("the reset", client.read(&mut [0; 8])).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_followed_by_the_next_one() {
    let (mut client, tcp) = tcp_pair().await;
    let route = List::of([dial(nobody().await, "vm-1"), dial(echo().await, "vm-2")]);
    let task = serve(Client::Tcp(tcp.into()), false, &route);
    assert_eq!(ask(&mut client, b"you").await, "hello you");
    let Finish::Served { endpoint, transfer } = task.await.expect("no panic") else { panic!("not served") };
    assert_eq!((endpoint.as_str(), transfer.forward, transfer.backward), ("vm-2", 3, 9));
    assert_eq!(route.told(), ["refused endpoint failed", "accepted vm-2", "ended"]);
}

#[tokio::test]
async fn a_client_whom_nobody_takes_is_reset() {
    let (mut client, tcp) = tcp_pair().await;
    let route = List::of([dial(nobody().await, "vm-1")]);
    let task = serve(Client::Tcp(tcp.into()), false, &route);
    is_reset(&mut client).await;
    let Finish::Refused(refusal) = task.await.expect("no panic") else { panic!("served") };
    assert_eq!(refusal.code, RefusalCode::EndpointFailed);
}

#[tokio::test]
async fn a_client_that_spoke_a_proxy_protocol_is_told_instead() {
    let replies = || Replies {
        accepted: bytes::Bytes::from_static(b"yes\n"),
        refused: Box::new(|refusal| format!("no: {}\n", refusal.code).into()),
    };
    let (mut client, tcp) = tcp_pair().await;
    serve(Client::Proxied(tcp.into(), replies()), false, &List::of([dial(echo().await, "vm-1")]));
    assert_eq!(ask(&mut client, b"you").await, "yes\nhello you");

    let (mut client, tcp) = tcp_pair().await;
    serve(Client::Proxied(tcp.into(), replies()), false, &List::of([]));
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("a clean end");
    assert_eq!(answer, "no: no endpoint\n");
}

/// Serves what comes over `accepted` from `route`.
async fn serve_stream(accepted: &Connection, route: &Arc<List>) -> JoinHandle<Finish> {
    let incoming = incoming(accepted).await;
    let StreamKind::Service(service) = &incoming.header().kind else { panic!("another kind") };
    let ahead = service.bytes_ahead;
    serve(Client::Stream(incoming), ahead, route)
}

#[tokio::test]
async fn both_ends_of_a_tunnel_find_a_server_that_speaks_first() {
    let pair = pair().await;
    let (mut client, tcp) = tcp_pair().await;
    let west = serve(Client::Tcp(tcp.into()), false, &List::of([open(&pair.dialled)]));
    let there = List::of([dial(nobody().await, "vm-1"), dial(echo().await, "vm-2")]);
    let east = serve_stream(&pair.accepted, &there).await;
    let mut hello = [0; 6];
    soon("the greeting", client.read_exact(&mut hello)).await.expect("reads");
    assert_eq!(ask(&mut client, b"you").await, "you");
    for task in [west, east] {
        let Finish::Served { endpoint, .. } = task.await.expect("no panic") else { panic!("not served") };
        assert_eq!(endpoint.as_str(), "vm-2");
    }
}

#[tokio::test]
async fn a_refusal_of_the_far_side_moves_on_to_the_next_site() {
    let (first, second) = (pair().await, pair().await);
    let (mut client, tcp) = tcp_pair().await;
    let route = List::of([open(&first.dialled), open(&second.dialled)]);
    serve(Client::Tcp(tcp.into()), false, &route);
    // The client has sent all before anybody has taken it.
    client.write_all(b"you").await.expect("writes");
    client.shutdown().await.expect("ends");
    serve_stream(&first.accepted, &List::of([dial(nobody().await, "vm-1")])).await;
    serve_stream(&second.accepted, &List::of([dial(echo().await, "vm-2")])).await;
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("a clean end");
    assert_eq!(answer, "hello you");
    soon("the end", async {
        while route.told().len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(route.told(), ["refused endpoint failed", "accepted vm-2", "ended"]);
}

#[tokio::test]
async fn a_stream_whose_path_falls_silent_before_it_is_accepted_moves_on() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let (from, to) = (west.gateway(&[&east]), east.gateway(&[&west]));
    let relay = Relay::to(to.address()).await;
    let (dialled, accepted) = connect(&from, &east, &to, relay.address).await;
    let (mut client, tcp) = tcp_pair().await;
    let route = List::of([open(&dialled), dial(echo().await, "vm-2")]);
    serve(Client::Tcp(tcp.into()), false, &route);
    let _unanswered = incoming(&accepted).await;
    relay.cut();
    assert_eq!(ask(&mut client, b"you").await, "hello you");
    assert_eq!(route.told()[..2], ["failed", "accepted vm-2"]);
}

#[tokio::test]
async fn bytes_of_an_unmarked_port_follow_the_answer_and_those_of_a_safe_one_go_ahead() {
    let pair = pair().await;
    for safe in [false, true] {
        let (mut client, tcp) = tcp_pair().await;
        serve(Client::Tcp(tcp.into()), safe, &List::of([open(&pair.dialled)]));
        client.write_all(b"early").await.expect("writes");
        let incoming = incoming(&pair.accepted).await;
        let StreamKind::Service(service) = incoming.header().kind.clone() else { panic!("another kind") };
        assert_eq!(service.bytes_ahead, safe);
        let (_, mut stream) = incoming.into_parts();
        let mut early = [0; 5];
        if safe {
            soon("early bytes", stream.read_exact(&mut early)).await.expect("reads");
        } else {
            // Nothing can be waited for that must not come; an answer makes the bytes follow.
            tokio::time::timeout(std::time::Duration::from_millis(200), stream.read_exact(&mut early))
                .await
                .expect_err("bytes ahead of the answer on an unmarked port");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_candidates_along() {
    let pair = pair().await;
    let (client, tcp) = tcp_pair().await;
    let route = List::of([open(&pair.dialled), dial(echo().await, "vm-2")]);
    let task = serve(Client::Tcp(tcp.into()), false, &route);
    let incoming = incoming(&pair.accepted).await;
    client.set_zero_linger().expect("open");
    drop(client);
    assert_eq!(task.await.expect("no panic"), Finish::ClientGone);
    assert_eq!(route.told(), ["cancelled"]);
    let (_, mut stream) = incoming.into_parts();
    soon("the reset", stream.read(&mut [0; 8])).await.expect_err("cancelled");
}

#[tokio::test]
async fn a_gateway_that_relays_gives_up_a_next_hop_that_falls_silent() {
    let pair: Pair = pair().await;
    let (west, east) = (Site::new("west"), Site::new("east"));
    let (from, to) = (west.gateway(&[&east]), east.gateway(&[&west]));
    let relay = Relay::to(to.address()).await;
    let (next_hop, far) = connect(&from, &east, &to, relay.address).await;
    let (mut client, tcp) = tcp_pair().await;
    let route = List::of([open(&pair.dialled), dial(echo().await, "vm-2")]);
    serve(Client::Tcp(tcp.into()), false, &route);
    let relayed = List::of([open(&next_hop)]);
    serve_stream(&pair.accepted, &relayed).await;
    let _unanswered = incoming(&far).await;
    relay.cut();
    assert_eq!(ask(&mut client, b"you").await, "hello you");
    assert_eq!(route.told()[..2], ["refused no path", "accepted vm-2"]);
    assert_eq!(relayed.told(), ["failed"]);
}
