//! What can be and is probably not meant.

use super::Findings;
use crate::quantity::{Delay, Share};
use crate::schema::Topology;
use api::problem::Problem;
use model::ids::SiteId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A path whose packets take longer to leave than this is taken for dead (`gateway_core::liveness`).
const PACKET_TIME_MAX: Duration = Duration::from_millis(300);
/// Size of a full packet, in bytes.
const PACKET: u64 = 1500;

pub(super) fn look(topology: &Topology, findings: &mut Findings) {
    islands(topology, findings);
    // Above it no number of misses tells a dead path from a live one in time.
    let loss_max = Share::of(0.4);
    for (at, link) in topology.links.iter().enumerate() {
        let Ok(ways) = link.ways() else { continue };
        if ways.iter().all(|way| way.cut) {
            let text = format!("`{}` and `{}` are cut both ways", link.between.0, link.between.1);
            let help = "an experiment cuts and heals a link at stated times";
            findings.warn(Problem::at(&format!("links.{at}.cut"), text).help(help));
            continue;
        }
        if ways.iter().any(|way| way.loss.average() > loss_max) {
            findings.warn(
                Problem::at(
                    &format!("links.{at}.loss"),
                    "at so much loss gateways may take the path for dead",
                )
                .help("up to 40% is borne"),
            );
        }
        if let Some(time) = ways.iter().filter_map(|way| way.rate).map(|rate| rate.time_of(PACKET)).max()
            && time > PACKET_TIME_MAX
        {
            let text = format!("one full packet takes {:#}", Delay(time));
            let help = "gateways may take the path for dead after 300ms; write at least 40kbit";
            findings.warn(Problem::at(&format!("links.{at}.rate"), text).help(help));
        }
    }
}

/// Sites that no link joins, directly or through others, with the largest group of sites.
fn islands(topology: &Topology, findings: &mut Findings) {
    let mut linked: BTreeMap<&SiteId, Vec<&SiteId>> = BTreeMap::new();
    for link in &topology.links {
        let (one, other) = (&link.between.0.0, &link.between.1.0);
        linked.entry(one).or_default().push(other);
        linked.entry(other).or_default().push(one);
    }
    let mut seen: BTreeSet<&SiteId> = BTreeSet::new();
    let mut groups: Vec<BTreeSet<&SiteId>> = Vec::new();
    for start in topology.sites.keys().map(|site| &site.0) {
        let mut group = BTreeSet::new();
        let mut next = vec![start];
        while let Some(site) = next.pop() {
            if seen.insert(site) {
                group.insert(site);
                next.extend(linked.get(site).into_iter().flatten());
            }
        }
        if !group.is_empty() {
            groups.push(group);
        }
    }
    // Largest first; among equals the one that the file names first.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    for group in groups.iter().skip(1) {
        let names: Vec<String> = group.iter().map(|site| format!("`{site}`")).collect();
        let Some(first) = group.first() else { continue };
        let text = if names.len() == 1 {
            format!("{} is linked with no other site", names[0])
        } else {
            format!("{} are linked with each other, and with no other site", names.join(", "))
        };
        findings
            .warn(Problem::at(&format!("sites.{first}"), text).help("add a link, if it is to be reached"));
    }
}
