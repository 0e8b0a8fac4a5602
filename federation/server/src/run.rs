//! A whole federation: its listeners, its hub, and what the caller needs of them.

use crate::answer::Answer;
use crate::grpc;
use crate::hub::{Hub, HubHandle, HubParts, SourceTrouble};
use crate::link;
use crate::listener;
use crate::names::NodeId;
use crate::options::Options;
use crate::pki::Pki;
use crate::rest;
use crate::site_dir::SiteDir;
use crate::store::{FileStore, Store, StoreError};
use anyhow::Context;
use model::ids::{GatewayName, Label};
use model::node::{SourceChange, SourceEvent};
use runtime::bind;
use runtime::health::{self, Health};
use runtime::metrics::Registry;
use runtime::shutdown::{Shutdown, Tasks};
use std::net::SocketAddr;
use std::time::Duration;
use sync_core::refused::Refused;
use sync_core::source::Session;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wire::enroll::JoinReply;

/// A running federation. Dropping it does not end it; its shutdown does.
pub struct Handle {
    /// Where enrolment, config and exchange are served.
    pub config_address: SocketAddr,
    /// Where the API is served.
    pub api_address: SocketAddr,
    /// Where health is served, when it is.
    pub health_address: Option<SocketAddr>,
    /// Whether it is ready.
    pub health: Health,
    /// The metrics of its process.
    pub metrics: Registry,
    hub: HubHandle,
    tasks: Tasks,
    ended: oneshot::Receiver<()>,
}

/// Opens the site directory and runs a federation on it. When it returns, all ports are bound and requests are
/// answered; it waits neither for gateways nor for other sites.
///
/// # Errors
/// The directory is no site, the store is locked or damaged, or a port is taken.
pub async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<Handle> {
    let open = |dir: &SiteDir| Ok(Box::new(FileStore::open(&dir.store())?) as Box<dyn Store>);
    run_on(options, open, shutdown).await
}

/// As [`run`], on another store than the file of the site directory.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    options: Options,
    open: impl FnOnce(&SiteDir) -> Result<Box<dyn Store>, StoreError>,
    shutdown: Shutdown,
) -> anyhow::Result<Handle> {
    let dir =
        SiteDir::open(&options.dir, &options.settings.trust_domain).context("open the site directory")?;
    let store = open(&dir).context("open the store")?;
    let (uid, vip_path) = (dir.uid, dir.vips());
    let vip_range = options.settings.vip_range.unwrap_or_else(|| dir.default_vip_range());
    let pki = Pki::new(dir, options.name.clone(), options.settings.leaf_lifetime)
        .context("prepare the certificate authority")?;

    let config_listener = bind::bind_tcp(options.config_address, "ports.config").await?;
    let api_listener = bind::bind_tcp(options.api_address, "ports.api").await?;
    let health_listener = match options.health_address {
        Some(address) => Some(bind::bind_tcp(address, "ports.health").await?),
        None => None,
    };
    let health_address = health_listener.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?;

    let metrics = match &options.metrics {
        Some(metrics) => metrics.clone(),
        None => Registry::new("federation", env!("CARGO_PKG_VERSION"))?,
    };
    let health = Health::new();
    let ready = health.check("federation");
    let parts = HubParts { options, uid, vip_range, pki: pki.clone(), store, vip_path };
    let (hub, handle, inputs) =
        Hub::start(parts, tokio::runtime::Handle::current()).context("read what the site has stored")?;
    crate::hub::metrics::add(&metrics, &handle)?;
    // The hub outlives the listeners, so that their last words are heard and stored.
    let stop_hub = CancellationToken::new();
    let ended = spawn_hub(hub, inputs, stop_hub.clone())?;

    let tasks = Tasks::new();
    let stop = shutdown.token();
    let connections = listener::accept(config_listener, grpc::tls(&handle), stop.clone())?;
    let config_address = connections.address();
    tasks.spawn({
        let (hub, stop) = (handle.clone(), stop.clone());
        async move {
            if let Err(error) = grpc::serve(connections, hub, stop).await {
                error!(error = %runtime::telemetry::chain(&error), "the config port has failed");
            }
        }
    });
    let connections = listener::accept(api_listener, rest::tls(&handle), stop.clone())?;
    let api_address = connections.address();
    tasks.spawn({
        let (hub, stop) = (handle.clone(), stop.clone());
        async move {
            if let Err(error) = rest::serve(connections, hub, config_address, stop).await {
                error!(%error, "the API port has failed");
            }
        }
    });
    if let Some(listener) = health_listener {
        tasks.spawn(health::serve(listener, health.clone(), metrics.clone(), stop.clone()));
    }
    tasks.spawn(pki.keep_young(stop.clone()));
    tasks.spawn(link::keep_confirming(handle.clone(), stop.clone()));
    tokio::spawn({
        let tasks = tasks.clone();
        async move {
            stop.cancelled().await;
            tasks.finish(Duration::from_secs(5)).await;
            stop_hub.cancel();
        }
    });
    ready.ready();
    info!(%config_address, %api_address, "federation is up");
    Ok(Handle { config_address, api_address, health_address, health, metrics, hub: handle, tasks, ended })
}

