//! What the replicator says: entries of peers become imports, changes of peers become config and events.

use super::Hub;
use crate::docs::Hex;
use crate::store::documents::{DocumentKey, DocumentKind};
use federation_core::event::{CloseCause, Event};
use model::catalog::EntryKey;
use model::ids::SiteId;
use model::routing::PeerState;
use model::service::ServiceName;
use runtime::clock;
use tracing::debug;

impl Hub {
    pub(super) fn on_replica_event(&mut self, event: Event) {
        match event {
            Event::Applied { site, key } => {
                self.touch(&site, &key, None);
                self.apply_entry(&site, &key);
            }
            Event::Withdrawn { site, key, cause } => {
                self.touch(&site, &key, Some(cause));
                self.apply_entry(&site, &key);
            }
            Event::PeerChanged { site, from, to, reason } => {
                self.dirty_config = true;
                self.imports.set_expired(&site, to == PeerState::Expired);
                // Every peer is unreachable at first; that is no news.
                if from != to {
                    self.events.note(format!("peer {site}"), format!("is {to}"), reason);
                }
            }
            Event::LeaseExpired { site, withdrawn } => {
                let what = format!("its endpoints are withdrawn ({withdrawn} entries); its names stay");
                self.events.note(format!("peer {site}"), what, "it was unreachable for its whole lease");
            }
            Event::SnapshotComplete { site, version, entries } => {
                self.dirty_config = true;
                debug!(%site, ?version, entries, "catalog complete");
            }
            Event::CloneRefused { site, kept: _, refused: _ } => {
                let why = "two live processes speak with the same uid: a site directory was copied, or two run in it";
                self.events.note(format!("peer {site}"), "a second copy of it was refused", why);
            }
            Event::DigestDiffered { site, version } => {
                let what = format!(
                    "what is held of it differs from what it says, at revision {}",
                    version.revision.0
                );
                self.events.note(format!("peer {site}"), what, "a bug; its catalog is fetched anew");
            }
            Event::DigestRepaired { site, version: _ } => {
                self.events.note(format!("peer {site}"), "its catalog was repaired", "");
            }
            Event::ResyncAsked { site, reason } => debug!(%site, %reason, "the peer asks for a snapshot"),
            Event::EpochRaised { site, from, to, why } => {
                let what = format!("this site's catalog begins epoch {} (was {})", to.0, from.0);
                self.events.note(format!("peer {site}"), what, why.to_string());
            }
            Event::Close { site, session, why } => {
                if !matches!(why, CloseCause::Duplicate | CloseCause::WantChanged) {
                    self.events.note(format!("peer {site}"), "the session is closed", why.to_string());
                }
                self.closing.push(session);
            }
            Event::UnlinkedByPeer { site } => self.unlinked_by_peer(&site),
            Event::EventsLost { count } => {
                debug!(count, "events of the replicator were dropped");
                self.dirty_config = true;
            }
        }
    }

    fn apply_entry(&mut self, site: &SiteId, key: &EntryKey) {
        if *key == EntryKey::Site {
            self.dirty_config = true;
            return;
        }
        let value = self.replicator.held_entry(site, key);
        self.imports.apply_entry(site, key, value, clock::unix_ms());
    }

    /// Queues the times at which names were first seen, where they have changed.
    pub(super) fn note_first_seen(&mut self) {
        let Some(seen) = self.imports.take_seen() else { return };
        let key = |(site, service): &(SiteId, ServiceName)| {
            DocumentKey::new(DocumentKind::FirstSeen, format_args!("{site} {service}"))
        };
        for (name, at) in seen.iter().filter(|(name, at)| self.first_seen_written.get(*name) != Some(*at)) {
            self.batch.put(key(name), at);
        }
        for name in self.first_seen_written.keys().filter(|name| !seen.contains_key(*name)) {
            self.batch.delete(key(name));
        }
        self.first_seen_written.clone_from(seen);
    }

    /// Reads the name of a document that [`Hub::note_first_seen`] wrote.
    pub(super) fn read_first_seen(name: &str) -> Option<(SiteId, ServiceName)> {
        let (site, service) = name.split_once(' ')?;
        Some((site.parse().ok()?, service.parse().ok()?))
    }
}

/// The id of an invite or a token, as it stands in the name of its document.
pub(super) fn hex_name(id: &[u8; 16]) -> String {
    Hex(id.to_vec()).text()
}
