//! `meshfed up`: a topology as real processes on this host.

use super::trial::{Place, Started, failed, load, start};
use crate::args::UpArgs;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::words;
use bench::load::OpenLoop;
use bench::report::{Phase, Report, report};
use experiment::check::one_fault;
use live::control::{Answer as Reply, Asked, Control, Order};
use live::inject::Standing;
use live::mesh::{Mesh, MeshError};
use runtime::shutdown::Shutdown;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use topologies::plan::plan;

/// Between two lines about the loads.
const TELL: Duration = Duration::from_secs(10);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(500);

/// Runs a topology until Ctrl-C.
///
/// # Errors
/// The file has a mistake, something does not start, or a process ends by itself.
pub async fn run(args: &UpArgs, ui: &Ui) -> Outcome {
    let text = super::read_input(&args.file)?;
    let topology = topologies::read(&args.file.display().to_string(), &text)?;
    if args.dry_run {
        // Any block shows the same layout.
        let lines = plan(&topology, 16).describe();
        return ui.result(&lines, |_| lines.join("\n"));
    }
    let shutdown = Shutdown::on_signals().or_fail(|| "signals cannot be caught".to_owned())?;
    let place = Place::take(args.dir.as_deref(), "up")?;
    let name = if topology.name.is_empty() { args.file.display().to_string() } else { topology.name.clone() };
    ui.progress(format!(
        "{name}: {} on loopback",
        words::plural(topology.sites.len() as u64, "site", "sites")
    ));
    let mut mesh = match start(&topology, &place, &shutdown, ui).await? {
        Started::Running(mesh) => mesh,
        Started::Interrupted => {
            place.remove();
            ui.progress("stopped: every process is ended");
            return Ok(());
        }
    };
    let loads = loads(&mesh).await?;
    let mut control = Control::listen(mesh.directory()).or_fail(|| "faults cannot be injected".to_owned())?;
    ui.progress(format!("\n{}\n", hints(&mesh).await));
    let watched = watch(&mut mesh, &loads, &mut control, &shutdown, ui).await;
    drop(control);
    let mut reports = BTreeMap::new();
    for (name, load) in loads {
        let samples = load.finish().await;
        let all = Phase { name: name.clone(), requests: 0..u64::MAX };
        reports.insert(name, report(&samples, &[all], &[]));
    }
    mesh.end().await;
    if let Err(error) = watched {
        return Err(failed(&error, &place));
    }
    let kept = place.path.clone();
    let removed = place.remove();
    ui.progress(if removed {
        "stopped: every process is ended, the files are removed".to_owned()
    } else {
        format!("stopped: every process is ended, the files are in {}", kept.display())
    });
    ui.result(&reports, |_| {
        reports.iter().map(|(name, report)| line(name, report)).collect::<Vec<_>>().join("\n")
    })
}

fn line(name: &str, report: &Report) -> String {
    let sites: Vec<String> = report
        .phases
        .iter()
        .flat_map(|phase| &phase.by_site)
        .map(|(site, count)| format!("{site} {}", words::count(*count)))
        .collect();
    format!(
        "client {name}: {} requests, {} failed, longest gap {} ms; answered by {}",
        words::count(report.requests),
        words::count(report.failed),
        report.longest_gap_ms,
        if sites.is_empty() { "nobody".to_owned() } else { sites.join(", ") }
    )
}

async fn loads(mesh: &Mesh) -> Result<BTreeMap<String, OpenLoop>, Failure> {
    let mut loads = BTreeMap::new();
    for client in &mesh.plan().clients {
        loads.insert(client.name.clone(), load(mesh, client).await?.0);
    }
    Ok(loads)
}

async fn watch(
    mesh: &mut Mesh,
    loads: &BTreeMap<String, OpenLoop>,
    control: &mut Control,
    shutdown: &Shutdown,
    ui: &Ui,
) -> Result<(), MeshError> {
    let mut told = tokio::time::Instant::now();
    let mut faults = Standing::default();
    loop {
        let ends = faults.next_end().map_or(LOOK, |ends| ends.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            Some(asked) = control.asked.recv() => tokio::select! {
                () = obey(mesh, &mut faults, asked, ui) => {}
                // A restart of everything takes long; Ctrl-C does not wait for it.
                () = shutdown.begun() => return Ok(()),
            },
            () = tokio::time::sleep(LOOK.min(ends)) => {}
        }
        for healed in faults.end(mesh, false)? {
            ui.progress(format!("  healed: {healed}"));
        }
        mesh.check()?;
        if told.elapsed() >= TELL {
            told = tokio::time::Instant::now();
            for (name, load) in loads {
                let (complete, failed) = load.counts();
                ui.progress(format!(
                    "  client {name}: ok {}  failed {}",
                    words::count(complete),
                    words::count(failed)
                ));
            }
        }
    }
}

/// Does what another terminal asks for, and answers it. What cannot be done ends nothing.
async fn obey(mesh: &mut Mesh, faults: &mut Standing, asked: Asked, ui: &Ui) {
    let done = match asked.order {
        Order::Inject(timed) => match one_fault(&timed, mesh.plan()) {
            Ok(fault) => {
                let words = fault.words();
                faults.begin(mesh, fault, timed.lasts.map(|lasts| lasts.0)).await.map(|()| words)
            }
            Err(problem) => {
                let _ = asked.answer.send(Reply::Refused(problem.to_string()));
                return;
            }
        },
        Order::Heal => faults.end(mesh, true).map(|healed| match healed.as_slice() {
            [] => "there was no fault".to_owned(),
            healed => format!("healed: {}", healed.join("; ")),
        }),
    };
    let reply = match done {
        Ok(words) => {
            ui.progress(format!("  {words}"));
            Reply::Done(words)
        }
        Err(error) => Reply::Refused(runtime::telemetry::chain(&error).to_string()),
    };
    // Who asked may have gone; then only the line above tells.
    let _ = asked.answer.send(reply);
}

/// Commands that can be pasted into another terminal.
pub async fn hints(mesh: &Mesh) -> String {
    let mut lines = vec![
        "it runs until Ctrl-C; try in another terminal:".to_owned(),
        format!("  export MESHFED_CONFIG={}", mesh.contexts().display()),
    ];
    let first = mesh.plan().sites.first().map_or_else(String::new, |site| site.name.to_string());
    let site = mesh.plan().clients.first().map_or(first, |client| client.site.to_string());
    lines.push(format!("  meshfed status --context {site}"));
    lines.push(format!("  meshfed get services --context {site}"));
    if let Some(client) = mesh.plan().clients.first() {
        lines.push(format!("  meshfed explain {} --from {site}", client.service));
        if let Ok(entry) = mesh.entry(client).await {
            lines.push(format!("  curl http://{entry}{}", client.path));
        }
    }
    lines.push(format!("  meshfed events --watch --context {site}"));
    if let Some(link) = mesh.plan().links.first() {
        lines.push(format!("  meshfed chaos inject cut --from {} --to {} --for 10s", link.one, link.other));
    }
    lines.join("\n")
}
