//! Links: two sites each, that can dial each other, over a way that the tunnel passes through.

use super::{Findings, known_site, unknown};
use crate::impairment::MTU_MIN;
use crate::schema::{Link, SITES_MAX, Topology};
use api::problem::Problem;
use std::collections::BTreeSet;

pub(super) fn check(topology: &Topology, findings: &mut Findings) {
    // More cannot be: each pair of sites is linked once.
    let most = SITES_MAX * (SITES_MAX - 1) / 2;
    if topology.links.len() > most {
        let text = format!("there are {} links", topology.links.len());
        return findings.error(Problem::at("links", text).help("link two sites once"));
    }
    let mut seen = BTreeSet::new();
    for (at, link) in topology.links.iter().enumerate() {
        if findings.is_full() {
            return;
        }
        let path = format!("links.{at}");
        findings.take(&path, one_link(topology, link));
        let (one, other) = &link.between;
        let pair = if one < other { (one, other) } else { (other, one) };
        if !seen.insert(pair) {
            findings.error(
                Problem::at(&format!("{path}.between"), format!("`{one}` and `{other}` are linked twice"))
                    .help("keep one of the two"),
            );
        }
    }
}

fn one_link(topology: &Topology, link: &Link) -> Result<(), Problem> {
    let (one, other) = &link.between;
    let first = known_site(topology, one, "between.0")?;
    let second = known_site(topology, other, "between.1")?;
    if one == other {
        return Err(Problem::at("between", format!("`{one}` cannot be linked with itself"))
            .help("name two different sites"));
    }
    if first.nat && second.nat {
        return Err(Problem::at(
            "between",
            format!("`{one}` and `{other}` are both behind a NAT, so neither can dial the other"),
        )
        .help("take `nat` from one of them, or link both with a third site"));
    }
    if let Some(stranger) = link.from.keys().find(|site| *site != one && *site != other) {
        let known = [one.as_str(), other.as_str()].into_iter();
        return Err(unknown(&format!("from.{stranger}"), "end of this link", stranger, known));
    }
    let ways = link.ways()?;
    let narrow = ways.iter().zip([one, other]).find(|(way, _)| way.mtu.is_some_and(|mtu| mtu < MTU_MIN));
    if let Some((_, site)) = narrow {
        let is_own = link.from.get(site).is_some_and(|change| change.mtu.is_some());
        let path = if is_own { format!("from.{site}.mtu") } else { "mtu".to_owned() };
        return Err(Problem::at(&path, "the tunnel does not pass through so small an MTU").help(format!(
            "write at least {MTU_MIN}: 1200 bytes of QUIC and 28 of UDP and IP; a black hole is a fault of an \
             experiment"
        )));
    }
    Ok(())
}
