//! Parts are killed or frozen, and links cut, under load, and it is counted what callers saw.
//!
//! The load is that of the demo: 200 requests/s by a constant schedule, a new connection each, no retry. A request is
//! failed when it has no complete answer after 2 s.

use crate::blow::Blow;
use crate::icmp::{self, Icmp};
use crate::machine::Watch;
use crate::routed::Spread;
use crate::stage::{Setting, Stage};
use api::text::Text;
use bench::http1::Target;
use bench::load::OpenLoop;
use bench::report::{Kill, Phase, PhaseReport, report};
use bench::sample::{Outcome, Sample};
use live::mesh::{MeshError, Part};
use meshfed::commands::trial::everywhere;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use model::ids::HostName;
use serde::Serialize;
use std::time::{Duration, Instant};
use topologies::plan::ClientPlan;
use topologies::schema::{Host, Topology};

/// Goal for the longest gap after a killed gateway.
pub const GAP_GOAL_MS: f64 = 700.0;
/// Goal for the longest gap after a frozen gateway, and after a cut.
pub const SILENT_GOAL_MS: f64 = 1_000.0;
/// What a round sends before the blow, after it before it is lifted, and from then on where the load goes on.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(5);
const LIFTED: Duration = Duration::from_secs(3);
/// How long the load may take to return to the part that was killed.
const RETURN_LIMIT: Duration = Duration::from_secs(60);
/// Answers in a row by which the load has returned.
const RETURNED: u64 = 200;
/// How long a moment without an open request is waited for; there is none when answers take longer than it is from one
/// request to the next.
const AIM_LIMIT: Duration = Duration::from_secs(2);
/// How long a process may take to leave.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// How often something befalls the mesh.
#[derive(Debug, clap::Args)]
pub struct Rounds {
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// How long the federation is dead.
#[derive(Debug, clap::Args)]
pub struct Dead {
    /// How many seconds of load, all of them without the federation.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Several rounds.
#[derive(Debug, Serialize)]
pub struct Struck {
    /// What befell the mesh.
    pub blow: String,
    /// Requests of all rounds.
    pub requests: u64,
    /// Those without a complete answer.
    pub failed: u64,
    /// Those of `failed` that were open when the blow fell.
    pub in_flight: u64,
    /// The longest time without a completed answer, round by round.
    pub gap: Spread,
    /// Whether ICMP tells the survivors, as seen in the last round; only for killed gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Each round: what was killed is started again after it, everything else is lifted within it.
    pub rounds: Vec<PhaseReport>,
}

impl Struck {
    /// Whether nothing failed but what was in flight.
    pub fn held_in_flight(&self) -> bool {
        self.requests > 0 && self.failed == self.in_flight && self.icmp.is_none_or(Icmp::is_suppressed)
    }
}

/// Kills the endpoint in west, where the load is.
///
/// # Errors
/// Something did not start, or the load does not return.
pub async fn endpoint(args: &Rounds, setting: &Setting, ui: &Ui) -> Result<(Struck, Watch), Failure> {
    let blow = Blow::Kill(Part::Workload("west-cart-0".to_owned()));
    rounds(args, &demo()?, &blow, "west", setting, ui).await
}

/// Kills the only gateway of east, which serves west's load; dc takes over.
///
/// # Errors
/// Something did not start, or the load does not return.
pub async fn gateway(args: &Rounds, setting: &Setting, ui: &Ui) -> Result<(Struck, Watch), Failure> {
    rounds(args, &without_west()?, &Blow::Kill(only_gateway()), "east", setting, ui).await
}

/// Freezes it instead, and lets it go on under load.
///
/// # Errors
/// Something did not start, or the load does not return.
pub async fn frozen(args: &Rounds, setting: &Setting, ui: &Ui) -> Result<(Struck, Watch), Failure> {
    rounds(args, &without_west()?, &Blow::Freeze(only_gateway()), "east", setting, ui).await
}

/// Cuts the links of west and east instead, and heals them under load.
///
/// # Errors
/// Something did not start, or the load does not return.
pub async fn silent(args: &Rounds, setting: &Setting, ui: &Ui) -> Result<(Struck, Watch), Failure> {
    rounds(args, &without_west()?, &Blow::Cut("west", "east"), "east", setting, ui).await
}

fn only_gateway() -> Part {
    Part::Gateway("east".to_owned(), "gw-0".to_owned())
}

fn demo() -> Result<Topology, Failure> {
    Ok(topologies::read(topologies::DEMO_FILE, topologies::DEMO)?)
}

/// The demo's topology without the endpoint in west: every request crosses a link, to east first.
fn without_west() -> Result<Topology, Failure> {
    let mut topology = demo()?;
    topology.workloads.retain(|workload| workload.site.0.as_str() != "west");
    Ok(topology)
}

async fn rounds(
    args: &Rounds,
    topology: &Topology,
    blow: &Blow,
    home: &str,
    setting: &Setting,
    ui: &Ui,
) -> Result<(Struck, Watch), Failure> {
    ui.progress("the demo's three sites");
    let mut stage = Stage::start(topology, setting, ui).await?;
    let stopped = stage.interrupted();
    let measured = tokio::select! {
        measured = run_rounds(args.rounds, &mut stage, blow, home, ui) => measured,
        stopped = stopped => stopped,
    };
    stage.end(measured).await
}

async fn run_rounds(
    rounds: u32,
    stage: &mut Stage,
    blow: &Blow,
    home: &str,
    ui: &Ui,
) -> Result<(Struck, Watch), Failure> {
    let client = first_client(stage);
    spread(stage, &client).await?;
    returned(stage, home, &client).await?;
    let mut watch = Watch::begin();
    let mut reports = Vec::new();
    let mut icmp = None;
    for round in 0..rounds {
        let load = start_load(stage, &client).await?;
        until(&load, BEFORE).await;
        aim(&load, blow, round, rounds).await;
        let struck = blow.strike(stage, &load).await.map_err(|error| stage.failed(&error))?;
        if let Blow::Kill(Part::Gateway(site, gateway)) = blow {
            icmp = Some(icmp::listen(stage.mesh.plan(), site, gateway).await?);
        }
        until(&load, BEFORE + AFTER).await;
        if blow.is_lifted_under_load() {
            blow.lift(stage).map_err(|error| stage.failed(&error))?;
            until(&load, BEFORE + AFTER + LIFTED).await;
        }
        stage.mesh.check().map_err(|error| stage.failed(&error))?;
        let samples = load.finish().await;
        let name = format!("round {}", round + 1);
        let phase = Phase { name, requests: 0..u64::MAX };
        let counted = report(&samples, &[phase], &[struck]).phases.remove(0);
        ui.progress(format!(
            "  {}: {} requests, {} failed, {} in flight, longest gap {} ms",
            counted.name, counted.requests, counted.failed, counted.in_flight, counted.longest_gap_ms
        ));
        moved(&samples, &struck, home, blow)?;
        reports.push(counted);
        mend(stage, blow, home, &client).await?;
    }
    watch.end();
    let gaps: Vec<Duration> = reports.iter().map(|r| Duration::from_millis(r.longest_gap_ms)).collect();
    let numbers = Struck {
        blow: blow.to_string(),
        requests: reports.iter().map(|r| r.requests).sum(),
        failed: reports.iter().map(|r| r.failed).sum(),
        in_flight: reports.iter().map(|r| r.in_flight).sum(),
        gap: Spread::of(&gaps),
        icmp,
        rounds: reports,
    };
    Ok((numbers, watch))
}

/// A round counts only when the load was at home before the blow and not right after it: else it missed its aim.
fn moved(samples: &[Sample], struck: &Kill, home: &str, blow: &Blow) -> Result<(), Failure> {
    let home_share = |from: Duration, to: Duration| {
        let sites =
            samples.iter().filter(|s| (from..to).contains(&s.started)).filter_map(|s| match &s.outcome {
                Outcome::Complete { site } => Some(&**site == home),
                Outcome::Failed(_) => None,
            });
        let (at_home, all) = sites.fold((0, 0), |(own, all), is_own| (own + usize::from(is_own), all + 1));
        at_home as f64 / f64::from(all.max(1))
    };
    let before = home_share(Duration::ZERO, struck.before);
    let after = home_share(struck.after, BEFORE + AFTER);
    if before > 0.95 && after < 0.05 {
        return Ok(());
    }
    let seen = format!(
        "{home} gave {:.0} % of the answers before it and {:.0} % after it",
        before * 100.0,
        after * 100.0
    );
    Err(Failure::new(format!("{blow} did not hit the load, so the round says nothing")).seen(seen))
}

/// Waits for the moment of the blow. An endpoint is killed when no request is open, so that what fails is meshfed's; the
/// others fall at moments that are spread over the time from one request to the next.
async fn aim(load: &OpenLoop, blow: &Blow, round: u32, rounds: u32) {
    if matches!(blow.part(), Some(Part::Workload(_))) {
        let open = || {
            let (complete, failed) = load.counts();
            load.sent() > complete + failed
        };
        let begin = Instant::now();
        while open() && begin.elapsed() < AIM_LIMIT {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        return;
    }
    let next = load.sent() + 1;
    load.until_sent(next).await;
    let interval = load.due(next) - load.due(next - 1);
    tokio::time::sleep(interval.mul_f64(f64::from(round) / f64::from(rounds))).await;
}

/// Lifts the blow where that is still to be done, and waits until the load is back where it was.
async fn mend(stage: &mut Stage, blow: &Blow, home: &str, client: &ClientPlan) -> Result<(), Failure> {
    if !blow.is_lifted_under_load() {
        blow.lift(stage).map_err(|error| stage.failed(&error))?;
    }
    if let Some(part) = blow.part() {
        stage.mesh.ready(part).await.map_err(|error| stage.failed(&error))?;
    }
    returned(stage, home, client).await
}

/// Waits until a site gives every answer.
async fn returned(stage: &Stage, home: &str, client: &ClientPlan) -> Result<(), Failure> {
    let begin = Instant::now();
    while begin.elapsed() < RETURN_LIMIT {
        let load = start_load(stage, client).await?;
        load.until_sent(RETURNED).await;
        let samples = load.finish().await;
        if samples.iter().all(|s| matches!(&s.outcome, Outcome::Complete { site } if &**site == home)) {
            return Ok(());
        }
    }
    Err(Failure::new(format!("the load did not come to {home} in {} s", RETURN_LIMIT.as_secs())))
}

fn first_client(stage: &Stage) -> ClientPlan {
    stage.mesh.plan().clients.first().cloned().expect("the demo's topology has a client")
}

async fn spread(stage: &Stage, client: &ClientPlan) -> Result<(), Failure> {
    everywhere(&stage.mesh, client).await.or_fail(|| "the service did not spread to west".to_owned())
}

async fn start_load(stage: &Stage, client: &ClientPlan) -> Result<OpenLoop, Failure> {
    let entry = stage.mesh.entry(client).await;
    let entry = entry.map_err(|seen| Failure::new("the load has no way in").seen(seen))?;
    let target = Target { path: client.path.clone(), ..Target::new(entry) };
    OpenLoop::start(target, f64::from(client.rate)).or_fail(|| "the load cannot be sent".to_owned())
}

async fn until(load: &OpenLoop, time: Duration) {
    tokio::time::sleep(time.saturating_sub(load.now())).await;
}

/// What a run without a federation brought.
#[derive(Debug, Serialize)]
pub struct Without {
    /// How long the federation was dead before its load began, and then for the whole of it.
    pub seconds: u32,
    /// What was done meanwhile.
    pub steps: Vec<String>,
    /// The load that ran all the time, and the one that began when the agent in front of it had restarted.
    pub loads: Vec<PhaseReport>,
}

impl Without {
    /// Failed requests of all loads.
    pub fn failed(&self) -> u64 {
        self.loads.iter().map(|load| load.failed).sum()
    }

    /// Requests of all loads.
    pub fn requests(&self) -> u64 {
        self.loads.iter().map(|load| load.requests).sum()
    }
}

/// Kills west's federation before the load begins, and restarts both gateways and an agent of west during it. The load
/// enters through the agent on one host; the agent on another host is restarted, and a second load enters there from
/// then on, since a program whose own agent is away has no way in.
///
/// # Errors
/// Something did not start.
pub async fn federation(args: &Dead, setting: &Setting, ui: &Ui) -> Result<(Without, Watch), Failure> {
    let mut topology = without_west()?;
    let second: Text<HostName> = Text("client-2".parse().expect("a label"));
    for (name, site) in &mut topology.sites {
        if name.0.as_str() == "west" {
            site.hosts.insert(second.clone(), Host::default());
        }
    }
    let mut client = topology.clients.first().cloned().expect("the demo's topology has a client");
    client.host = second;
    topology.clients.push(client);
    ui.progress("the demo's three sites, and a second host in west");
    let mut stage = Stage::start(&topology, setting, ui).await?;
    let stopped = stage.interrupted();
    let measured = tokio::select! {
        measured = run_without(args.seconds, &mut stage, ui) => measured,
        stopped = stopped => stopped,
    };
    stage.end(measured).await
}

async fn run_without(seconds: u32, stage: &mut Stage, ui: &Ui) -> Result<(Without, Watch), Failure> {
    let clients = stage.mesh.plan().clients.clone();
    let [first, second] = clients.as_slice() else { return Err(Failure::new("two clients were planned")) };
    spread(stage, first).await?;
    let mut watch = Watch::begin();
    let federation = Part::Federation("west".to_owned());
    stage.mesh.kill(&federation).await.map_err(|error| stage.failed(&error))?;
    let load = start_load(stage, first).await?;
    let end = Duration::from_secs(seconds.into());
    let mut steps = vec![format!("{federation} killed before the load began, and never started again")];
    let gateways = ["gw-0", "gw-1"].map(|name| Part::Gateway("west".to_owned(), name.to_owned()));
    let agent = Part::Agent("west".to_owned(), second.host.to_string());
    for (share, part) in [0.1, 0.3, 0.5].into_iter().zip(gateways.iter().chain([&agent])) {
        until(&load, end.mul_f64(share)).await;
        let from = load.now();
        let mesh = &mut stage.mesh;
        let restarted = async {
            let by_itself = mesh.stop(part, DRAIN_LIMIT).await?;
            mesh.start_again(part)?;
            mesh.ready(part).await?;
            Ok(by_itself)
        };
        let by_itself = restarted.await.map_err(|error: MeshError| stage.failed(&error))?;
        let how = if by_itself { "ended in order" } else { "killed, since it did not end" };
        let (from, to) = (from.as_secs_f64(), load.now().as_secs_f64());
        steps.push(format!("{part} {how} at {from:.1} s, and ready again at {to:.1} s"));
        ui.progress(format!("  {}", steps.last().expect("just pushed")));
    }
    let begun = load.now();
    let other = start_load(stage, second).await?;
    until(&load, end.max(begun)).await;
    stage.mesh.check().map_err(|error| stage.failed(&error))?;
    let mut loads = Vec::new();
    for (client, load) in [(first, load), (second, other)] {
        let phase = Phase { name: format!("through agent {}", client.host), requests: 0..u64::MAX };
        loads.extend(report(&load.finish().await, &[phase], &[]).phases);
    }
    watch.end();
    Ok((Without { seconds, steps, loads }, watch))
}
