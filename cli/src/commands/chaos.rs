//! `meshfed chaos`: experiments, run and looked at.

mod inject;
mod observe;
mod run;

use crate::args::{ChaosArgs, ChaosCommand, ChaosReportArgs, ChaosShowArgs};
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::chaos as screen;
use experiment::report::Report;
use experiment::schema::Experiment;
use experiment::shipped::{self, Shipped};
use serde::Serialize;
use std::path::{Path, PathBuf};
use topologies::schema::Topology;

/// Longest report that is read.
const REPORT_MAX: usize = 64 << 20;

/// Does what was asked.
///
/// # Errors
/// A file has a mistake, something does not start, or an expectation is broken.
pub async fn run(args: ChaosArgs, ui: &Ui) -> Outcome {
    match args.command {
        ChaosCommand::Run(args) => run::run(&args, ui).await,
        ChaosCommand::Inject(args) => inject::inject(&args, ui).await,
        ChaosCommand::Heal(args) => inject::heal(&args, ui).await,
        ChaosCommand::List => list(ui),
        ChaosCommand::Show(args) => show(&args, ui),
        ChaosCommand::Report(args) => report(&args, ui),
    }
}

/// An experiment and its topology, read and checked.
#[derive(Debug, Clone)]
struct Trial {
    /// As it was typed; for a file without folder and ending.
    name: String,
    experiment: Experiment,
    topology: Topology,
}

/// Finds an experiment by the name of a shipped one, or as a file.
fn find(wanted: &str) -> Result<Trial, Failure> {
    let path = Path::new(wanted);
    if let Some(shipped) = shipped::experiment(wanted).filter(|_| !path.exists()) {
        return read(wanted, shipped.file, shipped.text, None);
    }
    if !path.exists() && !wanted.contains('/') && !wanted.ends_with(".yaml") {
        let names = shipped::EXPERIMENTS.iter().map(|shipped| shipped.name);
        let near = api::suggest::nearest(wanted, names).map_or_else(
            || "`meshfed chaos list` lists them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Failure::usage(format!("there is no experiment `{wanted}`"))
            .seen("it is neither shipped nor a file")
            .fix(near));
    }
    let text = super::read_input(path)?;
    let name = path.file_stem().map_or_else(|| wanted.to_owned(), |stem| stem.to_string_lossy().into_owned());
    read(&name, wanted, &text, path.parent())
}

fn read(name: &str, file: &str, text: &str, folder: Option<&Path>) -> Result<Trial, Failure> {
    let first = experiment::read(file, text)?;
    let topology = topology(&first.topology, folder)?;
    let experiment = experiment::read_for(file, text, &topology)?;
    Ok(Trial { name: name.to_owned(), experiment, topology })
}

/// The topology that an experiment names: a shipped one, or a file seen from the experiment's folder.
fn topology(named: &str, folder: Option<&Path>) -> Result<Topology, Failure> {
    let path: PathBuf = folder.map_or_else(|| named.into(), |folder| folder.join(named));
    if path.is_file() {
        let text = super::read_input(&path)?;
        return Ok(topologies::read(&path.display().to_string(), &text)?);
    }
    let Some(shipped) = shipped::topology(named) else {
        let names: Vec<&str> = shipped::TOPOLOGIES.iter().map(|shipped| shipped.name).collect();
        return Err(Failure::usage(format!("there is no topology `{named}`"))
            .seen(format!("{} is no file, and it is not shipped", path.display()))
            .fix(format!("write a path, seen from the experiment's file, or one of {}", names.join(", "))));
    };
    Ok(topologies::read(shipped.file, shipped.text)?)
}

/// A line of `chaos list`.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    about: String,
    length_s: u64,
    topology: String,
}

fn list(ui: &Ui) -> Outcome {
    let all: Result<Vec<Listed>, Failure> = shipped::EXPERIMENTS.iter().map(listed).collect();
    let all = all?;
    ui.result(&all, |style| {
        let lines: Vec<(&str, &str, u64)> =
            all.iter().map(|listed| (listed.name, listed.about.as_str(), listed.length_s)).collect();
        screen::list(&lines, style)
    })
}

fn listed(shipped: &Shipped) -> Result<Listed, Failure> {
    let experiment = experiment::read(shipped.file, shipped.text)?;
    Ok(Listed {
        name: shipped.name,
        about: experiment.about,
        length_s: experiment.length.0.as_secs(),
        topology: experiment.topology,
    })
}

fn show(args: &ChaosShowArgs, ui: &Ui) -> Outcome {
    let trial = find(&args.experiment)?;
    ui.result(&trial.experiment, |style| screen::plan(&trial.experiment, &trial.topology, style))
}

fn report(args: &ChaosReportArgs, ui: &Ui) -> Outcome {
    let name = args.file.display();
    let text = runtime::file::read_text(&args.file, REPORT_MAX).or_fail(|| format!("cannot use {name}"))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{name} is not the report of an experiment"))
            .seen(error.to_string())
            .fix("give a file that `meshfed chaos run … --to DIR` has written")
    })?;
    if let Some(page) = &args.page {
        write(page, &experiment::html::page(&report))?;
        ui.progress(format!("the page is in {}", page.display()));
    }
    ui.result(&report, |style| screen::report(&report, style))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    runtime::file::write_atomic(path, text.as_bytes(), runtime::file::MODE_PUBLIC)
        .or_fail(|| format!("{} cannot be written", path.display()))
}
