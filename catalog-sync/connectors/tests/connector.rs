//! Connectors as tasks, against the intake that hears them in the federation.

use connectors::agent::{Host, Reports, Sources, Workloads};
use connectors::connector::Input;
use connectors::files::{self, Place};
use connectors::watch::FileState;
use connectors::{agent, connector};
use model::catalog::{OwnKey, OwnValue};
use model::config::{HealthCheck, HealthProbe, WorkloadSpec};
use model::endpoint::Health;
use model::node::{SourceChange, SourceEvent};
use model::service::{AppProtocol, PortKey, ServicePort};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_core::event::Event;
use sync_core::intake::{Intake, Limits, Restored};
use sync_core::source::{Session, SourceConfig, SourceId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The federation's side of one connector: an intake, and the catalog that comes out of it.
struct Federation {
    intake: Intake,
    source: SourceId,
    session: Option<Session>,
    inputs: mpsc::Sender<Input>,
    events: mpsc::Receiver<SourceEvent>,
    heard: Vec<SourceChange>,
    catalog: BTreeMap<OwnKey, OwnValue>,
}

type Ends = (mpsc::Receiver<Input>, mpsc::Sender<SourceEvent>);

impl Federation {
    fn new(source: SourceId, config: SourceConfig) -> (Self, Ends) {
        let (inputs, inputs_end) = mpsc::channel(16);
        let (events_end, events) = mpsc::channel(1);
        let sources = vec![(source.clone(), config)];
        let intake = Intake::new(Limits::default(), sources, Restored::default(), Instant::now());
        let (session, heard, catalog) = (None, Vec::new(), BTreeMap::new());
        (Self { intake, source, session, inputs, events, heard, catalog }, (inputs_end, events_end))
    }

    async fn connect(&mut self) {
        self.session = Some(self.intake.handle_source_open(&self.source, Instant::now()).expect("known"));
        self.inputs.send(Input::Connected).await.expect("it runs");
    }

    async fn hear(&mut self, event: SourceEvent) {
        let session = self.session.as_ref().expect("open");
        let sequence = event.sequence;
        self.heard.push(event.change.clone());
        let taken = self.intake.handle_source_event(session, event, Instant::now());
        let refused = taken.err().map(|refused| refused.to_string());
        // At its end nobody listens any more.
        let _ = self.inputs.send(Input::Taken { sequence, refused }).await;
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.intake.poll_event() {
            if let Event::Change(change) = event {
                match change.value {
                    Some(value) => self.catalog.insert(change.key, value),
                    None => self.catalog.remove(&change.key),
                };
            }
        }
    }

    /// Hears until the catalog is as it should be.
    async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is(self) {
            let pause = Duration::from_millis(10);
            match timeout(pause, self.events.recv()).await {
                Ok(Some(event)) => self.hear(event).await,
                // It has ended, or has nothing to say.
                Ok(None) | Err(_) => tokio::time::sleep(pause).await,
            }
            // What was coalesced becomes due with time.
            self.intake.handle_timeout(Instant::now());
            self.drain();
            assert!(tokio::time::Instant::now() < deadline, "{what}: {:?}", self.catalog);
        }
    }

    fn health(&self, service: &str) -> Option<Health> {
        let service = service.parse().expect("valid");
        self.catalog.iter().find_map(|(key, value)| match (key, value) {
            (OwnKey::Endpoint(of, _), OwnValue::Endpoint(endpoint)) if *of == service => {
                Some(endpoint.health)
            }
            _ => None,
        })
    }

    fn endpoints(&self) -> usize {
        self.catalog.keys().filter(|key| matches!(key, OwnKey::Endpoint(..))).count()
    }
}

