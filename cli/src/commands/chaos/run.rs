//! `meshfed chaos run`: an experiment with real processes.

use super::observe::Observer;
use super::{Trial, find, write};
use crate::args::ChaosRunArgs;
use crate::commands::trial::{Place, Started, everywhere, failed, load, start};
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::chaos as screen;
use api::resource::Resource;
use experiment::html::page;
use experiment::judge::judge;
use experiment::record::{Happened, Record};
use experiment::report::Report;
use experiment::schedule::occurrences;
use experiment::shipped;
use live::inject::carry_out;
use live::mesh::Mesh;
use model::routing::FailoverPolicy;
use model::service::ServiceName;
use runtime::shutdown::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How a run of this kind is called.
const MODE: &str = "live, loopback";

/// Runs the experiments that were named, one after the other.
///
/// # Errors
/// A file has a mistake (then nothing is started), something does not start, or an expectation is broken.
pub async fn run(args: &ChaosRunArgs, ui: &Ui) -> Outcome {
    let names: Vec<String> = if args.all {
        shipped::EXPERIMENTS.iter().map(|shipped| shipped.name.to_owned()).collect()
    } else {
        args.experiments.clone()
    };
    let trials = names.iter().map(|name| find(name)).collect::<Result<Vec<Trial>, Failure>>()?;
    if let Some(folder) = &args.to {
        std::fs::create_dir_all(folder).or_fail(|| format!("{} cannot be made", folder.display()))?;
    }
    let shutdown = Shutdown::on_signals().or_fail(|| "signals cannot be caught".to_owned())?;
    let several = trials.len() > 1;
    let mut reports: Vec<(String, Report)> = Vec::new();
    for trial in &trials {
        let folder =
            args.dir.as_ref().map(|dir| if several { dir.join(&trial.name) } else { dir.to_path_buf() });
        let Some(report) = one(trial, folder.as_deref(), args.slack, &shutdown, ui).await? else {
            ui.progress("stopped: every process is ended, the files are removed");
            return Err(Failure::silent());
        };
        let at = if several { beside(&args.page, &trial.name) } else { args.page.to_path_buf() };
        write(&at, &page(&report))?;
        if let Some(folder) = &args.to {
            let json = serde_json::to_string_pretty(&report).map_err(|error| {
                Failure::new("the report cannot be written as JSON").seen(error.to_string())
            })?;
            write(&folder.join(format!("{}.json", trial.name)), &json)?;
        }
        if ui.format == crate::output::Format::Text {
            let shown = screen::report(&report, ui.style);
            crate::output::print(&format!("{shown}\nreport: {}", at.display()))?;
        }
        reports.push((trial.name.clone(), report));
    }
    if let Some(file) = &args.table {
        write(file, &screen::markdown(&reports))?;
        ui.progress(format!("the table is in {}", file.display()));
    }
    let held = reports.iter().all(|(_, report)| report.held);
    if ui.format != crate::output::Format::Text {
        let alone = reports.iter().map(|(_, report)| report).collect::<Vec<_>>();
        match alone.as_slice() {
            [only] => ui.result(only, |_| String::new())?,
            all => ui.result(&all, |_| String::new())?,
        }
    }
    if held { Ok(()) } else { Err(Failure::silent()) }
}

/// `page.html` for the experiment `name` is `page-name.html`.
fn beside(page: &Path, name: &str) -> PathBuf {
    let stem = page.file_stem().map_or_else(|| "chaos-report".into(), |stem| stem.to_string_lossy());
    let ending = page.extension().map_or_else(|| "html".into(), |ending| ending.to_string_lossy());
    page.with_file_name(format!("{stem}-{name}.{ending}"))
}

/// Runs one; none: somebody pressed Ctrl-C.
async fn one(
    trial: &Trial,
    folder: Option<&Path>,
    slack: f64,
    shutdown: &Shutdown,
    ui: &Ui,
) -> Result<Option<Report>, Failure> {
    ui.progress(format!(
        "{}\nstarting {}",
        screen::headline(&trial.experiment, &trial.topology),
        trial.experiment.topology
    ));
    let place = Place::take(folder, "chaos")?;
    let mut mesh = match start(&trial.topology, &place, shutdown, ui).await? {
        Started::Running(mesh) => mesh,
        Started::Interrupted => {
            place.remove();
            return Ok(None);
        }
    };
    let recorded = tokio::select! {
        recorded = record(&mut mesh, trial, &place, ui) => Some(recorded),
        () = shutdown.begun() => None,
    };
    mesh.end().await;
    let Some(recorded) = recorded else {
        place.remove();
        return Ok(None);
    };
    let report = judge(&trial.experiment, &recorded?, slack);
    let logs = place.path.join("logs");
    if report.held {
        place.remove();
    } else {
        ui.progress(format!("the logs are kept in {}", logs.display()));
    }
    Ok(Some(report))
}

async fn record(mesh: &mut Mesh, trial: &Trial, place: &Place, ui: &Ui) -> Result<Record, Failure> {
    let client = mesh.plan().clients.first().cloned().expect("the check found a client");
    everywhere(mesh, &client).await.or_fail(|| "the service did not spread".to_owned())?;
    let (load, _) = load(mesh, &client).await?;
    let start = Instant::now() - load.now();
    let mut observer = Observer::start(mesh, start, &client.service, client.site.as_str())?;
    let length = trial.experiment.length.0;
    let occurrences = occurrences(&trial.experiment);
    let faults = {
        let mut bar = screen::Bar::new(length, ui);
        let mut tell = |happened: &[Happened]| bar.tell(happened, load.now(), load.counts());
        carry_out(mesh, &load, &occurrences, length, &mut tell)
            .await
            .map_err(|error| failed(&error, place))?
    };
    let (complete, lost) = load.counts();
    ui.progress(format!("  {:>5.1} s  the end  ok {complete}  failed {lost}", load.now().as_secs_f64()));
    let samples = load.finish().await;
    let (looks, decisions) = observer.end().await;
    let catalogs = observer.catalogs().await;
    let plan = mesh.plan();
    Ok(Record {
        mode: MODE.to_owned(),
        sites: plan.sites.iter().map(|site| site.name.to_string()).collect(),
        gateways: plan.sites.iter().map(|site| site.gateways.len()).sum(),
        rate: client.rate,
        length,
        grace: grace(mesh, client.site.as_str(), &client.service),
        samples,
        faults,
        looks,
        decisions,
        catalogs,
    })
}

/// Delay and ramp of the return, as the caller's site has them for a service.
fn grace(mesh: &Mesh, site: &str, service: &ServiceName) -> Duration {
    let policies = mesh.plan().policies.iter().filter(|(at, _)| at.as_str() == site);
    let rules = policies.filter_map(|(_, resource)| match resource {
        Resource::FailoverPolicy(policy) => policy.rule().ok().filter(|rule| rule.services.contains(service)),
        _ => None,
    });
    // One that names the service goes before one for its namespace.
    let mut rules: Vec<_> = rules.collect();
    rules.sort_by_key(|rule| !rule.services.is_exact());
    let policy = rules.into_iter().next().map_or_else(FailoverPolicy::default, |rule| rule.policy);
    policy.failback_delay + policy.failback_ramp
}
