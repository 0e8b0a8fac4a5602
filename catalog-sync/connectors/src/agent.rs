//! What an agent registers: workloads from the config, which `meshfed expose` made, and from a file on its host.

use crate::connector::{self, Checked, Desired, Input, Parts, RENEW_EVERY, SourceReport};
use crate::files::{is_blank, wrong_kind};
use crate::health::{Key, Target};
use crate::watch::{FileState, Text, follow};
use api::resource::{Resource, parse};
use api::{Diagnostic, Kind};
use model::catalog::ServiceSpec;
use model::config::{HealthProbe, WorkloadSpec};
use model::endpoint::{Endpoint, Health, Reach};
use model::ids::{HostName, NetworkName};
use model::locality::Locality;
use model::node::{Instance, SourceEvent};
use model::service::ServiceKind;
use runtime::metrics::Counts;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The host of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, which the agent's certificate carries.
    pub name: HostName,
    /// Where it is.
    pub locality: Locality,
    /// Network of the site: endpoints of other networks are reached through gateways.
    pub network: NetworkName,
}

/// Workloads by service and endpoint id.
pub type Workloads = BTreeMap<Key, WorkloadSpec>;

/// Reads workloads from files of a host. Anything else in them is a mistake.
///
/// # Errors
/// The first mistake, with its place.
pub fn read(texts: &[Text], host: &Host) -> Result<Workloads, Diagnostic> {
    let mut workloads = Workloads::new();
    for Text { file, text } in texts.iter().filter(|text| !is_blank(&text.text)) {
        for resource in parse(file, text)? {
            let Resource::Workload(workload) = resource else {
                return Err(wrong_kind(file, resource.kind(), Kind::Workload));
            };
            let spec = workload
                .workload(&host.name, &host.locality)
                .map_err(|problem| Diagnostic::of_file(file, problem.to_string()))?;
            let key = (spec.service.clone(), spec.id.clone());
            if workloads.contains_key(&key) {
                let said = format!("endpoint {} of {} is described twice", key.1, key.0);
                return Err(Diagnostic::of_file(file, said).help("give each an `id:` of its own"));
            }
            workloads.insert(key, spec);
        }
    }
    Ok(workloads)
}

/// What a workload is registered as.
pub fn instance(spec: &WorkloadSpec, network: &NetworkName) -> Instance {
    let unchecked = spec.check.probe == HealthProbe::None;
    Instance {
        service: spec.service.clone(),
        spec: ServiceSpec {
            ports: spec.ports.iter().map(|(port, _)| port.clone()).collect(),
            kind: ServiceKind::ClusterSetIp,
            declared_total: None,
        },
        endpoint: Endpoint {
            id: spec.id.clone(),
            locality: spec.locality.clone(),
            network: network.clone(),
            subset: Default::default(),
            weight: spec.weight,
            health: if unchecked { Health::Healthy } else { Health::Unhealthy },
            reach: Reach::Agent(spec.host.clone()),
            ports: spec.ports.iter().map(|(port, target)| (port.key, *target)).collect(),
            hostname: None,
        },
    }
}

/// Joins what the config and the file say. Where both describe one endpoint, the config counts: it is the later word,
/// and the one that `meshfed unexpose` can take back.
fn join(config: &Workloads, file: &Workloads, host: &Host) -> Desired {
    let mut joined = BTreeMap::new();
    for (key, spec) in file.iter().chain(config) {
        if spec.host != host.name {
            warn!(service = %key.0, named = %spec.host, "a workload of another host was sent here");
            continue;
        }
        let target = Target { address: spec.address, check: spec.check.clone() };
        joined.insert(key.clone(), Checked { instance: instance(spec, &host.network), target });
    }
    Arc::new(joined)
}

/// Where an agent learns what to register.
#[derive(Debug)]
pub struct Sources {
    /// Workloads from the config; none: there was no config yet.
    pub config: watch::Receiver<Option<Arc<Workloads>>>,
    /// A file or folder of the host, if there is one.
    pub file: Option<PathBuf>,
}

/// What `status` of an agent shows of its registrations.
#[derive(Debug, Clone)]
pub struct Reports {
    /// State of the file.
    pub file: watch::Sender<FileState<Arc<Workloads>>>,
    /// What is registered.
    pub source: watch::Sender<SourceReport>,
    /// Results of its probes.
    pub probes: Arc<Counts>,
}

impl Default for Reports {
    fn default() -> Self {
        Self { file: Default::default(), source: Default::default(), probes: crate::metrics::probes() }
    }
}

