use super::*;
use model::identity::Proof;
use model::ids::StreamId;
use model::locality::Locality;
use model::routing::{AccessRule, CallerMatch, FailoverPolicy};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort};

const GATEWAY: &str = "spiffe://west.mesh/gateway/gw-0";
const AGENT: &str = "spiffe://east.mesh/agent/vm-1";

fn id(text: &str) -> SpiffeId {
    text.parse().expect("valid")
}

fn site(name: &str) -> SiteId {
    name.parse().expect("valid")
}

fn import() -> Import {
    Import {
        service: "shop/cart".parse().expect("valid"),
        ports: vec![ServicePort {
            key: PortKey::tcp(8080),
            name: None,
            app: AppProtocol::Tcp,
            retry_safe: false,
        }],
        kind: ServiceKind::ClusterSetIp,
        vip: None,
        groups: Vec::new(),
        failover: FailoverPolicy::default(),
        access: Vec::new(),
    }
}

fn service(
    service: &str,
    port: u16,
    identity: Option<&str>,
    caller_site: &str,
    target: &str,
) -> StreamHeader {
    header_of(StreamKind::Service(ServiceStream {
        service: service.parse::<ServiceName>().expect("valid"),
        port: PortKey::tcp(port),
        caller: Caller {
            identity: identity.map(id),
            proof: Proof::Host,
            site: site(caller_site),
            locality: Locality::default(),
            affinity: None,
        },
        target: Target::Site(site(target)),
        bytes_ahead: false,
    }))
}

fn header_of(kind: StreamKind) -> StreamHeader {
    StreamHeader { kind, stream: StreamId([0; 16]), hops: 1, traceparent: String::new() }
}

