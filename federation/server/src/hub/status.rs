//! Is the site well, and if not, why and what to do.

use super::Hub;
use super::services::count;
use crate::docs::LinkDoc;
use crate::names::NodeId;
use api::rest::site::{CertificatesView, GatewayView, SiteView, StoreView};
use api::rest::status::{CatalogStatus, Finding, NodeStatus, PathStatus, PeerStatus, StatusView};
use model::endpoint::Health;
use model::ids::SiteId;
use model::node::{NodeKind, PathReport, PathState};
use model::routing::PeerState;
use runtime::clock;
use std::collections::BTreeSet;
use std::time::Instant;
use sync_core::source::SourceState;

/// A CA that runs out sooner than this is worth a warning.
const CA_WARNING_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Most findings that are told; the worst come first.
const FINDINGS_MAX: usize = 200;

impl Hub {
    /// The site itself.
    pub fn site_view(&self) -> SiteView {
        let (now, now_ms) = (Instant::now(), clock::unix_ms());
        let gateways = self.nodes.iter().filter_map(|(id, node)| {
            let NodeId::Gateway(name) = id else { return None };
            Some(GatewayView {
                name: name.to_string(),
                address: node.doc.tunnel_address.map(|address| address.to_string()).unwrap_or_default(),
                connected: node.live.is_some(),
                draining: self.is_draining(id),
                streams: node.open_streams(),
            })
        });
        let own = self
            .imports
            .iter()
            .flat_map(|import| &import.groups)
            .filter(|group| group.id.site == self.site.id);
        let (endpoints, healthy) =
            own.fold((0, 0), |(total, healthy), group| (total + group.total, healthy + group.healthy));
        let credentials = self.pki.credentials.current();
        let (ends, ca_ends) = (credentials.not_after_ms(), self.pki.ca_not_after_ms());
        let problem = if ends <= now_ms {
            "the certificate of the federation has run out: is the clock right?".to_owned()
        } else if ca_ends <= now_ms {
            "the CA has run out: no certificate can be issued".to_owned()
        } else {
            String::new()
        };
        let version = self.replicator.own_version();
        SiteView {
            gateways: gateways.collect(),
            services: count(self.imports.iter().count()),
            endpoints,
            healthy,
            links: count(self.links.len()),
            store: StoreView { kind: self.store.kind().to_owned(), bytes: self.store.bytes() },
            certificates: CertificatesView {
                ok: problem.is_empty(),
                next_renewal_s: credentials.renew_at_ms().saturating_sub(now_ms) / 1_000,
                expires_at_ms: ends.min(ca_ends),
                problem,
            },
            now_at_ms: now_ms,
            uptime_s: self.uptime_s(now),
            recovering: self.replicator.is_recovering(),
            draining: self.drains.iter().any(|drain| matches!(drain, super::drain::Drain::Site)),
            epoch: version.epoch.0,
            revision: version.revision.0,
            ..SiteView::of(&self.site)
        }
    }

    /// The whole status.
    pub fn status(&self) -> StatusView {
        let site = self.site_view();
        let now = Instant::now();
        let peers: Vec<PeerStatus> =
            self.links.iter().map(|(site, link)| self.peer_status(site, link, now)).collect();
        let nodes: Vec<NodeStatus> = self.nodes.keys().filter_map(|id| self.node_status(id, now)).collect();
        let mut findings = Vec::new();
        self.find_site(&site, &mut findings);
        self.find_troubles(&mut findings);
        self.find_trust(&mut findings);
        peers.iter().for_each(|peer| find_peer(peer, &mut findings));
        self.find_nodes(&mut findings);
        self.find_services(&mut findings);
        let rank = |finding: &Finding| {
            ["error", "warning", "note"].iter().position(|word| *word == finding.severity)
        };
        findings.sort_by_key(rank);
        findings.truncate(FINDINGS_MAX);
        let healthy = !findings.iter().any(|finding| finding.severity == "error");
        StatusView { healthy, site, peers, nodes, findings }
    }

