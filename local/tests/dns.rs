//! The DNS server on loopback, with real sockets.

mod callers;

use callers::names;
use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use local::dns::{Dns, Forward};
use local::names::NameTable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const PATIENCE: Duration = Duration::from_secs(30);

/// A DNS server that runs until it is dropped.
struct Running {
    address: SocketAddr,
    names: watch::Sender<Arc<NameTable>>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

fn count(counts: &runtime::metrics::Counts, word: &str) -> u64 {
    counts.iter().find(|(known, _)| known == word).expect("a word of the set").1
}

async fn bound() -> Dns {
    Dns::bind("127.0.0.1:0".parse().expect("valid"), "ports.dns").await.expect("binds")
}

fn run(dns: Dns, forward: Forward) -> Running {
    let (sender, receiver) = watch::channel(Arc::new(names(true)));
    let (address, stop) = (dns.address(), CancellationToken::new());
    let token = stop.clone();
    let task = tokio::spawn(async move { dns.run(receiver, forward, token).await.expect("runs") });
    Running { address, names: sender, stop, task: AbortOnDropHandle::new(task) }
}

async fn start(forward: Forward) -> Running {
    run(bound().await, forward)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("valid"), kind));
    message
}

async fn send(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let mut answer = [0; 4_096];
    let asked = async {
        socket.send_to(bytes, server).await.expect("sends");
        socket.recv(&mut answer).await.expect("answers")
    };
    let length = timeout(PATIENCE, asked).await.expect("in time");
    Message::from_vec(&answer[..length]).expect("a message")
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let answer = send(server, &question(name, kind).to_vec().expect("encodes")).await;
    assert_eq!(answer.metadata.id, 7);
    answer
}

fn data(message: &Message) -> Vec<RData> {
    message.answers.iter().map(|record| record.data.clone()).collect()
}

#[tokio::test]
async fn answers_are_counted_by_whose_name_was_asked_for_and_what_was_said() {
    let (resolver, _asked, _task) = upstream().await;
    let dns = bound().await;
    let answered = dns.answered();
    let running = run(dns, Forward::Servers(vec![resolver]));
    for name in [
        "cart.shop.svc.clusterset.local.",
        "nothing.shop.svc.clusterset.local.",
        "example.com.",
        "x.example.",
    ] {
        ask(running.address, name, RecordType::A).await;
    }
    let seen =
        [&answered.mesh, &answered.other].map(|counts| (count(counts, "found"), count(counts, "not_found")));
    assert_eq!(seen, [(1, 1), (1, 1)], "{answered:?}");
    assert_eq!(answered.mesh.iter().chain(answered.other.iter()).map(|(_, count)| count).sum::<u64>(), 4);
}

