//! The ways in for programs of this host: virtual IPs, the proxy port, DNS. All lead to [`crate::route`].

use crate::config::NodeConfig;
use crate::route::{Asked, ClientRoute, Ways};
use crate::routes::Routes;
use crate::store::ConfigStore;
use crate::tally::Tally;
use gateway_core::attempt::Settings;
use local::dns::{Dns, Forward};
use local::names::{NameTable, Target};
use local::proxy::{self, ProxyLimits};
use local::vip::{Skipped, VipListeners, VipSettings};
use model::config::VipRange;
use model::identity::{Proof, SpiffeId};
use model::ids::SiteId;
use model::locality::Locality;
use model::routing::{Caller, FailoverPolicy, Group, Import};
use model::service::ServiceKind;
use runtime::shutdown::{Shutdown, Tasks};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};
use tunnel::originate::{self, Client, Request};

/// Clients that are served at a time by one process; more wait in the kernel.
const CLIENTS_MAX: usize = 20_000;
/// How long a listener rests that could not accept, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two tables of names: the first change counts at once, those that follow closely together.
const NAMES_EVERY: Duration = Duration::from_millis(10);
/// How often it is looked whether a virtual IP that could not be listened on can be by now.
const PUBLISH_EVERY: Duration = Duration::from_secs(2);

/// What the ways in need.
pub struct WayIn {
    /// Decides.
    pub routes: Arc<Routes>,
    /// Leads there.
    pub ways: Arc<dyn Ways>,
    /// Imports come from here.
    pub store: Arc<ConfigStore>,
    /// Who a caller on this host is, as far as is known: the node itself.
    pub identity: SpiffeId,
    /// Own site.
    pub site: SiteId,
    /// Where the callers are; the default is the site's.
    pub locality: Option<Locality>,
    /// The /16 from which this process takes virtual IPs; none: those that the federation names, as they are.
    pub range: Option<VipRange>,
    /// Which virtual IPs and ports are left to others.
    pub vips: VipSettings,
    /// The one listener behind the redirect of `agent setup`.
    pub redirect: Option<TcpListener>,
    /// The SOCKS5 and HTTP CONNECT port.
    pub proxy: Option<TcpListener>,
    /// The DNS port.
    pub dns: Option<Dns>,
    /// Where other names go.
    pub forward: Forward,
    /// Connections of clients, which are finished when the process leaves.
    pub tasks: Tasks,
}

/// What programs of this host cannot reach by a virtual IP, and the way out, for `status`.
pub type Problems = watch::Receiver<Vec<String>>;

/// Ports of the workloads of this host, while they change.
pub type WorkloadPorts = watch::Receiver<BTreeSet<u16>>;

/// Serves the ways in until shutdown begins. Connections that were accepted live on.
pub fn start(way_in: WayIn, shutdown: &Shutdown) -> Problems {
    let (_, none) = watch::channel(way_in.vips.workload_ports.clone());
    start_beside(way_in, none, shutdown)
}

/// [`start`] on a host with workloads: a virtual IP is not listened on at a port that one of them has, or it could not
/// start again.
pub fn start_beside(way_in: WayIn, workload_ports: WorkloadPorts, shutdown: &Shutdown) -> Problems {
    let (problems, receiver) = watch::channel(Vec::new());
    let first = names_of(&way_in.store.current(), &way_in.site, way_in.range);
    let (names, table) = watch::channel(Arc::new(first));
    let server = Arc::new(Server {
        routes: way_in.routes,
        ways: way_in.ways,
        identity: way_in.identity,
        site: way_in.site.clone(),
        locality: way_in.locality,
        store: way_in.store.clone(),
        places: Arc::new(Semaphore::new(CLIENTS_MAX)),
        tasks: way_in.tasks,
    });
    tokio::spawn(keep_names(way_in.store, way_in.site, way_in.range, names, shutdown.clone()));
    if let Some(dns) = way_in.dns {
        let (table, token) = (table.clone(), shutdown.token());
        tokio::spawn(async move {
            if let Err(error) = dns.run(table, way_in.forward, token).await {
                warn!(%error, "DNS is no longer answered here");
            }
        });
    }
    if let Some(listener) = way_in.proxy {
        tokio::spawn(server.clone().serve_proxy(listener, table.clone(), shutdown.clone()));
    }
    let mut settings = way_in.vips;
    settings.workload_ports = workload_ports.borrow().clone();
    let listeners = match way_in.redirect {
        Some(listener) => VipListeners::redirected(settings.clone(), table.borrow().clone(), listener),
        None => VipListeners::new(settings.clone(), table.borrow().clone()),
    };
    let tally = server.routes.tally().clone();
    let vips = Vips { listeners, settings, workload_ports, names: table, problems, tally };
    tokio::spawn(vips.serve(server, shutdown.clone()));
    receiver
}

