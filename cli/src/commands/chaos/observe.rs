//! What the sites say while an experiment runs: asked over their API, as an operator would.

use crate::client::Client;
use crate::contexts::Store;
use crate::failure::Failure;
use api::rest::explain::{ExplainRequest, ExplanationView, TierView};
use api::rest::service::ServiceList;
use api::rest::status::StatusView;
use api::text::Text;
use experiment::record::{Catalog, Decided, Look, Peer};
use live::mesh::Mesh;
use model::service::ServiceName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

/// From one look at a site to the next.
const EVERY: Duration = Duration::from_millis(500);
/// How long a site may take to answer; what comes later is no look of that moment.
const LIMIT: Duration = Duration::from_secs(1);
/// How long catalogs may take to become equal once all is mended.
const SETTLE: Duration = Duration::from_secs(10);

/// What is seen, by the clock of the load.
#[derive(Debug, Default)]
struct Seen {
    looks: Vec<Look>,
    decisions: Vec<Decided>,
}

/// Looks at every site until it is ended.
#[derive(Debug)]
pub struct Observer {
    clients: Vec<Client>,
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

impl Observer {
    /// Starts to look. `start` is the zero of the clock of the load; the decision that is watched is that for `service`
    /// at `from`.
    ///
    /// # Errors
    /// A site of the mesh has no context.
    pub fn start(mesh: &Mesh, start: Instant, service: &ServiceName, from: &str) -> Result<Self, Failure> {
        let contexts = Store::at(mesh.contexts()).read()?;
        let mut clients = Vec::new();
        for site in &mesh.plan().sites {
            let (name, context) = contexts.find(Some(site.name.as_str()))?;
            clients.push(Client::new(name, context)?);
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for client in &clients {
            let decision = (client.name == from).then(|| service.clone());
            tasks.spawn(watch(client.clone(), decision, start, Arc::clone(&seen)));
        }
        Ok(Self { clients, seen, tasks })
    }

    /// Stops looking; gives all looks and decisions, in order of time.
    pub async fn end(&mut self) -> (Vec<Look>, Vec<Decided>) {
        self.tasks.shutdown().await;
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.looks.sort_by_key(|look| look.at);
        (seen.looks, seen.decisions)
    }

    /// What each site holds of each linked one, once all are equal or the time for it is up.
    pub async fn catalogs(&self) -> Vec<Catalog> {
        let begun = Instant::now();
        loop {
            let catalogs = self.compare().await;
            let equal = !catalogs.is_empty() && catalogs.iter().all(Catalog::is_equal);
            if equal || begun.elapsed() > SETTLE {
                return catalogs;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn compare(&self) -> Vec<Catalog> {
        let mut views: BTreeMap<String, StatusView> = BTreeMap::new();
        for client in &self.clients {
            if let Ok(Ok(view)) = timeout(LIMIT, client.get::<StatusView>("/v1/status")).await {
                views.insert(client.name.clone(), view);
            }
        }
        let own = |site: &str| views.get(site).map(|view| (view.site.epoch, view.site.revision));
        let mut catalogs = Vec::new();
        for (site, view) in &views {
            catalogs.extend(view.peers.iter().map(|peer| Catalog {
                site: site.clone(),
                of: peer.site.clone(),
                held: (peer.catalog.epoch, peer.catalog.revision),
                own: own(&peer.site),
                repairs: peer.catalog.repairs,
            }));
        }
        // A site that does not answer holds nothing that can be compared, and that is no equality.
        let silent = self.clients.iter().filter(|client| !views.contains_key(&client.name));
        catalogs.extend(silent.map(|client| Catalog { site: client.name.clone(), ..Catalog::default() }));
        catalogs
    }
}

async fn watch(client: Client, decision: Option<ServiceName>, start: Instant, seen: Arc<Mutex<Seen>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let at = start.elapsed();
        if let Ok(Some(look)) = timeout(LIMIT, look(&client, at)).await {
            seen.lock().unwrap_or_else(PoisonError::into_inner).looks.push(look);
        }
        if let Some(service) = &decision
            && let Ok(Some(decided)) = timeout(LIMIT, decided(&client, service, at)).await
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen
                .decisions
                .last()
                .is_none_or(|last| (&last.verdict, &last.why) != (&decided.verdict, &decided.why))
            {
                seen.decisions.push(decided);
            }
        }
    }
}

/// A site that does not answer gives no look: what it had is not gone.
async fn look(client: &Client, at: Duration) -> Option<Look> {
    let status: StatusView = client.get("/v1/status").await.ok()?;
    let services: ServiceList = client.get("/v1/services").await.ok()?;
    let peers = status
        .peers
        .iter()
        .map(|peer| Peer {
            site: peer.site.clone(),
            state: peer.state.clone(),
            rtt_ms: peer.rtt_ms,
            paths: (peer.paths_live, peer.paths_total),
            age_s: peer.catalog.age_s,
        })
        .collect();
    let imports = services
        .services
        .iter()
        .map(|service| {
            let of = service.sites.iter().map(|site| &site.site).filter(|site| **site != client.name);
            (service.service.clone(), of.cloned().collect())
        })
        .collect();
    Some(Look { at, site: client.name.clone(), peers, imports })
}

async fn decided(client: &Client, service: &ServiceName, at: Duration) -> Option<Decided> {
    let request = ExplainRequest {
        service: Text(service.clone()),
        port: None,
        identity: None,
        locality: None,
        node: None,
        without: Vec::new(),
    };
    let view: ExplanationView = client.post("/v1/explain", &request).await.ok()?;
    let verdict = match (view.verdict.site.is_empty(), &view.verdict.code) {
        (false, _) => view.verdict.site.clone(),
        (true, Some(code)) => format!("refused: {code}"),
        (true, None) => view.verdict.kind.clone(),
    };
    let mut why: Vec<String> = view.tiers.iter().map(tier).collect();
    if view.panic {
        why.push("no endpoint is healthy: last known ones are used".to_owned());
    }
    if view.isolated {
        why.push("all peers are gone".to_owned());
    }
    if why.is_empty() {
        why.push(view.verdict.detail);
    }
    Some(Decided { at, verdict, why: why.join("; ") })
}

/// A tier without the numbers that change by themselves: shares while a ramp runs, and round trips.
fn tier(tier: &TierView) -> String {
    let states = |site: &str| {
        let group = tier.groups.iter().find(|group| group.site == site);
        group.and_then(|group| group.state.clone()).map_or_else(String::new, |state| format!(", {state}"))
    };
    let mut sites: Vec<&str> = tier.groups.iter().map(|group| group.site.as_str()).collect();
    sites.dedup();
    let sites: Vec<String> = sites.iter().map(|site| format!("{site}{}", states(site))).collect();
    let takes = match tier.share_pct {
        share if share <= 0.0 => "takes nothing",
        share if share >= 100.0 => "takes all",
        _ => "takes a part",
    };
    let outliers: u32 = tier.groups.iter().map(|group| group.outliers).sum();
    let aside = if outliers > 0 { format!(", {outliers} set aside") } else { String::new() };
    format!("{}: {} of {} healthy{aside}, {takes}", sites.join(" and "), tier.healthy, tier.total)
}
