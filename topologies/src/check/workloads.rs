//! Programs that serve, and those that call them.

use super::{Findings, known_host, known_site, unknown};
use crate::plan::{AGENT_HEALTH_PORT, DNS_PORT, PROXY_PORT};
use crate::schema::{
    Client, HOST_WORKLOADS_MAX, HOSTS_MAX, PLACEHOLDERS, POLICIES_MAX, REPLICAS_MAX, SITES_MAX, Topology,
    Workload,
};
use api::problem::Problem;
use api::suggest::nearest;
use model::ids::SiteId;
use model::service::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the agent and the connector for files take.
const CHECK_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
/// How long a client may wait.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
/// Most workloads: what fits the addresses of all sites.
const WORKLOADS_MAX: usize = SITES_MAX * (REPLICAS_MAX + HOSTS_MAX * HOST_WORKLOADS_MAX);

pub(super) fn check(topology: &Topology, findings: &mut Findings) {
    if topology.workloads.len() > WORKLOADS_MAX {
        let text = format!("there are {} workloads", topology.workloads.len());
        return findings.error(Problem::at("workloads", text).help("larger ones run in the simulator"));
    }
    // Per service: where its ports were first described, and how.
    let mut ports: BTreeMap<&ServiceName, (usize, &Workload)> = BTreeMap::new();
    let mut on_host = BTreeSet::new();
    // Per host: the ports that its programs have.
    let mut taken: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    let mut direct: BTreeMap<&SiteId, usize> = BTreeMap::new();
    for (at, workload) in topology.workloads.iter().enumerate() {
        if findings.is_full() {
            return;
        }
        let path = format!("workloads.{at}");
        let found = one_workload(topology, workload);
        let is_good = found.is_ok();
        findings.take(&path, found);
        if !is_good {
            continue;
        }
        if let Some(host) = &workload.host {
            if !on_host.insert((&workload.service, &workload.site, host)) {
                findings.error(
                    Problem::at("host", format!("`{}` runs on `{host}` twice", workload.service))
                        .help("on a host a service has one endpoint; use another host")
                        .under(&path),
                );
                continue;
            }
            let taken = taken.entry((&workload.site, host)).or_default();
            findings.take(&path, place_on_host(workload, taken));
        } else {
            let count = direct.entry(&workload.site).or_default();
            *count += usize::from(workload.replicas.unwrap_or(1));
            if *count > REPLICAS_MAX {
                let text = format!("`{}` has more than {REPLICAS_MAX} endpoints", workload.site);
                let help = "use fewer replicas; larger sites run in the simulator";
                findings.error(Problem::at("replicas", text).help(help).under(&path));
            }
        }
        let (first, other) = *ports.entry(&workload.service).or_insert((at, workload));
        if other.port != workload.port || other.protocol != workload.protocol {
            let text = format!(
                "`{}` has port {}/{} here and {}/{} in workload {first}",
                workload.service, workload.port, workload.protocol, other.port, other.protocol
            );
            let help = "services of one name are one service: give them the same port";
            findings.error(Problem::at("port", text).help(help).under(&path));
        }
    }
}

/// Takes the port that the plan will give it, the next free one from that of its service on.
fn place_on_host(workload: &Workload, taken: &mut BTreeSet<u16>) -> Result<(), Problem> {
    if taken.len() >= HOST_WORKLOADS_MAX {
        let text = format!("more than {HOST_WORKLOADS_MAX} programs run on this host");
        return Err(Problem::at("host", text).help("use another host"));
    }
    if let Some((port, what)) = [(AGENT_HEALTH_PORT, "health"), (DNS_PORT, "DNS"), (PROXY_PORT, "proxy")]
        .into_iter()
        .find(|(port, _)| *port == workload.port)
    {
        return Err(Problem::at("port", format!("the agent of the host has port {port} for its {what}"))
            .help("use another port"));
    }
    let Some(port) = (workload.port..=u16::MAX).find(|port| !taken.contains(port)) else {
        return Err(Problem::at("port", "no port is left above this one on the host").help("use a lower one"));
    };
    taken.insert(port);
    let is_fixed = workload.command.as_ref().is_some_and(|c| !c.iter().any(|arg| arg.contains("${PORT}")));
    if port != workload.port && is_fixed {
        let text = format!(
            "port {} of the host is taken by another workload, and the command does not name ${{PORT}}",
            workload.port
        );
        return Err(Problem::at("command", text).help("listen on ${PORT}, or run it on another host"));
    }
    Ok(())
}