/// A virtual IP as this process has it: the host part is the federation's, the range is the process's own, so that
/// several processes of one host do not take each other's ports.
pub fn own_vip(vip: Ipv4Addr, range: Option<VipRange>) -> Ipv4Addr {
    let Some(range) = range else { return vip };
    let host_part = vip.to_bits() & 0xffff;
    Ipv4Addr::from_bits((range.base.to_bits() & 0xffff_0000) | host_part)
}

fn names_of(config: &NodeConfig, site: &SiteId, range: Option<VipRange>) -> NameTable {
    let complete = config.site.as_ref().is_some_and(|site| site.names_complete);
    let imports: Vec<Import> = config.services.values().map(|import| as_named(import, range)).collect();
    NameTable::new(site.clone(), complete, &imports)
}

/// What names need of an import; the endpoints, which are most of it, only where they have names.
fn as_named(import: &Import, range: Option<VipRange>) -> Import {
    let group = |group: &Group| Group {
        endpoints: match import.kind {
            ServiceKind::Headless => group.endpoints.clone(),
            ServiceKind::ClusterSetIp => Vec::new(),
        },
        id: group.id.clone(),
        ..*group
    };
    Import {
        service: import.service.clone(),
        ports: import.ports.clone(),
        kind: import.kind,
        vip: import.vip.map(|vip| own_vip(vip, range)),
        groups: import.groups.iter().map(group).collect(),
        failover: FailoverPolicy::default(),
        access: Vec::new(),
    }
}

async fn keep_names(
    store: Arc<ConfigStore>,
    site: SiteId,
    range: Option<VipRange>,
    names: watch::Sender<Arc<NameTable>>,
    shutdown: Shutdown,
) {
    let mut config = store.subscribe();
    loop {
        let table = names_of(&config.borrow_and_update().clone(), &site, range);
        names.send_if_modified(|held| {
            let differs = **held != table;
            if differs {
                *held = Arc::new(table);
            }
            differs
        });
        let next = async {
            tokio::time::sleep(NAMES_EVERY).await;
            config.changed().await
        };
        tokio::select! {
            changed = next => if changed.is_err() { return },
            () = shutdown.begun() => return,
        }
    }
}

struct Server {
    routes: Arc<Routes>,
    ways: Arc<dyn Ways>,
    store: Arc<ConfigStore>,
    identity: SpiffeId,
    site: SiteId,
    locality: Option<Locality>,
    places: Arc<Semaphore>,
    tasks: Tasks,
}

impl Server {
    fn caller(&self) -> Caller {
        let of_site = || self.store.current().site.as_ref().map(|site| site.site.locality.clone());
        Caller {
            identity: Some(self.identity.clone()),
            proof: Proof::Host,
            site: self.site.clone(),
            locality: self.locality.clone().or_else(of_site).unwrap_or_default(),
            affinity: None,
        }
    }

