//! Puts a gateway together, and takes it apart.

use crate::carry::Carrier;
use crate::door::Door;
use crate::options::{Entry, Local, Options};
use crate::paths::Paths;
use crate::report;
use crate::ways::GatewayWays;
use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use gateway_core::path::Own;
use identity::live::LiveCredentials;
use identity::trust::TrustStore;
use local::dns::Dns;
use model::identity::Role;
use model::node::{NodeKind, NodeMessage};
use node::enroll::{self, FolderLock, Membership, NodeFolder};
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{self, Dial, Greeting, Io, Upstream};
use node::way_in::{self, WayIn};
use runtime::bind::BindError;
use runtime::health::{self, Health};
use runtime::metrics::Registry;
use runtime::shutdown::{Shutdown, Tasks, drain_within};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use tunnel::config::Roles;
use tunnel::{CloseCode, Tunnel, TunnelError};

/// Connections that wait to be served. More wait in the tunnel, which closes what it cannot hold.
const OPENED_MAX: usize = 64;
/// How long a gateway that leaves still answers, so that peers hear of it before its connections end.
const GRACE: Duration = Duration::from_millis(200);
/// How long a gateway that leaves still takes the streams of those who have no other gateway. In a rolling restart the
/// next one goes when the one before is ready, and callers may need until a second dial to be connected to that.
const LINGER: Duration = Duration::from_secs(2);
/// How long the federation may take to hear that a gateway leaves.
const WITHDRAW: Duration = Duration::from_secs(1);
/// How long the last packets may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long joining the site may take, while its federation may be starting.
const JOIN_FOR: Duration = Duration::from_secs(30);

/// A gateway that runs.
#[derive(Debug)]
pub struct Handle {
    tunnel_address: SocketAddr,
    problems: Option<way_in::Problems>,
    ended: JoinHandle<()>,
}

impl Handle {
    /// Where its tunnel port is bound.
    pub fn tunnel_address(&self) -> SocketAddr {
        self.tunnel_address
    }

    /// What programs of this host cannot reach by a virtual IP, and the way out.
    pub fn problems(&self) -> Vec<String> {
        self.problems.as_ref().map(|problems| problems.borrow().clone()).unwrap_or_default()
    }

    /// Waits until it has drained and ended, which begins with its shutdown.
    pub async fn ended(self) {
        // It only fails when the runtime goes away first, which is an end too.
        let _ = self.ended.await;
    }
}

/// The way to the federation: plain TCP; TLS comes inside.
struct ByTcp(SocketAddr);

impl Dial for ByTcp {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async {
            let tcp = tokio::net::TcpStream::connect(self.0).await?;
            tcp.set_nodelay(true)?;
            Ok(Box::new(tcp) as Box<dyn Io>)
        })
    }
}

