//! What `demo`, `up` and the figures share: a place for files, a mesh, the load's view of it, and the way to leave.

use crate::failure::{Failure, OrFail};
use crate::output::Ui;
use bench::http1::Target;
use bench::load::OpenLoop;
use bench::report::Kill;
use live::mesh::{Mesh, MeshError, Options, Part};
use live::place::Block;
use live::ready::{self, NotReady};
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topologies::plan::{ClientPlan, plan};
use topologies::schema::Topology;

/// How long each step of a start may take, on a busy host.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// How long the catalogs may take to spread at the start.
const SPREAD_LIMIT: Duration = Duration::from_secs(30);

/// A directory for site directories and logs.
#[derive(Debug)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// It is removed when all went well.
    temporary: bool,
}

impl Place {
    /// Takes the directory that was named, or makes a temporary one.
    ///
    /// # Errors
    /// It has files in it already, or cannot be made.
    pub fn take(wanted: Option<&Path>, what: &str) -> Result<Self, Failure> {
        let path = match wanted {
            Some(path) => std::path::absolute(path).or_fail(|| format!("{} is no path", path.display()))?,
            None => {
                let number = runtime::clock::unix_ms() % 1_000_000;
                std::env::temp_dir().join(format!("meshfed-{what}-{}-{number}", std::process::id()))
            }
        };
        std::fs::create_dir_all(&path).or_fail(|| format!("{} cannot be made", path.display()))?;
        let mut entries =
            std::fs::read_dir(&path).or_fail(|| format!("{} cannot be read", path.display()))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format!("{} is not empty", path.display()))
                .fix("name a new directory, or leave --dir out"));
        }
        Ok(Self { path, temporary: wanted.is_none() })
    }

    /// Removes it, if it is temporary. Answers whether it did.
    pub fn remove(self) -> bool {
        self.temporary && std::fs::remove_dir_all(&self.path).is_ok()
    }
}

/// A mesh that runs, or the reason why not.
#[derive(Debug)]
pub enum Started {
    /// It runs.
    Running(Box<Mesh>),
    /// Somebody pressed Ctrl-C before it did; everything that had been started is ended.
    Interrupted,
}

/// Starts a topology, and says each step.
///
/// # Errors
/// Something did not start; everything that did is ended.
pub async fn start(
    topology: &Topology,
    place: &Place,
    shutdown: &Shutdown,
    ui: &Ui,
) -> Result<Started, Failure> {
    let program = std::env::current_exe().or_fail(|| "the program cannot find itself".to_owned())?;
    start_program(&program, topology, place, shutdown, ui).await
}

/// [`start`], with the program that is the `meshfed` of every process.
///
/// # Errors
/// Something did not start; everything that did is ended.
pub async fn start_program(
    program: &Path,
    topology: &Topology,
    place: &Place,
    shutdown: &Shutdown,
    ui: &Ui,
) -> Result<Started, Failure> {
    let block = Block::take().or_fail(|| "there is no place for it on this host".to_owned())?;
    let plan = plan(topology, block.number());
    let options = Options {
        program: program.to_owned(),
        directory: place.path.clone(),
        seed: 1,
        log: std::env::var("MESHFED_LOG").unwrap_or_else(|_| "info".to_owned()),
        limit: STEP_LIMIT,
    };
    ui.progress(format!(
        "  addresses 127.{}.0.0/16, files and logs in {}",
        block.number(),
        place.path.display()
    ));
    let mut tell = |line: String| ui.progress(format!("  {line}"));
    tokio::select! {
        started = Mesh::start(plan, block, options, &mut tell) => match started {
            Ok(mesh) => Ok(Started::Running(Box::new(mesh))),
            Err(error) => Err(failed(&error, place)),
        },
        () = shutdown.begun() => Ok(Started::Interrupted),
    }
}

/// What went wrong in a mesh, and where its logs are.
pub fn failed(error: &MeshError, place: &Place) -> Failure {
    let text = runtime::telemetry::chain(error).to_string();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    Failure::new(first)
        .seen(rest)
        .fix(format!("everything is ended; the logs are kept in {}", place.path.join("logs").display()))
}

/// Waits until the site of a client knows a healthy endpoint of its service in every site that has a workload of it.
///
/// # Errors
/// It took too long; says what the site knew last.
pub async fn everywhere(mesh: &Mesh, client: &ClientPlan) -> Result<(), NotReady> {
    let (service, context) = (client.service.to_string(), client.site.to_string());
    let workloads = mesh.plan().workloads.iter().filter(|workload| workload.service == client.service);
    let sites = workloads.map(|workload| &workload.site).collect::<BTreeSet<_>>().len();
    ready::until(&format!("{service} in {sites} sites"), SPREAD_LIMIT, || async {
        let args = ["get", "services", &service, "--json", "--context", &context];
        let text = mesh.run(&args).await.map_err(|error| error.to_string())?;
        let view: api::rest::service::ServiceView =
            serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let usable = |state: &str| matches!(state, "own" | "connected" | "degraded");
        let good = view.sites.iter().filter(|site| site.healthy > 0 && usable(&site.state)).count();
        let seen: Vec<String> = view
            .sites
            .iter()
            .map(|s| format!("{} {} of {} ({})", s.site, s.healthy, s.total, s.state))
            .collect();
        if good == sites { Ok(()) } else { Err(format!("{context} sees {}", seen.join(", "))) }
    })
    .await
}

/// Starts the load of a client, and says where it enters.
///
/// # Errors
/// It has no way in, or cannot be sent.
pub async fn load(mesh: &Mesh, client: &ClientPlan) -> Result<(OpenLoop, SocketAddr), Failure> {
    let entry = mesh
        .entry(client)
        .await
        .map_err(|seen| Failure::new(format!("client {} has no way in", client.name)).seen(seen))?;
    let target = Target {
        path: client.path.clone(),
        keepalive: client.keepalive,
        timeout: client.timeout,
        ..Target::new(entry)
    };
    let load = OpenLoop::start(target, f64::from(client.rate))
        .or_fail(|| format!("the load of client {} cannot be sent", client.name))?;
    Ok((load, entry))
}

/// Kills a part, on the clock of a load.
///
/// # Errors
/// There is no such part, or it cannot be killed.
pub async fn kill(mesh: &mut Mesh, part: &Part, load: &OpenLoop) -> Result<Kill, MeshError> {
    let before = load.now();
    mesh.kill(part).await?;
    Ok(Kill { before, after: load.now() })
}
