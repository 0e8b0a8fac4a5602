//! The way of one client connection: asks the router for a candidate, and the node for the ways that lead to it.

use crate::routes::{Counted, Routes};
use model::decision::{Refusal, RefusalCode, Verdict};
use model::endpoint::{Endpoint, Health};
use model::ids::{EndpointId, SiteId, StreamId};
use model::locality::Locality;
use model::routing::{Caller, Group};
use model::service::{PortKey, ServiceName};
use model::tunnel::{ServiceStream, StreamHeader, StreamKind, Target};
use policy::{Ask, Tried};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tunnel::Connection;
use tunnel::originate::{Next, Outcome, Route};

/// How a node can get a stream to where it was decided to go.
#[derive(Debug, Clone)]
pub enum Way {
    /// It dials the endpoint.
    Dial(SocketAddr),
    /// It asks the process at the other end of this connection.
    Open(Connection),
}

/// What a node knows of ways, beyond what the config says.
pub trait Ways: Send + Sync + 'static {
    /// Ways to an endpoint of the own site, on this port of it; best first, only those that are open now.
    fn to_endpoint(&self, service: &ServiceName, endpoint: &Endpoint, target_port: u16, hops: u8)
    -> Vec<Way>;

    /// Ways to a linked site; best first, only those that are open now.
    fn to_site(&self, site: &SiteId, hops: u8) -> Vec<Way>;

    /// Whether a stream whose connection has fallen silent could go another way to a linked site. Where several
    /// connections come back after a silence, the first should not take the streams of those that are back a moment
    /// later; whoever can tell says so here.
    fn has_steady_way(&self, site: &SiteId, hops: u8) -> bool {
        !self.to_site(site, hops).is_empty()
    }

    /// The same for an endpoint of the own site.
    fn has_steady_way_to(
        &self,
        service: &ServiceName,
        endpoint: &Endpoint,
        target_port: u16,
        hops: u8,
    ) -> bool {
        !self.to_endpoint(service, endpoint, target_port, hops).is_empty()
    }
}

/// One client connection on its way.
pub struct ClientRoute {
    routes: Arc<Routes>,
    ways: Arc<dyn Ways>,
    asked: Asked,
    state: Mutex<State>,
}

/// What a client wants.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Service.
    pub service: ServiceName,
    /// Port.
    pub port: PortKey,
    /// Caller.
    pub caller: Caller,
    /// How far the process before has decided; none: the client reached this one.
    pub target: Option<Target>,
    /// Names the stream on all its hops.
    pub stream: StreamId,
    /// Hops so far.
    pub hops: u8,
    /// W3C trace context, or empty.
    pub traceparent: String,
}

impl Asked {
    /// What a client wants that reached this process.
    pub fn here(service: ServiceName, port: PortKey, caller: Caller, target: Option<Target>) -> Self {
        let stream = StreamId(fastrand::u128(..).to_be_bytes());
        Self { service, port, caller, target, stream, hops: 0, traceparent: String::new() }
    }

    /// What the opener of a stream wants.
    pub fn of(header: &StreamHeader, stream: &ServiceStream) -> Self {
        Self {
            service: stream.service.clone(),
            port: stream.port,
            caller: stream.caller.clone(),
            target: Some(stream.target.clone()),
            stream: header.stream,
            hops: header.hops,
            traceparent: header.traceparent.clone(),
        }
    }
}

/// A candidate: what the router named, and the ways to it that are left.
struct Candidate {
    verdict: Verdict,
    endpoint: Option<(EndpointId, Locality)>,
    ways: VecDeque<Way>,
}

#[derive(Default)]
struct State {
    tried: BTreeSet<Tried>,
    candidate: Option<Candidate>,
    /// The last refusal that says more than "nobody is left".
    refusal: Option<Refusal>,
    /// A candidate was passed over since no way led to it.
    pathless: bool,
    /// The stream that was accepted, counted.
    counted: Option<Counted>,
    /// The way that was named last dials the endpoint itself, so that its failure is the endpoint's.
    dials: bool,
}

