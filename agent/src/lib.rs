//! The process on a VM or a server: brings one host into its site.
//!
//! - [`run`]: the whole process. [`join`]: how the host becomes a member. [`setup`]: the redirect and the resolver.
//! - [`gateways`]: connections to two gateways. [`incoming`]: streams from them. [`ways`]: streams to them.
//! - `upstream`: what is said to the federation. `way`: how that is reached. `workloads`, `draining`, `leave`.
//!
//! It dials two gateways of its one site and nothing else; config, registrations and streams both ways use those
//! connections, so nothing need reach the host from outside.
//!
//! What this crate deliberately does not know: routing rules (`policy`), health checks (`connectors`).

mod draining;
pub mod gateways;
pub mod incoming;
pub mod join;
mod leave;
pub mod setup;
mod upstream;
mod way;
pub mod ways;
mod workloads;

use anyhow::Context;
use connectors::agent::{Host, Reports, Sources};
use connectors::connector::SourceReport;
use draining::Draining;
use gateways::{Gateways, Keeper, Link};
use identity::invite::JoinToken;
use identity::live::LiveCredentials;
use identity::trust::TrustStore;
use incoming::Door;
use leave::Leaving;
use local::dns::{Dns, Forward};
use local::vip::VipSettings;
use model::config::VipRange;
use model::ids::{GatewayName, HostName, NetworkName, SiteId};
use model::locality::Locality;
use model::node::NodeKind;
use node::enroll::{self, NodeFolder};
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{Greeting, Parts, config_stream};
use node::way_in::{self, Problems, WayIn};
use runtime::health::{self, Health};
use runtime::metrics::Registry;
use runtime::shutdown::{Shutdown, Tasks};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tunnel::{Config, Tunnel};
use upstream::Reporter;
use ways::AgentWays;

/// Source events on their way to the federation.
const EVENTS_MAX: usize = 64;
/// New connections that wait to be served.
const OPENED_MAX: usize = 8;
/// How often readiness is looked at, beside changes of connections.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one dial may take. Others begin beside it, so a gateway that is far away has its time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What an agent is started with.
#[derive(Debug)]
pub struct Options {
    /// Name of the host.
    pub host: HostName,
    /// Folder for key, certificate and last config.
    pub folder: PathBuf,
    /// Needed once, to join.
    pub token: Option<JoinToken>,
    /// Address for its ports. Default 127.0.0.1.
    pub address: IpAddr,
    /// File or folder with workloads.
    pub workloads: Option<PathBuf>,
    /// Locality; none: that of the site.
    pub locality: Option<Locality>,
    /// DNS, UDP and TCP.
    pub dns_port: u16,
    /// SOCKS5 and HTTP CONNECT.
    pub proxy_port: u16,
    /// Health, plain HTTP.
    pub health_port: u16,
    /// Ports on which no virtual IP is listened on.
    pub reserved_ports: BTreeSet<u16>,
    /// How long open streams may take to finish when the process leaves.
    pub drain_timeout: Duration,
}

/// A running agent.
#[derive(Debug)]
pub struct Handle {
    /// Its site.
    pub site: SiteId,
    /// What it registers, and the health of each.
    pub sources: watch::Receiver<SourceReport>,
    /// What programs of this host cannot reach by a virtual IP, and the way out.
    pub problems: Problems,
    /// Its own range of virtual IPs.
    pub range: Option<VipRange>,
    /// Where it answers DNS.
    pub dns: SocketAddr,
    /// Where it serves SOCKS5 and HTTP CONNECT.
    pub proxy: SocketAddr,
    /// Where it says how it is.
    pub health: SocketAddr,
    /// Its gateways.
    pub gateways: Arc<Gateways>,
    ended: tokio::task::JoinHandle<()>,
}

impl Handle {
    /// Waits until the agent has left.
    pub async fn ended(self) {
        // A task that panicked has said so.
        let _ = self.ended.await;
    }
}

/// The ports of an agent.
struct Ports {
    health: TcpListener,
    dns: Dns,
    proxy: TcpListener,
    redirect: Option<TcpListener>,
}