/// Runs the connector of an agent until `shutdown`; then it takes back all that it has registered.
///
/// Nothing is listed before both the config and the file, if there is one, were read at least once: half of the truth
/// would withdraw the other half.
pub async fn run(
    host: Host,
    sources: Sources,
    (inputs, events): (mpsc::Receiver<Input>, mpsc::Sender<SourceEvent>),
    reports: Reports,
    shutdown: CancellationToken,
) {
    let (desired_sender, desired) = watch::channel(None);
    let Sources { mut config, file } = sources;
    let mut states = reports.file.subscribe();
    let is_watched = file.is_some();
    let reader = host.clone();
    let reading = async {
        match file {
            Some(path) => {
                let read = move |texts: &[Text]| read(texts, &reader).map(Arc::new);
                follow(path, read, reports.file, shutdown.clone()).await;
            }
            None => std::future::pending().await,
        }
    };
    let joining = async {
        config.mark_changed();
        loop {
            let of_config = config.borrow_and_update().clone();
            let of_file = states.borrow_and_update().good.clone();
            let of_file = of_file.or_else(|| (!is_watched).then(Arc::default));
            if let (Some(of_config), Some(of_file)) = (of_config, of_file) {
                desired_sender.send_replace(Some(join(&of_config, &of_file, &host)));
            }
            let changed = tokio::select! {
                changed = config.changed() => changed,
                changed = states.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    };
    let renew_every = Some(RENEW_EVERY);
    let Reports { source: report, probes, .. } = reports;
    let parts = Parts { desired, inputs, events, report, renew_every, probes, withdraw: true };
    let connector = connector::run(parts, shutdown.clone());
    // The helpers end with the connector, which has to withdraw first.
    let helpers = async {
        tokio::join!(reading, joining);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = connector => {}
        () = helpers => {}
    }
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;
    use model::service::{AppProtocol, PortKey, ServicePort};

    /// An instance with one port, on host `vm-1`.
    pub(crate) fn instance(service: &str, id: &str, health: Health) -> Instance {
        let key = PortKey::tcp(80);
        let port = ServicePort { key, name: None, app: AppProtocol::Tcp, retry_safe: false };
        Instance {
            service: service.parse().expect("valid"),
            spec: ServiceSpec { ports: vec![port], kind: ServiceKind::ClusterSetIp, declared_total: None },
            endpoint: Endpoint {
                id: id.parse().expect("valid"),
                locality: Locality::default(),
                network: "net".parse().expect("valid"),
                subset: Default::default(),
                weight: 1,
                health,
                reach: Reach::Agent("vm-1".parse().expect("valid")),
                ports: BTreeMap::from([(key, 8080)]),
                hostname: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            name: "vm-1".parse().expect("valid"),
            locality: "eu/fra".parse().expect("valid"),
            network: "east".parse().expect("valid"),
        }
    }

    fn of(text: &str) -> Result<Workloads, Diagnostic> {
        read(&[Text { file: "w.yaml".to_owned(), text: text.to_owned() }], &host())
    }

    fn workload(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        )
    }

    #[test]
    fn workloads_become_instances_behind_the_agent() {
        let workloads = of(&workload("cart", "{port: 80, targetPort: 8080, weight: 3}")).expect("valid");
        let desired = join(&Workloads::new(), &workloads, &host());
        let (_, checked) = desired.first_key_value().expect("one");
        let endpoint = &checked.instance.endpoint;
        assert_eq!(endpoint.reach, Reach::Agent("vm-1".parse().expect("valid")));
        assert_eq!((endpoint.weight, endpoint.health), (3, Health::Unhealthy));
        assert_eq!(endpoint.ports.values().copied().collect::<Vec<_>>(), [8080]);
        assert_eq!(checked.target.check.probe, HealthProbe::Tcp { port: 8080 });
    }

    #[test]
    fn of_two_descriptions_of_one_endpoint_that_of_the_config_counts() {
        let file = of(&workload("cart", "{port: 80, weight: 3}")).expect("valid");
        let config = of(&workload("cart", "{port: 80, weight: 7}")).expect("valid");
        let joined = join(&config, &file, &host());
        assert_eq!(joined.len(), 1);
        assert_eq!(joined.first_key_value().expect("one").1.instance.endpoint.weight, 7);
        let other = Host { name: "vm-2".parse().expect("valid"), ..host() };
        assert_eq!(join(&config, &file, &other).len(), 0, "they are of another host");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let twice =
            [workload("cart", "{port: 80}"), workload("basket", "{port: 80, service: cart}")].concat();
        let error = of(&twice).expect_err("twice").to_string();
        assert!(error.contains("endpoint vm-1 of shop/cart is described twice"), "{error}");
        let error = of(&workload("cart", "{prt: 80}")).expect_err("a mistake").to_string();
        assert!(error.contains("w.yaml:5:8: unknown field `prt`"), "{error}");
        let error = of(&workload("cart", "{port: 80, host: vm-2}")).expect_err("another host").to_string();
        assert!(error.contains("this is host vm-1, not vm-2"), "{error}");
    }
}
