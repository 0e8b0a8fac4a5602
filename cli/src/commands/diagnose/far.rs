//! One peer: its paths, whether its gateways answer ours and ours answer its, its clock, and whether it is who it says.

use super::{Checks, Verdict, site};
use crate::client::Client;
use crate::contexts::Store;
use api::rest::event::{EventList, EventView};
use api::rest::reach::{ReachReply, ReachRequest};
use api::rest::site::SiteView;
use api::rest::status::{PathStatus, PeerStatus, StatusView};
use api::text::Text;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Most addresses of one request.
const ADDRESSES_MAX: usize = 16;
/// What every IPv6 path must carry, without the headers of IPv6 and UDP: less points to a tunnel below ours, or to
/// messages of ICMP that are dropped.
const MTU_LOW: u16 = 1_280 - 40 - 8;
/// What the federation notes when a second process speaks for a peer's uid.
const SECOND_COPY: &str = "a second copy of it was refused";
/// What it notes when the peer has refused this site, since a second process speaks for the own uid.
const OWN_COPY: &str = "another live process speaks for this site";
/// A copy that runs tries again within seconds; what was noted longer ago is over.
const COPY_RUNS_MS: u64 = 2 * 60 * 1_000;

pub(super) async fn check(client: &Client, status: &StatusView, peer: &PeerStatus, checks: &mut Checks) {
    for found in &peer.paths {
        path(&peer.site, found, checks);
    }
    let gateways: BTreeSet<SocketAddr> =
        peer.paths.iter().filter_map(|path| path.address.parse().ok()).collect();
    probe(client, &status.site.name, &peer.site, &gateways, checks).await;
    copies(client, status.site.now_at_ms, peer, checks).await;
    other_side(status, peer, checks).await;
}

fn path(peer: &str, path: &PathStatus, checks: &mut Checks) {
    let what = format!("path {} to {} of {peer}", path.from, path.to);
    match path.state.as_str() {
        "live" | "draining" => {
            let rtt = path.rtt_ms.map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.1} ms"));
            let mtu = path.mtu.map_or_else(|| "not known".to_owned(), |bytes| format!("{bytes} bytes"));
            let seen = format!(
                "{} at {}; round trip {rtt}, loss {:.1} %, UDP payload up to {mtu}",
                path.state, path.address, path.loss_pct
            );
            if !path.problem.is_empty() {
                checks.wrong(
                    what,
                    format!("{seen}; {}", path.problem),
                    "look at the network between the two",
                );
            } else if path.mtu.is_some_and(|bytes| bytes < MTU_LOW) {
                let next =
                    "let packets of 1280 bytes and ICMP `too big` pass, or raise the MTU of the tunnel below";
                checks.note(what, seen, next);
            } else {
                checks.ok(what, seen);
            }
        }
        state => {
            let problem = if path.problem.is_empty() { "no answer" } else { &path.problem };
            let next = format!("is that gateway running, and is UDP {} open?", path.address);
            checks.wrong(what, format!("{state} at {}: {problem}", path.address), next);
        }
    }
}

/// Lets the gateways of the client's site dial those of another.
async fn probe(client: &Client, from: &str, to: &str, gateways: &BTreeSet<SocketAddr>, checks: &mut Checks) {
    let addresses: Vec<Text<SocketAddr>> = gateways.iter().take(ADDRESSES_MAX).copied().map(Text).collect();
    if addresses.is_empty() {
        return;
    }
    let asked = client.post::<_, ReachReply>("/v1/reach", &ReachRequest { addresses }).await;
    let reply = match asked {
        Ok(reply) => reply,
        Err(failure) => {
            return checks.failed(Verdict::Wrong, format!("dialling {to} from {from}"), &failure);
        }
    };
    for probe in reply.probes {
        let what = format!("{}/udp of {to} from gateway {} of {from}", probe.address, probe.gateway);
        match probe.outcome.as_str() {
            "answered" => checks.ok(what, "answered"),
            "refused" => {
                checks.wrong(
                    what,
                    format!("nobody listens ({})", probe.seen),
                    format!("start the gateway of {to}"),
                );
            }
            _ => {
                let next = format!(
                    "let UDP pass to {} (firewall, security group), or start the gateway",
                    probe.address
                );
                checks.wrong(what, probe.seen, next);
            }
        }
    }
}

/// Whether somebody else speaks with the uid of the peer.
async fn copies(client: &Client, now_ms: u64, peer: &PeerStatus, checks: &mut Checks) {
    let what = format!("uid of {}", peer.site);
    match client.get::<EventList>("/v1/events?after=0&wait_ms=0").await {
        Err(failure) => checks.failed(Verdict::Wrong, what, &failure),
        Ok(list) => judge_copies(&what, &list.events, now_ms, peer, checks),
    }
}

