//! A whole mesh: started from a plan, watched, broken and mended part by part, ended.

mod assemble;

use crate::command::{CommandError, Runner};
use crate::dns;
use crate::place::{Block, Range};
use crate::process::{Killed, Process, ProcessError};
use crate::ready::{self, NotReady};
use crate::relays::Relays;
pub use experiment::part::Part;
use relay::RelayError;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use topologies::plan::{ClientPlan, Plan};

/// Ports of processes that say whether they are ready, and that of DNS (design, section 3).
const FEDERATION_HEALTH: u16 = 15081;
const GATEWAY_HEALTH: u16 = 15082;
const AGENT_HEALTH: u16 = 15083;
const DNS: u16 = 15053;
/// How long the processes are given to end by themselves.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How a mesh is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `meshfed` program.
    pub program: PathBuf,
    /// An existing directory for site directories, logs and the contexts file.
    pub directory: PathBuf,
    /// Seed of what the links lose.
    pub seed: u64,
    /// Log filter of the processes.
    pub log: String,
    /// How long each step is given.
    pub limit: Duration,
}

/// A mesh that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// A process would not start, or has ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Something did not become ready.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// A link could not be started.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A file could not be written.
    #[error("{path} cannot be written")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: runtime::file::FileError,
    },
    /// A directory could not be made.
    #[error("{path} cannot be made")]
    Directory {
        /// Which.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A resource of the topology has no form in a file.
    #[error("a resource of the topology cannot be written: {reason}")]
    Resource {
        /// Why.
        reason: String,
    },
    /// There is no such part.
    #[error("there is no {part} in this mesh")]
    NoSuchPart {
        /// Which.
        part: String,
    },
}

/// A running mesh. Dropping it kills every process; [`Mesh::end`] lets them leave in order.
#[derive(Debug)]
pub struct Mesh {
    plan: Plan,
    options: Options,
    runner: Runner,
    processes: BTreeMap<Part, Process>,
    relays: Relays,
    /// Held for as long as the mesh runs.
    ranges: Vec<Range>,
    _block: Block,
}

impl Mesh {
    /// Starts everything that a plan names, links the sites, exposes the workloads, and waits until every client can
    /// be served. `tell` hears each step when it is done.
    ///
    /// # Errors
    /// The first thing that went wrong; what was started by then is ended.
    pub async fn start(
        plan: Plan,
        block: Block,
        options: Options,
        tell: &mut (dyn FnMut(String) + Send),
    ) -> Result<Self, MeshError> {
        assemble::assemble(plan, block, options, tell).await
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The links.
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Where site directories, logs and the contexts file are.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// The contexts file of this mesh, for `MESHFED_CONFIG`.
    pub fn contexts(&self) -> PathBuf {
        assemble::contexts(&self.options.directory)
    }

    /// Runs a `meshfed` command against this mesh and returns its standard output.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn run(&self, args: &[&str]) -> Result<String, CommandError> {
        self.runner.run(args).await
    }

