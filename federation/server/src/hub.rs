//! The one task that owns the state of the site: catalogs, links, nodes, tokens, config.
//!
//! Everything reaches it as an [`Input`]; it calls the cores (`Replicator`, `Imports`, `Intake`) and carries out what
//! they say. It has a thread of its own, since it waits for the disk: whatever a peer, a node or a person is told was
//! stored before. Streams and API handlers read immutable copies (the [`Book`]), or ask ([`HubHandle::ask`]).

mod apply;
mod changes;
mod drain;
mod explain;
mod invites;
mod joins;
mod links;
pub(crate) mod metrics;
mod nodes;
mod persist;
mod replica;
mod resources;
mod services;
mod sessions;
mod sources;
mod start;
mod status;
mod troubles;
pub(crate) mod trust;

use crate::answer::{Answer, Denied};
use crate::book::Book;
use crate::carriers::Carriers;
use crate::docs::{InviteDoc, LinkDoc, TokenDoc};
use crate::events::Events;
use crate::names::NodeId;
use crate::pki::Pki;
use crate::store::{Store, WriteBatch};
use crate::tally::Tally;
use changes::Told;
use drain::Drain;
use federation_core::Replicator;
use federation_core::imports::merge::Condition;
use federation_core::imports::{FirstSeen, Imports};
use federation_core::session::{Dialled, SessionId};
use model::catalog::{ServiceSpec, SiteInfo};
use model::config::{ConfigVersion, VipRange};
use model::decision::Explanation;
use model::endpoint::Endpoint;
use model::exchange::PeerMessage;
use model::ids::{EndpointId, Label, SiteId};
use model::node::{FederationMessage, NodeMessage};
use model::routing::AccessRule;
use model::service::ServiceName;
use nodes::{Hello, Node};
use persist::Trouble;
use resources::Resources;
use runtime::clock;
use sessions::{Dial, SessionEntry};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_core::intake::Intake;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use invites::AcceptPlan;
pub use links::LinkCheck;
pub use nodes::Hello as NodeHello;
pub(crate) use nodes::NODE_MESSAGES_MAX;
pub(crate) use sessions::PEER_MESSAGES_MAX;
pub use start::{HubParts, StartError};
pub use troubles::SourceTrouble;

/// Inputs that wait. When it is full, streams wait, and through them the nodes and peers behind them.
const INPUTS_MAX: usize = 1_024;
/// Inputs that are handled before what came of them is stored: one commit for all of them. All that can wait: after a
/// commit that took long, everyone who spoke meanwhile is heard before anyone is judged to be silent.
const INPUTS_PER_TURN: usize = INPUTS_MAX;
/// How often times that nobody announces are looked at: ends of tokens, silent gateways, dialling.
const TICK: Duration = Duration::from_millis(500);

/// Everything that can happen to the hub.
pub enum Input {
    /// A node has opened its config stream.
    NodeUp {
        /// Which one.
        node: NodeId,
        /// Names the stream.
        connection: u64,
        /// What it says of itself.
        hello: Hello,
        /// What it is told beside config.
        to: mpsc::Sender<FederationMessage>,
    },
    /// A node says something.
    NodeSaid {
        /// Which one.
        node: NodeId,
        /// Over this stream.
        connection: u64,
        /// What.
        message: NodeMessage,
    },
    /// The stream of a node has ended.
    NodeDown {
        /// Which one.
        node: NodeId,
        /// The stream.
        connection: u64,
    },
    /// A session with a peer is open.
    SessionUp {
        /// The peer.
        site: SiteId,
        /// The session.
        session: SessionId,
        /// Who dialled.
        dialled: Dialled,
        /// What the peer is told.
        to: mpsc::Sender<PeerMessage>,
        /// Ends it.
        stop: CancellationToken,
    },
    /// A peer says something.
    SessionSaid {
        /// The peer.
        site: SiteId,
        /// The session.
        session: SessionId,
        /// What.
        message: PeerMessage,
    },
    /// A session has ended.
    SessionDown {
        /// The peer.
        site: SiteId,
        /// The session.
        session: SessionId,
    },
    /// An attempt to open a session has failed, or the session that came of it has ended.
    DialEnded {
        /// The peer.
        site: SiteId,
        /// Why it failed; none: there was a session.
        failed: Option<String>,
    },
    /// Somebody asks something.
    Ask(Ask),
}

/// A question, answered on the hub's own thread.
pub struct Ask(Box<dyn FnOnce(&mut Hub) + Send>);

