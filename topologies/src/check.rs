//! What serde cannot see: names that must exist, values that must fit together.

mod links;
mod suspicions;
mod workloads;

use crate::schema::{GATEWAYS_MAX, Gateways, HOSTS_MAX, POLICIES_MAX, SITES_MAX, Site, Topology};
use api::problem::Problem;
use api::suggest::nearest;
use api::text::Text;
use model::ids::{HostName, SiteId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// Most mistakes, and most suspicions, that are told of one file.
pub const FINDINGS_MAX: usize = 20;

/// What was found in a topology.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What cannot be, each with the path of its value; at most [`FINDINGS_MAX`].
    pub errors: Vec<Problem>,
    /// What can be and is probably not meant; sought only where nothing is wrong. At most as many.
    pub warnings: Vec<Problem>,
}

impl Findings {
    fn is_full(&self) -> bool {
        self.errors.len() >= FINDINGS_MAX
    }

    fn error(&mut self, problem: Problem) {
        if !self.is_full() {
            self.errors.push(problem);
        }
    }

    /// Takes what was found below `path`.
    fn take(&mut self, path: &str, found: Result<(), Problem>) {
        if let Err(problem) = found {
            self.error(problem.under(path));
        }
    }

    fn warn(&mut self, problem: Problem) {
        if self.warnings.len() < FINDINGS_MAX {
            self.warnings.push(problem);
        }
    }
}

/// Checks a topology as a whole.
pub fn check(topology: &Topology) -> Findings {
    let mut findings = Findings::default();
    sites(topology, &mut findings);
    if topology.sites.len() > SITES_MAX {
        return findings;
    }
    links::check(topology, &mut findings);
    workloads::check(topology, &mut findings);
    policies(topology, &mut findings);
    workloads::check_clients(topology, &mut findings);
    if findings.errors.is_empty() {
        suspicions::look(topology, &mut findings);
    }
    findings
}

fn sites(topology: &Topology, findings: &mut Findings) {
    if topology.sites.is_empty() {
        findings.error(Problem::at("sites", "there is no site").help("write at least one, as in `east: {}`"));
    }
    if topology.sites.len() > SITES_MAX {
        findings.error(
            Problem::at("sites", format!("there are {} sites", topology.sites.len()))
                .help(format!("at most {SITES_MAX} fit on one host; larger ones run in the simulator")),
        );
    }
    // Names of files come of the names of sites, gateways and hosts.
    let mut nodes = BTreeMap::new();
    for (name, site) in &topology.sites {
        let path = format!("sites.{name}");
        let found = one_site(site);
        let is_good = found.is_ok();
        findings.take(&path, found);
        if !is_good {
            continue;
        }
        let gateways = site.gateways.each().into_iter().map(|(gateway, _)| gateway.to_string());
        let hosts = site.hosts.keys().map(ToString::to_string);
        for node in gateways.chain(hosts) {
            let other = nodes.insert(format!("{name}-{node}"), (name, node.clone()));
            if let Some((site, twin)) = other {
                let text = format!(
                    "`{node}` of `{name}` and `{twin}` of `{site}` would share one directory, {name}-{node}"
                );
                findings.error(Problem::at(&path, text).help("rename one of them"));
            }
        }
    }
}

fn one_site(site: &Site) -> Result<(), Problem> {
    if site.gateways.count() == 0 || site.gateways.count() > usize::from(GATEWAYS_MAX) {
        let count = match site.gateways {
            // A number that did not fit is not known any more.
            Gateways::Count(u8::MAX) => "so many".to_owned(),
            Gateways::Count(_) | Gateways::Named(_) => site.gateways.count().to_string(),
        };
        return Err(Problem::at("gateways", format!("a site cannot have {count} gateways"))
            .help(format!("write 1 to {GATEWAYS_MAX}")));
    }
    if site.hosts.len() > HOSTS_MAX {
        return Err(Problem::at("hosts", format!("the site has {} hosts", site.hosts.len()))
            .help(format!("at most {HOSTS_MAX} fit into its addresses")));
    }
    Ok(())
}

fn policies(topology: &Topology, findings: &mut Findings) {
    if topology.policies.len() > POLICIES_MAX {
        let text = format!("there are {} policies", topology.policies.len());
        return findings.error(Problem::at("policies", text).help(format!("write at most {POLICIES_MAX}")));
    }
    for (at, policy) in topology.policies.iter().enumerate() {
        if findings.is_full() {
            return;
        }
        for (n, site) in policy.sites.iter().enumerate() {
            findings.take("", known_site(topology, site, &format!("policies.{at}.sites.{n}")).map(drop));
        }
        findings.take(&format!("policies.{at}.resource"), policy.resource.check());
    }
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
            let known: BTreeSet<&str> = known.collect();
            let known: Vec<&str> = known.into_iter().collect();
            if known.is_empty() { String::new() } else { format!("known: {}", known.join(", ")) }
        }
    };
    Problem::at(path, format!("there is no {what} `{name}`")).help(help)
}
