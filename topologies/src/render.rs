//! Drawings of a topology: [`text`] for a terminal, [`svg`] as one file that needs nothing else.
//!
//! Both are drawn from a `Picture`, which holds what is to be seen and no positions.

mod layout;
mod svg;
mod text;

use crate::plan::{LinkPlan, Plan, SitePlan, WorkloadPlan};
use model::ids::HostName;
use model::locality::Locality;
use model::service::ServiceName;

/// Widest text, in characters: what a terminal shows without wrapping.
pub const TEXT_WIDTH: usize = 100;
/// Longest line within a box, in characters; what is longer ends in `…`.
const LINE_MAX: usize = 42;
/// Longest line of the label of a link.
const LABEL_MAX: usize = 30;

/// Draws a plan for a terminal, in at most [`TEXT_WIDTH`] columns.
pub fn text(plan: &Plan) -> String {
    text::draw(&Picture::of(plan))
}

/// Draws a plan as an SVG image, on a light or a dark ground as the viewer prefers. The same plan gives the same bytes.
pub fn svg(plan: &Plan) -> String {
    svg::draw(&Picture::of(plan))
}

/// What is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Picture {
    title: String,
    /// How much of everything there is.
    subtitle: String,
    sites: Vec<SiteBox>,
    links: Vec<Line>,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SiteBox {
    name: String,
    /// Locality, kind and the like.
    facts: String,
    gateways: Vec<String>,
    rows: Vec<Row>,
}

/// A line within a site.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    what: What,
    text: String,
    /// It belongs to the host above it.
    inside: bool,
}

/// What a line within a site is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Host,
    Workload,
    Client,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// Numbers of the two sites.
    ends: [usize; 2],
    /// What is written on it, a few words a line.
    label: Vec<String>,
    /// The end that alone can be dialled, as the number within `ends`.
    only_dialled: Option<usize>,
    /// Nothing passes, at least one way.
    cut: bool,
}

impl Picture {
    fn of(plan: &Plan) -> Self {
        let number = |site: &model::ids::SiteId| plan.sites.iter().position(|known| known.name == *site);
        let links = plan.links.iter().filter_map(|link| {
            let ends = [number(&link.one)?, number(&link.other)?];
            let nat = ends.map(|end| plan.sites[end].nat);
            Some(Line {
                ends,
                label: label(link),
                only_dialled: nat.iter().position(|is_nat| *is_nat).map(|at| 1 - at),
                cut: link.forth.cut || link.back.cut,
            })
        });
        let gateways = plan.sites.iter().map(|site| site.gateways.len()).sum();
        let subtitle = [
            count(plan.sites.len(), "site"),
            count(gateways, "gateway"),
            count(plan.links.len(), "link"),
            count(plan.workloads.len(), "endpoint"),
            count(plan.clients.len(), "client"),
        ];
        Self {
            title: cut(if plan.name.is_empty() { "topology" } else { &plan.name }),
            subtitle: subtitle.join(" · "),
            links: links.collect(),
            sites: plan.sites.iter().map(|site| site_box(plan, site)).collect(),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A text that fits a box.
fn cut(text: &str) -> String {
    api::text::plain(text, LINE_MAX)
}

fn site_box(plan: &Plan, site: &SitePlan) -> SiteBox {
    let mut facts = Vec::new();
    if site.locality != Locality::default() {
        facts.push(site.locality.to_string());
    }
    facts.extend(site.kind.map(|kind| kind.to_string()));
    facts.extend(site.network.as_ref().map(|network| format!("network {network}")));
    if site.nat {
        facts.push("behind a NAT".to_owned());
    }
    let mut rows = workload_rows(plan, site, None);
    for host in &site.hosts {
        let place =
            if host.locality == site.locality { String::new() } else { format!(" · {}", host.locality) };
        rows.push(Row {
            what: What::Host,
            text: cut(&format!("{} · {}{place}", host.name, host.kind)),
            inside: false,
        });
        rows.extend(workload_rows(plan, site, Some(&host.name)));
        let clients = plan.clients.iter().filter(|c| c.site == site.name && c.host == host.name);
        rows.extend(clients.map(|client| Row {
            what: What::Client,
            text: cut(&format!("{} {}/s → {}", client.name, client.rate, client.service)),
            inside: true,
        }));
    }
    SiteBox {
        name: cut(site.name.as_str()),
        facts: cut(&facts.join(" · ")),
        gateways: site.gateways.iter().map(|gateway| cut(gateway.name.as_str())).collect(),
        rows,
    }
}

/// One row for each service, however many of it run.
fn workload_rows(plan: &Plan, site: &SitePlan, host: Option<&HostName>) -> Vec<Row> {
    let mut found: Vec<(&ServiceName, &WorkloadPlan, usize)> = Vec::new();
    for workload in plan.workloads.iter().filter(|w| w.site == site.name && w.host.as_ref() == host) {
        match found.iter_mut().find(|(service, ..)| **service == workload.service) {
            Some((.., times)) => *times += 1,
            None => found.push((&workload.service, workload, 1)),
        }
    }
    let row = |(service, workload, times): (&ServiceName, &WorkloadPlan, usize)| {
        let times = if times > 1 { format!(" ×{times}") } else { String::new() };
        let program = workload.command.as_ref().and_then(|command| command.first());
        let program = program.map_or_else(String::new, |program| format!(" · {program}"));
        let text = cut(&format!("{service} :{}{times}{program}", workload.port));
        Row { what: What::Workload, text, inside: host.is_some() }
    };
    found.into_iter().map(row).collect()
}

/// What a link does to packets, in lines of a few words.
fn label(link: &LinkPlan) -> Vec<String> {
    let mut lines = Vec::new();
    for (from, words) in link.labels() {
        let mut line = from.map_or_else(String::new, |from| format!("from {from}:"));
        for word in words {
            let joint = match line.chars().last() {
                None => "",
                Some(':') => " ",
                Some(_) => " · ",
            };
            if !line.is_empty() && line.chars().count() + joint.len() + word.chars().count() > LABEL_MAX {
                lines.push(std::mem::replace(&mut line, word));
            } else {
                line.push_str(joint);
                line.push_str(&word);
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}