fn workload(service: &str, port: u16) -> WorkloadSpec {
    let key = PortKey::tcp(80);
    WorkloadSpec {
        service: service.parse().expect("valid"),
        id: "vm-1".parse().expect("valid"),
        host: "vm-1".parse().expect("valid"),
        address: HERE,
        ports: vec![(ServicePort { key, name: None, app: AppProtocol::Tcp, retry_safe: false }, port)],
        locality: "eu/fra".parse().expect("valid"),
        weight: 1,
        check: HealthCheck {
            probe: HealthProbe::Tcp { port },
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            healthy_threshold: 1,
            unhealthy_threshold: 2,
        },
        account: None,
    }
}

fn workloads(specs: &[WorkloadSpec]) -> Option<Arc<Workloads>> {
    let of = |spec: &WorkloadSpec| ((spec.service.clone(), spec.id.clone()), spec.clone());
    Some(Arc::new(specs.iter().map(of).collect()))
}

struct Agent {
    federation: Federation,
    config: watch::Sender<Option<Arc<Workloads>>>,
    reports: Reports,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn agent(file: Option<PathBuf>) -> Agent {
    let host = Host {
        name: "vm-1".parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        network: "east".parse().expect("valid"),
    };
    let namespaces = Some(["shop".parse().expect("valid")].into());
    let source = SourceId::Agent(host.name.clone());
    let (federation, ends) = Federation::new(source, SourceConfig::agent(host.name.clone(), namespaces));
    let (config, config_end) = watch::channel(None);
    let reports = Reports::default();
    let stop = CancellationToken::new();
    let sources = Sources { config: config_end, file };
    let task = tokio::spawn(agent::run(host, sources, ends, reports.clone(), stop.clone()));
    Agent { federation, config, reports, stop, task }
}

#[tokio::test]
async fn an_agent_registers_follows_health_and_withdraws_when_it_leaves() {
    let mut agent = agent(None);
    let listener = TcpListener::bind((HERE, 0)).await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    agent.federation.connect().await;
    agent.config.send_replace(workloads(&[workload("shop/cart", port)]));
    agent.federation.until("healthy", |f| f.health("shop/cart") == Some(Health::Healthy)).await;
    let first = agent.federation.heard.iter().find_map(|change| match change {
        SourceChange::InitApply(instance) => Some(instance.endpoint.health),
        _ => None,
    });
    assert_eq!(
        first,
        Some(Health::Healthy),
        "the list waits for the first probe, so a restart does not blink"
    );
    drop(listener);
    agent.federation.until("unhealthy", |f| f.health("shop/cart") == Some(Health::Unhealthy)).await;
    let report = agent.reports.source.borrow().clone();
    let failure = report.instances[0].failure.clone().expect("failed");
    assert!(failure.contains("Connection refused"), "{failure}");
    agent.stop.cancel();
    agent.federation.until("withdrawn", |f| f.catalog.is_empty()).await;
    timeout(PATIENCE, agent.task).await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn nothing_is_listed_before_it_is_known_what() {
    let mut agent = agent(None);
    agent.federation.connect().await;
    let heard = timeout(Duration::from_millis(200), agent.federation.events.recv()).await;
    assert!(heard.is_err(), "without a config an empty list would withdraw everything");
    agent.config.send_replace(workloads(&[]));
    agent.federation.until("listed", |f| f.heard.contains(&SourceChange::InitDone)).await;
    assert_eq!(agent.federation.heard, [SourceChange::Init, SourceChange::InitDone]);
}

#[tokio::test]
async fn after_a_new_connection_and_after_a_forgotten_lease_everything_is_said_again() {
    let mut agent = agent(None);
    let unchecked = |service| {
        let mut spec = workload(service, 1);
        spec.check.probe = HealthProbe::None;
        spec
    };
    agent.config.send_replace(workloads(&[unchecked("shop/cart")]));
    agent.federation.connect().await;
    agent.federation.until("registered", |f| f.endpoints() == 1).await;
    agent.federation.inputs.send(Input::Disconnected).await.expect("it runs");
    agent.config.send_replace(workloads(&[unchecked("shop/cart"), unchecked("shop/web")]));
    agent.federation.connect().await;
    agent.federation.until("both", |f| f.endpoints() == 2).await;
    // The federation forgets it, as after a lease that has run out: the next renewal is refused.
    let forgotten = agent.federation.source.clone();
    agent.federation.intake.forget(&forgotten, Instant::now());
    let config = SourceConfig::agent("vm-1".parse().expect("valid"), None);
    agent.federation.intake.register(forgotten.clone(), config, Instant::now()).expect("room");
    agent.federation.session =
        Some(agent.federation.intake.handle_source_open(&forgotten, Instant::now()).expect("known"));
    agent.federation.drain();
    agent.federation.catalog.clear();
    agent.federation.until("again", |f| f.endpoints() == 2).await;
}

#[tokio::test]
async fn a_workload_outside_the_scope_is_reported_and_the_others_are_registered() {
    let mut agent = agent(None);
    let mut specs = [workload("pay/api", 1), workload("shop/cart", 1)];
    specs.iter_mut().for_each(|spec| spec.check.probe = HealthProbe::None);
    agent.config.send_replace(workloads(&specs));
    agent.federation.connect().await;
    agent.federation.until("registered", |f| f.endpoints() == 1).await;
    assert_eq!(agent.federation.health("shop/cart"), Some(Health::Healthy));
    let mut reports = agent.reports.source.subscribe();
    let refused = |report: &connector::SourceReport| report.instances.iter().any(|of| of.refused.is_some());
    let report =
        timeout(PATIENCE, reports.wait_for(refused)).await.expect("in time").expect("it runs").clone();
    let words = report.instances[0].refused.clone().expect("refused");
    assert!(words.contains("namespace pay is outside its scope"), "{words}");
}

#[tokio::test]
async fn a_file_of_a_host_that_breaks_keeps_its_last_good_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("workloads.yaml");
    let text = |name: &str| {
        format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{port: 80, check: {{type: none}}}}\n"
        )
    };
    std::fs::write(&path, text("cart")).expect("written");
    let mut agent = agent(Some(path.clone()));
    agent.config.send_replace(workloads(&[]));
    agent.federation.connect().await;
    agent.federation.until("registered", |f| f.health("shop/cart") == Some(Health::Healthy)).await;
    std::fs::write(&path, "kind: [\n").expect("written");
    let mut states = agent.reports.file.subscribe();
    let broken = |state: &FileState<Arc<Workloads>>| state.problem.is_some();
    let state = timeout(PATIENCE, states.wait_for(broken)).await.expect("in time").expect("it runs").clone();
    assert!(state.problem.expect("a problem").to_string().contains("workloads.yaml:"));
    assert_eq!(agent.federation.health("shop/cart"), Some(Health::Healthy));
    std::fs::write(&path, text("web")).expect("written");
    agent
        .federation
        .until("replaced", |f| f.health("shop/web").is_some() && f.health("shop/cart").is_none())
        .await;
}

#[tokio::test]
async fn files_register_services_with_fixed_endpoints_and_leave_them_when_they_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("services.yaml");
    let listener = TcpListener::bind((HERE, 0)).await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let text = format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         ports: [{{port: 80, targetPort: {port}}}]\n  endpoints: [{{address: 127.0.0.1}}]\n"
    );
    std::fs::write(&path, text).expect("written");
    let name = SourceId::Connector(files::NAME.parse().expect("valid"));
    let (mut federation, ends) = Federation::new(name, SourceConfig::connector());
    let place = Place { locality: "eu/fra".parse().expect("valid"), network: "east".parse().expect("valid") };
    let stop = CancellationToken::new();
    let (state, report) = (watch::Sender::default(), watch::Sender::default());
    let task = tokio::spawn(files::run(
        path,
        place,
        ends,
        (state, report),
        connectors::metrics::probes(),
        stop.clone(),
    ));
    federation.connect().await;
    let registered =
        |f: &Federation| f.health("shop/cart") == Some(Health::Healthy) && f.intake.all_complete();
    federation.until("registered", registered).await;
    stop.cancel();
    timeout(PATIENCE, task).await.expect("in time").expect("no panic");
    assert_eq!(federation.endpoints(), 1);
}
