//! What serde cannot see: names that must exist, values that must fit together.

use crate::schema::{
    Client, GATEWAYS_MAX, HOSTS_MAX, Link, REPLICAS_MAX, SITES_MAX, Site, Topology, Workload,
};
use api::problem::Problem;
use api::suggest::nearest;
use api::text::Text;
use model::ids::{HostName, SiteId};
use model::service::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

/// Longest round trip of a link.
const RTT_MAX: Duration = Duration::from_secs(10);
/// What the agent and the connector for files take.
const CHECK_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(3600);

/// Checks a topology as a whole.
///
/// # Errors
/// The first problem, with the path of its value.
pub fn check(topology: &Topology) -> Result<(), Problem> {
    sites(topology)?;
    links(topology)?;
    workloads(topology)?;
    for (at, policy) in topology.policies.iter().enumerate() {
        for (n, site) in policy.sites.iter().enumerate() {
            known_site(topology, site, &format!("policies.{at}.sites.{n}"))?;
        }
        policy.resource.check().map_err(|problem| problem.under(&format!("policies.{at}.resource")))?;
    }
    let mut names = BTreeSet::new();
    for (at, one) in topology.clients.iter().enumerate() {
        client(topology, one).map_err(|problem| problem.under(&format!("clients.{at}")))?;
        if !names.insert(&one.name) {
            return Err(Problem::at(
                &format!("clients.{at}.name"),
                format!("a second client is named `{}`", one.name),
            )
            .help("give each client a name of its own"));
        }
    }
    Ok(())
}

fn sites(topology: &Topology) -> Result<(), Problem> {
    if topology.sites.is_empty() {
        return Err(Problem::at("sites", "there is no site").help("write at least one, as in `east: {}`"));
    }
    if topology.sites.len() > SITES_MAX {
        return Err(Problem::at("sites", format!("there are {} sites", topology.sites.len()))
            .help(format!("at most {SITES_MAX} fit on one host; larger ones run in the simulator")));
    }
    for (name, site) in &topology.sites {
        one_site(site).map_err(|problem| problem.under(&format!("sites.{name}")))?;
    }
    Ok(())
}

fn one_site(site: &Site) -> Result<(), Problem> {
    if site.gateways == 0 || site.gateways > GATEWAYS_MAX {
        return Err(Problem::at("gateways", format!("a site cannot have {} gateways", site.gateways))
            .help(format!("write 1 to {GATEWAYS_MAX}")));
    }
    if site.hosts.len() > HOSTS_MAX {
        return Err(Problem::at("hosts", format!("the site has {} hosts", site.hosts.len()))
            .help(format!("at most {HOSTS_MAX} fit into its addresses")));
    }
    Ok(())
}

fn links(topology: &Topology) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (at, link) in topology.links.iter().enumerate() {
        let Link { between: (one, other), rtt, loss_pct } = link;
        known_site(topology, one, &format!("links.{at}.between.0"))?;
        known_site(topology, other, &format!("links.{at}.between.1"))?;
        if one == other {
            return Err(Problem::at(
                &format!("links.{at}.between"),
                format!("`{one}` cannot be linked with itself"),
            )
            .help("name two different sites"));
        }
        let pair = if one < other { (one, other) } else { (other, one) };
        if !seen.insert(pair) {
            return Err(Problem::at(
                &format!("links.{at}.between"),
                format!("`{one}` and `{other}` are linked twice"),
            )
            .help("keep one of the two"));
        }
        if rtt.is_some_and(|rtt| rtt.0 > RTT_MAX) {
            return Err(Problem::at(&format!("links.{at}.rtt"), "the round trip is longer than 10 s")
                .help("write at most 10s"));
        }
        if !(0.0..=100.0).contains(loss_pct) {
            return Err(Problem::at(
                &format!("links.{at}.lossPct"),
                format!("{loss_pct} is not a share of datagrams"),
            )
            .help("write 0 to 100"));
        }
    }
    Ok(())
}

