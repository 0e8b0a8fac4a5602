//! From a change in one site until a client in another one gets the new outcome.
//!
//! East takes an offer back (`DELETE /v1/exports/...`), then makes it again (`PUT`), service by service. A client on a
//! host in west asks for the service through its virtual IP, over a new connection each time, again and again, a
//! millisecond after it had the last answer, or 10 ms after a request that is not answered. A change takes from the
//! moment when its API call begins (a new TLS connection to east's API included) to the moment when the client has the
//! first answer of the new kind whole: the echo of the endpoint, or a refused or reset connection. So the first new
//! request itself is in the time.

use crate::machine::Watch;
use crate::stage::{Setting, Stage};
use api::resource::Resource;
use api::resource::workload::{CheckKind, CheckSpec};
use api::rest::change::ChangeReply;
use api::text::Text;
use bench::http1::{Target, get};
use bench::sample::Cause;
use live::mesh::Mesh;
use live::ready;
use meshfed::client::Client;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use model::service::ServiceName;
use runtime::file::{MODE_PUBLIC, write_atomic};
use serde::Serialize;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;
use topologies::plan::ClientPlan;

/// Goal for the 99th percentile.
const GOAL: Duration = Duration::from_millis(100);
/// Between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(1);
/// A request that has no answer for so long is no longer waited for: the next one is sent beside it.
const PATIENCE: Duration = Duration::from_millis(10);
/// From here on a request was held up, and is told.
const HELD_UP: Duration = Duration::from_millis(100);
/// How long the client waits for one answer, and for the outcome of one change.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// How long all services may take to be served in west at the start.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);
/// Two sites without any round trip between them beyond the host's own.
const TOPOLOGY: &str = "
kind: Topology
name: routed
sites:
  east: { locality: eu/fra }
  west: { locality: us/sjc, hosts: { client: {} } }
links:
  - between: [east, west]
workloads:
  - { service: shop/cart, site: east, port: 8080, protocol: http }
clients:
  - { name: caller, site: west, host: client, service: shop/cart, rate: 1 }
";

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many changes, half of them to served and half to refused.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    pub changes: u32,
    /// How many services are present, in east and in west.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub services: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// Services that west knew.
    pub services: u32,
    /// Changes by their kind, and all of them.
    pub rows: Vec<Row>,
    /// Times at which a client had the new outcome and then the old one again.
    pub flapped: u32,
    /// How long the API call itself took.
    pub call: Spread,
    /// Requests that took 100 ms or longer, whether or not they were the first of the new kind.
    pub held_up: Vec<HeldUp>,
}

/// A request that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldUp {
    /// The change that was made.
    pub to: String,
    /// How it ended.
    pub how: String,
    /// How long it took.
    pub ms: u128,
}

/// Changes of one kind.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What the client gets.
    pub to: &'static str,
    /// How many.
    pub changes: usize,
    /// From the call to the outcome.
    pub took: Spread,
}

/// Quantiles, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

