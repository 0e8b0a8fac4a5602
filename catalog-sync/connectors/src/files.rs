//! The connector `files`: services with fixed endpoints, for the site itself.

use crate::connector::{self, Checked, Desired, Input, Parts, SourceReport};
use crate::health::Target;
use crate::watch::{FileState, Text, follow};
use api::resource::{Resource, parse};
use api::{Diagnostic, Kind};
use model::ids::NetworkName;
use model::locality::Locality;
use model::node::{Instance, SourceEvent};
use runtime::metrics::Counts;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Name of the connector.
pub const NAME: &str = "files";

/// Where the endpoints of a file are, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Locality of the site.
    pub locality: Locality,
    /// Network of the site.
    pub network: NetworkName,
}

/// Reads services from files. Anything else in them is a mistake.
///
/// # Errors
/// The first mistake, with its place.
pub fn read(texts: &[Text], place: &Place) -> Result<Desired, Diagnostic> {
    let mut desired = BTreeMap::new();
    let mut seen: BTreeMap<_, &str> = BTreeMap::new();
    for Text { file, text } in texts.iter().filter(|text| !is_blank(&text.text)) {
        for resource in parse(file, text)? {
            let Resource::Service(service) = resource else {
                return Err(wrong_kind(file, resource.kind(), Kind::Service));
            };
            let broken = |problem: api::Problem| Diagnostic::of_file(file, problem.to_string());
            let service = service.resolve(&place.locality, &place.network).map_err(broken)?;
            if let Some(first) = seen.insert(service.service.clone(), file) {
                let said = format!("service {} is described in {first} already", service.service);
                return Err(Diagnostic::of_file(file, said).help("keep one of them"));
            }
            for of in service.endpoints {
                let key = (service.service.clone(), of.endpoint.id.clone());
                let instance = Instance {
                    service: service.service.clone(),
                    spec: service.spec.clone(),
                    endpoint: of.endpoint,
                };
                let target = Target { address: of.address, check: of.check };
                desired.insert(key, Checked { instance, target });
            }
        }
    }
    Ok(Arc::new(desired))
}

/// An emptied file says that there is nothing, which is not a mistake.
pub(crate) fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

pub(crate) fn wrong_kind(file: &str, found: Kind, expected: Kind) -> Diagnostic {
    Diagnostic::of_file(file, format!("a {found} stands where only a {expected} can"))
        .help(format!("use `meshfed apply -f` for a {found}"))
}

/// Runs the connector over a file or a folder until `shutdown`. Its endpoints stay when it ends, and have no lease.
///
/// The results of its probes are counted in `probes`. `inputs` begins with [`Input::Connected`] when the site is ready to hear it.
pub async fn run(
    path: PathBuf,
    place: Place,
    (inputs, events): (mpsc::Receiver<Input>, mpsc::Sender<SourceEvent>),
    (state, report): (watch::Sender<FileState<Desired>>, watch::Sender<SourceReport>),
    probes: Arc<Counts>,
    shutdown: CancellationToken,
) {
    let (desired_sender, desired) = watch::channel(None);
    let mut states = state.subscribe();
    let reading = follow(path, move |texts: &[Text]| read(texts, &place), state, shutdown.clone());
    let passing = async {
        while states.changed().await.is_ok() {
            let good = states.borrow_and_update().good.clone();
            if good.is_some() {
                desired_sender.send_replace(good);
            }
        }
    };
    let parts = Parts { desired, inputs, events, report, renew_every: None, probes, withdraw: false };
    tokio::select! {
        () = connector::run(parts, shutdown.clone()) => {}
        () = reading => {}
        () = passing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CART: &str = "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                        spec:\n  ports: [{port: 80}]\n  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]\n";

    fn place() -> Place {
        Place { locality: "eu/fra".parse().expect("valid"), network: "east".parse().expect("valid") }
    }

    fn of(texts: &[(&str, &str)]) -> Result<Desired, Diagnostic> {
        let texts: Vec<Text> = texts
            .iter()
            .map(|(file, text)| Text { file: (*file).to_owned(), text: (*text).to_owned() })
            .collect();
        read(&texts, &place())
    }

    #[test]
    fn services_become_instances() {
        let desired = of(&[("a.yaml", CART)]).expect("valid");
        let ids: Vec<String> = desired.keys().map(|(service, id)| format!("{service} {id}")).collect();
        assert_eq!(ids, ["shop/cart 10.0.0.1:80", "shop/cart 10.0.0.2:80"]);
        assert_eq!(of(&[("a.yaml", "# nothing\n---\n")]).expect("valid").len(), 0);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let line =
            of(&[("a.yaml", &CART.replace("port: 80", "prt: 80"))]).expect_err("a mistake").to_string();
        assert!(line.contains("a.yaml:5:12: unknown field `prt`"), "{line}");
        let twice = of(&[("a.yaml", CART), ("b.yaml", CART)]).expect_err("twice").to_string();
        assert!(twice.contains("b.yaml: service shop/cart is described in a.yaml already"), "{twice}");
        let workload = "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata: {name: cart, namespace: shop}\n\
                        spec: {port: 80}\n";
        let kind = of(&[("a.yaml", workload)]).expect_err("another kind").to_string();
        assert!(kind.contains("a Workload stands where only a Service can"), "{kind}");
    }
}