/// Runs the hub on a thread of its own, since it waits for the disk. The receiver hears when it has ended.
fn spawn_hub(
    hub: Hub,
    inputs: tokio::sync::mpsc::Receiver<crate::hub::Input>,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().context("make a runtime")?;
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("meshfed-hub".to_owned())
        .spawn(move || {
            runtime.block_on(hub.run(inputs, stop));
            let _ = sender.send(());
        })
        .context("start the hub's thread")?;
    Ok(ended)
}

impl Handle {
    /// Opens a source of services within this process, for a connector. Its name should be among the connectors of
    /// the options, so that its first full list is waited for after a start.
    ///
    /// # Errors
    /// There are too many sources, or the federation is leaving.
    pub async fn source(&self, name: Label) -> anyhow::Result<SourceSender> {
        let session = self.hub.ask(move |hub| hub.open_connector(name)).await??;
        Ok(SourceSender { hub: self.hub.clone(), session, sequence: 0 })
    }

    /// Where the connector of this name says what is wrong with its source, for `status` and events.
    pub fn troubles(&self, name: Label) -> TroubleSender {
        TroubleSender { hub: self.hub.clone(), name }
    }

    /// Makes a gateway of this process part of the site: it needs no token. The certificate request is that of its
    /// key.
    ///
    /// # Errors
    /// The request is not good, or the store cannot be written.
    pub async fn join_gateway(
        &self,
        name: GatewayName,
        csr_der: Vec<u8>,
        tunnel_address: Option<SocketAddr>,
    ) -> Answer<JoinReply> {
        self.hub.demand(move |hub| hub.join_local(NodeId::Gateway(name), &csr_der, tunnel_address)).await
    }

    /// The hub, for what has no method here.
    pub fn hub(&self) -> &HubHandle {
        &self.hub
    }

    /// Tasks that still run.
    pub fn running(&self) -> usize {
        self.tasks.running()
    }

    /// Waits until everything has ended and is stored; the shutdown must have begun.
    pub async fn ended(self) {
        drop(self.hub);
        let _ = self.ended.await;
    }
}

/// What a connector of this process tells its mistakes through.
pub struct TroubleSender {
    hub: HubHandle,
    name: Label,
}

impl TroubleSender {
    /// Says all that is wrong with the source; it takes the place of what was said before.
    ///
    /// # Errors
    /// The federation is leaving.
    pub async fn tell(&self, trouble: SourceTrouble) -> Result<(), crate::hub::Gone> {
        let name = self.name.clone();
        self.hub.ask(move |hub| hub.source_trouble(name, trouble)).await
    }
}

/// What a connector of this process speaks through.
pub struct SourceSender {
    hub: HubHandle,
    session: Session,
    sequence: u64,
}

/// Why a connector's word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It was refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The federation is leaving.
    #[error(transparent)]
    Gone(#[from] crate::hub::Gone),
}

impl SourceSender {
    /// Says something. A full list comes first: `Init`, each instance, `InitDone`.
    ///
    /// # Errors
    /// It was refused, or the federation is leaving.
    pub async fn send(&mut self, change: SourceChange) -> Result<(), SourceError> {
        self.sequence += 1;
        let (session, event) = (self.session.clone(), SourceEvent { sequence: self.sequence, change });
        Ok(self.hub.ask(move |hub| hub.connector_said(&session, event)).await??)
    }
}
