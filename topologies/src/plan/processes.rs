//! What a plan starts, for people: processes with where they listen and the files that they have, links and loads.

use super::{
    AGENT_HEALTH_PORT, API_PORT, CONFIG_PORT, ClientPlan, DNS_PORT, FEDERATION_HEALTH_PORT,
    GATEWAY_HEALTH_PORT, LinkPlan, PROXY_PORT, Plan, SitePlan, TUNNEL_PORT,
};
use crate::impairment::Impairment;
use crate::quantity::Delay;
use model::locality::Locality;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A process that a plan starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// What it is: `gateway gw-0 of west`.
    pub name: String,
    /// Site that it belongs to.
    pub site: String,
    /// Program and arguments of a workload that is not the built-in echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where it listens; of an agent beside the virtual IPs of the services that it serves.
    pub listens: Vec<Listen>,
    /// Address at which other sites dial it: that of the relay in front of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised: Option<SocketAddr>,
    /// Its directory, within that of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Its log, within that of the run.
    pub log: String,
}

/// Something that a process listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// What for.
    pub purpose: &'static str,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.address.port(), self.transport, self.purpose)
    }
}

fn listens(address: Ipv4Addr, what: &[(u16, &'static str, &'static str)]) -> Vec<Listen> {
    let at = |port| SocketAddr::new(IpAddr::V4(address), port);
    what.iter().map(|(port, transport, purpose)| Listen { address: at(*port), transport, purpose }).collect()
}

fn log(name: &str) -> String {
    format!("logs/{}.log", name.replace(' ', "-"))
}

impl Plan {
    /// All processes, site by site: federation, gateways, agents, workloads.
    pub fn processes(&self) -> Vec<Process> {
        self.sites.iter().flat_map(|site| self.processes_of(site)).collect()
    }

    fn processes_of(&self, site: &SitePlan) -> Vec<Process> {
        let name = site.name.to_string();
        let ours = |what: String, listens: Vec<Listen>, directory: String| Process {
            log: log(&what),
            name: what,
            site: name.clone(),
            command: None,
            listens,
            advertised: None,
            directory: Some(directory),
        };
        let mut processes = vec![ours(
            format!("federation of {name}"),
            listens(
                site.federation,
                &[
                    (API_PORT, "tcp", "API"),
                    (CONFIG_PORT, "tcp", "config"),
                    (FEDERATION_HEALTH_PORT, "tcp", "health"),
                ],
            ),
            name.clone(),
        )];
        for gateway in &site.gateways {
            let ports = [(TUNNEL_PORT, "udp", "tunnel"), (GATEWAY_HEALTH_PORT, "tcp", "health")];
            let what = format!("gateway {} of {name}", gateway.name);
            let directory = format!("nodes/{name}-{}", gateway.name);
            let process = ours(what, listens(gateway.address, &ports), directory);
            processes.push(Process { advertised: (!site.nat).then_some(gateway.advertise), ..process });
        }
        for host in &site.hosts {
            let ports = [
                (DNS_PORT, "udp", "DNS"),
                (PROXY_PORT, "tcp", "proxy"),
                (AGENT_HEALTH_PORT, "tcp", "health"),
            ];
            let what = format!("agent {} of {name}", host.name);
            processes.push(ours(what, listens(host.address, &ports), format!("nodes/{name}-{}", host.name)));
        }
        for workload in self.workloads.iter().filter(|workload| workload.site == site.name) {
            let what = format!("workload {}", workload.instance);
            let listen = Listen { address: workload.listen, transport: "tcp", purpose: "service" };
            processes.push(Process {
                log: log(&what),
                name: what,
                site: name.clone(),
                command: workload.command.clone(),
                listens: vec![listen],
                advertised: None,
                directory: None,
            });
        }
        processes
    }