    fn peer_status(&self, site: &SiteId, link: &LinkDoc, now: Instant) -> PeerStatus {
        let now_ms = clock::unix_ms();
        let paths: Vec<PathStatus> =
            self.paths_to(site).map(|(node, path)| PathStatus::of(node.name(), path)).collect();
        let live = || self.paths_to(site).map(|(_, path)| path).filter(|path| answers(path));
        let mut view = PeerStatus {
            site: site.to_string(),
            state: self.link_state(site, link),
            paths_live: count(live().count()),
            paths_total: count(paths.len()),
            rtt_ms: live().filter_map(|path| path.rtt).min().map(api::rest::ms),
            loss_pct: live().map(|path| path.loss_permille).max().map(|loss| f64::from(loss) / 10.0),
            offers: count(self.offers_to(site).len()),
            takes: count(self.takes_from(site).len()),
            streams: self.streams_with(site),
            since_at_ms: link.linked_at_ms,
            paths,
            ..PeerStatus::default()
        };
        let Some(status) = self.replicator.peer(site) else {
            view.note = "the other side has not confirmed the link yet".to_owned();
            return view;
        };
        let ago = |at: Instant| now.saturating_duration_since(at);
        view.since_s = ago(status.since).as_secs();
        view.since_at_ms = now_ms.saturating_sub(u64::try_from(ago(status.since).as_millis()).unwrap_or(0));
        let ahead = |at: Instant| u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(0);
        view.withdrawn_at_ms =
            status.lease_ends.filter(|_| status.state == PeerState::Unreachable).map(|at| now_ms + ahead(at));
        let held = status.held.unwrap_or_default();
        view.catalog = CatalogStatus {
            epoch: held.epoch.0,
            revision: held.revision.0,
            age_s: status.heard_at.map_or(self.uptime_s(now), |at| ago(at).as_secs()),
            live: status.session.is_some(),
            complete: status.complete_once,
            repairs: status.repaired,
        };
        if status.state != PeerState::Connected {
            view.note = status.reason;
            view.next = "meshfed events".to_owned();
            if let Some(ends) = status.lease_ends.filter(|_| status.state == PeerState::Unreachable) {
                let minutes = ends.saturating_duration_since(now).as_secs().div_ceil(60);
                view.note.push_str(&format!("; imports kept for {minutes} min, then withdrawn"));
            }
        } else if status.session.is_none() {
            let failed = self.dials.get(site).and_then(|dial| dial.failed.clone());
            view.note = match failed {
                Some(why) => format!("its federation is not reached: {why}"),
                None => "its federation does not answer; traffic goes on with what is known".to_owned(),
            };
        }
        if let Some(drains) = self.drains_at(site) {
            let between = if view.note.is_empty() { "" } else { "; " };
            view.note.push_str(&format!("{between}{drains}"));
        }
        view
    }

    /// Open streams of callers with a peer, both directions. A session of this federation is a stream too, and nobody's
    /// traffic.
    fn streams_with(&self, site: &SiteId) -> u32 {
        let all = self.paths_to(site).map(|(_, path)| path.streams).fold(0, u32::saturating_add);
        all.saturating_sub(count(self.sessions.values().filter(|session| session.site == *site).count()))
    }

    /// Which gateways of a peer drain, in words, and what that means for new streams.
    fn drains_at(&self, site: &SiteId) -> Option<String> {
        let of = |state: PathState| -> BTreeSet<String> {
            let paths = self.paths_to(site).filter(move |(_, path)| path.state == state);
            paths.map(|(_, path)| path.gateway.to_string()).collect()
        };
        let draining: Vec<String> = of(PathState::Draining).into_iter().collect();
        let (gateways, verb) = match draining.as_slice() {
            [] => return None,
            [one] => (format!("its gateway {one}"), "drains"),
            many => (format!("its gateways {}", many.join(", ")), "drain"),
        };
        Some(if of(PathState::Live).is_empty() {
            format!("{gateways} {verb} and no other one answers: it takes no new streams")
        } else {
            format!("{gateways} {verb}: new streams take the others")
        })
    }

