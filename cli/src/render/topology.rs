//! What `topology check` and `topology plan` say.

use super::style::Style;
use super::words::plural;
use api::diagnostic::Diagnostic;
use serde::Serialize;
use topologies::Inspection;
use topologies::impairment::Impairment;
use topologies::plan::{Plan, Process};

/// A file that was checked.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// As it was named.
    pub file: String,
    /// How much it has of everything; empty when it has a mistake.
    pub summary: String,
    /// Mistakes.
    pub errors: Vec<Diagnostic>,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

impl Checked {
    /// What was found in a file.
    pub fn of(file: &str, found: Inspection) -> Self {
        let summary = found.topology.map(|topology| {
            let gateways = topology.sites.values().map(|site| site.gateways.count()).sum();
            let counts: [(usize, &str); 5] = [
                (topology.sites.len(), "site"),
                (gateways, "gateway"),
                (topology.links.len(), "link"),
                (topology.workloads.len(), "workload"),
                (topology.clients.len(), "client"),
            ];
            let word = |(count, one): (usize, &str)| plural(count as u64, one, &format!("{one}s"));
            counts.map(word).join(", ")
        });
        Self {
            file: file.to_owned(),
            summary: summary.unwrap_or_default(),
            errors: found.errors,
            warnings: found.warnings,
        }
    }
}

/// The verdict, and each mistake and warning with its lines.
pub fn checked(file: &Checked, style: Style) -> String {
    let mistakes = plural(file.errors.len() as u64, "mistake", "mistakes");
    let warnings = plural(file.warnings.len() as u64, "warning", "warnings");
    let verdict = match (file.errors.len(), file.warnings.len()) {
        (0, 0) => style.good("nothing is wrong"),
        (0, _) => style.warn(&warnings),
        _ => style.bad(&mistakes),
    };
    let summary = if file.summary.is_empty() { String::new() } else { format!("{}; ", file.summary) };
    let mut lines = vec![format!("{}: {summary}{verdict}", file.file)];
    lines.extend(file.errors.iter().map(ToString::to_string));
    lines.extend(file.warnings.iter().map(|warning| {
        let text = warning.to_string();
        text.strip_prefix("error").map_or(text.clone(), |rest| format!("warning{rest}"))
    }));
    lines.join("\n")
}

/// A plan, for programs.
#[derive(Debug, Serialize)]
pub struct Planned {
    name: String,
    processes: Vec<Process>,
    links: Vec<PlannedLink>,
    policies: Vec<PlannedPolicy>,
    clients: Vec<PlannedClient>,
}

#[derive(Debug, Serialize)]
struct PlannedLink {
    one: String,
    other: String,
    rtt_ms: f64,
    /// What is done to packets from `one` to `other`.
    forth: Impairment,
    back: Impairment,
}

#[derive(Debug, Serialize)]
struct PlannedPolicy {
    site: String,
    resource: String,
}

#[derive(Debug, Serialize)]
struct PlannedClient {
    name: String,
    site: String,
    host: String,
    service: String,
    port: u16,
    requests_per_s: u32,
    keepalive: bool,
    timeout_ms: u64,
}

impl Planned {
    /// What a plan starts.
    pub fn of(plan: &Plan) -> Self {
        let links = plan.links.iter().map(|link| PlannedLink {
            one: link.one.to_string(),
            other: link.other.to_string(),
            rtt_ms: link.rtt().as_secs_f64() * 1000.0,
            forth: link.forth,
            back: link.back,
        });
        let policies = plan.policies.iter().map(|(site, resource)| PlannedPolicy {
            site: site.to_string(),
            resource: resource.key().to_string(),
        });
        let clients = plan.clients.iter().map(|client| PlannedClient {
            name: client.name.clone(),
            site: client.site.to_string(),
            host: client.host.to_string(),
            service: client.service.to_string(),
            port: client.port,
            requests_per_s: client.rate,
            keepalive: client.keepalive,
            timeout_ms: u64::try_from(client.timeout.as_millis()).unwrap_or(u64::MAX),
        });
        Self {
            name: plan.name.clone(),
            processes: plan.processes(),
            links: links.collect(),
            policies: policies.collect(),
            clients: clients.collect(),
        }
    }
}

/// A plan, for people: each process, link and load, and where the files are.
pub fn planned(plan: &Plan) -> String {
    let processes = plan.processes();
    let mut lines = plan.describe();
    lines.push(String::new());
    lines.push(format!(
        "{} and {}. The addresses are those of the block 127.16; a run takes one that is free.",
        plural(processes.len() as u64, "process", "processes"),
        plural(plan.sites.iter().map(|site| site.gateways.len() as u64).sum(), "relay", "relays")
    ));
    lines.push("Files, in --dir or a temporary directory:".to_owned());
    let mut files = vec![("contexts.yaml".to_owned(), "for MESHFED_CONFIG")];
    let (nodes, sites): (Vec<String>, Vec<String>) = processes
        .iter()
        .filter_map(|process| process.directory.as_ref().map(|directory| format!("{directory}/")))
        .partition(|directory| directory.starts_with("nodes/"));
    files.extend(sites.into_iter().map(|directory| (directory, "CA, store, services")));
    files.extend(nodes.into_iter().map(|directory| (directory, "key, certificate, last config")));
    files.extend(processes.iter().map(|process| (process.log.clone(), "log")));
    let width = files.iter().map(|(path, _)| path.len()).max().unwrap_or_default();
    lines.extend(files.iter().map(|(path, what)| format!("  {path:width$}  {what}")));
    lines.join("\n")
}