    /// One line per process, link and load, for `meshfed up --dry-run` and `meshfed topology plan`.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for site in &self.sites {
            lines.push(site_line(site));
            for process in self.processes_of(site) {
                lines.push(format!("  {}", self.process_line(site, &process)));
            }
        }
        lines.extend(self.links.iter().map(LinkPlan::words));
        for (site, resource) in &self.policies {
            lines.push(format!("policy {} at {site}", resource.key()));
        }
        lines.extend(self.clients.iter().map(ClientPlan::words));
        lines
    }

    fn process_line(&self, site: &SitePlan, process: &Process) -> String {
        let instance = process.name.strip_prefix("workload ");
        if let Some(workload) = self.workloads.iter().find(|w| Some(w.instance.as_str()) == instance) {
            let what = workload.command.as_ref().map_or_else(|| "echo".to_owned(), |c| c.join(" "));
            let place = workload.host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
            let export = if workload.export { "" } else { ", not exported" };
            return format!("workload {}{place}  {}: {what}{export}", workload.service, workload.listen);
        }
        let name = process.name.strip_suffix(&format!(" of {}", site.name)).unwrap_or(&process.name);
        let address = process.listens.first().map_or_else(String::new, |l| l.address.ip().to_string());
        let ports: Vec<String> = process.listens.iter().map(ToString::to_string).collect();
        let way = match process.advertised {
            Some(advertised) => format!(", advertised as {advertised}/udp"),
            None if site.nat && name.starts_with("gateway ") => ", behind a NAT: only dials".to_owned(),
            None => String::new(),
        };
        format!("{name}  {address}  {}{way}", ports.join(", "))
    }
}

fn site_line(site: &SitePlan) -> String {
    let mut parts = vec![format!("site {}", site.name)];
    if site.locality != Locality::default() {
        parts.push(site.locality.to_string());
    }
    parts.extend(site.kind.map(|kind| kind.to_string()));
    parts.extend(site.network.as_ref().map(|network| format!("network {network}")));
    if site.nat {
        parts.push("behind a NAT".to_owned());
    }
    parts.join(" · ")
}

impl LinkPlan {
    /// What it does to packets, in words: first what holds both ways, then what only holds for what one site sends, by
    /// the name of that site. Empty for a link that does nothing.
    pub fn labels(&self) -> Vec<(Option<String>, Vec<String>)> {
        let (forth, back) = (self.forth, self.back);
        let rtt = (!self.rtt().is_zero()).then(|| format!("RTT {:#}", Delay(self.rtt())));
        // Half a nanosecond of difference is none.
        let same = forth.delay.abs_diff(back.delay).as_nanos() <= 1;
        let words = |way: &Impairment| {
            let mut words = Vec::new();
            words.extend(way.cut.then(|| "cut".to_owned()));
            words.extend((!same).then(|| format!("delay {:#}", Delay(way.delay))));
            words.extend(way.rest());
            words
        };
        let ways = [words(&forth), words(&back)];
        let both = ways[0].iter().filter(|word| ways[1].contains(word)).cloned();
        let mut labels = vec![(None, rtt.into_iter().chain(both).collect::<Vec<_>>())];
        for (site, at) in [(&self.one, 0), (&self.other, 1)] {
            let own = ways[at].iter().filter(|word| !ways[1 - at].contains(word)).cloned();
            labels.push((Some(site.to_string()), own.collect()));
        }
        labels.retain(|(_, words)| !words.is_empty());
        labels
    }

    /// In a line.
    pub fn words(&self) -> String {
        let mut parts = vec![format!("link {} – {}", self.one, self.other)];
        for (from, words) in self.labels() {
            parts.push(match from {
                None => words.join(" · "),
                Some(from) => format!("from {from}: {}", words.join(", ")),
            });
        }
        parts.join(" · ")
    }
}

impl ClientPlan {
    /// In a line.
    pub fn words(&self) -> String {
        let keepalive = if self.keepalive { ", keepalive" } else { "" };
        format!(
            "client {} on {} of {} · {} requests/s to {}:{}{keepalive}, timeout {:#}",
            self.name,
            self.host,
            self.site,
            self.rate,
            self.service,
            self.port,
            Delay(self.timeout)
        )
    }
}
