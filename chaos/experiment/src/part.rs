//! Processes of a topology, and the words by which a file names them.

use std::fmt;
use std::str::FromStr;
use topologies::plan::Plan;

/// One process of a topology that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The program behind an endpoint, by its instance name.
    Workload(String),
    /// The federation of a site.
    Federation(String),
    /// A gateway of a site.
    Gateway(String, String),
    /// The agent on a host of a site.
    Agent(String, String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(instance) => write!(f, "workload {instance}"),
            Self::Federation(site) => write!(f, "federation of {site}"),
            Self::Gateway(site, name) => write!(f, "gateway {name} of {site}"),
            Self::Agent(site, host) => write!(f, "agent {host} of {site}"),
        }
    }
}

/// One or more processes, as a file names them.
///
/// | written | means |
/// |---|---|
/// | `gateway SITE/NAME` | one gateway |
/// | `gateways SITE`, `gateways` | all gateways of a site, or of all |
/// | `agent SITE/HOST` | one agent |
/// | `federation SITE`, `federations` | one federation, or all |
/// | `workload INSTANCE` | one program, `SITE-SERVICE-NUMBER` |
/// | `workloads SITE` | all programs of a site |
/// | `site SITE` | every process of a site |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One process.
    One(Part),
    /// All gateways of a site, or of all sites.
    Gateways(Option<String>),
    /// All federations.
    Federations,
    /// All programs of a site.
    Workloads(String),
    /// Every process of a site.
    Site(String),
}

/// The forms of a target, for errors.
const FORMS: &str = "write gateway SITE/NAME, gateways SITE, agent SITE/HOST, federation SITE, federations, \
                     workload INSTANCE, workloads SITE or site SITE";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (kind, name, more) = (words.next().unwrap_or(""), words.next(), words.next());
        let wrong = || format!("`{}` names no process: {FORMS}", api::text::plain(text, 60));
        if more.is_some() {
            return Err(wrong());
        }
        let pair = |name: &str| {
            let (site, of) = name.split_once('/').ok_or_else(wrong)?;
            Ok::<_, String>((site.to_owned(), of.to_owned()))
        };
        match (kind, name) {
            ("gateway", Some(name)) => pair(name).map(|(site, name)| Self::One(Part::Gateway(site, name))),
            ("agent", Some(name)) => pair(name).map(|(site, host)| Self::One(Part::Agent(site, host))),
            ("federation", Some(site)) => Ok(Self::One(Part::Federation(site.to_owned()))),
            ("workload", Some(instance)) => Ok(Self::One(Part::Workload(instance.to_owned()))),
            ("gateways", site) => Ok(Self::Gateways(site.map(str::to_owned))),
            ("federations", None) => Ok(Self::Federations),
            ("workloads", Some(site)) => Ok(Self::Workloads(site.to_owned())),
            ("site", Some(site)) => Ok(Self::Site(site.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(Part::Workload(instance)) => write!(f, "workload {instance}"),
            Self::One(Part::Federation(site)) => write!(f, "federation {site}"),
            Self::One(Part::Gateway(site, name)) => write!(f, "gateway {site}/{name}"),
            Self::One(Part::Agent(site, host)) => write!(f, "agent {site}/{host}"),
            Self::Gateways(Some(site)) => write!(f, "gateways {site}"),
            Self::Gateways(None) => f.write_str("gateways"),
            Self::Federations => f.write_str("federations"),
            Self::Workloads(site) => write!(f, "workloads {site}"),
            Self::Site(site) => write!(f, "site {site}"),
        }
    }
}

impl Target {
    /// The processes of `plan` that it names; empty when there is none.
    pub fn parts(&self, plan: &Plan) -> Vec<Part> {
        let all = parts(plan);
        let of_site = |part: &Part, site: &str| site_of(part, plan).is_some_and(|of| of == site);
        match self {
            Self::One(one) => all.into_iter().filter(|part| part == one).collect(),
            Self::Gateways(site) => all
                .into_iter()
                .filter(|part| matches!(part, Part::Gateway(of, _) if site.as_ref().is_none_or(|s| s == of)))
                .collect(),
            Self::Federations => all.into_iter().filter(|part| matches!(part, Part::Federation(_))).collect(),
            Self::Workloads(site) => all
                .into_iter()
                .filter(|part| matches!(part, Part::Workload(_)) && of_site(part, site))
                .collect(),
            Self::Site(site) => all.into_iter().filter(|part| of_site(part, site)).collect(),
        }
    }
}

/// Every process of a plan.
pub fn parts(plan: &Plan) -> Vec<Part> {
    let mut parts: Vec<Part> = plan.workloads.iter().map(|w| Part::Workload(w.instance.clone())).collect();
    for site in &plan.sites {
        let name = site.name.to_string();
        parts.push(Part::Federation(name.clone()));
        parts.extend(site.gateways.iter().map(|g| Part::Gateway(name.clone(), g.name.to_string())));
        parts.extend(site.hosts.iter().map(|h| Part::Agent(name.clone(), h.name.to_string())));
    }
    parts
}

/// The site of a process of a plan.
pub fn site_of(part: &Part, plan: &Plan) -> Option<String> {
    match part {
        Part::Federation(site) | Part::Gateway(site, _) | Part::Agent(site, _) => Some(site.clone()),
        Part::Workload(instance) => {
            plan.workloads.iter().find(|w| w.instance == *instance).map(|w| w.site.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_as_it_is_read() {
        for text in [
            "gateway east/gw-0",
            "gateways east",
            "gateways",
            "agent dc/vm-1",
            "federation east",
            "federations",
            "workload east-cart-0",
            "workloads east",
            "site east",
        ] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
        for text in ["", "gateway", "gateway east", "pod x", "federations east", "site a b"] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains("gateway SITE/NAME"), "{error}");
        }
    }

    #[test]
    fn a_target_names_the_processes_of_the_plan_and_no_others() {
        let topology = topologies::read(topologies::DEMO_FILE, topologies::DEMO).expect("the demo is right");
        let plan = topologies::plan::plan(&topology, 9);
        let parts = |text: &str| text.parse::<Target>().expect(text).parts(&plan);
        assert_eq!(parts("gateways west").len(), 2);
        assert_eq!(parts("federations").len(), 3);
        assert_eq!(parts("gateway east/gw-7"), []);
        assert_eq!(parts("workloads dc"), [Part::Workload("dc-cart-0".into())]);
        // A federation, two gateways, an agent, a program.
        assert_eq!(parts("site west").len(), 5);
    }
}
