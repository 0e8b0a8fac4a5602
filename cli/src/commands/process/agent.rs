//! `meshfed agent` and `meshfed agent setup`.

use super::node_file::{NodeFile, read_token, unused_token};
use super::{begin, process_failed};
use crate::args::{AgentArgs, AgentCommand, AgentSetupArgs};
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::agent as screen;
use agent::Options;
use api::resource::site::PortsSpec;
use api::text::Text;
use connectors::connector::SourceReport;
use model::locality::Locality;
use node::enroll::NodeFolder;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How long open streams may take when an agent leaves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs an agent until it is asked to end; then it withdraws its workloads and drains.
///
/// # Errors
/// It has not joined and cannot, or a port is taken.
pub async fn run(args: AgentArgs, ui: &Ui) -> Outcome {
    if let Some(AgentCommand::Setup(setup)) = &args.command {
        return self::setup(setup, ui);
    }
    let Some(host) = args.host else {
        return Err(Failure::usage("the name of the host is missing").fix("as in `meshfed agent vm-1`"));
    };
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(host.as_str()));
    let file = NodeFile::read(&folder)?;
    let held =
        NodeFolder::open(&folder).map_err(|error| process_failed("the directory of the agent", &error))?;
    let joined = held
        .membership()
        .map_err(|error| process_failed("the directory of the agent", &error))?
        .filter(|joined| joined.credentials.not_after_ms() > runtime::clock::unix_ms());
    // A token works once and for a short time; whoever has joined no longer needs it.
    let token = match (&args.join, &joined) {
        (Some(path), None) => Some(read_token(path)?),
        (Some(path), Some(joined)) => {
            unused_token(path, &folder, &joined.reply.site.id, ui)?;
            None
        }
        (None, _) => None,
    };
    let address = args.address.or(file.address.map(|a| a.0)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let locality = args.locality.or(file.locality.map(|l| l.0)).filter(|l| *l != Locality::default());
    let workloads = match args.workloads {
        Some(path) => Some(std::path::absolute(&path).or_fail(|| format!("{} is no path", path.display()))?),
        None => file.workloads,
    };
    let shutdown = begin(&args.process)?;
    let ports = PortsSpec::default();
    let file = NodeFile {
        address: Some(Text(address)),
        advertise: None,
        locality: locality.clone().map(Text),
        workloads,
    };
    let options = Options {
        host: host.clone(),
        folder: folder.clone(),
        token,
        address,
        workloads: file.workloads.clone(),
        locality,
        dns_port: ports.dns,
        proxy_port: ports.proxy,
        health_port: ports.agent_health,
        reserved_ports: BTreeSet::new(),
        drain_timeout: DRAIN_TIMEOUT,
    };
    let handle = agent::run(options, shutdown)
        .await
        .map_err(|error| process_failed(format!("agent {host} does not start"), &error))?;
    // Not before: the folder might be another process's.
    file.write(&folder)?;
    ui.progress(format!("agent {host} of {} runs on {address}", handle.site));
    tokio::spawn(tell(handle.sources.clone(), ui.clone()));
    handle.ended().await;
    Ok(())
}

/// One line per workload when it is first seen, then a line per change.
async fn tell(mut sources: watch::Receiver<SourceReport>, ui: Ui) {
    let mut before = SourceReport::default();
    loop {
        let now = sources.borrow_and_update().clone();
        for line in screen::changes(&before, &now, ui.progress_style) {
            ui.progress(line);
        }
        before = now;
        if sources.changed().await.is_err() {
            return;
        }
    }
}

fn setup(args: &AgentSetupArgs, ui: &Ui) -> Outcome {
    let setup = agent::setup::of_folder(&args.dir)
        .map_err(|error| process_failed("this host cannot be set up", &error))?;
    let steps = if args.revert { setup.plan_revert() } else { setup.plan() };
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    if args.dry_run {
        return ui.result(&lines, |_| lines.join("\n"));
    }
    let told = |step: &local::setup::Step| ui.progress(format!("  {step}"));
    let done = if args.revert { setup.revert(told) } else { setup.apply(told) };
    done.map_err(|error| {
        let revert = "meshfed agent setup --revert takes back what was done";
        Failure::caused("the host is not set up", &error).fix(revert)
    })?;
    ui.result(&lines, |_| if args.revert { "everything is taken back".to_owned() } else { done_text(&setup) })
}

/// What was done, and what is left to the person.
fn done_text(setup: &local::setup::Setup) -> String {
    let names = if setup.resolved { ", and names are resolved" } else { "" };
    let mut text =
        format!("the host is set up: every port of the virtual IPs works{names}; restart the agent");
    for note in setup.by_hand() {
        text.push_str(&format!("\nby hand: {note}"));
    }
    text
}