/// A resolver of the host: knows `example.com`, and counts what it is asked.
async fn upstream() -> (SocketAddr, Arc<AtomicUsize>, AbortOnDropHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let address = socket.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).expect("a message");
            counted.fetch_add(1, Ordering::SeqCst);
            let query = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            answer.add_query(query.clone());
            match (query.name().to_ascii().to_ascii_lowercase().as_str(), query.query_type()) {
                ("example.com.", RecordType::A) => {
                    let data = RData::A(A::new(192, 0, 2, 7));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
                ("big.example.com.", RecordType::TXT) => {
                    for part in 0..10 {
                        let data = RData::TXT(TXT::new(vec![format!("{part:0>100}")]));
                        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                    }
                }
                _ => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&answer.to_vec().expect("encodes"), from).await.expect("sends");
        }
    });
    (address, count, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn the_zone_is_answered_over_udp_and_tcp() {
    let server = start(Forward::Nowhere).await;
    let expected = vec![RData::A(A::new(127, 64, 0, 2))];
    let answer = ask(server.address, "cart.shop.svc.clusterset.local.", RecordType::A).await;
    assert_eq!((data(&answer), answer.metadata.authoritative), (expected.clone(), true));
    assert!(answer.metadata.recursion_desired, "RD comes back as it was asked");

    let mut stream = TcpStream::connect(server.address).await.expect("listens");
    let bytes =
        question("_http._tcp.cart.shop.svc.clusterset.local.", RecordType::SRV).to_vec().expect("encodes");
    let length = u16::try_from(bytes.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.expect("open");
    let length = timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("answers");
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.expect("answers");
    let answer = Message::from_vec(&bytes).expect("a message");
    let RData::SRV(srv) = &data(&answer)[0] else { panic!("{answer}") };
    assert_eq!((srv.port, srv.target.to_ascii().as_str()), (8080, "cart.shop.svc.clusterset.local."));
    let addresses: Vec<_> = answer.additionals.iter().map(|record| record.data.clone()).collect();
    assert_eq!(addresses, expected);
}

#[tokio::test]
async fn unknown_names_fail_until_the_table_is_complete_and_changes_show_at_once() {
    let server = start(Forward::Nowhere).await;
    let name = "new.shop.svc.clusterset.local.";
    let answer = ask(server.address, name, RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let RData::SOA(soa) = &answer.authorities[0].data else { panic!("{answer}") };
    assert!(soa.minimum <= 5 && answer.authorities[0].ttl <= 5);
    server.names.send_replace(Arc::new(names(false)));
    let answer = ask(server.address, name, RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    server.names.send_replace(Arc::new(NameTable::empty("east".parse().expect("valid"))));
    let answer = ask(server.address, "cart.shop.svc.clusterset.local.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn other_names_go_to_the_resolvers_of_the_host_through_a_cache() {
    let (address, count, _task) = upstream().await;
    let server = start(Forward::Servers(vec![address])).await;
    for _ in 0..3 {
        let answer = ask(server.address, "example.com.", RecordType::A).await;
        assert_eq!(data(&answer), vec![RData::A(A::new(192, 0, 2, 7))]);
        assert!(!answer.metadata.authoritative && answer.metadata.recursion_available);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let answer = ask(server.address, "missing.example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let asked = count.load(Ordering::SeqCst);
    for name in ["cart.shop.svc.clusterset.local.", "x.shop.svc.clusterset.local.", "a.meshfed.internal."] {
        ask(server.address, name, RecordType::A).await;
    }
    assert_eq!(count.load(Ordering::SeqCst), asked, "names of ours are never asked elsewhere");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_marked_as_cut() {
    let (address, _, _task) = upstream().await;
    let server = start(Forward::Servers(vec![address])).await;
    let answer = ask(server.address, "big.example.com.", RecordType::TXT).await;
    assert!(answer.metadata.truncation);
    let mut asked = question("big.example.com.", RecordType::TXT);
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    asked.set_edns(edns);
    let answer = send(server.address, &asked.to_vec().expect("encodes")).await;
    assert!(!answer.metadata.truncation && answer.answers.len() == 10);
    assert_eq!(answer.edns.expect("EDNS is answered with EDNS").max_payload(), 1_232);
}

#[tokio::test]
async fn a_question_that_comes_back_to_us_fails_and_does_not_go_round() {
    let (one, two) = (bound().await, bound().await);
    let (at_one, at_two) = (one.address(), two.address());
    let one = run(one, Forward::Servers(vec![at_two]));
    let _two = run(two, Forward::Servers(vec![at_one]));
    let answer = ask(one.address, "example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // And it is still there for the names that it knows.
    let answer = ask(one.address, "cart.shop.svc.clusterset.local.", RecordType::A).await;
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn with_nobody_to_ask_other_names_fail() {
    let dns = bound().await;
    let own = dns.address();
    let server = run(dns, Forward::Servers(vec![own]));
    let answer = ask(server.address, "example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn what_is_no_question_gets_an_error_and_does_no_harm() {
    let server = start(Forward::Nowhere).await;
    let mut update = question("cart.shop.svc.clusterset.local.", RecordType::A);
    update.metadata.op_code = OpCode::Status;
    let answer = send(server.address, &update.to_vec().expect("encodes")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    let none = Message::new(7, MessageType::Query, OpCode::Query);
    let answer = send(server.address, &none.to_vec().expect("encodes")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    for bytes in [vec![], vec![0; 3], vec![255; 40], vec![0xc0; 600]] {
        socket.send_to(&bytes, server.address).await.expect("sends");
    }
    let answer = ask(server.address, "cart.shop.svc.clusterset.local.", RecordType::A).await;
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn it_ends_when_it_is_told_and_frees_its_port() {
    let server = start(Forward::Nowhere).await;
    let idle = TcpStream::connect(server.address).await.expect("listens");
    server.stop.cancel();
    timeout(PATIENCE, server.task).await.expect("in time").expect("no panic");
    drop(idle);
    let mut attempts = 0;
    while let Err(error) = Dns::bind(server.address, "ports.dns").await {
        attempts += 1;
        assert!(attempts < 200, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
