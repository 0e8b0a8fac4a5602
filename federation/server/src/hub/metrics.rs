//! The metrics of a federation.
//!
//! The hub leaves its own numbers twice a second, so a scrape never asks it: a hub that waits for the disk holds up no
//! scrape, and nothing of a scrape waits for the hub. How old they are is a metric too.

use super::{Hub, HubHandle};
use crate::names::NodeId;
use crate::tally::Wire;
use model::ids::SiteId;
use model::node::PathState;
use runtime::metrics::{AddError, Reading, Registry, Spec};
use std::collections::BTreeMap;
use std::time::Instant;

/// Values of the label `state` of a peer.
const STATES: &[&str] = &["pending", "connected", "degraded", "unreachable", "expired", "removed"];
/// Labels of what goes over sessions with peers.
const EXCHANGED: &[&str] = &["direction", "kind"];

static STATE: Spec =
    Spec::gauge("meshfed_peer_state", "1 for the state that a linked site is in.", &["peer", "state"]);
static PATHS: Spec =
    Spec::gauge("meshfed_peer_paths_live", "Paths to a linked site that answer, of all gateways.", &["peer"]);
static REVISION: Spec = Spec::gauge(
    "meshfed_catalog_revision",
    "Revision of a peer's catalog that is applied; absent while nothing is held of it.",
    &["peer"],
);
static AGE: Spec = Spec::gauge(
    "meshfed_catalog_age_seconds",
    "Since a peer was last heard, or since the process started; absent while nothing is held of it.",
    &["peer"],
);
static ENTRIES: Spec =
    Spec::gauge("meshfed_catalog_entries", "Entries that are held of a peer's catalog.", &["peer"]);
static OWN_REVISION: Spec = Spec::gauge("meshfed_own_catalog_revision", "Revision of the own catalog.", &[]);
static OWN_ENTRIES: Spec = Spec::gauge("meshfed_own_catalog_entries", "Entries of the own catalog.", &[]);
static SERVICES: Spec =
    Spec::gauge("meshfed_services", "Services that are known, own and taken from peers.", &[]);
static NODES: Spec =
    Spec::gauge("meshfed_nodes_connected", "Gateways and agents with a config stream.", &["kind"]);
static EXPIRY: Spec = Spec::gauge(
    "meshfed_certificate_expiry_timestamp_seconds",
    "When a certificate runs out, in Unix time; of gateways and agents the first one that does.",
    &["of"],
);
static DIFFERENCES: Spec = Spec::counter(
    "meshfed_digest_differences_total",
    "Digests of catalogs that differed; each is a bug.",
    &[],
);
static REPAIRS: Spec =
    Spec::counter("meshfed_digest_repairs_total", "Differences of catalogs that were repaired.", &[]);
static BATCHES: Spec = Spec::counter(
    "meshfed_catalog_batches_total",
    "Batches of catalog changes that were made for peers, or taken from them.",
    &["direction"],
);
static REFUSED: Spec =
    Spec::counter("meshfed_peer_messages_refused_total", "Messages of peers that were refused.", &[]);
static ROTATION: Spec = Spec::gauge(
    "meshfed_root_rotation_step",
    "How far the rotation of the root is: 0 none is under way, 1 the next root is published, 2 it signs.",
    &[],
);
static ROTATION_WAITS: Spec = Spec::gauge(
    "meshfed_root_rotation_waits_for",
    "Linked sites, gateways and agents that are not ready for the next step of a rotation.",
    &[],
);
static STORE: Spec = Spec::gauge("meshfed_store_bytes", "Size of the store.", &[]);
static STORE_OK: Spec = Spec::gauge("meshfed_store_writable", "1 while changes can be stored.", &[]);
static WAITING: Spec = Spec::gauge(
    "meshfed_queue_length",
    "What waits: inputs of the hub, records to be stored, messages to peers, batches without an answer, changes of \
     entries, events of the core.",
    &["queue"],
);

