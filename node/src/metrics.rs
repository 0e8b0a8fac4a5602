//! The metrics of a node: tunnel, paths, clients, config, virtual IPs and names. The same for gateways and agents.

use crate::routes::Routes;
use crate::store::ConfigStore;
use crate::stream::Upstream;
use identity::live::LiveCredentials;
use local::dns;
use model::node::{PathReport, PathState};
use runtime::metrics::{AddError, Reading, Registry, Spec, label};
use std::sync::Arc;
use std::time::Instant;
use tunnel::Tunnel;

/// Labels of a path: bounded by the linked sites and their gateways.
const PATH: &[&str] = &["peer", "gateway"];
/// Values of the label `state` of a path.
const STATES: &[&str] = &["dialling", "live", "suspect", "dead", "draining"];

static SENT: Spec = Spec::counter(
    "meshfed_tunnel_sent_bytes_total",
    "Bytes of clients and endpoints that were sent over streams.",
    &[],
);
static RECEIVED: Spec = Spec::counter(
    "meshfed_tunnel_received_bytes_total",
    "Bytes of clients and endpoints that were received over streams.",
    &[],
);
static OPENED: Spec =
    Spec::counter("meshfed_streams_opened_total", "Streams that were opened to other processes.", &[]);
static TAKEN: Spec = Spec::counter("meshfed_streams_taken_total", "Streams that others opened here.", &[]);
static ACCEPTED: Spec = Spec::counter(
    "meshfed_streams_accepted_total",
    "Streams of others for which an endpoint was found here or behind this process.",
    &[],
);
static REFUSED: Spec =
    Spec::counter("meshfed_streams_refused_total", "Streams that were refused here, by reason.", &["reason"]);
static RESET: Spec = Spec::counter(
    "meshfed_streams_reset_total",
    "Streams that ended in another way than by both ends closing them.",
    &["reason"],
);
static OPEN: Spec = Spec::gauge("meshfed_streams_open", "Streams that are open, of all connections.", &[]);
static STUCK: Spec = Spec::gauge(
    "meshfed_streams_stuck",
    "Streams whose reader at this end does not take what is there at the moment.",
    &[],
);
static BUFFER: Spec = Spec::gauge(
    "meshfed_tunnel_buffer_bytes",
    "Bytes that connections may have in buffers beyond what each has anyway: credit of peers, and send windows.",
    &[],
);
static BUFFER_MAX: Spec = Spec::gauge(
    "meshfed_tunnel_buffer_limit_bytes",
    "The most that meshfed_tunnel_buffer_bytes may be.",
    &[],
);
static FAILED: Spec =
    Spec::counter("meshfed_handshakes_failed_total", "Handshakes that were begun and came to nothing.", &[]);
static TURNED_AWAY: Spec = Spec::counter(
    "meshfed_handshakes_refused_total",
    "Handshakes turned away since too many were under way.",
    &[],
);
static RETRIED: Spec = Spec::counter(
    "meshfed_handshakes_retried_total",
    "Diallers whose address was checked before their handshake.",
    &[],
);
static CONNECTIONS: Spec =
    Spec::counter("meshfed_connections_refused_total", "Peers turned away by a limit on connections.", &[]);
static DATAGRAMS: Spec = Spec::counter(
    "meshfed_datagrams_dropped_total",
    "Datagrams within connections that were no probes.",
    &[],
);

static RTT: Spec =
    Spec::gauge("meshfed_path_rtt_seconds", "Round trip of a path; absent while it does not answer.", PATH);
static LOSS: Spec =
    Spec::gauge("meshfed_path_loss_ratio", "Share of the probes of a path that were lost, 0 to 1.", PATH);
static STREAMS: Spec = Spec::gauge("meshfed_path_streams", "Open streams of a path.", PATH);
static MTU: Spec = Spec::gauge(
    "meshfed_path_mtu_bytes",
    "Largest UDP payload that a path carries; absent while no connection is up.",
    PATH,
);
static STATE: Spec =
    Spec::gauge("meshfed_path_state", "1 for the state that a path is in.", &["peer", "gateway", "state"]);