fn one_workload(topology: &Topology, workload: &Workload) -> Result<(), Problem> {
    let site = known_site(topology, &workload.site, "site")?;
    if let Some(host) = &workload.host {
        known_host(&workload.site, site, host, "host")?;
        if workload.replicas.is_some_and(|n| n != 1) {
            return Err(Problem::at("replicas", "on a host a service has one endpoint")
                .help("leave `replicas` out, or name several hosts"));
        }
    }
    if workload.replicas == Some(0) {
        return Err(Problem::at("replicas", "there are no replicas")
            .help("write at least 1, or leave the workload out"));
    }
    if workload.port < 1024 {
        return Err(Problem::at("port", format!("port {} needs root", workload.port))
            .help("use a port of 1024 or above; the VIP listens on the same one"));
    }
    if workload.check_interval.is_some_and(|span| !CHECK_INTERVALS.contains(&span.0)) {
        return Err(Problem::at("checkInterval", "it must lie between 50ms and 1h"));
    }
    let Some(command) = &workload.command else { return Ok(()) };
    if command.first().is_none_or(String::is_empty) {
        return Err(Problem::at("command", "the command is empty")
            .help("write a program and its arguments, or leave it out for the built-in echo"));
    }
    command.iter().enumerate().try_for_each(|(n, word)| {
        placeholders(word).map_err(|problem| problem.under(&format!("command.{n}")))
    })
}

/// Refuses a `${NAME}` that nobody fills in.
fn placeholders(word: &str) -> Result<(), Problem> {
    for part in word.split("${").skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        let written = format!("${{{name}}}");
        // Other programs have a use for other names: `${HOME}` of a shell is none of ours.
        let Some(meant) = nearest(&written, PLACEHOLDERS) else { continue };
        if meant != written {
            return Err(Problem::at(
                "",
                format!("nothing is filled in for `{}`", api::text::plain(&written, 40)),
            )
            .help(format!("did you mean `{meant}`?")));
        }
    }
    Ok(())
}

pub(super) fn check_clients(topology: &Topology, findings: &mut Findings) {
    if topology.clients.len() > POLICIES_MAX {
        let text = format!("there are {} clients", topology.clients.len());
        return findings.error(Problem::at("clients", text).help(format!("write at most {POLICIES_MAX}")));
    }
    let services: BTreeMap<&ServiceName, u16> =
        topology.workloads.iter().map(|w| (&w.service.0, w.port)).collect();
    let mut names = BTreeSet::new();
    for (at, one) in topology.clients.iter().enumerate() {
        if findings.is_full() {
            return;
        }
        let path = format!("clients.{at}");
        findings.take(&path, client(topology, one, &services));
        if !names.insert(&one.name) {
            findings.error(
                Problem::at(&format!("{path}.name"), format!("a second client is named `{}`", one.name))
                    .help("give each client a name of its own"),
            );
        }
    }
}

fn client(
    topology: &Topology,
    client: &Client,
    services: &BTreeMap<&ServiceName, u16>,
) -> Result<(), Problem> {
    let site = known_site(topology, &client.site, "site")?;
    known_host(&client.site, site, &client.host, "host")?;
    let Some(known) = services.get(&client.service.0) else {
        let names: BTreeSet<String> = services.keys().map(ToString::to_string).collect();
        return Err(unknown("service", "service", &client.service, names.iter().map(String::as_str)));
    };
    if client.port.is_some_and(|port| port != *known) {
        return Err(Problem::at("port", format!("`{}` has no such port", client.service))
            .help(format!("write {known}, or leave it out")));
    }
    if !(1..=10_000).contains(&client.rate) {
        return Err(Problem::at("rate", format!("{} requests per second cannot be sent", client.rate))
            .help("write 1 to 10000"));
    }
    let bad_path = !client.path.starts_with('/') || client.path.bytes().any(|b| b <= b' ' || b == 0x7f);
    if bad_path {
        return Err(Problem::at("path", "this is not a path").help("begin it with `/`, without spaces"));
    }
    if client.timeout.is_some_and(|span| !TIMEOUTS.contains(&span.0)) {
        return Err(Problem::at("timeout", "it must lie between 10ms and 5m"));
    }
    reaches(topology, client)
}

/// Some site that the client's own is linked with, or its own, must offer the service: nothing is passed on.
fn reaches(topology: &Topology, client: &Client) -> Result<(), Problem> {
    let linked = |site: &SiteId| {
        topology.links.iter().any(|link| {
            let (one, other) = (&link.between.0.0, &link.between.1.0);
            (*one == client.site.0 && other == site) || (*other == client.site.0 && one == site)
        })
    };
    let mut offering: BTreeSet<&SiteId> = BTreeSet::new();
    for workload in topology.workloads.iter().filter(|w| w.service == client.service) {
        if workload.site == client.site {
            return Ok(());
        }
        if workload.export {
            offering.insert(&workload.site.0);
        }
    }
    if offering.iter().any(|site| linked(site)) {
        return Ok(());
    }
    let text = format!("nobody that `{}` is linked with offers `{}`", client.site, client.service);
    let help = match offering.first() {
        Some(site) => format!("link `{}` with `{site}`, which offers it", client.site),
        None => "take `export: false` from one of its workloads".to_owned(),
    };
    Err(Problem::at("service", text).help(help))
}
