//! From the files and the store to a running hub.

use super::drain::Drain;
use super::nodes::{Node, told_gateways};
use super::resources::Resources;
use super::{Hub, HubHandle, INPUTS_MAX, Input};
use crate::book::Book;
use crate::carriers::Carriers;
use crate::docs::{InviteDoc, LinkDoc, NodeDoc, OwnerDoc, ResourceDoc, TokenDoc, owner_name};
use crate::events::Events;
use crate::names::NodeId;
use crate::options::Options;
use crate::pki::Pki;
use crate::store::documents::{DocumentKey, DocumentKind};
use crate::store::{Loaded, Store, StoreError, WriteBatch};
use crate::vip_file::{self, VipFileError};
use federation_core::Replicator;
use federation_core::imports::{FirstSeen, Imports};
use federation_core::settings::Settings;
use model::catalog::{OwnKey, OwnValue, SiteInfo};
use model::config::VipRange;
use model::ids::{Incarnation, SiteId, SiteUid};
use model::service::ServiceName;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use sync_core::intake::{self, Intake};
use sync_core::source::{SourceConfig, SourceId};
use tokio::sync::{mpsc, watch};

/// Why the hub could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The virtual IPs.
    #[error(transparent)]
    Vips(#[from] VipFileError),
    /// A document is not what it should be.
    #[error("the store has a damaged document `{key}`; restore the store from a backup, or move it away")]
    Document {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A document has a name that names nothing.
    #[error(
        "the store has a document with a bad name, `{key}`; restore the store from a backup, or move it away"
    )]
    Name {
        /// Its key.
        key: String,
    },
}

/// What a hub is made of.
#[derive(Debug)]
pub struct HubParts {
    /// How it is run.
    pub options: Options,
    /// The site's uid.
    pub uid: SiteUid,
    /// Where virtual IPs come from.
    pub vip_range: VipRange,
    /// Its certificate authority.
    pub pki: Pki,
    /// The open store.
    pub store: Box<dyn Store>,
    /// File of the virtual IPs.
    pub vip_path: PathBuf,
}

/// Documents, read.
#[derive(Default)]
struct Documents {
    resources: Resources,
    links: BTreeMap<SiteId, LinkDoc>,
    invites: BTreeMap<[u8; 16], InviteDoc>,
    tokens: BTreeMap<[u8; 16], TokenDoc>,
    nodes: BTreeMap<NodeId, NodeDoc>,
    drains: BTreeSet<Drain>,
    first_seen: FirstSeen,
    owners: BTreeMap<String, SourceId>,
}

impl Documents {
    fn read(documents: BTreeMap<DocumentKey, Vec<u8>>) -> Result<Self, StartError> {
        let mut read = Self::default();
        for (key, bytes) in documents {
            let bad_name = || StartError::Name { key: key.to_text() };
            match key.kind {
                DocumentKind::Resource => {
                    let doc: ResourceDoc = json(&key, &bytes)?;
                    read.resources.insert(doc.resource.key(), doc);
                }
                DocumentKind::Link => {
                    let site = key.name.parse().map_err(|_| bad_name())?;
                    read.links.insert(site, json(&key, &bytes)?);
                }
                DocumentKind::Invite => {
                    read.invites.insert(id(&key.name).ok_or_else(bad_name)?, json(&key, &bytes)?);
                }
                DocumentKind::Token => {
                    read.tokens.insert(id(&key.name).ok_or_else(bad_name)?, json(&key, &bytes)?);
                }
                DocumentKind::Node => {
                    let node = NodeId::from_text(&key.name).ok_or_else(bad_name)?;
                    read.nodes.insert(node, json(&key, &bytes)?);
                }
                DocumentKind::Drain => {
                    read.drains.insert(Drain::from_text(&key.name).ok_or_else(bad_name)?);
                }
                DocumentKind::FirstSeen => {
                    let name = Hub::read_first_seen(&key.name).ok_or_else(bad_name)?;
                    read.first_seen.insert(name, json(&key, &bytes)?);
                }
                DocumentKind::Owner => {
                    let owner: OwnerDoc = json(&key, &bytes)?;
                    read.owners.insert(key.name.clone(), owner.into());
                }
            }
        }
        Ok(read)
    }
}