    /// All parts, in order of name.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.processes.keys()
    }

    /// kill -9.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`], [`MeshError::Process`].
    pub async fn kill(&mut self, part: &Part) -> Result<Killed, MeshError> {
        Ok(self.process(part)?.kill().await?)
    }

    /// Stops a part as SIGSTOP does: it keeps what it has and does nothing.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`], [`MeshError::Process`].
    pub async fn freeze(&mut self, part: &Part) -> Result<Killed, MeshError> {
        Ok(self.process(part)?.freeze().await?)
    }

    /// Lets a part that was frozen go on.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`], [`MeshError::Process`].
    pub fn thaw(&mut self, part: &Part) -> Result<(), MeshError> {
        Ok(self.process(part)?.thaw()?)
    }

    /// Process id of a part, while it runs.
    pub fn pid(&self, part: &Part) -> Option<u32> {
        self.processes.get(part).and_then(Process::pid)
    }

    /// Asks a part to end, as SIGTERM does, and waits.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`], [`MeshError::Process`].
    pub async fn stop(&mut self, part: &Part, limit: Duration) -> Result<bool, MeshError> {
        Ok(self.process(part)?.end(limit).await?)
    }

    /// Starts a part again that was killed or has ended.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`], [`MeshError::Process`].
    pub fn start_again(&mut self, part: &Part) -> Result<(), MeshError> {
        Ok(self.process(part)?.start_again()?)
    }

    /// Waits until a part says that it is ready.
    ///
    /// # Errors
    /// It has ended, or the time is up.
    pub async fn ready(&mut self, part: &Part) -> Result<(), MeshError> {
        let address = self.health(part)?;
        let limit = self.options.limit;
        let is_workload = matches!(part, Part::Workload(_));
        let name = part.to_string();
        let process = self.process(part)?;
        let waiting = ready::until(&name, limit, || async {
            if is_workload { ready::listens(address).await } else { ready::answers_readyz(address).await }
        });
        tokio::select! {
            waited = waiting => Ok(waited?),
            ended = watch(process) => Err(ended.into()),
        }
    }

    /// Makes sure that every part runs that should.
    ///
    /// # Errors
    /// The first that has ended by itself.
    pub fn check(&mut self) -> Result<(), MeshError> {
        self.processes.values_mut().try_for_each(Process::check).map_err(MeshError::from)
    }

    /// Finds the address at which a client reaches its service: the VIP that the agent of its host serves.
    ///
    /// # Errors
    /// What was seen instead, in words.
    pub async fn entry(&self, client: &ClientPlan) -> Result<SocketAddr, String> {
        let server = self
            .host(&client.site.to_string(), &client.host.to_string())
            .map(|ip| SocketAddr::new(ip.into(), DNS));
        let server = server.ok_or_else(|| format!("there is no host {} in {}", client.host, client.site))?;
        let vip = dns::resolve(server, &client.service.dns_name()).await?;
        Ok(SocketAddr::new(vip.into(), client.port))
    }

    /// Ends everything: workloads last, so that what drains is still answered.
    pub async fn end(mut self) {
        let mut parts: Vec<(Part, Process)> = std::mem::take(&mut self.processes).into_iter().collect();
        parts.reverse();
        let (workloads, ours): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|(part, _)| matches!(part, Part::Workload(_)));
        for group in [ours, workloads] {
            let mut ends = tokio::task::JoinSet::new();
            for (part, mut process) in group {
                ends.spawn(async move {
                    match process.end(END_LIMIT).await {
                        Ok(true) => {}
                        Ok(false) => tracing::debug!(%part, "killed at the end"),
                        Err(error) => tracing::warn!(%part, %error, "cannot be ended"),
                    }
                });
            }
            while ends.join_next().await.is_some() {}
        }
    }

    fn process(&mut self, part: &Part) -> Result<&mut Process, MeshError> {
        self.processes.get_mut(part).ok_or_else(|| MeshError::NoSuchPart { part: part.to_string() })
    }

    fn host(&self, site: &str, host: &str) -> Option<Ipv4Addr> {
        let site = self.plan.sites.iter().find(|s| s.name.as_str() == site)?;
        site.hosts.iter().find(|h| h.name.as_str() == host).map(|h| h.address)
    }

    /// Where a part says how it is: `/readyz`, `/metrics`. A workload: where it listens.
    ///
    /// # Errors
    /// [`MeshError::NoSuchPart`].
    pub fn health(&self, part: &Part) -> Result<SocketAddr, MeshError> {
        let site = |name: &str| self.plan.sites.iter().find(|s| s.name.as_str() == name);
        let address = match part {
            Part::Workload(instance) => {
                self.plan.workloads.iter().find(|w| w.instance == *instance).map(|w| w.listen)
            }
            Part::Federation(name) => {
                site(name).map(|s| SocketAddr::new(s.federation.into(), FEDERATION_HEALTH))
            }
            Part::Gateway(name, gateway) => site(name)
                .and_then(|s| s.gateways.iter().find(|g| g.name.as_str() == gateway))
                .map(|g| SocketAddr::new(g.address.into(), GATEWAY_HEALTH)),
            Part::Agent(name, host) => {
                self.host(name, host).map(|ip| SocketAddr::new(ip.into(), AGENT_HEALTH))
            }
        };
        address.ok_or_else(|| MeshError::NoSuchPart { part: part.to_string() })
    }
}

/// Resolves when the process has ended.
async fn watch(process: &mut Process) -> ProcessError {
    loop {
        if let Err(error) = process.check() {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
