//! `meshfed demo`: three sites under load; parts of them are killed, and it is counted what callers saw.

use super::trial::{Place, Started, everywhere, failed, kill, load, start};
use super::up::hints;
use crate::args::DemoArgs;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::demo::{Answers, held, summary};
use crate::render::words;
use bench::load::OpenLoop;
use bench::report::{Kill, Phase, Report, report};
use bench::sample::{Outcome as Answer, Sample};
use live::mesh::{Mesh, MeshError, Part};
use runtime::shutdown::Shutdown;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long a gateway may drain before it is killed after all.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// How long a moment without an open request is waited for.
const QUIET_LIMIT: Duration = Duration::from_secs(1);
/// What is said when the machine was too busy for that.
const BUSY: &str =
    "  (this machine is busy: a request was open on the endpoint when it was killed, or begun meanwhile)";

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Result_ {
    #[serde(flatten)]
    report: Report,
    held: bool,
    took_s: f64,
}

/// A stretch of the run.
struct Step {
    name: &'static str,
    seconds: u64,
    action: Action,
}

/// What is done at the beginning of a phase.
#[derive(Clone, Copy)]
enum Action {
    Nothing,
    KillWestEndpoint,
    KillEastGateway,
    Mend,
    KillFederationAndRestartGateway,
}

const STEPS: [Step; 5] = [
    Step { name: "all well", seconds: 5, action: Action::Nothing },
    Step { name: "endpoint in west killed", seconds: 5, action: Action::KillWestEndpoint },
    Step { name: "east gateway killed (kill -9)", seconds: 5, action: Action::KillEastGateway },
    Step { name: "west and east back", seconds: 10, action: Action::Mend },
    Step {
        name: "federation dead, gateway restarted",
        seconds: 5,
        action: Action::KillFederationAndRestartGateway,
    },
];

/// Runs the demo.
///
/// # Errors
/// Something did not start, or a promise was broken.
pub async fn run(args: &DemoArgs, ui: &Ui) -> Outcome {
    let begin = Instant::now();
    let shutdown = Shutdown::on_signals().or_fail(|| "signals cannot be caught".to_owned())?;
    let topology = topologies::read(topologies::DEMO_FILE, topologies::DEMO)?;
    let place = Place::take(args.dir.as_deref(), "demo")?;
    ui.progress("starting three sites on loopback, without root: west, east, and dc with a VM");
    let mut mesh = match start(&topology, &place, &shutdown, ui).await? {
        Started::Running(mesh) => mesh,
        Started::Interrupted => return interrupted(place, ui),
    };
    let experiment = tokio::select! {
        experiment = experiment(&mut mesh, &place, ui) => Some(experiment),
        () = shutdown.begun() => None,
    };
    let Some(experiment) = experiment else {
        mesh.end().await;
        return interrupted(place, ui);
    };
    let experiment = match experiment {
        Ok(experiment) => experiment,
        Err(failure) => {
            mesh.end().await;
            return Err(failure);
        }
    };
    let kept_well = held(&experiment.report);
    if args.keep {
        keep(&mut mesh, &place, &experiment, &shutdown, ui).await?;
    }
    mesh.end().await;
    let logs = place.path.clone();
    if kept_well {
        place.remove();
    }
    let result = Result_ { report: experiment.report, held: kept_well, took_s: round(begin.elapsed()) };
    if !args.keep || ui.format != crate::output::Format::Text {
        ui.result(&result, |style| summary(&result.report, &experiment.answers, &NOTES, style))?;
    }
    if kept_well {
        return Ok(());
    }
    ui.progress(format!("the logs are kept in {}", logs.join("logs").display()));
    Err(Failure::silent())
}

/// What stands behind the names of sites in the table.
const NOTES: [(&str, &str); 1] = [("dc", "a VM")];

fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

fn interrupted(place: Place, ui: &Ui) -> Outcome {
    place.remove();
    ui.progress("stopped: every process is ended, the files are removed");
    Err(Failure::silent())
}

/// Shows the result, mends everything, and waits for Ctrl-C.
async fn keep(
    mesh: &mut Mesh,
    place: &Place,
    experiment: &Experiment,
    shutdown: &Shutdown,
    ui: &Ui,
) -> Outcome {
    if ui.format == crate::output::Format::Text {
        ui.result(&(), |style| summary(&experiment.report, &experiment.answers, &NOTES, style))?;
    }
    let federation = Part::Federation("west".to_owned());
    mesh.start_again(&federation).map_err(|error| failed(&error, place))?;
    mesh.ready(&federation).await.map_err(|error| failed(&error, place))?;
    ui.progress(format!("\nwest's federation runs again; {}", hints(mesh).await));
    shutdown.begun().await;
    ui.progress("stopping every process");
    Ok(())
}