fn json<T: DeserializeOwned>(key: &DocumentKey, bytes: &[u8]) -> Result<T, StartError> {
    serde_json::from_slice(bytes).map_err(|source| StartError::Document { key: key.to_text(), source })
}

/// The id of an invite or a token: 32 hexadecimal digits, as a uid has them.
fn id(text: &str) -> Option<[u8; 16]> {
    text.parse::<SiteUid>().ok().map(|uid| uid.0)
}

impl Hub {
    /// Reads the store, and makes the hub and the way to it. Nothing runs yet.
    ///
    /// # Errors
    /// The store or a file is damaged.
    pub fn start(
        parts: HubParts,
        runtime: tokio::runtime::Handle,
    ) -> Result<(Self, HubHandle, mpsc::Receiver<Input>), StartError> {
        let HubParts { options, uid, vip_range, pki, mut store, vip_path } = parts;
        let now = Instant::now();
        let Loaded { records, documents } = store.load()?;
        let documents = Documents::read(documents)?;
        let settings = options.settings;
        let site = SiteInfo {
            id: settings.site,
            uid,
            trust_domain: settings.trust_domain,
            locality: settings.locality,
            clusterset: settings.clusterset,
            gateways: told_gateways(documents.nodes.iter()),
        };
        let (restored, owners_lost) = restored(&records.own, &documents.owners);
        let sources = sources(&options.connectors, &documents.nodes);
        let heard_services =
            restored.services.iter().map(|(service, spec, _)| (service.clone(), spec.clone())).collect();
        let heard_endpoints = restored
            .endpoints
            .iter()
            .map(|(service, endpoint, _)| ((service.clone(), endpoint.id.clone()), endpoint.clone()))
            .collect();
        let intake = Intake::new(intake::Limits::default(), sources, restored, now);
        let vips = vip_file::read(&vip_path, vip_range)?;
        let first_seen_written = documents.first_seen.clone();
        let imports = Imports::new(site.id.clone(), vips, documents.first_seen);
        let core = Settings { lease: settings.lease, ..Settings::default() };
        let incarnation = Incarnation(fastrand::u64(1..));
        let replicator = Replicator::new(fastrand::u64(..), now, site.clone(), incarnation, records, core);

        let book = Book::new(fastrand::u64(1..));
        let published = watch::Sender::new(Arc::new(book.clone()));
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (events, carriers) = (Events::default(), Carriers::default());
        let handle = HubHandle {
            inputs: sender.clone(),
            book: published.subscribe(),
            events: events.clone(),
            carriers: carriers.clone(),
            pki: pki.clone(),
            tally: Arc::default(),
        };
        let mut hub = Self {
            site,
            vip_range,
            default_access: settings.default_access,
            pki,
            events,
            tally: handle.tally.clone(),
            carriers,
            runtime,
            myself: sender.downgrade(),
            started: now,
            vips_written: imports.vips().changes(),
            first_seen_written,
            replicator,
            imports,
            intake,
            heard_services,
            heard_endpoints,
            own_endpoints: BTreeMap::new(),
            dirty_own: BTreeSet::new(),
            dirty_config: true,
            settling: false,
            conditions_noted: BTreeSet::new(),
            told: Default::default(),
            resources: documents.resources,
            links: documents.links,
            invites: documents.invites,
            tokens: documents.tokens,
            nodes: documents.nodes.into_iter().map(|(id, doc)| (id, Node::new(doc, now))).collect(),
            drains: documents.drains,
            troubles: BTreeMap::new(),
            sessions: BTreeMap::new(),
            closing: Vec::new(),
            partings: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_session: 0,
            explains: BTreeMap::new(),
            next_explain: 0,
            book,
            published,
            store,
            batch: WriteBatch::default(),
            store_problem: None,
            store_retry_at: None,
            kept_alive_at: now,
            vip_path,
            tick_at: now,
            bundle_told_at: None,
        };
        for key in owners_lost {
            hub.batch.delete(DocumentKey::new(DocumentKind::Owner, key));
        }
        hub.take_up(now);
        Ok((hub, handle, inputs))
    }

