//! Links: invites, who may be linked, and what becomes of a link.

use super::Hub;
use super::invites::invite_key;
use crate::answer::{Answer, Denied};
use crate::docs::{LinkDoc, LinkState};
use crate::store::WriteBatch;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::resource::link::{LinkScopes, LinkSpec};
use api::rest::link::UnlinkReply;
use federation_core::imports::PeerTerms;
use federation_core::imports::accept::Accept;
use federation_core::peer::PeerLink;
use federation_core::session::SessionId;
use identity::bundle;
use model::catalog::{EntryKey, EntryValue, Scope, SiteInfo, View};
use model::exchange::PeerMessage;
use model::identity::Bundle;
use model::ids::SiteId;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most links of a site.
const LINKS_MAX: usize = 1_024;
/// What is checked before two sites are linked, from the view of one of them.
#[derive(Debug, Clone)]
pub struct LinkCheck {
    /// The other site.
    pub site: SiteInfo,
    /// Its anchors.
    pub bundle: Bundle,
}

/// A link that was ended here.
#[derive(Debug)]
pub struct Parting {
    site: SiteId,
    reply: UnlinkReply,
    /// Comes when the peer says that it has heard it; fails when the session ends without.
    heard: Option<oneshot::Receiver<()>>,
}

impl Parting {
    /// How long the peer may take to say that it has heard it.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// What is said to the person, once the peer has answered or has had its time: a session that is open may be one
    /// with a peer that died a moment ago.
    pub async fn told(self) -> UnlinkReply {
        let Some(heard) = self.heard else { return self.reply };
        let peer_told = matches!(tokio::time::timeout(Self::PATIENCE, heard).await, Ok(Ok(())));
        let note = if peer_told { String::new() } else { Self::unheard(&self.site) };
        UnlinkReply { peer_told, note, ..self.reply }
    }

    fn unheard(site: &SiteId) -> String {
        format!("{site} does not answer")
    }
}

/// Whether certificates of the other site count. One that was asked for a link counts once it has confirmed.
pub(super) fn trusts(link: &LinkDoc) -> bool {
    link.state != LinkState::AwaitsConfirmation
}

pub(super) fn link_key(site: &SiteId) -> DocumentKey {
    DocumentKey::new(DocumentKind::Link, site)
}