static DECISIONS: Spec = Spec::counter(
    "meshfed_decisions_total",
    "Decisions where a stream goes: how far away that is, or why nowhere.",
    &["reason"],
);
static CANDIDATES: Spec = Spec::counter(
    "meshfed_candidates_failed_total",
    "Candidates that did not take a stream, so that the next one was asked if there was one.",
    &["reason"],
);
static CLIENTS: Spec = Spec::counter(
    "meshfed_clients_total",
    "Connections of clients, and streams passed on, that are done, by how.",
    &["end"],
);
static CLIENTS_OPEN: Spec = Spec::gauge(
    "meshfed_clients_open",
    "Connections of clients, and streams passed on, that an endpoint has.",
    &[],
);
static OUTLIERS: Spec = Spec::gauge(
    "meshfed_outliers",
    "Endpoints that are set aside after failures, although their check passes.",
    &[],
);

static CONNECTED: Spec = Spec::gauge(
    "meshfed_config_stream_connected",
    "1 while there is a config stream to the federation.",
    &[],
);
static AGE: Spec = Spec::gauge(
    "meshfed_config_age_seconds",
    "Since the config may have been overtaken: 0 with a config stream, else since there is none.",
    &[],
);
static REVISION: Spec =
    Spec::gauge("meshfed_config_revision", "Revision of the config that is served from.", &[]);
static ROUTED: Spec = Spec::histogram(
    "meshfed_config_routed_seconds",
    "From a change that came in from the federation until streams are routed by it.",
);
static SNAPSHOTS: Spec = Spec::counter(
    "meshfed_snapshot_writes_total",
    "Times that the config was written to disk, or could not be.",
    &["result"],
);
static EXPIRY: Spec = Spec::gauge(
    "meshfed_node_certificate_expiry_timestamp_seconds",
    "When the certificate of this node runs out, in Unix time.",
    &[],
);
static RENEWALS: Spec = Spec::counter(
    "meshfed_certificate_renewals_total",
    "Times that the certificate of this node was renewed, or could not be.",
    &["result"],
);

static VIPS: Spec = Spec::gauge("meshfed_vip_listeners", "Virtual IPs and ports that are listened on.", &[]);
static VIPS_SKIPPED: Spec = Spec::gauge(
    "meshfed_vip_listeners_skipped",
    "Virtual IPs and ports that are not listened on, by reason.",
    &["reason"],
);
static QUERIES: Spec = Spec::counter(
    "meshfed_dns_queries_total",
    "Questions of DNS: whose name it was, and what was answered.",
    &["zone", "result"],
);

/// What a node has.
pub static SPECS: &[&Spec] = &[
    &SENT,
    &RECEIVED,
    &OPENED,
    &TAKEN,
    &ACCEPTED,
    &REFUSED,
    &RESET,
    &OPEN,
    &STUCK,
    &BUFFER,
    &BUFFER_MAX,
    &FAILED,
    &TURNED_AWAY,
    &RETRIED,
    &CONNECTIONS,
    &DATAGRAMS,
    &RTT,
    &LOSS,
    &STREAMS,
    &MTU,
    &STATE,
    &DECISIONS,
    &CANDIDATES,
    &CLIENTS,
    &CLIENTS_OPEN,
    &OUTLIERS,
    &CONNECTED,
    &AGE,
    &REVISION,
    &ROUTED,
    &SNAPSHOTS,
    &EXPIRY,
    &RENEWALS,
    &VIPS,
    &VIPS_SKIPPED,
    &QUERIES,
];

/// Where they come from.
pub struct Sources {
    /// The tunnel of the process.
    pub tunnel: Tunnel,
    /// Its paths, now.
    pub paths: Box<dyn Fn() -> Vec<PathReport> + Send + Sync>,
    /// Where it decides.
    pub routes: Arc<Routes>,
    /// Its config.
    pub store: Arc<ConfigStore>,
    /// Its way to the federation.
    pub upstream: Upstream,
    /// Its certificate.
    pub credentials: LiveCredentials,
    /// Its DNS; none: it has none.
    pub dns: Option<Arc<dns::Answered>>,
}

/// Adds them.
///
/// # Errors
/// They were added before.
pub fn add(registry: &Registry, sources: Sources) -> Result<(), AddError> {
    registry.add(SPECS, move |reading| {
        sources.read_tunnel(reading);
        sources.read_paths(reading);
        sources.read_routes(reading);
        sources.read_config(reading);
    })
}

