//! Changes of state that are news: of services of peers, of sessions, and of paths. Each becomes an event with its cause.
//!
//! What was told last is kept here, so that an event is told once, and what the store still knew after a start is none.

use super::Hub;
use super::nodes::Node;
use crate::events::Events;
use crate::names::NodeId;
use federation_core::event::Withdrawal;
use model::catalog::EntryKey;
use model::ids::{GatewayName, SiteId};
use model::node::{PathReport, PathState};
use model::service::ServiceName;
use std::collections::{BTreeMap, BTreeSet};

/// Services of one peer that change at the same time and are told one by one; of more, one event tells the number: the
/// events of a link to a large site would push out all others.
const ONE_BY_ONE_MAX: usize = 10;
/// Names that such an event tells.
const NAMES_MAX: usize = 5;

/// What was told last. Bounded by the catalogs that are held.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Services that peers offer, with their healthy and all endpoints.
    services: BTreeMap<(SiteId, ServiceName), (u32, u32)>,
    /// Services that have to be looked at, and why an entry of them went.
    touched: BTreeMap<(SiteId, ServiceName), Option<Withdrawal>>,
    /// Peers with whose federation there is a session.
    talking: BTreeSet<SiteId>,
    /// What the store had was looked at; from here on a change is news.
    began: bool,
}

/// Whether news are of a kind.
type Is = fn(&News) -> bool;

/// What has become of a service of a peer.
enum News {
    Offered(u32, u32),
    Gone(Option<Withdrawal>),
    Health { from: (u32, u32), to: (u32, u32), why: Option<Withdrawal> },
}

impl Hub {
    /// An entry of a peer is there, has changed, or (with a cause) is gone.
    pub(super) fn touch(&mut self, site: &SiteId, key: &EntryKey, gone: Option<Withdrawal>) {
        let service = match key {
            EntryKey::Site => return,
            EntryKey::Export(service) | EntryKey::Group(service, ..) | EntryKey::Endpoint(service, _) => {
                service
            }
        };
        let why = self.told.touched.entry((site.clone(), service.clone())).or_default();
        *why = gone.or(*why);
    }

    /// Tells what is new, once the imports are merged.
    pub(super) fn note_changes(&mut self) {
        self.note_sessions();
        let mut news: BTreeMap<SiteId, Vec<(ServiceName, News)>> = BTreeMap::new();
        for (name, gone) in std::mem::take(&mut self.told.touched) {
            let (site, service) = &name;
            let offered = self.replicator.held_entry(site, &EntryKey::Export(service.clone())).is_some();
            let now = offered.then(|| self.health_at(site, service));
            let before = match now {
                Some(now) => self.told.services.insert(name.clone(), now),
                None => self.told.services.remove(&name),
            };
            let what = match (before, now) {
                (None, Some((healthy, total))) => News::Offered(healthy, total),
                (Some(_), None) => News::Gone(gone),
                (Some(from), Some(to)) if from != to => News::Health { from, to, why: gone },
                _ => continue,
            };
            news.entry(name.0).or_default().push((name.1, what));
        }
        if std::mem::replace(&mut self.told.began, true) {
            news.iter().for_each(|(site, news)| tell(&self.events, site, news));
        }
    }

    /// Healthy and all endpoints of a service at a peer, as far as they count here.
    fn health_at(&self, site: &SiteId, service: &ServiceName) -> (u32, u32) {
        let groups = self.imports.import(service).into_iter().flat_map(|import| &import.groups);
        groups.filter(|group| group.id.site == *site).fold((0, 0), |(healthy, total), group| {
            (healthy.saturating_add(group.healthy), total.saturating_add(group.total))
        })
    }

    fn note_sessions(&mut self) {
        let talks = |site: &&SiteId| self.replicator.talks_with(site);
        if self.replicator.peers().filter(talks).eq(&self.told.talking) {
            return;
        }
        let talking: BTreeSet<SiteId> = self.replicator.peers().filter(talks).cloned().collect();
        for site in talking.difference(&self.told.talking) {
            let why = "a session with it is open: catalogs are exchanged";
            self.events.note(format!("peer {site}"), "its federation answers", why);
        }
        for site in self.told.talking.difference(&talking).filter(|site| self.links.contains_key(*site)) {
            let why = "the session with it has ended; what is known of it stays, and traffic goes on";
            self.events.note(format!("peer {site}"), "its federation does not answer", why);
        }
        self.told.talking = talking;
    }

