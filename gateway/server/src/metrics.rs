//! The metrics of a gateway, read at each scrape from its paths and its tunnel.

use crate::paths::Paths;
use model::node::PathState;
use runtime::metrics::{AddError, Kind, Reading, Registry, Spec};
use std::sync::Arc;
use tunnel::Tunnel;

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind: Kind::Counter, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind: Kind::Gauge, labels }
}

/// Labels of a path: bounded by the linked sites and their gateways.
const PATH: &[&str] = &["peer", "gateway"];
/// Values of the label `state` of a path.
const STATES: &[&str] = &["dialling", "live", "suspect", "dead", "draining"];

static SPECS: [Spec; 10] = [
    counter("meshfed_tunnel_sent_bytes_total", "Bytes of clients and endpoints sent over streams.", &[]),
    counter(
        "meshfed_tunnel_received_bytes_total",
        "Bytes of clients and endpoints received over streams.",
        &[],
    ),
    counter("meshfed_streams_refused_total", "Streams that were refused here, by reason.", &["reason"]),
    counter("meshfed_handshakes_failed_total", "Handshakes that were begun and came to nothing.", &[]),
    counter("meshfed_handshakes_refused_total", "Handshakes turned away since too many were under way.", &[]),
    counter("meshfed_connections_refused_total", "Peers turned away by a limit on connections.", &[]),
    gauge("meshfed_path_rtt_seconds", "Round trip of a path; absent while it does not answer.", PATH),
    gauge("meshfed_path_loss_ratio", "Share of the probes of a path that were lost, 0 to 1.", PATH),
    gauge("meshfed_path_streams", "Open streams of a path.", PATH),
    gauge("meshfed_path_state", "1 for the state a path is in.", &["peer", "gateway", "state"]),
];

/// Adds them.
pub(crate) fn add(registry: &Registry, paths: Arc<Paths>, tunnel: Tunnel) -> Result<(), AddError> {
    registry.add(&SPECS, move |reading| read(reading, &paths, &tunnel))
}

fn read(reading: &mut Reading, paths: &Paths, tunnel: &Tunnel) {
    let [sent, received, refused, failed, turned_away, connections, rtt, loss, streams, state] = &SPECS;
    let counters = tunnel.counters();
    reading.set(sent, &[], counters.bytes_sent as f64);
    reading.set(received, &[], counters.bytes_received as f64);
    for (code, count) in &counters.streams_refused {
        reading.set(refused, &[&code.to_string().replace(' ', "_")], *count as f64);
    }
    reading.set(failed, &[], counters.handshakes_failed as f64);
    reading.set(turned_away, &[], counters.handshakes_refused as f64);
    reading.set(connections, &[], counters.connections_refused as f64);
    for path in paths.reports() {
        let labels = [path.site.as_str(), path.gateway.as_str()];
        if let Some(time) = path.rtt {
            reading.set(rtt, &labels, time.as_secs_f64());
        }
        reading.set(loss, &labels, f64::from(path.loss_permille) / 1_000.0);
        reading.set(streams, &labels, f64::from(path.streams));
        reading.set_state(state, &labels, STATES, word(path.state));
    }
}

fn word(state: PathState) -> &'static str {
    match state {
        PathState::Dialling => "dialling",
        PathState::Live => "live",
        PathState::Suspect => "suspect",
        PathState::Dead => "dead",
        PathState::Draining => "draining",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(runtime::metrics::lint(&super::SPECS), Vec::<String>::new());
    }
}