struct Experiment {
    report: Report,
    answers: Vec<Answers>,
}

async fn experiment(mesh: &mut Mesh, place: &Place, ui: &Ui) -> Result<Experiment, Failure> {
    let client = mesh.plan().clients.first().cloned().expect("the demo's topology has a client");
    everywhere(mesh, &client).await.or_fail(|| "the service did not spread to west".to_owned())?;
    let (load, entry) = load(mesh, &client).await?;
    ui.progress(format!(
        "  {} requests/s to {} at http://{entry}, a new connection each, no retry",
        client.rate, client.service
    ));
    let (mut phases, mut kills, mut next) = (Vec::new(), Vec::new(), 0);
    for step in &STEPS {
        let requests = next..next + step.seconds * u64::from(client.rate);
        next = requests.end;
        // A little into the phase. A killed endpoint takes with it what it is answering, and nobody could mend that; so that
        // what fails is meshfed's, that blow falls when no request is open, if there is such a moment.
        load.until_sent(requests.start + 2).await;
        let aimed = match step.action {
            Action::KillWestEndpoint => quiet(&load).await,
            _ => {
                tokio::time::sleep(Duration::from_secs_f64(0.5 / f64::from(client.rate))).await;
                None
            }
        };
        let done = act(mesh, step.action, &load).await.map_err(|error| failed(&error, place))?;
        if matches!(step.action, Action::KillWestEndpoint) && aimed != Some(load.sent()) {
            ui.progress(BUSY);
        }
        kills.extend(done);
        load.until_sent(requests.end).await;
        mesh.check().map_err(|error| failed(&error, place))?;
        let (complete, failed) = load.counts();
        ui.progress(format!(
            "  {:<44} ok {}  failed {}",
            step.name,
            words::count(complete),
            words::count(failed)
        ));
        phases.push(Phase { name: step.name.to_owned(), requests });
    }
    let samples = load.finish().await;
    let answers =
        phases.iter().zip(&STEPS).map(|(phase, step)| answers(step.action, phase, &samples)).collect();
    Ok(Experiment { report: report(&samples, &phases, &kills), answers })
}

/// Waits for a moment at which no request is open, for at most [`QUIET_LIMIT`]. Answers how many were sent by then; none:
/// there was no such moment.
async fn quiet(load: &OpenLoop) -> Option<u64> {
    let begin = Instant::now();
    while begin.elapsed() < QUIET_LIMIT {
        let sent = load.sent();
        let (complete, failed) = load.counts();
        if sent <= complete + failed {
            return Some(sent);
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    None
}

/// Breaks or mends; gives the kills, on the clock of the load.
async fn act(mesh: &mut Mesh, action: Action, load: &OpenLoop) -> Result<Vec<Kill>, MeshError> {
    let workload = Part::Workload("west-cart-0".to_owned());
    let east_gateway = Part::Gateway("east".to_owned(), "gw-0".to_owned());
    let west_gateway = Part::Gateway("west".to_owned(), "gw-1".to_owned());
    let federation = Part::Federation("west".to_owned());
    match action {
        Action::Nothing => Ok(Vec::new()),
        Action::KillWestEndpoint => Ok(vec![kill(mesh, &workload, load).await?]),
        Action::KillEastGateway => Ok(vec![kill(mesh, &east_gateway, load).await?]),
        Action::Mend => {
            for part in [&workload, &east_gateway] {
                mesh.start_again(part)?;
            }
            for part in [&workload, &east_gateway] {
                mesh.ready(part).await?;
            }
            Ok(Vec::new())
        }
        Action::KillFederationAndRestartGateway => {
            let mut kills = vec![kill(mesh, &federation, load).await?];
            let before = load.now();
            if !mesh.stop(&west_gateway, DRAIN_LIMIT).await? {
                // It did not end by itself, so it was killed after all.
                kills.push(Kill { before, after: load.now() });
            }
            mesh.start_again(&west_gateway)?;
            mesh.ready(&west_gateway).await?;
            Ok(kills)
        }
    }
}

/// How the table tells who answered in a phase.
fn answers(action: Action, phase: &Phase, samples: &[Sample]) -> Answers {
    if !matches!(action, Action::Mend) {
        return Answers::Shares;
    }
    let own: Vec<&Sample> = samples.iter().filter(|s| phase.requests.contains(&s.index)).collect();
    let begin = own.first().map_or(Duration::ZERO, |s| s.due);
    let elsewhere =
        own.iter().rev().find(|s| matches!(&s.outcome, Answer::Complete { site } if &**site != "west"));
    let over = elsewhere.map_or(Duration::ZERO, |s| s.ended.saturating_sub(begin));
    Answers::Moved { from: "dc".to_owned(), to: "west".to_owned(), over }
}
