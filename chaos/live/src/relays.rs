//! The links of a plan: a relay in front of every gateway, one link for each pair of gateways.

use relay::{Config, Direction, Link, Profile, Relay, RelayError, Source};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use topologies::plan::{LinkPlan, Plan, SitePlan, TUNNEL_PORT};

/// All relays of a mesh; they end when this is dropped.
#[derive(Debug)]
pub struct Relays {
    relays: Vec<Relay>,
    /// Links by (site, gateway) of both ends, the first end of the plan's link first.
    links: BTreeMap<(End, End), Link>,
}

/// A gateway, as an end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Site.
    pub site: String,
    /// Gateway.
    pub gateway: String,
}

impl Relays {
    /// Starts the relays of a plan.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn start(plan: &Plan, seed: u64) -> Result<Self, RelayError> {
        let mut links = BTreeMap::new();
        for (number, link) in (0u64..).zip(&plan.links) {
            let (Some(one), Some(other)) = (plan.site(&link.one), plan.site(&link.other)) else { continue };
            for (n, (a, b)) in (0u64..).zip(pairs(one, other)) {
                let name = format!("{}/{} – {}/{}", a.site, a.gateway, b.site, b.gateway);
                let made = Link::new(name, profile(link), seed ^ (number << 32) ^ n);
                links.insert((a, b), made);
            }
        }
        let mut relays = Vec::new();
        for site in &plan.sites {
            for gateway in &site.gateways {
                let here = end(site, gateway.name.as_str());
                let sources = plan
                    .sites
                    .iter()
                    .flat_map(|from| {
                        from.gateways.iter().map(move |g| (end(from, g.name.as_str()), g.address))
                    })
                    .filter_map(|(there, address)| {
                        let (link, direction) = find(&links, &there, &here)?;
                        Some(Source { address: address.into(), link: link.clone(), direction })
                    })
                    .collect();
                let target = SocketAddr::new(gateway.address.into(), TUNNEL_PORT);
                relays.push(Relay::bind(Config { listen: gateway.advertise, target, sources }).await?);
            }
        }
        Ok(Self { relays, links })
    }

    /// The links between two sites, one for each pair of their gateways, with the direction from `from` to `to`.
    pub fn between(&self, from: &str, to: &str) -> Vec<(Link, Direction)> {
        self.links
            .iter()
            .filter_map(|((one, other), link)| {
                if one.site == from && other.site == to {
                    Some((link.clone(), Direction::Forth))
                } else if one.site == to && other.site == from {
                    Some((link.clone(), Direction::Back))
                } else {
                    None
                }
            })
            .collect()
    }

    /// How many relays run.
    pub fn count(&self) -> usize {
        self.relays.len()
    }
}

/// Finds the link of two gateways and the direction from the first to the second.
fn find<'l>(links: &'l BTreeMap<(End, End), Link>, from: &End, to: &End) -> Option<(&'l Link, Direction)> {
    let forth = links.get(&(from.clone(), to.clone())).map(|link| (link, Direction::Forth));
    forth.or_else(|| links.get(&(to.clone(), from.clone())).map(|link| (link, Direction::Back)))
}

fn pairs(one: &SitePlan, other: &SitePlan) -> Vec<(End, End)> {
    one.gateways
        .iter()
        .flat_map(|a| {
            other.gateways.iter().map(move |b| (end(one, a.name.as_str()), end(other, b.name.as_str())))
        })
        .collect()
}

fn end(site: &SitePlan, gateway: &str) -> End {
    End { site: site.name.to_string(), gateway: gateway.to_owned() }
}

fn profile(link: &LinkPlan) -> Profile {
    Profile { rtt: link.rtt, loss: link.loss }
}
