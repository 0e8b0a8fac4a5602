//! The metrics of a federation. A scrape asks the hub once, and waits for it a bounded time.

use super::{Hub, HubHandle};
use runtime::health::Metrics;
use runtime::metrics::{AddError, Kind, Reading, Registry, Spec};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a scrape waits for a busy hub; then the federation's own metrics are absent from it.
const HUB_TIMEOUT: Duration = Duration::from_secs(2);

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind: Kind::Counter, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind: Kind::Gauge, labels }
}

/// Values of the label `state` of a peer.
const STATES: &[&str] = &["pending", "connected", "degraded", "unreachable", "expired", "removed"];

static SPECS: [Spec; 12] = [
    gauge("meshfed_peer_state", "1 for the state a linked site is in.", &["peer", "state"]),
    gauge("meshfed_catalog_revision", "Revision of a peer's catalog that is applied.", &["peer"]),
    gauge("meshfed_catalog_age_seconds", "Since a peer's catalog was last confirmed.", &["peer"]),
    gauge("meshfed_own_catalog_revision", "Revision of the own catalog.", &[]),
    gauge("meshfed_services", "Services that are known, own and taken from peers.", &[]),
    gauge("meshfed_store_bytes", "Size of the store's file.", &[]),
    gauge("meshfed_nodes_connected", "Gateways and agents with a config stream.", &["kind"]),
    gauge(
        "meshfed_certificate_expiry_timestamp_seconds",
        "When the first of the federation's certificate and its CA runs out, in Unix time.",
        &[],
    ),
    counter("meshfed_digest_differences_total", "Digests of catalogs that differed; each is a bug.", &[]),
    counter("meshfed_digest_repairs_total", "Differences of catalogs that were repaired.", &[]),
    counter("meshfed_catalog_batches_total", "Batches of catalog changes, by direction.", &["direction"]),
    counter("meshfed_peer_messages_refused_total", "Messages of peers that were refused.", &[]),
];

impl Hub {
    fn read_metrics(&self) -> Reading {
        let [state, revision, age, own, services, store, nodes, expiry, differed, repaired, batches, refused] =
            &SPECS;
        let (mut reading, status, counters) = (Reading::default(), self.status(), self.replicator.counters());
        for peer in &status.peers {
            reading.set_state(state, &[&peer.site], STATES, &peer.state);
            reading.set(revision, &[&peer.site], peer.catalog.revision as f64);
            reading.set(age, &[&peer.site], peer.catalog.age_s as f64);
        }
        reading.set(own, &[], status.site.revision as f64);
        reading.set(services, &[], f64::from(status.site.services));
        reading.set(store, &[], status.site.store.bytes as f64);
        for kind in ["gateway", "agent"] {
            let connected = status.nodes.iter().filter(|node| node.kind == kind && node.connected).count();
            reading.set(nodes, &[kind], connected as f64);
        }
        reading.set(expiry, &[], status.site.certificates.expires_at_ms as f64 / 1_000.0);
        reading.set(differed, &[], counters.digests_differed as f64);
        reading.set(repaired, &[], counters.digests_repaired as f64);
        reading.set(batches, &["received"], counters.batches_applied as f64);
        reading.set(batches, &["sent"], counters.batches_made as f64);
        reading.set(refused, &[], counters.messages_refused as f64);
        reading
    }
}

/// The metrics of the federation and of its process.
///
/// # Errors
/// A name is not good, which a test checks.
pub(crate) fn metrics(hub: HubHandle) -> Result<Metrics, AddError> {
    let registry = Registry::new("federation", env!("CARGO_PKG_VERSION"))?;
    let latest = Arc::new(Mutex::new(None::<Reading>));
    let held = latest.clone();
    registry.add(&SPECS, move |reading| {
        // Two scrapers at a time read the same values; neither takes them from the other.
        if let Some(read) = &*held.lock().unwrap_or_else(PoisonError::into_inner) {
            reading.clone_from(read);
        }
    })?;
    Ok(Arc::new(move || {
        let (hub, latest, registry) = (hub.clone(), latest.clone(), registry.clone());
        Box::pin(async move {
            let asked = tokio::time::timeout(HUB_TIMEOUT, hub.ask(|hub| hub.read_metrics())).await;
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = asked.ok().and_then(Result::ok);
            registry.encode()
        })
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(runtime::metrics::lint(&super::SPECS), Vec::<String>::new());
    }
}