/// How everybody else reaches the hub. Clones share it.
#[derive(Clone)]
pub struct HubHandle {
    inputs: mpsc::Sender<Input>,
    book: watch::Receiver<Arc<Book>>,
    /// Events of the site.
    pub events: Events,
    /// Carriers that are awaited.
    pub carriers: Carriers,
    /// Who the site is to others.
    pub pki: Pki,
    /// What is counted.
    pub tally: Arc<Tally>,
}

/// The hub has ended: the process is leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the federation is shutting down")]
pub struct Gone;

impl HubHandle {
    /// Hands in an input; waits while many others do.
    ///
    /// # Errors
    /// The hub has ended.
    pub async fn send(&self, input: Input) -> Result<(), Gone> {
        self.inputs.send(input).await.map_err(|_| Gone)
    }

    /// Runs a question on the hub's thread, and waits for the answer.
    ///
    /// # Errors
    /// The hub has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Hub) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, answer) = oneshot::channel();
        let ask = Ask(Box::new(move |hub| drop(sender.send(question(hub)))));
        self.send(Input::Ask(ask)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// As [`HubHandle::ask`], for questions whose answer may be a refusal.
    ///
    /// # Errors
    /// The refusal, or that the hub has ended.
    pub async fn demand<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Hub) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        match self.ask(question).await {
            Ok(answer) => answer,
            Err(gone) => Err(Denied::unavailable(gone.to_string(), "", "run this again in a moment")),
        }
    }

    /// Follows the config.
    pub fn book(&self) -> watch::Receiver<Arc<Book>> {
        self.book.clone()
    }
}

/// The state of the site.
pub struct Hub {
    site: SiteInfo,
    vip_range: VipRange,
    default_access: Option<AccessRule>,
    pki: Pki,
    events: Events,
    tally: Arc<Tally>,
    carriers: Carriers,
    runtime: tokio::runtime::Handle,
    myself: mpsc::WeakSender<Input>,
    started: Instant,

    replicator: Replicator,
    imports: Imports,
    intake: Intake,

    /// What sources say, before drains and resources are laid over it. Bounded by the intake.
    heard_services: BTreeMap<ServiceName, ServiceSpec>,
    heard_endpoints: BTreeMap<(ServiceName, EndpointId), Endpoint>,
    /// Ids of the endpoints in the own catalog, by service.
    own_endpoints: BTreeMap<ServiceName, BTreeSet<EndpointId>>,
    /// Own services that have to be handed to the imports.
    dirty_own: BTreeSet<ServiceName>,
    /// Site and peers have to be looked at for the config.
    dirty_config: bool,
    /// Conditions of exports that events have told of.
    conditions_noted: BTreeSet<Condition>,
    /// What events have told of peers.
    told: Told,
    /// All sources have completed; what follows from it is still to be done.
    settling: bool,

    resources: Resources,
    links: BTreeMap<SiteId, LinkDoc>,
    invites: BTreeMap<[u8; 16], InviteDoc>,
    tokens: BTreeMap<[u8; 16], TokenDoc>,
    nodes: BTreeMap<NodeId, Node>,
    drains: BTreeSet<Drain>,
    /// What is wrong with the sources of this process; one for each connector at most.
    troubles: BTreeMap<Label, SourceTrouble>,
    sessions: BTreeMap<SessionId, SessionEntry>,
    /// Sessions to close once what is left to say over them is said.
    closing: Vec<SessionId>,
    /// Sessions whose link was ended here, with who waits for the peer to say that it has heard it. They end soon.
    partings: BTreeMap<SessionId, oneshot::Sender<()>>,
    dials: BTreeMap<SiteId, Dial>,
    next_session: u64,
    explains: BTreeMap<u64, (NodeId, oneshot::Sender<Explanation>)>,
    next_explain: u64,

    book: Book,
    published: watch::Sender<Arc<Book>>,
    store: Box<dyn Store>,
    /// What is to be stored and is not yet.
    batch: WriteBatch,
    /// Why the last write failed, until one succeeds.
    store_problem: Option<Trouble>,
    /// When the store is tried again; none: with the next turn.
    store_retry_at: Option<Instant>,
    /// When sessions were last kept alive while nothing could be stored.
    kept_alive_at: Instant,
    vip_path: PathBuf,
    vips_written: u64,
    first_seen_written: FirstSeen,
    tick_at: Instant,
    /// Since which position of the config the nodes are told of the own bundle as it is.
    bundle_told_at: Option<ConfigVersion>,
}