fn judge_copies(what: &str, events: &[EventView], now_ms: u64, peer: &PeerStatus, checks: &mut Checks) {
    let subject = format!("peer {}", peer.site);
    let of_copy = |event: &&EventView| event.what == SECOND_COPY || event.why.contains(OWN_COPY);
    let Some(event) = events.iter().rev().filter(|event| event.subject == subject).find(of_copy) else {
        return checks.ok(what, "one process speaks with it");
    };
    let ago_ms = now_ms.saturating_sub(event.time_at_ms);
    let verdict = if ago_ms <= COPY_RUNS_MS { Verdict::Wrong } else { Verdict::Note };
    let seen = format!("{}: {}, {} s ago", event.what, event.why, ago_ms / 1_000);
    let next =
        "stop the copy; a second site is made with `meshfed init`, never by copying a site's directory";
    checks.add(verdict, what, seen, next);
}

/// The same from the other side, where this person administers that too.
async fn other_side(status: &StatusView, peer: &PeerStatus, checks: &mut Checks) {
    let what = format!("the side of {}", peer.site);
    let contexts = Store::of_user().and_then(|store| store.read());
    let contexts = match contexts {
        Ok(contexts) => contexts,
        Err(failure) => return checks.failed(Verdict::Note, what, &failure),
    };
    let found = contexts.contexts.iter().find(|(_, context)| context.site.0.as_str() == peer.site);
    let Some((name, context)) = found else {
        let next =
            format!("let whoever administers {0} run: meshfed diagnose {1}", peer.site, status.site.name);
        return checks.note(
            what,
            "not looked at, no context of it is here: clock, its view of our gateways",
            next,
        );
    };
    let there = match Client::new(name, context) {
        Ok(there) => there,
        Err(failure) => return checks.failed(Verdict::Note, what, &failure),
    };
    let before = runtime::clock::unix_ms();
    let asked = there.get::<SiteView>("/v1/site").await;
    let here = before + runtime::clock::unix_ms().saturating_sub(before) / 2;
    let site = match asked {
        Ok(site) => site,
        Err(failure) => return checks.failed(Verdict::Wrong, what, &failure),
    };
    if site.uid == status.site.uid {
        let seen = format!("it has the uid of {}: {}", status.site.name, site.uid);
        return checks.wrong(what, seen, "one is a copy of the other: make it anew with `meshfed init`");
    }
    site::clock(&format!("clock of {}", peer.site), site.now_at_ms, here, checks);
    let ours = status.site.gateways.iter().filter(|gateway| gateway.connected);
    let gateways: BTreeSet<SocketAddr> = ours.filter_map(|gateway| gateway.address.parse().ok()).collect();
    probe(&there, &peer.site, &status.site.name, &gateways, checks).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(mtu: u16) -> PathStatus {
        PathStatus {
            from: "gw-0".to_owned(),
            to: "gw-0".to_owned(),
            address: "127.0.0.1:4430".to_owned(),
            state: "live".to_owned(),
            mtu: Some(mtu),
            ..PathStatus::default()
        }
    }

    #[test]
    fn a_copy_of_a_site_is_wrong_while_it_runs() {
        let peer = PeerStatus { site: "west".to_owned(), ..PeerStatus::default() };
        let event = |what: &str, why: &str, time_at_ms| EventView {
            subject: "peer west".to_owned(),
            what: what.to_owned(),
            why: why.to_owned(),
            time_at_ms,
            ..EventView::default()
        };
        let own = format!("the peer refused: {OWN_COPY}");
        let told = [
            vec![event("is connected", "", 1_000_000)],
            vec![event(SECOND_COPY, "two live processes", 1_000_000), event("is connected", "", 1_000_000)],
            vec![event("the session is closed", &own, 1_000_000)],
            vec![event(SECOND_COPY, "two live processes", 1_000)],
        ];
        let mut checks = Checks::default();
        told.iter().for_each(|events| judge_copies("uid of west", events, 1_001_000, &peer, &mut checks));
        let verdicts: Vec<Verdict> = checks.0.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Wrong, Verdict::Wrong, Verdict::Note]);
    }

    #[test]
    fn a_path_is_judged_by_its_state_and_by_what_it_carries() {
        let mut checks = Checks::default();
        path("west", &live(1_452), &mut checks);
        path("west", &live(1_200), &mut checks);
        let dead = PathStatus { state: "dead".to_owned(), problem: "no answer in 3 s".to_owned(), ..live(0) };
        path("west", &dead, &mut checks);
        let verdicts: Vec<Verdict> = checks.0.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Note, Verdict::Wrong]);
        assert!(checks.0[2].seen.contains("no answer in 3 s"), "{:?}", checks.0[2]);
        assert!(checks.0[2].next.contains("127.0.0.1:4430"), "{:?}", checks.0[2]);
    }
}