    /// Brings the cores in line with what the store had.
    fn take_up(&mut self, now: Instant) {
        let linked: Vec<SiteId> = self
            .links
            .iter()
            .filter(|(_, link)| super::links::trusts(link))
            .map(|(site, _)| site.clone())
            .collect();
        for site in &linked {
            self.begin_link(site);
            let held: Vec<_> = self.replicator.held(site).map(|(k, v)| (k.clone(), v.clone())).collect();
            let entries = held.iter().map(|(key, value)| (key, value));
            self.imports.replace_catalog(site, entries, runtime::clock::unix_ms());
        }
        self.refresh_trust();
        self.refresh_policies();
        let mut names: BTreeSet<ServiceName> = BTreeSet::new();
        for (key, _) in self.replicator.own() {
            match key {
                OwnKey::Site => {}
                OwnKey::Service(service) | OwnKey::Export(service) => drop(names.insert(service.clone())),
                OwnKey::Endpoint(service, id) => {
                    self.own_endpoints.entry(service.clone()).or_default().insert(id.clone());
                }
            }
        }
        names.extend(self.resources.exports());
        names.extend(self.resources.workloads().map(|workload| workload.service.clone()));
        for service in &names {
            self.hand_service(service, now);
            self.hand_export(service, now);
        }
        let endpoints: Vec<_> = self.heard_endpoints.keys().cloned().collect();
        for (service, id) in endpoints {
            self.hand_endpoint(&service, &id, now);
        }
        let workloads: Vec<_> =
            self.resources.workloads().map(|spec| (spec.service.clone(), spec.id.clone())).collect();
        for (service, id) in workloads {
            self.refresh_workload(&service, &id);
        }
    }
}

fn sources(
    connectors: &[model::ids::Label],
    nodes: &BTreeMap<NodeId, NodeDoc>,
) -> Vec<(SourceId, SourceConfig)> {
    let connectors =
        connectors.iter().map(|name| (SourceId::Connector(name.clone()), SourceConfig::connector()));
    let agents = nodes.iter().filter_map(|(id, doc)| {
        let NodeId::Agent(host) = id else { return None };
        let namespaces = (!doc.namespaces.is_empty())
            .then(|| doc.namespaces.iter().map(|namespace| namespace.0.clone()).collect());
        Some((SourceId::Agent(host.clone()), SourceConfig::agent(host.clone(), namespaces)))
    });
    connectors.chain(agents).collect()
}

/// What the store holds of the own catalog, with its owners; and owners of what it does not hold.
fn restored(
    own: &BTreeMap<OwnKey, OwnValue>,
    owners: &BTreeMap<String, SourceId>,
) -> (intake::Restored, Vec<String>) {
    // Who said it is not known, so nobody will say it again: it is kept for one lease.
    let lost = || SourceId::Connector("lost".parse().expect("a label"));
    let mut restored = intake::Restored::default();
    let mut named: BTreeSet<String> = BTreeSet::new();
    for (key, value) in own {
        let name = owner_name(key);
        let owner = owners.get(&name).cloned();
        named.insert(name);
        match (key, value) {
            // A service without an owner is that of a workload that was exposed, or is left over; either way no
            // source has said it.
            (OwnKey::Service(service), OwnValue::Service(spec)) => {
                if let Some(owner) = owner {
                    restored.services.push((service.clone(), spec.clone(), owner));
                }
            }
            (OwnKey::Endpoint(service, _), OwnValue::Endpoint(endpoint)) => {
                restored.endpoints.push((service.clone(), endpoint.clone(), owner.unwrap_or_else(lost)));
            }
            _ => {}
        }
    }
    let left_over = owners.keys().filter(|name| !named.contains(*name)).cloned().collect();
    (restored, left_over)
}