impl Spread {
    /// Exact quantiles of a sample: the smallest value that enough of them do not exceed.
    pub fn of(times: &[Duration]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let time = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
        };
        Self { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// The goal, in words.
pub fn goal() -> String {
    format!("p99 ≤ {} ms", GOAL.as_millis())
}

impl Numbers {
    /// Whether the goal was held.
    pub fn held(&self) -> bool {
        self.rows.last().is_some_and(|all| all.changes > 0 && all.took.p99_ms <= GOAL.as_millis() as f64)
    }
}

/// Measures.
///
/// # Errors
/// Something did not start, or a change had no effect in time.
pub async fn measure(args: &Args, setting: &Setting, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let topology = topologies::read("routed", TOPOLOGY)?;
    ui.progress("two sites, no round trip between them beyond the host's own");
    let stage = Stage::start(&topology, setting, ui).await?;
    let measured = tokio::select! {
        measured = run(args, &stage, ui) => measured,
        stopped = stage.interrupted() => stopped,
    };
    stage.end(measured).await
}

/// A service, and where west's client finds it.
struct Caller {
    export: String,
    target: Target,
}

async fn run(args: &Args, stage: &Stage, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let east = stage.client("east")?;
    let names = add_services(args.services, stage)?;
    let callers = spread(names, &east, &stage.mesh).await?;
    ui.progress(format!("  {} services of east are served in west", args.services));
    let mut watch = Watch::begin();
    let (mut served, mut refused, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let (mut held_up, mut flapped) = (Vec::new(), 0);
    for (number, caller) in (0..args.changes).step_by(2).zip(callers.iter().cycle()) {
        for wanted in [Outcome::Refused, Outcome::Served] {
            let change = change(&east, caller, wanted).await?;
            let times = if wanted == Outcome::Served { &mut served } else { &mut refused };
            times.push(change.took);
            calls.push(change.call);
            flapped += change.flapped;
            held_up.extend(change.held_up);
            // A rest of uneven length, so that no timer of the processes keeps step with the changes.
            tokio::time::sleep(Duration::from_millis(20 + u64::from(number) * 13 % 31)).await;
        }
        if (number + 2).is_multiple_of(200) {
            ui.progress(format!("  {} changes", number + 2));
        }
    }
    watch.end();
    let all: Vec<Duration> = served.iter().chain(&refused).copied().collect();
    let row = |to, times: &[Duration]| Row { to, changes: times.len(), took: Spread::of(times) };
    let rows = vec![row("served", &served), row("refused", &refused), row("either", &all)];
    Ok((Numbers { services: args.services, rows, flapped, call: Spread::of(&calls), held_up }, watch))
}

/// Adds services to the file that east's federation watches, all with the one echo as their endpoint.
fn add_services(count: u32, stage: &Stage) -> Result<Vec<ServiceName>, Failure> {
    let site = "east".parse().expect("a label");
    let mut resources = stage.mesh.plan().services(&site);
    let Some(Resource::Service(first)) = resources.first().cloned() else {
        return Err(Failure::new("the topology has no service to take as a model"));
    };
    let mut names = Vec::new();
    for number in 1..count {
        let mut service = first.clone();
        let name = format!("s-{number:03}");
        service.metadata.name = Text(name.parse().expect("a label"));
        // Five hundred checks of one program each second would be a load of their own.
        service.spec.check = Some(CheckSpec::new(CheckKind::None));
        for endpoint in &mut service.spec.endpoints {
            endpoint.id = Some(Text(format!("{name}-0").parse().expect("an id")));
        }
        names.push(format!("shop/{name}").parse().expect("a name"));
        resources.push(Resource::Service(service));
    }
    let written: Result<Vec<String>, _> = resources.iter().map(api::yaml::write).collect();
    let text = written.or_fail(|| "the services cannot be written".to_owned())?.join("\n---\n");
    let path = stage.mesh.directory().join("east").join("services.yaml");
    write_atomic(&path, text.as_bytes(), MODE_PUBLIC)
        .or_fail(|| "the services cannot be written".to_owned())?;
    Ok(names)
}

/// Offers them all, and waits until each is served to the client in west.
async fn spread(names: Vec<ServiceName>, east: &Client, mesh: &Mesh) -> Result<Vec<Caller>, Failure> {
    let client = mesh.plan().clients.first().cloned().expect("the topology has a client");
    let export = |name: &ServiceName| format!("/v1/exports/{}/{}", name.namespace, name.name);
    for name in &names {
        ready::until(&format!("{name} in east"), SPREAD_LIMIT, || async {
            let exported: Result<ChangeReply, Failure> = east.put(&export(name), None::<&()>).await;
            exported.map(drop).map_err(|failure| failure.text())
        })
        .await
        .or_fail(|| "east does not know its own services".to_owned())?;
    }
    let mut callers = Vec::new();
    for service in names {
        let export = export(&service);
        let client = ClientPlan { service, ..client.clone() };
        let target = Mutex::new(None);
        ready::until(&format!("{} in west", client.service), SPREAD_LIMIT, || async {
            let reached = Target { timeout: ANSWER_LIMIT, ..Target::new(mesh.entry(&client).await?) };
            get(&reached, None).await.map_err(|failure| format!("{}: {failure}", reached.address))?;
            *target.lock().expect("nobody panics with it") = Some(reached);
            Ok(())
        })
        .await
        .or_fail(|| "a service of east does not reach west".to_owned())?;
        let target = target.into_inner().expect("nobody panics with it").expect("it was reached");
        callers.push(Caller { export, target });
    }
    Ok(callers)
}

/// What the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Served,
    Refused,
    /// Neither: a timeout, or a wrong answer.
    Strange,
}

struct Change {
    took: Duration,
    call: Duration,
    flapped: u32,
    held_up: Vec<HeldUp>,
}

struct Answer {
    outcome: Outcome,
    /// How the request ended, in words.
    how: String,
    took: Duration,
}

async fn ask(target: Target) -> Answer {
    let begin = Instant::now();
    let got = get(&target, None).await;
    let took = begin.elapsed();
    match got {
        Ok(_) => Answer { outcome: Outcome::Served, how: "answered".to_owned(), took },
        Err(failure) => {
            let refused = matches!(failure.cause, Cause::Refused | Cause::Reset | Cause::Closed);
            let outcome = if refused { Outcome::Refused } else { Outcome::Strange };
            Answer { outcome, how: failure.to_string(), took }
        }
    }
}

/// Makes one change and asks until the outcome is seen, and then once more: the first of the two counts.
async fn change(east: &Client, caller: &Caller, wanted: Outcome) -> Result<Change, Failure> {
    let (client, path) = (east.clone(), caller.export.clone());
    let begin = Instant::now();
    let call = tokio::spawn(async move {
        let reply: Result<ChangeReply, Failure> = match wanted {
            Outcome::Served => client.put(&path, None::<&()>).await,
            Outcome::Refused | Outcome::Strange => client.delete(&path).await,
        };
        reply.map(|_| begin.elapsed())
    });
    let (mut requests, mut held_up) = (JoinSet::new(), Vec::new());
    let (mut flapped, mut last) = (0, "nothing was answered".to_owned());
    let took = loop {
        if begin.elapsed() > CHANGE_LIMIT {
            let what = format!("{} did not become {wanted:?} in {} s", caller.export, CHANGE_LIMIT.as_secs());
            return Err(Failure::new(what).seen(format!("the last request was {last}")));
        }
        requests.spawn(ask(caller.target.clone()));
        let Ok(Some(answer)) = timeout(PATIENCE, requests.join_next()).await else { continue };
        let answer = answer.or_fail(|| "a request has panicked".to_owned())?;
        let seen = begin.elapsed();
        held_up.extend(HeldUp::of(&answer, wanted));
        if answer.outcome == wanted {
            if ask(caller.target.clone()).await.outcome == wanted {
                break seen;
            }
            flapped += 1;
        }
        last = answer.how;
        tokio::time::sleep(PAUSE).await;
    };
    // Those that were held up are part of the picture.
    while let Some(answer) = requests.join_next().await {
        let answer = answer.or_fail(|| "a request has panicked".to_owned())?;
        held_up.extend(HeldUp::of(&answer, wanted));
    }
    let call = call.await.or_fail(|| "the call has panicked".to_owned())??;
    Ok(Change { took, call, flapped, held_up })
}

impl HeldUp {
    fn of(answer: &Answer, to: Outcome) -> Option<Self> {
        let ms = answer.took.as_millis();
        (answer.took >= HELD_UP).then(|| Self {
            to: format!("{to:?}").to_lowercase(),
            how: answer.how.clone(),
            ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshfed::output::Format;

    #[test]
    fn a_quantile_is_a_value_of_the_sample() {
        let times: Vec<Duration> = (1..=1000).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(&times);
        assert_eq!((spread.p50_ms, spread.p99_ms, spread.max_ms), (500.0, 990.0, 1000.0));
        assert_eq!(Spread::of(&times[..1]).p50_ms, 1000.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_in_east_are_seen_in_west() {
        // This test is in target/debug/examples, and the binary beside that folder.
        let own = std::env::current_exe().expect("this test");
        let program = own.ancestors().nth(2).map(|folder| folder.join("meshfed")).expect("it is in a folder");
        if !program.exists() {
            println!("SKIPPED: changes_in_east_are_seen_in_west: {} is not built", program.display());
            return;
        }
        let setting = Setting { dir: None, program };
        let args = Args { changes: 4, services: 3 };
        let measured = measure(&args, &setting, &Ui::detect(Format::Json)).await;
        let (numbers, _) = measured.map_err(|failure| failure.text()).expect("it is measured");
        let changes: Vec<usize> = numbers.rows.iter().map(|row| row.changes).collect();
        assert_eq!(changes, [2, 2, 4]);
        assert!(numbers.rows.iter().all(|row| row.took.p50_ms > 0.0 && row.took.max_ms >= row.took.p99_ms));
    }
}