/// What the hub leaves.
static OF_HUB: &[&Spec] = &[
    &STATE,
    &PATHS,
    &REVISION,
    &AGE,
    &ENTRIES,
    &OWN_REVISION,
    &OWN_ENTRIES,
    &SERVICES,
    &NODES,
    &EXPIRY,
    &DIFFERENCES,
    &REPAIRS,
    &BATCHES,
    &REFUSED,
    &ROTATION,
    &ROTATION_WAITS,
    &STORE,
    &STORE_OK,
    &WAITING,
];

static HUB_AGE: Spec = Spec::gauge(
    "meshfed_hub_age_seconds",
    "How old the values are that come from the hub; more than a few seconds: it waits for the disk, or is stuck.",
    &[],
);
static MESSAGES: Spec = Spec::counter(
    "meshfed_exchange_messages_total",
    "Messages between this federation and those of peers.",
    EXCHANGED,
);
static BYTES: Spec = Spec::counter(
    "meshfed_exchange_bytes_total",
    "Bytes of these messages, before compression and encryption.",
    EXCHANGED,
);
static TOLD: Spec =
    Spec::counter("meshfed_config_messages_total", "Messages to gateways and agents.", &["kind"]);
static TOLD_BYTES: Spec = Spec::counter(
    "meshfed_config_bytes_total",
    "Bytes of these messages, before compression and encryption.",
    &["kind"],
);
static ACKNOWLEDGED: Spec = Spec::histogram(
    "meshfed_catalog_acknowledged_seconds",
    "From a change of the own catalog that was sent until the peer had applied and stored it, by the own clock.",
);
static COMMITS: Spec = Spec::histogram("meshfed_store_commit_seconds", "How long commits of the store took.");
static COMMITS_FAILED: Spec =
    Spec::counter("meshfed_store_commits_failed_total", "Commits of the store that failed.", &[]);
static EVENTS: Spec =
    Spec::counter("meshfed_events_total", "Events that were noted; see `meshfed events`.", &[]);

/// What is read at the scrape.
static READ: &[&Spec] =
    &[&HUB_AGE, &MESSAGES, &BYTES, &TOLD, &TOLD_BYTES, &ACKNOWLEDGED, &COMMITS, &COMMITS_FAILED, &EVENTS];

/// What a federation has.
pub fn specs() -> impl Iterator<Item = &'static Spec> {
    OF_HUB.iter().chain(READ).copied()
}

impl Hub {
    /// Leaves what can be said without counting endpoints: some numbers for each peer and node.
    pub(super) fn leave_metrics(&self, now: Instant, now_ms: u64) {
        let mut reading = Reading::default();
        self.read_peers(&mut reading, now);
        self.read_nodes(&mut reading, now_ms);
        let counters = self.replicator.counters();
        reading.set(&OWN_REVISION, &[], self.replicator.own_version().revision.0 as f64);
        reading.set(&OWN_ENTRIES, &[], self.replicator.own_len() as f64);
        reading.set(&SERVICES, &[], self.imports.iter().count() as f64);
        reading.set(&DIFFERENCES, &[], counters.digests_differed as f64);
        reading.set(&REPAIRS, &[], counters.digests_repaired as f64);
        reading.set(&BATCHES, &["received"], counters.batches_applied as f64);
        reading.set(&BATCHES, &["sent"], counters.batches_made as f64);
        reading.set(&REFUSED, &[], counters.messages_refused as f64);
        let (step, waits_for) = self.rotation();
        reading.set(&ROTATION, &[], f64::from(step));
        reading.set(&ROTATION_WAITS, &[], waits_for as f64);
        reading.set(&STORE, &[], self.store.bytes() as f64);
        reading.set(&STORE_OK, &[], if self.store_problem.is_none() { 1.0 } else { 0.0 });
        let backlog = self.replicator.backlog();
        let inputs = self.myself.upgrade().map_or(0, |inputs| inputs.max_capacity() - inputs.capacity());
        for (queue, length) in [
            ("inputs", inputs),
            ("records", backlog.records),
            ("peer_messages", backlog.messages),
            ("unacknowledged", backlog.in_flight),
            ("changes", backlog.changes),
            ("events", backlog.events),
        ] {
            reading.set(&WAITING, &[queue], length as f64);
        }
        self.tally.leave(reading);
    }