/// What the gateway of east answers to a header from this sender.
fn answer(header: &StreamHeader, sender: &str, change: impl FnOnce(&mut Context<'_>)) -> Option<RefusalCode> {
    let (own, west, import) = (site("east"), site("west"), import());
    let (me, sender) = (id("spiffe://east.mesh/gateway/gw-0"), id(sender));
    let linked = |id: &SpiffeId| (id.trust_domain.as_str() == "west.mesh").then_some(&west);
    let known = match &header.kind {
        StreamKind::Service(stream) if stream.service == import.service => Some(&import),
        _ => None,
    };
    let mut context = Context {
        own: &own,
        sender: Sender::of(&sender, &me, linked).expect("has business here"),
        import: known,
        draining: false,
        open_of_sender: 0,
        open: 0,
        limits: &Limits::default(),
    };
    change(&mut context);
    admit(header, &context).err().map(|refusal| refusal.code)
}

#[test]
fn a_peer_speaks_for_callers_of_its_own_site_only() {
    let mine = Some("spiffe://west.mesh/ns/shop/sa/web");
    let foreign = Some("spiffe://north.mesh/ns/shop/sa/web");
    let ours = Some("spiffe://east.mesh/ns/shop/sa/web");
    for (identity, caller_site, expected) in [
        (mine, "west", None),
        (None, "west", None),
        (foreign, "west", Some(RefusalCode::BadHeader)),
        (ours, "west", Some(RefusalCode::BadHeader)),
        (mine, "north", Some(RefusalCode::BadHeader)),
        (None, "east", Some(RefusalCode::BadHeader)),
    ] {
        let header = service("shop/cart", 8080, identity, caller_site, "east");
        assert_eq!(answer(&header, GATEWAY, |_| {}), expected, "{identity:?} of {caller_site}");
    }
}

#[test]
fn an_agent_speaks_for_its_own_host_only() {
    for (identity, caller_site, expected) in [
        (Some(AGENT), "east", None),
        (None, "east", None),
        (Some("spiffe://east.mesh/agent/vm-2"), "east", Some(RefusalCode::BadHeader)),
        (Some("spiffe://east.mesh/ns/shop/sa/web"), "east", Some(RefusalCode::BadHeader)),
        (None, "west", Some(RefusalCode::BadHeader)),
    ] {
        let header = service("shop/cart", 8080, identity, caller_site, "west");
        assert_eq!(answer(&header, AGENT, |_| {}), expected, "{identity:?} of {caller_site}");
    }
}

#[test]
fn a_sibling_passes_on_what_it_has_checked() {
    let header = service("shop/cart", 8080, Some("spiffe://west.mesh/ns/shop/sa/web"), "west", "east");
    assert_eq!(answer(&header, "spiffe://east.mesh/gateway/gw-1", |_| {}), None);
}

#[test]
fn nothing_is_carried_through_from_site_to_site() {
    let header = service("shop/cart", 8080, None, "west", "north");
    assert_eq!(answer(&header, GATEWAY, |_| {}), Some(RefusalCode::BadHeader));
    let header = service("shop/cart", 8080, None, "east", "north");
    assert_eq!(answer(&header, AGENT, |_| {}), None);
}

#[test]
fn unknown_services_and_ports_are_refused() {
    let unknown = service("shop/none", 8080, None, "west", "east");
    assert_eq!(answer(&unknown, GATEWAY, |_| {}), Some(RefusalCode::UnknownService));
    let port = service("shop/cart", 81, None, "west", "east");
    assert_eq!(answer(&port, GATEWAY, |_| {}), Some(RefusalCode::UnknownPort));
}

#[test]
fn the_access_policy_of_the_own_site_is_enforced() {
    let mut import = import();
    import.access.push(AccessRule {
        policy: "shop/closed".to_owned(),
        allow: false,
        from: vec![CallerMatch { site: Some(site("west")), ..CallerMatch::default() }],
        min_proof: Proof::Host,
    });
    let header = service("shop/cart", 8080, None, "west", "east");
    let (own, west, limits) = (site("east"), site("west"), Limits::default());
    let gateway = id(GATEWAY);
    let context = Context {
        own: &own,
        sender: Sender::Peer(&west, &gateway),
        import: Some(&import),
        draining: false,
        open_of_sender: 0,
        open: 0,
        limits: &limits,
    };
    let refusal = admit(&header, &context).expect_err("denied");
    assert_eq!((refusal.code, refusal.retryable), (RefusalCode::Denied, false));
    assert!(refusal.detail.contains("shop/closed"), "{}", refusal.detail);
}

#[test]
fn each_kind_of_stream_has_its_sender() {
    let sibling = "spiffe://east.mesh/gateway/gw-1";
    for (kind, allowed) in
        [(StreamKind::Federation, GATEWAY), (StreamKind::Config, AGENT), (StreamKind::Views, sibling)]
    {
        for sender in [GATEWAY, AGENT, sibling] {
            let expected = (sender != allowed).then_some(RefusalCode::BadHeader);
            assert_eq!(answer(&header_of(kind.clone()), sender, |_| {}), expected, "{kind:?} from {sender}");
        }
    }
}

#[test]
fn others_have_no_business_here() {
    let (west, me) = (site("west"), id("spiffe://east.mesh/gateway/gw-0"));
    for sender in [
        "spiffe://west.mesh/agent/vm-1",
        "spiffe://west.mesh/federation/fed-0",
        "spiffe://east.mesh/admin/root",
        "spiffe://east.mesh/ns/shop/sa/web",
    ] {
        assert_eq!(Sender::of(&id(sender), &me, |_| Some(&west)), None, "{sender}");
    }
    assert_eq!(Sender::of(&id("spiffe://north.mesh/gateway/gw-0"), &me, |_| None), None);
}

#[test]
fn hops_limits_and_draining_refuse() {
    let mut far = service("shop/cart", 8080, None, "west", "east");
    far.hops = HOPS_MAX + 1;
    assert_eq!(answer(&far, GATEWAY, |_| {}), Some(RefusalCode::TooManyHops));
    let header = service("shop/cart", 8080, None, "west", "east");
    let full = Limits::default();
    assert_eq!(answer(&header, GATEWAY, |c| c.open = full.streams), Some(RefusalCode::Overloaded));
    assert_eq!(
        answer(&header, GATEWAY, |c| c.open_of_sender = full.streams_per_peer),
        Some(RefusalCode::Overloaded)
    );
    assert_eq!(answer(&header, GATEWAY, |c| c.draining = true), Some(RefusalCode::Draining));
    // An agent's config and a peer's catalog go on: the gateway may take streams again.
    for (kind, sender) in [(StreamKind::Config, AGENT), (StreamKind::Federation, GATEWAY)] {
        assert_eq!(answer(&header_of(kind), sender, |c| c.draining = true), None);
    }
}