fn workloads(topology: &Topology) -> Result<(), Problem> {
    // Per service: where its ports were first described, and how.
    let mut ports: BTreeMap<&ServiceName, (usize, &Workload)> = BTreeMap::new();
    let mut on_host = BTreeSet::new();
    let mut direct: BTreeMap<&SiteId, usize> = BTreeMap::new();
    for (at, workload) in topology.workloads.iter().enumerate() {
        let under = |problem: Problem| problem.under(&format!("workloads.{at}"));
        one_workload(topology, workload).map_err(under)?;
        if let Some(host) = &workload.host {
            if !on_host.insert((&workload.service, &workload.site, host)) {
                return Err(under(
                    Problem::at("host", format!("`{}` runs on `{host}` twice", workload.service))
                        .help("on a host a service has one endpoint; use another host"),
                ));
            }
        } else {
            let count = direct.entry(&workload.site).or_default();
            *count += usize::from(workload.replicas.unwrap_or(1));
            if *count > REPLICAS_MAX {
                return Err(under(
                    Problem::at(
                        "replicas",
                        format!("`{}` has more than {REPLICAS_MAX} endpoints", workload.site),
                    )
                    .help("use fewer replicas; larger sites run in the simulator"),
                ));
            }
        }
        let (first, other) = *ports.entry(&workload.service).or_insert((at, workload));
        if other.port != workload.port || other.protocol != workload.protocol {
            return Err(under(
                Problem::at(
                    "port",
                    format!(
                        "`{}` has port {}/{} here and {}/{} in workload {first}",
                        workload.service, workload.port, workload.protocol, other.port, other.protocol
                    ),
                )
                .help("services of one name are one service: give them the same port"),
            ));
        }
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
    if workload.command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
        return Err(Problem::at("command", "the command is empty")
            .help("write a program and its arguments, or leave it out for the built-in echo"));
    }
    Ok(())
}

fn client(topology: &Topology, client: &Client) -> Result<(), Problem> {
    let site = known_site(topology, &client.site, "site")?;
    known_host(&client.site, site, &client.host, "host")?;
    let Some(workload) = topology.workloads.iter().find(|w| w.service == client.service) else {
        let names: BTreeSet<String> = topology.workloads.iter().map(|w| w.service.to_string()).collect();
        return Err(unknown("service", "service", &client.service, names.iter().map(String::as_str)));
    };
    if client.port.is_some_and(|port| port != workload.port) {
        return Err(Problem::at("port", format!("`{}` has no such port", client.service))
            .help(format!("write {}, or leave it out", workload.port)));
    }
    if !(1..=10_000).contains(&client.rate) {
        return Err(Problem::at("rate", format!("{} requests per second cannot be sent", client.rate))
            .help("write 1 to 10000"));
    }
    let bad_path = !client.path.starts_with('/') || client.path.bytes().any(|b| b <= b' ' || b == 0x7f);
    if bad_path {
        return Err(Problem::at("path", "this is not a path").help("begin it with `/`, without spaces"));
    }
    Ok(())
}

fn known_site<'t>(topology: &'t Topology, name: &Text<SiteId>, path: &str) -> Result<&'t Site, Problem> {
    topology
        .sites
        .get(name)
        .ok_or_else(|| unknown(path, "site", name, topology.sites.keys().map(|site| site.as_str())))
}

fn known_host(site_name: &SiteId, site: &Site, host: &Text<HostName>, path: &str) -> Result<(), Problem> {
    if site.hosts.contains_key(host) {
        return Ok(());
    }
    if site.hosts.is_empty() {
        return Err(Problem::at(path, format!("site `{site_name}` has no host `{host}`"))
            .help(format!("add `hosts: {{ {host}: {{}} }}` to the site")));
    }
    Err(unknown(
        path,
        &format!("host of site `{site_name}`"),
        host,
        site.hosts.keys().map(|host| host.as_str()),
    ))
}

fn unknown<'a>(
    path: &str,
    what: &str,
    name: &impl Display,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Problem {
    let name = name.to_string();
    let help = match nearest(&name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let known: Vec<&str> = known.collect();
            if known.is_empty() { String::new() } else { format!("known: {}", known.join(", ")) }
        }
    };
    Problem::at(path, format!("there is no {what} `{name}`")).help(help)
}