    fn read_peers(&self, reading: &mut Reading, now: Instant) {
        let mut live: BTreeMap<&SiteId, u32> = BTreeMap::new();
        let gateways = self.nodes.iter().filter(|(id, _)| matches!(id, NodeId::Gateway(_)));
        for path in gateways.flat_map(|(_, node)| &node.paths).filter(|path| path.state == PathState::Live) {
            *live.entry(&path.site).or_default() += 1;
        }
        for (site, link) in &self.links {
            let labels = [site.as_str()];
            reading.set_state(&STATE, &labels, STATES, &self.link_state(site, link));
            reading.set(&PATHS, &labels, f64::from(live.get(site).copied().unwrap_or(0)));
            let Some(status) = self.replicator.peer(site) else { continue };
            let Some(held) = status.held else { continue };
            let age = now.saturating_duration_since(status.heard_at.unwrap_or(self.started));
            reading.set(&REVISION, &labels, held.revision.0 as f64);
            reading.set(&AGE, &labels, age.as_secs_f64());
            reading.set(&ENTRIES, &labels, status.entries as f64);
        }
    }

    fn read_nodes(&self, reading: &mut Reading, now_ms: u64) {
        let of_kind = |gateways: bool| {
            self.nodes.iter().filter(move |(id, _)| matches!(id, NodeId::Gateway(_)) == gateways)
        };
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        for (gateways, kind, of) in [(true, "gateway", "gateways"), (false, "agent", "agents")] {
            let connected = of_kind(gateways).filter(|(_, node)| node.live.is_some()).count();
            reading.set(&NODES, &[kind], connected as f64);
            // Those that ran out long ago belong to nodes that are gone for good; `status` has them.
            let ends = of_kind(gateways)
                .filter(|(_, node)| node.live.is_some() || node.doc.certificate_until_ms > now_ms)
                .map(|(_, node)| node.doc.certificate_until_ms)
                .filter(|ends| *ends > 0);
            if let Some(first) = ends.min() {
                reading.set(&EXPIRY, &[of], seconds(first));
            }
        }
        reading.set(&EXPIRY, &["federation"], seconds(self.pki.credentials.current().not_after_ms()));
        reading.set(&EXPIRY, &["ca"], seconds(self.pki.ca_not_after_ms()));
    }
}

/// Adds the metrics of a federation.
///
/// # Errors
/// They were added before.
pub(crate) fn add(registry: &Registry, hub: &HubHandle) -> Result<(), AddError> {
    let tally = hub.tally.clone();
    registry.add(OF_HUB, move |reading| {
        if let Some((left, _)) = tally.left() {
            reading.clone_from(&left);
        }
    })?;
    let (tally, events) = (hub.tally.clone(), hub.events.watch());
    registry.add(READ, move |reading| {
        if let Some((_, age)) = tally.left() {
            reading.set(&HUB_AGE, &[], age.as_secs_f64());
        }
        let mut wire = |direction, wire: &Wire| {
            reading.set_counts(&MESSAGES, &[direction], &wire.messages);
            reading.set_counts(&BYTES, &[direction], &wire.bytes);
        };
        wire("sent", &tally.sent);
        wire("received", &tally.received);
        reading.set_counts(&TOLD, &[], &tally.told_nodes.messages);
        reading.set_counts(&TOLD_BYTES, &[], &tally.told_nodes.bytes);
        reading.set_durations(&ACKNOWLEDGED, &tally.acknowledged);
        reading.set_durations(&COMMITS, &tally.commits);
        reading.set(&COMMITS_FAILED, &[], tally.commits_failed.get() as f64);
        reading.set(&EVENTS, &[], *events.borrow() as f64);
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_follow_the_conventions() {
        let specs: Vec<_> = super::specs().collect();
        assert_eq!(runtime::metrics::lint(&specs), Vec::<String>::new());
    }
}