/// Starts a gateway. It serves at once from the config on disk, if there is one, and never waits for its federation;
/// only joining does.
///
/// # Errors
/// A port is taken, the folder cannot be read, or the gateway is no member of a site and cannot become one.
pub async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<Handle> {
    let folder = NodeFolder::open(&options.folder)?;
    // Before a token is used: a second process must not cost the first one anything.
    let lock = folder.lock()?;
    let dial: Arc<dyn Dial> = Arc::new(ByTcp(options.federation));
    let membership = membership(&options, &folder, dial.as_ref()).await?;
    let id = membership.credentials.id().clone();
    let Role::Gateway(name) = id.role.clone() else {
        bail!("the certificate in {} is that of {id}, not of a gateway", options.folder.display());
    };
    let site = membership.reply.site.clone();
    let credentials = LiveCredentials::new(membership.credentials.clone());
    let trust = TrustStore::new(membership.reply.bundle.clone()).context("the bundle of the own site")?;
    let store = ConfigStore::open(&options.folder)?;

    // Within a site process the ports come from its file; a gateway of its own has no setting but its address.
    let is_of_site = matches!(options.entry, Entry::Given(_));
    let setting = |key: &'static str| if is_of_site { key } else { "--address" };
    let health = Health::new();
    let ready = (health.check("config"), health.check("paths"));
    // What ends last: it serves until the last stream is done.
    let late = Shutdown::new();
    let metrics = match &options.metrics {
        Some(metrics) => metrics.clone(),
        None => Registry::new("gateway", env!("CARGO_PKG_VERSION"))?,
    };
    if let Some(address) = options.health {
        let listener = runtime::bind::bind_tcp(address, setting("ports.gatewayHealth")).await?;
        tokio::spawn(health::serve(listener, health.clone(), metrics.clone(), late.token()));
    }
    let config = tunnel::Config {
        reset_secret: Some(folder.reset_secret().context("read the secret of the transport")?),
        ..options.tunnel.clone().accepting(Roles::of_gateway())
    };
    let address = SocketAddr::new(options.address, options.port);
    let tunnel = Tunnel::bind(address, credentials.clone(), &trust, config)
        .map_err(|error| named(error, setting("ports.tunnel")))?;

    let routes = Routes::new(site.id.clone(), format!("gateway {name}"));
    let (opened, connections) = mpsc::channel(OPENED_MAX);
    let own = Own { site: site.id.clone(), uid: site.uid, gateway: name.clone() };
    let paths = Paths::new(own, id.clone(), options.paths.clone(), tunnel.clone(), trust.clone(), opened);
    let carrier = Carrier::new(paths.clone(), tunnel.clone(), options.federation);
    let explainer = {
        let routes = routes.clone();
        Arc::new(move |request| routes.explain(&request))
    };
    let greeting = Greeting {
        kind: NodeKind::Gateway,
        tunnel_address: Some(options.advertise.unwrap_or(tunnel.local_address())),
        locality: options.locality.clone(),
    };
    let (upstream, config_stream, commands) = stream::config_stream(stream::Parts {
        dial: dial.clone(),
        credentials: credentials.clone(),
        trust: trust.clone(),
        store: store.clone(),
        greeting,
        explainer,
    });

    let streams = Tasks::new();
    let mut answered = None;
    let problems = match options.local {
        None => None,
        Some(local) => {
            let range = local.range.or(membership.reply.vip_range);
            let ways = Arc::new(GatewayWays { paths: paths.clone(), from_sibling: false });
            let (proxy, dns) = bind_local(&local, setting).await?;
            answered = dns.as_ref().map(Dns::answered);
            let way_in = WayIn {
                routes: routes.clone(),
                ways,
                store: store.clone(),
                identity: id,
                site: site.id.clone(),
                locality: options.locality,
                range,
                vips: local.vips,
                redirect: None,
                proxy,
                dns,
                forward: local.forward,
                tasks: streams.clone(),
            };
            Some(way_in::start(way_in, &shutdown))
        }
    };

    let reported = paths.clone();
    let sources = node::metrics::Sources {
        tunnel: tunnel.clone(),
        paths: Box::new(move || reported.reports()),
        routes: routes.clone(),
        store: store.clone(),
        upstream: upstream.clone(),
        credentials: credentials.clone(),
        dns: answered,
    };
    node::metrics::add(&metrics, sources)?;
    // The config on disk counts before the first stream comes in.
    routes.handle_config(&store.current());
    let kept = tokio::spawn(store.clone().keep(late.clone()));
    // Ends by itself once the federation knows that this gateway leaves; connecting again would take that back.
    let reporting = Shutdown::new();
    let renewing = store.clone();
    tokio::spawn(config_stream.run(reporting.clone()));
    tokio::spawn(routes.clone().run(store.clone(), late.clone()));
    tokio::spawn(report::follow_config(paths.clone(), tunnel.clone(), store, ready, late.clone()));
    tokio::spawn(paths.clone().run(late.clone()));
    tokio::spawn(report::tell(
        paths.clone(),
        routes.clone(),
        problems.clone(),
        upstream.clone(),
        late.clone(),
    ));
    let obeying = report::obey(commands, paths.clone(), carrier.clone(), upstream.clone(), shutdown.clone());
    tokio::spawn(obeying);
    tokio::spawn(enroll::keep_renewed(
        credentials,
        folder,
        dial,
        trust,
        renewing,
        routes.tally().clone(),
        late.clone(),
    ));
    let door = Door {
        paths: paths.clone(),
        routes: routes.clone(),
        limits: Arc::new(options.limits),
        carrier,
        streams: streams.clone(),
    };
    tokio::spawn(door.clone().accept(tunnel.clone()));
    tokio::spawn(door.serve(connections));

    let tunnel_address = tunnel.local_address();
    info!(%name, site = %site.id, address = %tunnel_address, "gateway is up");
    let limit = options.drain_timeout;
    let leaving = Leaving { tunnel, paths, streams, limit, upstream, reporting, late, kept, lock };
    let ended = tokio::spawn(async move {
        shutdown.begun().await;
        leaving.leave().await;
    });
    Ok(Handle { tunnel_address, problems, ended })
}

/// The tunnel does not know how its port was chosen.
fn named(error: TunnelError, setting: &str) -> anyhow::Error {
    match error {
        TunnelError::Bind(BindError::InUse { address, transport, .. }) => {
            BindError::InUse { address, transport, setting: setting.to_owned() }.into()
        }
        error => error.into(),
    }
}

