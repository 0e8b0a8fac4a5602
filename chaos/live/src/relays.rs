//! The links of a plan: a relay in front of every gateway, one link for each pair of gateways.

use crate::shapes::shape;
use relay::{Config, Direction, Link, Relay, RelayError, Shape, Source};
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
    /// Starts the relays of a plan, without its cuts. Nothing of another site comes through the relay of a gateway
    /// behind a NAT; answers to what it sent come through the other's.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn start(plan: &Plan, seed: u64) -> Result<Self, RelayError> {
        let mut links = BTreeMap::new();
        for (number, link) in (0u64..).zip(&plan.links) {
            let (Some(one), Some(other)) = (plan.site(&link.one), plan.site(&link.other)) else { continue };
            for (n, (a, b)) in (0u64..).zip(pairs(one, other)) {
                let name = format!("{}/{} – {}/{}", a.site, a.gateway, b.site, b.gateway);
                let made = Link::new(name, shapes(link), seed ^ (number << 32) ^ n);
                links.insert((a, b), made);
            }
        }
        let mut relays = Vec::new();
        // What others send to a gateway behind a NAT, by themselves.
        let closed = Link::new("NAT", [Shape { cut: true, ..Shape::default() }; 2], seed);
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
                        let is_outside = site.nat && there.site != here.site;
                        let link = if is_outside { closed.clone() } else { link.clone() };
                        Some(Source { address: address.into(), link, direction })
                    })
                    .collect();
                let target = SocketAddr::new(gateway.address.into(), TUNNEL_PORT);
                relays.push(Relay::bind(Config { listen: gateway.advertise, target, sources }).await?);
            }
        }
        Ok(Self { relays, links })
    }

    /// The links from the ends that `from` chooses to those that `to` chooses, each with that direction. With
    /// [`Link::impose`] one is changed for a time.
    pub fn ways(&self, from: impl Fn(&End) -> bool, to: impl Fn(&End) -> bool) -> Vec<(Link, Direction)> {
        self.links()
            .filter_map(|(one, other, link)| {
                if from(one) && to(other) {
                    Some((link.clone(), Direction::Forth))
                } else if from(other) && to(one) {
                    Some((link.clone(), Direction::Back))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The links between two sites, one for each pair of their gateways, with the direction from `from` to `to`.
    pub fn between(&self, from: &str, to: &str) -> Vec<(Link, Direction)> {
        self.ways(|end| end.site == from, |end| end.site == to)
    }

    /// All links: both ends, and the link from the first to the second.
    pub fn links(&self) -> impl Iterator<Item = (&End, &End, &Link)> {
        self.links.iter().map(|((one, other), link)| (one, other, link))
    }

    /// Cuts the ways that a plan has as cut.
    pub fn cut(&self, plan: &Plan) {
        for (one, other, link) in self.links() {
            let Some(of) =
                plan.links.iter().find(|of| of.one.as_str() == one.site && of.other.as_str() == other.site)
            else {
                continue;
            };
            for (direction, way) in [(Direction::Forth, of.forth), (Direction::Back, of.back)] {
                if way.cut {
                    link.cut_one_way(direction);
                }
            }
        }
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

/// What a link does at first. A cut begins when everything is linked and serves: see [`Relays::cut`].
fn shapes(link: &LinkPlan) -> [Shape; 2] {
    [&link.forth, &link.back].map(|way| Shape { cut: false, ..shape(way) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Block;
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(10);

    /// Three sites; the first has two gateways, the last stands behind a NAT.
    const TOPOLOGY: &str = "kind: Topology
sites:
  a: { gateways: 2 }
  b: {}
  c: { nat: true }
links:
  - { between: [a, b], rtt: 40ms, mtu: 1300, from: { a: { delay: 30ms, loss: 100%, cut: true } } }
  - { between: [a, c] }
";

    async fn start() -> (Block, Plan, Relays) {
        let block = Block::take().expect("a free block");
        let topology = topologies::read("x.yaml", TOPOLOGY).expect("valid");
        let plan = topologies::plan::plan(&topology, block.number());
        let relays = Relays::start(&plan, 1).await.expect("the block is free");
        (block, plan, relays)
    }

    fn names(ways: Vec<(Link, Direction)>) -> Vec<(String, Direction)> {
        ways.into_iter().map(|(link, direction)| (link.name().to_owned(), direction)).collect()
    }

    #[tokio::test]
    async fn each_direction_of_a_link_is_as_planned() {
        let (_block, plan, relays) = start().await;
        let ways = relays.between("a", "b");
        assert_eq!(ways.len(), 2, "one for each pair of gateways");
        for (link, forth) in ways {
            let (there, back) = (link.shape(forth), link.shape(forth.reverse()));
            assert_eq!((there.delay.as_millis(), back.delay.as_millis()), (30, 10));
            assert_eq!((there.loss.share, back.loss.share), (1.0, 0.0));
            assert_eq!((there.mtu, back.mtu), (Some(1300), Some(1300)));
            assert!(!there.cut, "not before everything serves");
        }
        relays.cut(&plan);
        for (link, forth) in relays.between("a", "b") {
            assert!(link.is_cut(forth) && !link.is_cut(forth.reverse()));
        }
    }

    #[tokio::test]
    async fn the_links_of_an_end_lead_away_from_it() {
        let (_block, _, relays) = start().await;
        let of_gateway = names(relays.ways(|end| end.site == "a" && end.gateway == "gw-0", |_| true));
        assert_eq!(of_gateway.len(), 2, "{of_gateway:?}");
        assert!(of_gateway.iter().all(|(name, _)| name.contains("a/gw-0")), "{of_gateway:?}");
        assert_eq!(
            relays.ways(|end| end.site == "a", |_| true).len(),
            4,
            "two gateways, to one of each other site"
        );
        let (there, back) = (names(relays.between("b", "a")), names(relays.between("a", "b")));
        let turned: Vec<_> = back.into_iter().map(|(name, way)| (name, way.reverse())).collect();
        assert_eq!(there, turned);
        assert_eq!(names(relays.ways(|end| end.site == "b", |_| true)), there);
        assert!(relays.between("b", "c").is_empty());
    }

    async fn socket(address: Ipv4Addr) -> UdpSocket {
        UdpSocket::bind((address, TUNNEL_PORT)).await.expect("it is in the block")
    }

    async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let (length, from) =
            timeout(LONG, socket.recv_from(&mut buffer)).await.expect("in time").expect("received");
        (buffer[..length].to_vec(), from)
    }

    #[tokio::test]
    async fn a_gateway_behind_a_nat_dials_and_is_not_dialled() {
        let (_block, plan, relays) = start().await;
        let gateway = |site: &str| &plan.site(&site.parse().expect("a name")).expect("planned").gateways[0];
        let (open, hidden) = (gateway("a"), gateway("c"));
        let (at_open, at_hidden) = (socket(open.address).await, socket(hidden.address).await);
        at_open.send_to(b"dialled", hidden.advertise).await.expect("sent");
        at_hidden.send_to(b"dials", open.advertise).await.expect("sent");
        let (text, from) = received(&at_open).await;
        assert_eq!(text, b"dials");
        at_open.send_to(b"answer", from).await.expect("sent");
        assert_eq!(received(&at_hidden).await.0, b"answer", "what was dialled would have come before");
        let ways = relays.ways(|end| end.site == "c", |end| end.site == "a" && end.gateway == "gw-0");
        let [(link, away)] = ways.try_into().expect("one pair of gateways");
        assert_eq!((link.count(away).passed, link.count(away.reverse()).passed), (1, 1));
    }

    #[tokio::test]
    async fn what_one_gateway_sends_another_takes_the_link_between_the_two() {
        let (_block, plan, relays) = start().await;
        let site = |name: &str| plan.site(&name.parse().expect("a name")).expect("planned");
        let (from, to) = (&site("b").gateways[0], &site("a").gateways[1]);
        let (sender, receiver) = (socket(from.address).await, socket(to.address).await);
        let begin = Instant::now();
        sender.send_to(b"hello", to.advertise).await.expect("sent");
        received(&receiver).await;
        assert!(begin.elapsed() >= Duration::from_millis(9), "10 ms from b to a");
        for (link, way) in relays.between("b", "a") {
            assert_eq!(link.count(way).passed, u64::from(link.name().contains("a/gw-1")), "{}", link.name());
        }
    }
}