impl Ports {
    async fn bind(options: &Options, range: Option<VipRange>) -> anyhow::Result<Self> {
        let at = |port| SocketAddr::new(options.address, port);
        Ok(Self {
            health: runtime::bind::bind_tcp(at(options.health_port), "--address").await?,
            dns: Dns::bind(at(options.dns_port), "--address").await?,
            proxy: runtime::bind::bind_tcp(at(options.proxy_port), "--address").await?,
            redirect: setup::redirect_listener(options, range).await?,
        })
    }
}

/// Joins where that was not done yet, and runs until shutdown begins; then withdraws what it has registered, finishes
/// open streams and leaves.
///
/// # Errors
/// It cannot join, a port is taken, or its folder cannot be used. Each error says what to do.
pub async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<Handle> {
    let folder = NodeFolder::open(&options.folder)?;
    // Before the token is used: a second process must not cost the first one anything.
    let lock = folder.lock()?;
    let membership = join::membership(&options, &folder).await?;
    let site = membership.reply.site.id.clone();
    let network: NetworkName = site.as_str().parse().context("name the network of the site")?;
    let credentials = LiveCredentials::new(membership.credentials.clone());
    let trust = TrustStore::new(membership.reply.bundle.clone()).context("read the site's bundle")?;
    let store = ConfigStore::open(folder.path())?;
    let config = Config {
        connect_timeout: CONNECT_TIMEOUT,
        reset_secret: Some(folder.reset_secret().context("read the secret of the transport")?),
        ..Config::wan()
    };
    let tunnel = Tunnel::bind(SocketAddr::new(options.address, 0), credentials.clone(), &trust, config)
        .context("open the tunnel")?;
    let ports = Ports::bind(&options, membership.reply.vip_range).await?;
    let answered = ports.dns.answered();
    let (dns, proxy, health) = (ports.dns.address(), ports.proxy.local_addr()?, ports.health.local_addr()?);
    setup::remember(&folder, dns)?;

    // What ends last: connections and the config stream outlive the beginning of the shutdown, since what is open
    // finishes over them.
    let late = Shutdown::new();
    let gateways = Gateways::new();
    let draining = Draining::new(gateways.clone());
    let tasks = Tasks::new();
    let routes = Routes::new(site.clone(), format!("agent {}", options.host));
    // The config on disk counts before the first client comes in.
    routes.handle_config(&store.current());
    let (opened, opened_receiver) = mpsc::channel(OPENED_MAX);
    let keeper = Keeper {
        gateways: gateways.clone(),
        tunnel: tunnel.clone(),
        trust: trust.clone(),
        store: store.clone(),
        first: membership.reply.site.gateways.clone(),
        opened,
    };
    tokio::spawn(keeper.run(late.child()));
    let kept = tokio::spawn(store.clone().keep(late.child()));
    tokio::spawn(routes.clone().run(store.clone(), late.child()));
    tokio::spawn(upstream::follow_views(gateways.clone(), routes.clone(), store.clone(), late.child()));

    let dial = Arc::new(way::ConfigWay { gateways: gateways.clone() });
    let explainer = routes.clone();
    let tally = routes.tally().clone();
    let (upstream, stream, commands) = config_stream(Parts {
        dial: dial.clone(),
        credentials: credentials.clone(),
        trust: trust.clone(),
        store: store.clone(),
        greeting: Greeting {
            kind: NodeKind::Agent,
            tunnel_address: None,
            locality: options.locality.clone(),
        },
        explainer: Arc::new(move |request| explainer.explain(&request)),
    });
    tokio::spawn(stream.run(late.child()));
    tokio::spawn(enroll::keep_renewed(
        credentials.clone(),
        folder,
        dial,
        trust,
        store.clone(),
        tally,
        late.child(),
    ));

    let locality = options.locality.clone().unwrap_or_else(|| membership.reply.locality.clone());
    let host = Host { name: options.host.clone(), locality: locality.clone(), network: network.clone() };
    let reports = Reports::default();
    let probes = reports.probes.clone();
    let (report, file) = (reports.source.subscribe(), reports.file.subscribe());
    let (told_report, told_file) = (report.clone(), file.clone());
    let of_config = workloads::of_config(&store, late.child());
    let workloads = workloads::follow(options.host.clone(), of_config.clone(), file, late.child());
    let workload_ports = workloads::ports(workloads.clone(), late.child());
    let sources = Sources { config: of_config, file: options.workloads.clone() };
    let (inputs, inputs_receiver) = mpsc::channel(EVENTS_MAX);
    let (events, events_receiver) = mpsc::channel(EVENTS_MAX);
    let ends = (inputs_receiver, events);
    let connector = tokio::spawn(connectors::agent::run(host, sources, ends, reports, shutdown.token()));
    let carrier = tokio::spawn(upstream::carry_events(events_receiver, upstream.clone()));
    let (taken, taken_receiver) = watch::channel(0);
    tokio::spawn(upstream::obey(commands, inputs, upstream.clone(), draining.clone(), taken, late.child()));

    let door = Door {
        site: site.clone(),
        workloads: workloads.clone(),
        gateways: gateways.clone(),
        draining: draining.watch(),
        tasks: tasks.clone(),
    };
    tokio::spawn(serve(opened_receiver, door));
    let ways = AgentWays { host: options.host.clone(), network, workloads, gateways: gateways.clone() };
    let way_in = WayIn {
        routes: routes.clone(),
        ways: Arc::new(ways),
        store: store.clone(),
        identity: membership.credentials.id().clone(),
        site: site.clone(),
        locality: Some(locality),
        range: membership.reply.vip_range,
        vips: VipSettings {
            reserved_ports: options.reserved_ports.clone(),
            proxy: Some(proxy),
            ..VipSettings::default()
        },
        redirect: ports.redirect,
        proxy: Some(ports.proxy),
        dns: Some(ports.dns),
        forward: Forward::System,
        tasks: tasks.clone(),
    };
    let problems = way_in::start_beside(way_in, workload_ports, &shutdown);
    let (reported, of_site) = (gateways.clone(), site.clone());
    let sources = node::metrics::Sources {
        tunnel: tunnel.clone(),
        paths: Box::new(move || reported.reports(&of_site)),
        routes: routes.clone(),
        store: store.clone(),
        upstream: upstream.clone(),
        credentials,
        dns: Some(answered),
    };
    let metrics = Registry::new("agent", env!("CARGO_PKG_VERSION"))?;
    node::metrics::add(&metrics, sources)?;
    connectors::metrics::add(&metrics, probes)?;
    let reporter = Reporter {
        site: site.clone(),
        gateways: gateways.clone(),
        routes,
        upstream: upstream.clone(),
        vips: problems.clone(),
        file: told_file,
        sources: told_report,
    };
    tokio::spawn(reporter.run(late.child()));
    serve_health(ports.health, metrics, &store, &gateways, &late);

    let limit = options.drain_timeout;
    let taken = taken_receiver;
    let leaving =
        Leaving { connector, carrier, taken, upstream, draining, tasks, limit, late, tunnel, kept, lock };
    let ended = tokio::spawn(async move {
        shutdown.begun().await;
        leaving.leave().await;
    });
    let range = membership.reply.vip_range;
    Ok(Handle { site, sources: report, problems, range, dns, proxy, health, gateways, ended })
}