    fn serve(self: &Arc<Self>, client: Client, target: Target, place: OwnedSemaphorePermit) {
        let pinned = match (target.site, target.endpoint) {
            (_, Some(endpoint)) => Some(model::tunnel::Target::Endpoint(self.site.clone(), endpoint)),
            (Some(site), None) => Some(model::tunnel::Target::Site(site)),
            (None, None) => None,
        };
        let asked = Asked::here(target.service, target.port, self.caller(), pinned);
        let route = ClientRoute::new(self.routes.clone(), self.ways.clone(), asked);
        let request = Request { client, retry_safe: route.is_retry_safe(), settings: Settings::default() };
        let tally = self.routes.tally().clone();
        self.tasks.spawn(async move {
            let finish = originate::run(request, route).await;
            tally.finished(&finish);
            debug!(?finish, "a client is done");
            drop(place);
        });
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn serve_proxy(
        self: Arc<Self>,
        listener: TcpListener,
        names: watch::Receiver<Arc<NameTable>>,
        shutdown: Shutdown,
    ) {
        loop {
            let next = async {
                let place = self.place().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                next = next => next,
                () = shutdown.begun() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let table = names.borrow().clone();
                    tokio::spawn(self.clone().serve_proxied(stream, table, place));
                }
                Err(error) => {
                    warn!(%error, "the proxy cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_proxied(
        self: Arc<Self>,
        stream: TcpStream,
        names: Arc<NameTable>,
        place: OwnedSemaphorePermit,
    ) {
        match proxy::handshake(stream, &names, &ProxyLimits::default()).await {
            Ok(pending) => {
                let target = pending.target().clone();
                let (stream, replies) = pending.into_parts();
                let told = originate::Replies {
                    accepted: replies.granted(),
                    refused: Box::new(move |refusal| replies.refused(refusal)),
                };
                self.serve(Client::Proxied(stream.into(), told), target, place);
            }
            Err(error) => debug!(%error, "a caller of the proxy was turned away"),
        }
    }
}

/// The virtual IPs.
struct Vips {
    listeners: VipListeners,
    settings: VipSettings,
    workload_ports: WorkloadPorts,
    names: watch::Receiver<Arc<NameTable>>,
    problems: watch::Sender<Vec<String>>,
    tally: Arc<Tally>,
}

impl Vips {
    async fn serve(mut self, server: Arc<Server>, shutdown: Shutdown) {
        self.names.mark_changed();
        loop {
            let next = async {
                let place = server.place().await;
                (self.listeners.accept().await, place)
            };
            tokio::select! {
                (accepted, place) = next => {
                    server.serve(Client::Tcp(accepted.stream.into()), accepted.target, place);
                }
                changed = self.names.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let names = self.names.borrow_and_update().clone();
                    self.listeners.reconcile(names);
                    self.publish();
                }
                Ok(()) = self.workload_ports.changed() => {
                    self.settings.workload_ports = self.workload_ports.borrow_and_update().clone();
                    self.listeners.set_settings(self.settings.clone());
                    self.publish();
                }
                // Ports that were taken are tried again by the listeners themselves.
                () = tokio::time::sleep(PUBLISH_EVERY) => self.publish(),
                () = shutdown.begun() => return,
            }
        }
    }

    fn publish(&self) {
        self.tally.set_vips(self.listeners.open().count(), self.listeners.skipped());
        let words = |skipped: &Skipped| format!("{skipped}; {}", skipped.way_out());
        let found: Vec<String> = self.listeners.skipped().map(words).collect();
        self.problems.send_if_modified(|held| {
            let differs = *held != found;
            *held = found;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_ip_keeps_its_host_part_in_the_range_of_the_process() {
        let range = VipRange { base: Ipv4Addr::new(127, 70, 0, 0) };
        assert_eq!(own_vip(Ipv4Addr::new(127, 64, 1, 9), Some(range)), Ipv4Addr::new(127, 70, 1, 9));
        assert_eq!(own_vip(Ipv4Addr::new(127, 64, 1, 9), None), Ipv4Addr::new(127, 64, 1, 9));
    }
}