async fn bind_local(
    local: &Local,
    setting: impl Fn(&'static str) -> &'static str,
) -> anyhow::Result<(Option<TcpListener>, Option<Dns>)> {
    let proxy = match local.proxy {
        None => None,
        Some(address) => Some(runtime::bind::bind_tcp(address, setting("ports.proxy")).await?),
    };
    let dns = match local.dns {
        None => None,
        Some(address) => Some(Dns::bind(address, setting("ports.dns")).await?),
    };
    Ok((proxy, dns))
}

async fn membership(options: &Options, folder: &NodeFolder, dial: &dyn Dial) -> anyhow::Result<Membership> {
    if let Entry::Given(membership) = &options.entry {
        folder.store(membership)?;
        return Ok((**membership).clone());
    }
    if let Some(membership) = folder.membership()? {
        let over = membership.credentials.not_after_ms() <= runtime::clock::unix_ms();
        if over {
            warn!(
                "the certificate of this gateway has run out (or its clock is ahead): join again with a new token"
            );
        }
        if !over || !matches!(options.entry, Entry::Token(_)) {
            return Ok(membership);
        }
    }
    let Entry::Token(token) = &options.entry else {
        bail!(
            "{} holds no membership of a site: start the gateway with a token, from `meshfed token gateway NAME`",
            options.folder.display()
        );
    };
    if token.kind != NodeKind::Gateway {
        bail!(
            "this token lets an agent join; make one for a gateway with `meshfed token gateway {}`",
            token.name
        );
    }
    let advertised = options.advertise.unwrap_or(SocketAddr::new(options.address, options.port));
    let way = dial_for(dial, JOIN_FOR).await.with_context(|| {
        format!(
            "the federation at {} cannot be reached, and this gateway has not joined yet",
            options.federation
        )
    })?;
    let membership = enroll::join(token, way, Some(advertised)).await?;
    folder.store(&membership)?;
    Ok(membership)
}

/// Dials until it succeeds, for some time: the federation may be starting.
async fn dial_for(dial: &dyn Dial, time: Duration) -> io::Result<Box<dyn Io>> {
    let mut backoff = runtime::backoff::Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let until = tokio::time::Instant::now() + time;
    loop {
        match dial.dial().await {
            Ok(way) => return Ok(way),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error),
            Err(_) => tokio::time::sleep(backoff.next_wait()).await,
        }
    }
}

/// What is left to wait for when a gateway leaves.
struct Leaving {
    tunnel: Tunnel,
    paths: Arc<Paths>,
    streams: Tasks,
    limit: Duration,
    upstream: Upstream,
    /// Ends the config stream.
    reporting: Shutdown,
    late: Shutdown,
    kept: JoinHandle<()>,
    /// Of the folder: the next process may have it once this one has left.
    lock: FolderLock,
}

impl Leaving {
    /// Has others place what is new elsewhere, lets what is open finish, and ends. Who has nobody else yet, since
    /// another gateway has only just come up, is served until it has, for at most [`LINGER`].
    async fn leave(self) {
        self.paths.tell_draining(true);
        info!(
            streams = self.streams.running(),
            "the gateway leaves: new streams go elsewhere, open ones finish"
        );
        tokio::time::sleep(GRACE.min(self.limit)).await;
        drain_within(LINGER.min(self.limit), self.empty()).await;
        self.paths.set_draining(true);
        if !drain_within(self.limit, self.empty()).await {
            warn!(streams = self.streams.running(), limit = ?self.limit, "streams are still open, and are cut off");
        }
        self.streams.finish(Duration::ZERO).await;
        self.withdraw().await;
        self.tunnel.close(CloseCode::Drained, "the gateway leaves");
        drain_within(GOODBYE, self.tunnel.wait_idle()).await;
        self.late.begin();
        // The last config reaches the disk.
        let _ = self.kept.await;
        drop(self.lock);
    }

    /// Resolves when no stream is open.
    async fn empty(&self) {
        while self.streams.running() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has the federation take this gateway from those that others dial. It ends the config stream when it has heard it;
    /// one that does not answer keeps it for as long as it keeps a gateway that was killed.
    async fn withdraw(&self) {
        let mut connected = self.upstream.connected();
        let heard = async {
            self.upstream.send(NodeMessage::Leaving).await;
            // Its sender ends with the stream, which is an answer too.
            let _ = connected.wait_for(|connected| !connected).await;
        };
        if !drain_within(WITHDRAW, heard).await {
            warn!(limit = ?WITHDRAW, "the federation does not answer, and goes on telling others of this gateway");
        }
        self.reporting.begin();
    }
}