    /// A node reports its paths.
    pub(super) fn note_paths(&mut self, id: &NodeId, paths: &[PathReport]) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        // What a node says first over a stream, when nothing was known of it, is how things are and no change.
        let first = node.live.as_mut().is_some_and(|live| !std::mem::replace(&mut live.reported, true));
        if first && node.paths.is_empty() {
            return;
        }
        let before = by_end(&node.paths);
        let now = by_end(paths);
        for (end, path) in &now {
            let was = before.get(end).map_or(PathState::Dialling, |path| path.state);
            if was != path.state {
                let (what, why) = words(path);
                self.events.seen_by(id, path_name(id, path), what, why);
            }
        }
        for path in before.iter().filter(|(end, _)| !now.contains_key(*end)).map(|(_, path)| path) {
            let why = format!("gateway {} of {} is no longer one to dial", path.gateway, path.site);
            self.events.seen_by(id, path_name(id, path), "is given up", why);
        }
    }

    /// The last report of a node is too old to count.
    pub(super) fn note_paths_lost(events: &Events, id: &NodeId, node: &Node) {
        if matches!(id, NodeId::Gateway(_)) && !node.paths.is_empty() {
            let why = format!("{id} is away, and its last report has run out");
            events.note(id.to_string(), "its paths are no longer known", why);
        }
    }
}

fn by_end(paths: &[PathReport]) -> BTreeMap<(&SiteId, &GatewayName), &PathReport> {
    paths.iter().map(|path| ((&path.site, &path.gateway), path)).collect()
}

fn path_name(from: &NodeId, path: &PathReport) -> String {
    format!("path {} → {} of {}", from.name(), path.gateway, path.site)
}

/// What has become of a path, and why.
fn words(path: &PathReport) -> (&'static str, String) {
    let (what, why) = match path.state {
        PathState::Dialling => ("is dialled again", "it was given up"),
        PathState::Live => ("answers", "its probes are answered"),
        PathState::Suspect => ("misses probes and takes no new streams", "probes are not answered in time"),
        PathState::Dead => ("is dead", "its probes are not answered, or nobody could be dialled"),
        PathState::Draining => ("takes no new streams", "the gateway there drains"),
    };
    (what, if path.problem.is_empty() { why.to_owned() } else { path.problem.clone() })
}

fn tell(events: &Events, site: &SiteId, news: &[(ServiceName, News)]) {
    if news.len() <= ONE_BY_ONE_MAX {
        for (service, news) in news {
            let (what, why) = news.words(site);
            events.note(format!("service {service}"), what, why);
        }
        return;
    }
    let groups: [(&str, &str, Is); 3] = [
        ("more services are offered", "it has exported them, or they are first heard of", |news| {
            matches!(news, News::Offered(..))
        }),
        ("services are no longer offered", "see its catalog", |news| matches!(news, News::Gone(_))),
        ("services have another number of healthy endpoints", "it says so", |news| {
            matches!(news, News::Health { .. })
        }),
    ];
    for (what, otherwise, is) in groups {
        let of: Vec<&(ServiceName, News)> = news.iter().filter(|(_, news)| is(news)).collect();
        let Some((_, first)) = of.first() else { continue };
        let names: Vec<String> = of.iter().take(NAMES_MAX).map(|(service, _)| service.to_string()).collect();
        let more = of.len().saturating_sub(NAMES_MAX);
        let names =
            if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) };
        let why = first.cause().map_or_else(|| otherwise.to_owned(), |cause| cause.to_string());
        events.note(format!("peer {site}"), format!("{} {what}: {names}", of.len()), why);
    }
}

impl News {
    fn cause(&self) -> Option<Withdrawal> {
        match self {
            Self::Offered(..) => None,
            Self::Gone(cause) | Self::Health { why: cause, .. } => *cause,
        }
    }

    fn words(&self, site: &SiteId) -> (String, String) {
        let cause = || self.cause().map_or_else(|| format!("{site} says so"), |cause| cause.to_string());
        match self {
            Self::Offered(healthy, total) => (
                format!("is offered by {site}: {healthy} of {total} healthy"),
                "it has exported it, or the link lets it in".to_owned(),
            ),
            Self::Gone(_) => (format!("is no longer offered by {site}"), cause()),
            Self::Health { from: (was, of), to: (healthy, total), .. } => {
                (format!("{healthy} of {total} healthy in {site} (was {was} of {of})"), cause())
            }
        }
    }
}
