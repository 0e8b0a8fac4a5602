//! Names that are not ours: asked of the resolvers of the host, through a cache, never of ourselves.

use futures_util::future::{BoxFuture, FutureExt, Shared};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, Record, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tracing::{info, warn};

/// Where names go that are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// To the resolvers of the host, as its `resolv.conf` names them; the file is read again when it changes.
    System,
    /// To these.
    Servers(Vec<SocketAddr>),
    /// Nowhere.
    Nowhere,
}

/// Why a name could not be forwarded. The caller sees SERVFAIL.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForwardError {
    /// There is nobody to ask.
    #[error("no resolver to ask: {reason}")]
    NoResolver {
        /// Why.
        reason: String,
    },
    /// Too many questions are open.
    #[error("{max} questions are open already")]
    Busy {
        /// The limit.
        max: usize,
    },
    /// The resolvers did not answer, or not sensibly.
    #[error("the resolvers did not answer: {reason}")]
    Upstream {
        /// What the library says.
        reason: String,
    },
}

/// What a resolver said.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

/// Most questions that are open at a time.
const OPEN_MAX: usize = 256;
/// How long one resolver is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Answers in the cache.
const CACHE_SIZE: u64 = 4_096;
/// How often the resolvers of the host are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The stub of systemd-resolved. It may ask us in turn, so the servers behind it are asked instead.
const RESOLVED_STUB: [u8; 4] = [127, 0, 0, 53];

type Question = (Name, RecordType);
type Asking = Shared<BoxFuture<'static, Result<Arc<Upstream>, ForwardError>>>;

/// Asks the resolvers. One question that several ask at a time is asked once; so if an upstream resolver asks us what
/// we ask it, the question waits for itself and fails, and does not go round and round.
pub(super) struct Forwarder {
    forward: Forward,
    own: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    resolver: Option<Known>,
    /// Open questions, at most `OPEN_MAX`.
    open: BTreeMap<Question, Asking>,
}

/// A resolver, or why there is none, with what it was made from.
struct Known {
    resolver: Result<TokioResolver, ForwardError>,
    looked: Instant,
    changed: Vec<Option<SystemTime>>,
}

impl Forwarder {
    pub(super) fn new(forward: Forward, own: SocketAddr) -> Self {
        Self { forward, own, state: Mutex::default() }
    }

    pub(super) async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Upstream, ForwardError> {
        let question = (name.to_lowercase(), kind);
        let asking = self.ask(&question)?;
        let answer = asking.await;
        // Whoever is first takes the finished question away; for the others there is nothing left to take.
        let mut state = self.state();
        if state.open.get(&question).is_some_and(|open| open.peek().is_some()) {
            state.open.remove(&question);
        }
        drop(state);
        answer.map(|answer| Upstream::clone(&answer))
    }