/// Serves each connection that the keeper opens.
async fn serve(mut opened: mpsc::Receiver<(GatewayName, Link)>, door: Door) {
    while let Some((gateway, link)) = opened.recv().await {
        link.connection.set_draining(*door.draining.borrow());
        tokio::spawn(door.clone().serve(gateway, link));
    }
}

/// Ready once there is config and a connection to a gateway; other sites do not count.
fn serve_health(
    listener: TcpListener,
    metrics: Registry,
    store: &Arc<ConfigStore>,
    gateways: &Arc<Gateways>,
    shutdown: &Shutdown,
) {
    let health = Health::new();
    let (config, connection) = (health.check("config"), health.check("gateway"));
    tokio::spawn(health::serve(listener, health, metrics, shutdown.token()));
    let (store, gateways, shutdown) = (store.clone(), gateways.clone(), shutdown.child());
    tokio::spawn(async move {
        let mut changes = gateways.changes();
        loop {
            changes.borrow_and_update();
            match store.current().version {
                Some(_) => config.ready(),
                None => {
                    config.not_ready("no config yet: nothing on disk, and the federation has not sent any")
                }
            }
            match gateways.connections().is_empty() {
                false => connection.ready(),
                true => connection.not_ready("no gateway of the site is connected"),
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.begun() => return,
            }
        }
    });
}