    fn node_status(&self, id: &NodeId, now: Instant) -> Option<NodeStatus> {
        let node = self.nodes.get(id)?;
        let workloads = match id {
            NodeId::Agent(host) => {
                let of_host =
                    |reach: &model::endpoint::Reach| *reach == model::endpoint::Reach::Agent(host.clone());
                self.heard_endpoints.values().filter(|endpoint| of_host(&endpoint.reach)).count()
            }
            NodeId::Gateway(_) => 0,
        };
        let mut problems = Vec::new();
        match (&node.live, node.doc.left) {
            (Some(_), _) => {}
            (None, true) => problems.push("it has left in good order".to_owned()),
            (None, false) => problems.push("it has no config stream to the federation".to_owned()),
        }
        problems.extend(
            node.paths
                .iter()
                .filter(|path| !path.problem.is_empty())
                .map(|path| format!("path to {} of {}: {}", path.gateway, path.site, path.problem)),
        );
        problems.extend(node.problems.iter().cloned());
        Some(NodeStatus {
            kind: match id.kind() {
                NodeKind::Gateway => "gateway",
                NodeKind::Agent => "agent",
            }
            .to_owned(),
            name: id.name().to_owned(),
            connected: node.live.is_some(),
            draining: self.is_draining(id),
            since_s: now.saturating_duration_since(node.since).as_secs(),
            streams: node.open_streams(),
            workloads: count(workloads),
            config_revision: node
                .acked
                .filter(|acked| acked.incarnation == self.book.version().incarnation)
                .map_or(0, |acked| acked.revision),
            config_current: self.book.version().revision,
            problems,
        })
    }

    fn find_site(&self, site: &SiteView, findings: &mut Vec<Finding>) {
        if let Some(problem) = &self.store_problem {
            findings.push(finding(
                "error",
                "store",
                "changes cannot be stored, and are held back".to_owned(),
                problem.why.clone(),
                &problem.next,
            ));
        }
        if !site.certificates.ok {
            findings.push(finding(
                "error",
                "certificates",
                site.certificates.problem.clone(),
                String::new(),
                &format!("meshfed trust rotate --context {}", self.site.id),
            ));
        } else if self.pki.ca_not_after_ms().saturating_sub(site.now_at_ms) < CA_WARNING_MS {
            findings.push(finding(
                "warning",
                "certificates",
                "the CA runs out in less than 30 days".to_owned(),
                "leaves end with it".to_owned(),
                &format!("meshfed trust rotate --context {}", self.site.id),
            ));
        }
        if site.recovering {
            let waits: Vec<String> = self
                .intake
                .sources()
                .filter(|status| status.holds_up_recovery)
                .map(|status| status.source.to_string())
                .take(10)
                .collect();
            let why = format!("it has not heard from {} since its start", waits.join(", "));
            findings.push(finding(
                "note",
                "site",
                "recovering: it only adds to its catalog".to_owned(),
                why,
                "wait, or start what is missing; a lease runs out after 2 min",
            ));
        }
        if !self.nodes.iter().any(|(id, node)| matches!(id, NodeId::Gateway(_)) && node.live.is_some()) {
            let next = "start one: meshfed site, or meshfed gateway";
            findings.push(finding(
                "error",
                "site",
                "no gateway is connected".to_owned(),
                "none has a config stream to the federation".to_owned(),
                next,
            ));
        }
        for drain in &self.drains {
            findings.push(finding(
                "note",
                &drain.to_string(),
                "drains".to_owned(),
                "a person said so".to_owned(),
                "take it back in: meshfed undrain",
            ));
        }
    }