impl Hub {
    /// Runs until told to stop, or until nobody can reach it any more. Blocks its thread while it waits for the disk.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        self.turn();
        loop {
            let deadline = tokio::time::Instant::from_std(self.next_deadline());
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => break,
                },
                () = tokio::time::sleep_until(deadline) => None,
            };
            if let Some(first) = first {
                self.handle(first);
                for _ in 1..INPUTS_PER_TURN {
                    let Ok(input) = inputs.try_recv() else { break };
                    self.handle(input);
                }
            }
            self.turn();
        }
        self.turn();
    }

    fn handle(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::NodeUp { node, connection, hello, to } => self.node_up(node, connection, hello, to, now),
            Input::NodeSaid { node, connection, message } => self.node_said(&node, connection, message, now),
            Input::NodeDown { node, connection } => self.node_down(&node, connection, now),
            Input::SessionUp { site, session, dialled, to, stop } => {
                let entry = SessionEntry::new(site.clone(), to, stop);
                self.session_up(site, session, dialled, entry, now);
            }
            Input::SessionSaid { site, session, message } => {
                if !self.heard_parting(session, &message) {
                    self.heard_trust(&site, session, &message);
                    self.replicator.handle_message(&site, session, message, now);
                }
            }
            Input::SessionDown { site, session } => self.session_down(&site, session, now),
            Input::DialEnded { site, failed } => self.dial_ended(&site, failed, now),
            Input::Ask(Ask(question)) => question(self),
        }
    }

    fn next_deadline(&self) -> Instant {
        let cores = [self.replicator.poll_timeout(), self.intake.poll_timeout()];
        let cores = cores.into_iter().flatten().map(|(at, _)| at);
        cores.chain([self.tick_at]).chain(self.store_retry_at).min().unwrap_or(self.tick_at)
    }

    /// Brings everything in line with the inputs so far, stores it, then tells it.
    fn turn(&mut self) {
        let now = Instant::now();
        self.intake.handle_timeout(now);
        self.replicator.handle_timeout(now);
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.tick(now);
        }
        self.settle(now);
        if self.persist(now) {
            self.publish();
            self.transmit();
        } else {
            self.keep_sessions(now);
        }
    }

    fn tick(&mut self, now: Instant) {
        let now_ms = clock::unix_ms();
        self.expire_joins(now_ms);
        self.expire_links(now_ms);
        self.tick_nodes(now);
        self.tick_dials(now);
        self.explains.retain(|_, (_, waiting)| !waiting.is_closed());
        self.leave_metrics(now, now_ms);
    }

    /// Drains the cores into each other and into the config. No I/O.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.intake.poll_event() {
            self.on_source_event(event, now);
        }
        while let Some(event) = self.replicator.poll_event() {
            self.on_replica_event(event);
        }
        for service in std::mem::take(&mut self.dirty_own) {
            self.refresh_own(&service);
        }
        self.apply_imports();
        if std::mem::take(&mut self.settling) {
            self.imports.settle();
            self.apply_imports();
            self.book.complete();
        }
        self.note_conditions();
        self.note_changes();
        if std::mem::take(&mut self.dirty_config) {
            self.refresh_site_config(now);
        }
    }

    /// Notes conditions of exports that have begun or ended.
    fn note_conditions(&mut self) {
        if !self.imports.take_conditions_changed() {
            return;
        }
        let conditions: BTreeSet<Condition> = self.imports.conditions().cloned().collect();
        for condition in conditions.difference(&self.conditions_noted) {
            let what = format!("{} of {}", condition.kind, condition.site);
            self.events.note(format!("service {}", condition.service), what, condition.message.clone());
        }
        for condition in self.conditions_noted.difference(&conditions) {
            let what = format!("no longer {} of {}", condition.kind, condition.site);
            self.events.note(format!("service {}", condition.service), what, "");
        }
        self.conditions_noted = conditions;
    }

    fn apply_imports(&mut self) {
        use federation_core::imports::Change;
        use model::config::{ConfigKey, ConfigValue};
        while let Some(change) = self.imports.poll_change() {
            match change {
                Change::Set(import) => {
                    let key = ConfigKey::Service(import.service.clone());
                    self.book.set(key, ConfigValue::Service(*import));
                }
                Change::Gone(service) => {
                    self.book.remove(&ConfigKey::Service(service));
                }
            }
        }
    }

    fn publish(&mut self) {
        if self.published.borrow().version() != self.book.version() {
            self.published.send_replace(Arc::new(self.book.clone()));
        }
    }

    /// The site as it is told to others.
    pub fn site(&self) -> &SiteInfo {
        &self.site
    }

    /// Where this site takes its virtual IPs from.
    pub fn vip_range(&self) -> VipRange {
        self.vip_range
    }
}