    fn ask(&self, question: &Question) -> Result<Asking, ForwardError> {
        let mut state = self.state();
        if let Some(open) = state.open.get(question) {
            return Ok(open.clone());
        }
        // A caller that is cut off leaves its question behind.
        state.open.retain(|_, asking| asking.peek().is_none() && asking.strong_count() != Some(1));
        if state.open.len() >= OPEN_MAX {
            return Err(ForwardError::Busy { max: OPEN_MAX });
        }
        let resolver = self.resolver(&mut state)?;
        let (name, kind) = question.clone();
        let asking = async move { ask(resolver, name, kind).await.map(Arc::new) }.boxed().shared();
        state.open.insert(question.clone(), asking.clone());
        Ok(asking)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves the state half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolver(&self, state: &mut State) -> Result<TokioResolver, ForwardError> {
        let now = Instant::now();
        if let Some(known) = &mut state.resolver {
            if now.duration_since(known.looked) < LOOK_EVERY || !self.is_system() {
                return known.resolver.clone();
            }
            known.looked = now;
            if known.changed == changed() {
                return known.resolver.clone();
            }
        }
        let known = Known { changed: changed(), resolver: self.build(), looked: now };
        match &known.resolver {
            Ok(_) => info!("names outside the mesh go to the resolvers of the host"),
            Err(error) => warn!(%error, "names outside the mesh cannot be resolved"),
        }
        let resolver = known.resolver.clone();
        state.resolver = Some(known);
        resolver
    }

    fn is_system(&self) -> bool {
        matches!(self.forward, Forward::System)
    }

    fn build(&self) -> Result<TokioResolver, ForwardError> {
        let servers = match &self.forward {
            Forward::Nowhere => {
                return Err(ForwardError::NoResolver { reason: "forwarding is switched off".to_owned() });
            }
            Forward::Servers(servers) => servers.clone(),
            Forward::System => of_the_host().map_err(|reason| ForwardError::NoResolver { reason })?,
        };
        let servers = without(self.own, servers);
        if servers.is_empty() {
            let reason = format!("the host names only this process ({}) as its resolver", self.own);
            return Err(ForwardError::NoResolver { reason });
        }
        build(&servers)
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, ForwardError> {
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        NameServerConfig::new(address.ip(), true, connections)
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 1;
    options.cache_size = CACHE_SIZE;
    // The hosts file is the business of the programs that ask.
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let failed = |error: NetError| ForwardError::NoResolver { reason: error.to_string() };
    builder.with_options(options).build().map_err(failed)
}

async fn ask(resolver: TokioResolver, name: Name, kind: RecordType) -> Result<Upstream, ForwardError> {
    let mut name = name;
    name.set_fqdn(true);
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(Upstream {
            code: ResponseCode::NoError,
            answers: lookup.answers().to_vec(),
            authorities: Vec::new(),
        }),
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, soa, .. }))) => Ok(Upstream {
            code: response_code,
            answers: Vec::new(),
            authorities: soa.map(|soa| soa.into_record_of_rdata()).into_iter().collect(),
        }),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            Ok(Upstream { code, answers: Vec::new(), authorities: Vec::new() })
        }
        Err(error) => Err(ForwardError::Upstream { reason: error.to_string() }),
    }
}

/// Files that name the resolvers of the host, the first one first.
fn files() -> [PathBuf; 2] {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(PathBuf::from)
}

fn changed() -> Vec<Option<SystemTime>> {
    files().iter().map(|file| std::fs::metadata(file).and_then(|of| of.modified()).ok()).collect()
}

/// The resolvers of the host; in place of the stub of systemd-resolved those behind it.
fn of_the_host() -> Result<Vec<SocketAddr>, String> {
    let [first, behind] = files();
    let servers = read(&first).map_err(|error| format!("cannot read {}: {error}", first.display()))?;
    let stub = IpAddr::from(RESOLVED_STUB);
    if servers.iter().all(|server| server.ip() == stub)
        && let Ok(servers) = read(&behind)
        && !servers.is_empty()
    {
        return Ok(servers);
    }
    Ok(servers)
}

fn read(file: &Path) -> io::Result<Vec<SocketAddr>> {
    const PORT: u16 = 53;
    let text = std::fs::read(file)?;
    let (config, _) = parse_resolv_conf(text).map_err(io::Error::other)?;
    Ok(config.name_servers().iter().map(|server| SocketAddr::new(server.ip, PORT)).collect())
}

/// Leaves ourselves out.
fn without(own: SocketAddr, servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
    servers.into_iter().filter(|server| *server != own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_asks_itself() {
        let own: SocketAddr = "127.0.3.1:53".parse().expect("valid");
        let other: SocketAddr = "10.0.0.53:53".parse().expect("valid");
        assert_eq!(without(own, vec![own, other]), [other]);
        let alone = Forwarder::new(Forward::Servers(vec![own]), own);
        let Err(error) = alone.build() else { panic!("nobody is left") };
        let error = error.to_string();
        assert!(error.contains("names only this process (127.0.3.1:53)"), "{error}");
    }
}