    fn find_nodes(&self, findings: &mut Vec<Finding>) {
        let now_ms = clock::unix_ms();
        for (id, node) in &self.nodes {
            let until_ms = node.doc.certificate_until_ms;
            if node.live.is_none() && until_ms > 0 && until_ms <= now_ms {
                findings.push(finding(
                    "warning",
                    &id.to_string(),
                    "cannot connect: its certificate has run out".to_owned(),
                    format!(
                        "it ran out {} s ago and was not renewed; what it has open goes on, new handshakes fail",
                        now_ms.saturating_sub(until_ms) / 1_000
                    ),
                    &format!("let it join again with --join and a token: meshfed token {id}"),
                ));
                continue;
            }
            if node.live.is_none() && node.doc.left && self.needs_old_root(id) {
                findings.push(finding(
                    "note",
                    &id.to_string(),
                    "is away, and its certificate is of the old root".to_owned(),
                    "nobody is told to dial it; it is kept in mind while the root is rotated".to_owned(),
                    "start it before the old root is retired, or let it join again afterwards",
                ));
            } else if node.live.is_none() && node.doc.left {
                findings.push(finding(
                    "note",
                    &id.to_string(),
                    "has left in good order".to_owned(),
                    "it was drained and ended, and nobody is told to dial it".to_owned(),
                    "nothing, or start it again; it is forgotten after 15 min",
                ));
            } else if node.live.is_none() && matches!(id, NodeId::Gateway(_)) {
                findings.push(finding(
                    "warning",
                    &id.to_string(),
                    "is not connected to the federation".to_owned(),
                    "its config stream has ended; if it runs, it serves from the config that it has"
                        .to_owned(),
                    "look at its log, and start it again",
                ));
            }
        }
        for status in self.intake.sources() {
            let (severity, what, why) = match status.state {
                SourceState::Awaited | SourceState::Listing | SourceState::Live => continue,
                SourceState::Away => ("note", "is away", "its connection ended; its lease runs"),
                SourceState::Silent => {
                    ("error", "is silent", "it missed its renewals; its endpoints are unhealthy")
                }
                SourceState::Gone if status.instances == 0 => {
                    ("warning", "is gone", "its lease ran out; its endpoints are withdrawn")
                }
                SourceState::Gone => continue,
            };
            findings.push(finding(
                severity,
                &status.source.to_string(),
                what.to_owned(),
                why.to_owned(),
                "look at its host: is the agent running, does it reach a gateway?",
            ));
        }
        for conflict in self.intake.conflicts() {
            findings.push(finding(
                "warning",
                &conflict.loser.to_string(),
                conflict.to_string(),
                "the older claim stands".to_owned(),
                "give one of them another id",
            ));
        }
    }

    fn find_services(&self, findings: &mut Vec<Finding>) {
        for condition in self.imports.conditions() {
            let subject = format!("service {}", condition.service);
            let what = format!("{} of {}", condition.kind, condition.site);
            findings.push(finding("warning", &subject, what, condition.message.clone(), &condition.help));
        }
        for ((service, id), endpoint) in &self.heard_endpoints {
            if endpoint.health == Health::Unhealthy {
                let next = format!("meshfed describe service {service}");
                let why = match self.last_probe(service, id) {
                    Some(seen) => format!("its check fails: {seen}"),
                    None => "its check fails, or its agent is silent".to_owned(),
                };
                findings.push(finding(
                    "warning",
                    &format!("service {service}"),
                    format!("endpoint {id} is unhealthy"),
                    why,
                    &next,
                ));
            }
            if findings.len() > FINDINGS_MAX * 4 {
                return;
            }
        }
    }
}

/// Whether the other end of a path answers; one that drains does, and takes nothing new.
pub(super) fn answers(path: &PathReport) -> bool {
    matches!(path.state, PathState::Live | PathState::Draining)
}

fn find_peer(peer: &PeerStatus, findings: &mut Vec<Finding>) {
    let subject = format!("peer {}", peer.site);
    let (severity, what, next) = match peer.state.as_str() {
        "connected" if peer.catalog.live => return,
        "connected" => (
            "warning",
            "its federation does not answer".to_owned(),
            "look at the federation there; traffic goes on meanwhile",
        ),
        "degraded" => (
            "warning",
            format!("{} of {} paths answer", peer.paths_live, peer.paths_total),
            "meshfed status -o json shows each path",
        ),
        "pending" => ("note", "the link is not confirmed yet".to_owned(), "wait, or run meshfed link again"),
        "expired" => (
            "error",
            "was unreachable for its whole lease; its endpoints are withdrawn".to_owned(),
            "bring it back, or: meshfed unlink",
        ),
        _ => (
            "error",
            "no path answers; nothing is sent there".to_owned(),
            "is its gateway running, is UDP 4430 open?",
        ),
    };
    findings.push(finding(severity, &subject, what, peer.note.clone(), next));
}

fn finding(severity: &str, subject: &str, what: String, why: String, next: &str) -> Finding {
    Finding { severity: severity.to_owned(), subject: subject.to_owned(), what, why, next: next.to_owned() }
}