impl ClientRoute {
    /// Begins.
    pub fn new(routes: Arc<Routes>, ways: Arc<dyn Ways>, asked: Asked) -> Arc<Self> {
        Arc::new(Self { routes, ways, asked, state: Mutex::new(State::default()) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the client's first bytes may reach two endpoints.
    pub fn is_retry_safe(&self) -> bool {
        self.routes.read(|router| {
            let ports =
                router.import(&self.asked.service).map(|import| import.ports.as_slice()).unwrap_or_default();
            ports.iter().any(|port| port.key == self.asked.port && port.retry_safe)
        })
    }

    /// Asks the router for the next candidate that has a way.
    fn candidate(&self, state: &mut State) -> Result<Candidate, Refusal> {
        let open = self.routes.open_of(&self.asked.service);
        let open_streams = |endpoint: &EndpointId| open.get(endpoint).copied().unwrap_or(0);
        loop {
            let decision = self.routes.decide(&Ask {
                service: &self.asked.service,
                port: self.asked.port,
                caller: &self.asked.caller,
                target: self.asked.target.as_ref(),
                tried: &state.tried,
                open_streams: &open_streams,
            });
            tracing::debug!(stream = %self.asked.stream, verdict = ?decision.verdict, reason = ?decision.reason, "decided");
            let mut is_known = true;
            let (endpoint, ways) = match &decision.verdict {
                Verdict::Refused(refusal) => return Err(self.nobody(state, refusal)),
                Verdict::Site { group } => (None, self.ways.to_site(&group.site, self.asked.hops)),
                Verdict::Endpoint { endpoint, .. } => {
                    match self.routes.endpoint(&self.asked.service, endpoint) {
                        Some(endpoint) => {
                            let port = endpoint.ports.get(&self.asked.port).copied();
                            let port = port.unwrap_or(self.asked.port.number);
                            let ways =
                                self.ways.to_endpoint(&self.asked.service, &endpoint, port, self.asked.hops);
                            (Some((endpoint.id, endpoint.locality)), ways)
                        }
                        // It has gone since the decision.
                        None => {
                            is_known = false;
                            (None, Vec::new())
                        }
                    }
                }
            };
            if !ways.is_empty() {
                return Ok(Candidate { verdict: decision.verdict, endpoint, ways: ways.into() });
            }
            // Every verdict names a candidate that was not tried, so this comes to an end.
            state.pathless |= is_known;
            state.tried.extend(Tried::of(&decision.verdict));
        }
    }

    /// What is said when no candidate is left: what the last one said, if one was asked; else, when there was one that
    /// could not be asked, that no way led to it, so that the process before tries another way than through this one.
    fn nobody(&self, state: &mut State, refusal: &Refusal) -> Refusal {
        match state.refusal.take() {
            Some(last) => last,
            None if state.pathless => no_way(),
            None => refusal.clone(),
        }
    }

    fn header(&self, verdict: &Verdict) -> StreamHeader {
        let target = match verdict {
            Verdict::Endpoint { group, endpoint } => Target::Endpoint(group.site.clone(), endpoint.clone()),
            Verdict::Site { group } if group.locality == Locality::default() => {
                Target::Site(group.site.clone())
            }
            Verdict::Site { group } => Target::Locality(group.site.clone(), group.locality.clone()),
            Verdict::Refused(_) => Target::Site(self.asked.caller.site.clone()),
        };
        StreamHeader {
            kind: StreamKind::Service(ServiceStream {
                service: self.asked.service.clone(),
                port: self.asked.port,
                caller: self.asked.caller.clone(),
                target,
                bytes_ahead: false,
            }),
            stream: self.asked.stream,
            hops: self.asked.hops.saturating_add(1),
            traceparent: self.asked.traceparent.clone(),
        }
    }
}

fn no_way() -> Refusal {
    Refusal {
        code: RefusalCode::NoPath,
        retryable: true,
        detail: "no live path leads to any endpoint of the service".to_owned(),
    }
}

/// A refusal by a process on the way says nothing of the candidate behind it; another way may lead there.
fn is_of_the_way(code: RefusalCode) -> bool {
    match code {
        RefusalCode::NoPath | RefusalCode::Draining | RefusalCode::Overloaded | RefusalCode::TooManyHops => {
            true
        }
        RefusalCode::UnknownService
        | RefusalCode::UnknownPort
        | RefusalCode::Denied
        | RefusalCode::NoEndpoint
        | RefusalCode::EndpointFailed
        | RefusalCode::BadHeader => false,
    }
}

/// A refusal that counts against the endpoint. Others are about the config or the policy of a process on the way.
fn is_of_the_endpoint(code: RefusalCode) -> bool {
    match code {
        RefusalCode::EndpointFailed | RefusalCode::NoEndpoint => true,
        RefusalCode::UnknownService
        | RefusalCode::UnknownPort
        | RefusalCode::Denied
        | RefusalCode::BadHeader
        | RefusalCode::NoPath
        | RefusalCode::Draining
        | RefusalCode::Overloaded
        | RefusalCode::TooManyHops => false,
    }
}

impl Route for ClientRoute {
    fn next(&self) -> Next {
        self.with(|state| {
            if state.candidate.as_ref().is_none_or(|candidate| candidate.ways.is_empty()) {
                if let Some(done) = state.candidate.take() {
                    state.tried.extend(Tried::of(&done.verdict));
                }
                match self.candidate(state) {
                    Ok(candidate) => state.candidate = Some(candidate),
                    Err(refusal) => return Next::Refuse(refusal),
                }
            }
            let candidate = state.candidate.as_mut().expect("it was set above");
            let way = candidate.ways.pop_front();
            state.dials = matches!(way, Some(Way::Dial(_)));
            match (way, &candidate.endpoint) {
                (Some(Way::Dial(address)), Some((endpoint, locality))) => {
                    Next::Dial { address, endpoint: endpoint.clone(), locality: locality.clone() }
                }
                (Some(Way::Open(connection)), _) => {
                    Next::Open { connection, header: Box::new(self.header(&candidate.verdict)) }
                }
                // Only an endpoint is dialled, and a candidate has at least one way.
                (Some(Way::Dial(_)) | None, _) => Next::Refuse(no_way()),
            }
        })
    }

    fn report(&self, outcome: Outcome<'_>) {
        let service = &self.asked.service;
        self.with(|state| {
            let Some(candidate) = state.candidate.as_mut() else { return };
            let own = match &candidate.verdict {
                Verdict::Endpoint { endpoint, .. } => Some(endpoint.clone()),
                Verdict::Site { .. } | Verdict::Refused(_) => None,
            };
            match outcome {
                Outcome::Accepted { endpoint, .. } => {
                    let site = match &candidate.verdict {
                        Verdict::Endpoint { group, .. } | Verdict::Site { group } => group.site.clone(),
                        Verdict::Refused(_) => return,
                    };
                    state.counted = Some(self.routes.count(service, &site, endpoint));
                    if let Some(own) = own {
                        self.routes.handle_outcome(service, &own, policy::Outcome::Ok);
                    }
                }
                Outcome::Refused(refusal) => {
                    self.routes.tally().candidate_refused(refusal.code);
                    if !is_of_the_way(refusal.code) {
                        candidate.ways.clear();
                        if let Some(own) = own.filter(|_| is_of_the_endpoint(refusal.code)) {
                            self.routes.handle_outcome(service, &own, policy::Outcome::Failed);
                        }
                    }
                    state.refusal = Some(refusal.clone());
                }
                Outcome::Failed { detail } => {
                    self.routes.tally().candidate_failed();
                    tracing::debug!(stream = %self.asked.stream, detail, "a candidate failed");
                    if let Some(own) = own.filter(|_| state.dials) {
                        self.routes.handle_outcome(service, &own, policy::Outcome::Failed);
                    }
                }
                Outcome::Cancelled => {}
                Outcome::Ended(_) => state.counted = None,
            }
        });
    }

    /// Whether any healthy candidate has a way that is open: the one that fell silent is not among those.
    fn elsewhere(&self) -> bool {
        // A further process cannot tell a client's pin from a decision of the process before, which may decide anew.
        let pin = self.asked.target.as_ref().filter(|_| self.asked.hops == 0);
        self.routes.read(|router| {
            let groups =
                router.import(&self.asked.service).map(|import| import.groups.as_slice()).unwrap_or_default();
            groups.iter().filter(|group| admits(pin, group)).any(|group| {
                let site = &group.id.site;
                if site != router.own() {
                    let usable = router.peers().get(site).is_some_and(|peer| peer.state.is_usable());
                    return usable && group.healthy > 0 && self.ways.has_steady_way(site, self.asked.hops);
                }
                group.endpoints.iter().filter(|endpoint| is_pinned(pin, endpoint)).any(|endpoint| {
                    let port = endpoint.ports.get(&self.asked.port);
                    let (service, hops) = (&self.asked.service, self.asked.hops);
                    endpoint.health == Health::Healthy
                        && port
                            .is_some_and(|port| self.ways.has_steady_way_to(service, endpoint, *port, hops))
                })
            })
        })
    }
}

/// Whether a client's pin allows for the group.
fn admits(pin: Option<&Target>, group: &Group) -> bool {
    match pin {
        None => true,
        Some(Target::Site(site) | Target::Endpoint(site, _)) => group.id.site == *site,
        Some(Target::Locality(site, locality)) => group.id.site == *site && group.id.locality == *locality,
    }
}

/// Whether a client's pin allows for the endpoint.
fn is_pinned(pin: Option<&Target>, endpoint: &Endpoint) -> bool {
    match pin {
        None | Some(Target::Site(_) | Target::Locality(..)) => true,
        Some(Target::Endpoint(_, id)) => endpoint.id == *id,
    }
}