impl Sources {
    fn read_tunnel(&self, reading: &mut Reading) {
        let counters = self.tunnel.counters();
        reading.set(&SENT, &[], counters.bytes_sent as f64);
        reading.set(&RECEIVED, &[], counters.bytes_received as f64);
        reading.set(&OPENED, &[], counters.streams_opened as f64);
        reading.set(&TAKEN, &[], counters.streams_taken as f64);
        reading.set(&ACCEPTED, &[], counters.streams_accepted as f64);
        reading.set(&OPEN, &[], counters.streams_open() as f64);
        reading.set(&STUCK, &[], counters.streams_stuck as f64);
        reading.set(&BUFFER, &[], counters.buffer_bytes as f64);
        reading.set(&BUFFER_MAX, &[], counters.buffer_max as f64);
        for (code, count) in &counters.streams_refused {
            reading.set(&REFUSED, &[&label(&code.to_string())], *count as f64);
        }
        for (code, count) in &counters.streams_reset {
            reading.set(&RESET, &[&label(code.word())], *count as f64);
        }
        reading.set(&FAILED, &[], counters.handshakes_failed as f64);
        reading.set(&TURNED_AWAY, &[], counters.handshakes_refused as f64);
        reading.set(&RETRIED, &[], counters.handshakes_retried as f64);
        reading.set(&CONNECTIONS, &[], counters.connections_refused as f64);
        reading.set(&DATAGRAMS, &[], counters.datagrams_dropped as f64);
    }

    fn read_paths(&self, reading: &mut Reading) {
        for path in (self.paths)() {
            let labels = [path.site.as_str(), path.gateway.as_str()];
            if let Some(time) = path.rtt {
                reading.set(&RTT, &labels, time.as_secs_f64());
            }
            if let Some(mtu) = path.mtu {
                reading.set(&MTU, &labels, f64::from(mtu));
            }
            reading.set(&LOSS, &labels, f64::from(path.loss_permille) / 1_000.0);
            reading.set(&STREAMS, &labels, f64::from(path.streams));
            reading.set_state(&STATE, &labels, STATES, word(path.state));
        }
    }

    fn read_routes(&self, reading: &mut Reading) {
        let (routes, tally) = (&self.routes, self.routes.tally());
        reading.set_counts(&DECISIONS, &[], &tally.decisions);
        reading.set_counts(&CANDIDATES, &[], &tally.candidates);
        reading.set_counts(&CLIENTS, &[], &tally.clients);
        let open: u64 = routes.open_streams().iter().map(|(_, _, count)| u64::from(*count)).sum();
        reading.set(&CLIENTS_OPEN, &[], open as f64);
        let outliers = routes.read(|router| router.set_aside(Instant::now()));
        reading.set(&OUTLIERS, &[], outliers as f64);
        let vips = tally.vips();
        reading.set(&VIPS, &[], vips.open as f64);
        for (reason, count) in vips.skipped {
            reading.set(&VIPS_SKIPPED, &[&label(reason)], count as f64);
        }
        if let Some(dns) = &self.dns {
            reading.set_counts(&QUERIES, &["mesh"], &dns.mesh);
            reading.set_counts(&QUERIES, &["other"], &dns.other);
        }
    }

    fn read_config(&self, reading: &mut Reading) {
        let (connected, since) = (self.upstream.is_connected(), self.upstream.since());
        reading.set(&CONNECTED, &[], if connected { 1.0 } else { 0.0 });
        reading.set(&AGE, &[], if connected { 0.0 } else { since.elapsed().as_secs_f64() });
        if let Some(version) = self.store.current().version {
            reading.set(&REVISION, &[], version.revision as f64);
        }
        reading.set_durations(&ROUTED, &self.routes.tally().routed);
        reading.set_counts(&SNAPSHOTS, &[], self.store.writes());
        reading.set(&EXPIRY, &[], self.credentials.current().not_after_ms() as f64 / 1_000.0);
        reading.set_counts(&RENEWALS, &[], &self.routes.tally().renewals);
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
        assert_eq!(runtime::metrics::lint(super::SPECS), Vec::<String>::new());
    }
}