impl Hub {
    /// Whether this site may be linked with that one.
    ///
    /// # Errors
    /// Why not.
    pub fn check_link(&self, check: &LinkCheck) -> Answer<()> {
        let LinkCheck { site, bundle: theirs } = check;
        let own = &self.site;
        let clash = |what: String, help: &str| Err(Denied::conflict(what, "nothing was changed", help));
        if site.uid == own.uid {
            return clash(
                format!("{} is this very site: both have the uid {}", site.id, site.uid),
                "link two sites; if one is a copy of the other, run `meshfed init` for it",
            );
        }
        if site.id == own.id {
            return clash(
                format!("both sites are named {}", site.id),
                "names tell sites apart: init one of them under another name",
            );
        }
        if site.trust_domain == own.trust_domain {
            return clash(
                format!("both sites have the trust domain {}", site.trust_domain),
                "set `trustDomain` of one of them, which needs a new CA: meshfed init",
            );
        }
        if site.clusterset != own.clusterset {
            return clash(
                format!("{} is of clusterset {}, this site of {}", site.id, site.clusterset, own.clusterset),
                "sites that share names are of one clusterset: set `clusterset` in site.yaml",
            );
        }
        bundle::check(theirs).map_err(|error| {
            Denied::invalid(
                format!("the bundle of {} is not good", site.id),
                error.to_string(),
                "look at its CA",
            )
        })?;
        if bundle::shares_anchor_key(theirs, &self.pki.bundle()) {
            return clash(
                format!("{} and this site share a CA key", site.id),
                "each could issue in the other's name: give one of them a CA of its own",
            );
        }
        for (name, link) in &self.links {
            let other = link.site.site();
            let same =
                other.uid == site.uid && bundle::digest(&link.bundle.bundle()) == bundle::digest(theirs);
            if same && *name == site.id {
                continue;
            }
            if *name == site.id || other.uid == site.uid {
                return clash(
                    format!(
                        "this site is linked already with {name} (uid {}), and {} has uid {}",
                        other.uid, site.id, site.uid
                    ),
                    &format!("if it was made anew, run: meshfed unlink {name}"),
                );
            }
            if other.trust_domain == site.trust_domain {
                return clash(
                    format!("{name} has the trust domain {} already", site.trust_domain),
                    "each site needs its own",
                );
            }
            if bundle::shares_anchor_key(theirs, &link.bundle.bundle()) {
                return clash(
                    format!("{} and {name} share a CA key", site.id),
                    "each could issue in the other's name: give one of them a CA of its own",
                );
            }
        }
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&site.id) {
            return clash(format!("this site has {LINKS_MAX} links already"), "unlink one of them");
        }
        Ok(())
    }

    /// Gateways that can dial another site.
    ///
    /// # Errors
    /// None is connected.
    pub fn dialling_gateways(&self) -> Answer<Vec<model::ids::GatewayName>> {
        let gateways: Vec<_> = self.gateways_towards(None).into_iter().map(|(name, _)| name).collect();
        if gateways.is_empty() {
            return Err(Denied::unavailable(
                format!("{} has no gateway that could dial another site", self.site.id),
                "no gateway of this site is connected",
                "start one: meshfed site, or meshfed gateway; then run this again",
            ));
        }
        Ok(gateways)
    }

    /// Ends a link, whether the peer answers or not. It is over here when this returns.
    ///
    /// # Errors
    /// There is no such link, or the store cannot be written.
    pub fn unlink(&mut self, site: &SiteId, dry_run: bool) -> Answer<Parting> {
        if !self.links.contains_key(site) {
            return Err(Denied::not_found(
                format!("{} has no link with {site}", self.site.id),
                "see the links: meshfed status",
            ));
        }
        let (offered, taken) = (self.offers_to(site), self.takes_from(site));
        let session = self.replicator.peer(site).and_then(|peer| peer.session);
        let talks = session.is_some();
        let note = if talks { String::new() } else { Parting::unheard(site) };
        let mut heard = None;
        if !dry_run {
            self.end_link(site, "a person unlinked it")?;
            heard = session.map(|session| {
                let (sender, heard) = oneshot::channel();
                self.partings.insert(session, sender);
                heard
            });
        }
        let reply = UnlinkReply { site: site.to_string(), offered, taken, peer_told: talks, note, dry_run };
        Ok(Parting { site: site.clone(), reply, heard })
    }

    /// Takes what a peer says over a session whose link was ended here; answers whether it is such a session.
    pub(super) fn heard_parting(&mut self, session: SessionId, message: &PeerMessage) -> bool {
        if !self.partings.contains_key(&session) {
            return false;
        }
        // Anything else was on its way when the link ended, and has nothing to say any more.
        if *message == PeerMessage::Unlinked
            && let Some(waiting) = self.partings.remove(&session)
        {
            let _ = waiting.send(());
        }
        true
    }

    fn end_link(&mut self, site: &SiteId, why: &str) -> Answer<()> {
        let mut batch = WriteBatch::default();
        batch.delete(link_key(site));
        // An invite that this site has used would let it come back by itself.
        let uid = self.links.get(site).map(|link| link.site.site().uid);
        let used: Vec<[u8; 16]> = self
            .invites
            .iter()
            .filter(|(_, invite)| invite.bound.as_ref().is_some_and(|(bound, _)| Some(bound.0) == uid))
            .map(|(id, _)| *id)
            .collect();
        used.iter().for_each(|id| batch.delete(invite_key(id)));
        self.write_now(&batch)?;
        used.iter().for_each(|id| drop(self.invites.remove(id)));
        self.links.remove(site);
        let now = Instant::now();
        self.replicator.handle_unlink(site, now);
        self.imports.remove_peer(site);
        self.refresh_trust();
        self.dirty_config = true;
        self.events.note(format!("peer {site}"), "is unlinked", why);
        Ok(())
    }

    pub(super) fn unlinked_by_peer(&mut self, site: &SiteId) {
        if let Err(denied) = self.end_link(site, "the peer has unlinked this site") {
            tracing::warn!(%denied, "the link could not be removed from the store; it ends at the next start");
        }
    }

    pub(super) fn store_link(&mut self, site: &SiteId, link: LinkDoc) -> Answer<()> {
        let mut batch = WriteBatch::default();
        batch.put(link_key(site), &link);
        self.write_now(&batch)?;
        self.links.insert(site.clone(), link);
        self.dirty_config = true;
        Ok(())
    }

    /// What a link opens has changed.
    pub(super) fn rescope_link(&mut self, site: &SiteId, spec: LinkSpec) {
        if let Some(link) = self.links.get_mut(site) {
            link.spec = spec;
            if trusts(link) {
                self.begin_link(site);
            }
        }
    }

    /// Key and document of a link with another spec, for a batch.
    pub(super) fn link_document(&self, site: &SiteId, spec: &LinkSpec) -> Option<(DocumentKey, LinkDoc)> {
        let link = self.links.get(site)?;
        Some((link_key(site), LinkDoc { spec: spec.clone(), ..link.clone() }))
    }

    /// Takes a link into the cores, with the terms that it has now.
    pub(super) fn begin_link(&mut self, site: &SiteId) {
        let Some(link) = self.links.get(site) else { return };
        let info = link.site.site();
        let LinkScopes { offer, accept } = link.scopes();
        let accept = match (accept.scope, accept.new_names) {
            (Scope::All, _) => Accept::all(),
            (scope, false) => Accept::Scope(scope),
            (joins, true) => Accept::NewNames { joins },
        };
        let peer = PeerLink {
            site: site.clone(),
            uid: info.uid,
            trust_domain: info.trust_domain,
            offer,
            want: accept.wanted(),
            view: View::Summary,
        };
        let linked_at_ms = link.linked_at_ms;
        self.replicator.handle_link(peer, Instant::now());
        self.imports.set_peer(site, PeerTerms { accept, linked_at_ms });
        self.refresh_trust();
        self.dirty_config = true;
    }

    /// Brings the trust of this process in line with the links.
    pub(super) fn refresh_trust(&self) {
        let bundles =
            self.links.values().filter(|link| trusts(link)).map(|link| link.bundle.bundle()).collect();
        if let Err(error) = self.pki.trust.set_linked(bundles) {
            tracing::error!(%error, "a stored bundle is not good; the trust stays as it was");
        }
    }

    /// The linked site of a trust domain.
    pub fn peer_of(&self, trust_domain: &model::identity::TrustDomain) -> Option<SiteId> {
        let of = |link: &LinkDoc| trusts(link) && link.site.site().trust_domain == *trust_domain;
        self.links.iter().find(|(_, link)| of(link)).map(|(site, _)| site.clone())
    }

    /// A peer as it says that it is, else as it was when linking.
    pub(super) fn peer_info(&self, site: &SiteId, link: &LinkDoc) -> SiteInfo {
        match self.replicator.held_entry(site, &EntryKey::Site) {
            // A peer that has no gateway at the moment is still dialled where it was.
            Some(EntryValue::Site(info)) if !info.gateways.is_empty() => info.clone(),
            Some(_) | None => link.site.site(),
        }
    }

    pub(super) fn expire_links(&mut self, now_ms: u64) {
        let ended: Vec<[u8; 16]> = self
            .invites
            .iter()
            .filter(|(_, invite)| invite.expires_ms <= now_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.invites.remove(&id);
            self.batch.delete(invite_key(&id));
            self.dirty_config = true;
        }
        let over = |link: &LinkDoc| link.pending_until_ms.is_some_and(|until| until <= now_ms);
        let over: Vec<(SiteId, LinkState)> = self
            .links
            .iter()
            .filter(|(_, link)| over(link))
            .map(|(site, link)| (site.clone(), link.state))
            .collect();
        for (site, state) in over {
            match state {
                LinkState::AwaitsConfirmation => {
                    self.links.remove(&site);
                    self.batch.delete(link_key(&site));
                    self.events.note(
                        format!("peer {site}"),
                        "is not linked",
                        "it began to, and did not confirm in time",
                    );
                }
                // The secret is worth nothing any more. Whether the other side heard us shows in whether it talks.
                LinkState::Confirming | LinkState::Active => {
                    if let Some(link) = self.links.get_mut(&site) {
                        (link.pending_until_ms, link.invite) = (None, None);
                        self.batch.put(link_key(&site), &*link);
                    }
                }
            }
            self.dirty_config = true;
        }
    }
}
