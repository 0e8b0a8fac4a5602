//! Invites: making them, and both ends of taking one up.

use super::Hub;
use super::links::{LinkCheck, link_key};
use super::replica::hex_name;
use crate::answer::{Answer, Denied};
use crate::docs::{BundleDoc, Hex, InviteDoc, InviteText, LinkDoc, LinkState, SiteDoc};
use crate::store::WriteBatch;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::Text;
use api::resource::link::{LinkScopes, LinkSpec, ScopeSpec};
use api::rest::link::{InviteReply, InviteRequest, LinkRequest};
use identity::bundle;
use identity::invite::{Invite, LIFETIME};
use identity::proof::{self, Exporter};
use identity::secret::{self, Secret};
use model::catalog::{Scope, SiteInfo};
use model::identity::Bundle;
use model::ids::{GatewayName, SiteId};
use runtime::clock;
use std::net::SocketAddr;
use std::time::Duration;
use wire::enroll::{RedeemReply, RedeemRequest};

/// Most invites that are open at a time.
const INVITES_MAX: usize = 64;
/// How long an invite may be good, in seconds.
const INVITE_SECONDS: std::ops::RangeInclusive<u32> = 10..=86_400;

/// Most names of a scope that an error tells.
const NAMES_TOLD_MAX: usize = 10;

/// How an invite is taken up.
#[derive(Debug, Clone)]
pub struct AcceptPlan {
    /// The own site.
    pub site: SiteInfo,
    /// The own anchors.
    pub bundle: Bundle,
    /// What the link opens.
    pub spec: LinkSpec,
    /// The same, checked.
    pub scopes: LinkScopes,
    /// Own gateways to go through.
    pub gateways: Vec<GatewayName>,
}

/// Key of the document of an invite.
pub(super) fn invite_key(id: &[u8; 16]) -> DocumentKey {
    DocumentKey::new(DocumentKind::Invite, hex_name(id))
}

/// What a link opens, as a person says it.
fn words(scopes: &LinkScopes) -> String {
    let list = |scope: &Scope| match scope {
        Scope::All => "all".to_owned(),
        Scope::Only { namespaces, services } => {
            let names =
                namespaces.iter().map(ToString::to_string).chain(services.iter().map(ToString::to_string));
            let names: Vec<String> = names.take(NAMES_TOLD_MAX).collect();
            let more = (namespaces.len() + services.len()).saturating_sub(NAMES_TOLD_MAX);
            match (names.is_empty(), more) {
                (true, _) => "nothing".to_owned(),
                (false, 0) => names.join(", "),
                (false, more) => format!("{} and {more} more", names.join(", ")),
            }
        }
    };
    let accept = match (scopes.accept.new_names, &scopes.accept.scope, list(&scopes.accept.scope)) {
        (_, Scope::All, all) => all,
        (true, _, listed) if listed == "nothing" => "new names".to_owned(),
        (true, _, listed) => format!("new names and {listed}"),
        (false, _, listed) => listed,
    };
    format!("offers {} and accepts {accept}", list(&scopes.offer))
}

impl Hub {
    /// Makes an invite.
    ///
    /// # Errors
    /// The request makes no sense, or no gateway has joined that the other site could dial.
    pub fn invite(&mut self, request: InviteRequest) -> Answer<InviteReply> {
        let spec = LinkSpec {
            offer: request.offer.or_else(|| Some(ScopeSpec::all())),
            accept: request.accept.or_else(|| Some(ScopeSpec::new_names())),
        };
        spec.scopes()?;
        let seconds = request.expires_in_s.unwrap_or(LIFETIME.as_secs() as u32);
        if !INVITE_SECONDS.contains(&seconds) {
            return Err(Denied::invalid(
                "an invite is good for 10 to 86400 seconds",
                format!("{seconds} was asked"),
                "",
            ));
        }
        if self.invites.len() >= INVITES_MAX {
            return Err(Denied::conflict(
                format!("{INVITES_MAX} invites are open already"),
                "",
                "let some of them be used, or run out",
            ));
        }
        let gateways: Vec<SocketAddr> = self.site.gateways.iter().map(|gateway| gateway.address).collect();
        if gateways.is_empty() {
            return Err(Denied::unavailable(
                format!("{} has no gateway that another site could dial", self.site.id),
                "no gateway has joined this site yet",
                "start one: meshfed site, or meshfed gateway; then run this again",
            ));
        }
        let random = secret::random_id().and_then(|id| Ok((id, Secret::random()?)));
        let (id, secret) =
            random.map_err(|error| Denied::unavailable(error.to_string(), "", "run this again"))?;
        let expires_ms = clock::unix_ms() + u64::from(seconds) * 1_000;
        let to = request.to.map(|to| to.0);
        let doc = InviteDoc::new(&secret, expires_ms, to.clone(), spec);
        let mut batch = WriteBatch::default();
        batch.put(invite_key(&id), &doc);
        self.write_now(&batch)?;
        self.invites.insert(id, doc);
        self.dirty_config = true;
        let invite = Invite {
            id,
            secret,
            expires_ms,
            site: self.site.id.clone(),
            uid: self.site.uid,
            clusterset: self.site.clusterset.clone(),
            bundle: self.pki.bundle(),
            gateways: gateways.iter().copied().take(identity::invite::ADDRESSES_MAX).collect(),
            to,
        };
        Ok(InviteReply {
            invite: invite.encode(),
            expires_at_ms: expires_ms,
            addresses: gateways.iter().map(ToString::to_string).collect(),
        })
    }

    /// Another site takes up an invite.
    ///
    /// # Errors
    /// Why not; nothing is changed then.
    pub fn redeem(&mut self, request: &RedeemRequest, exporter: &Exporter) -> Answer<RedeemReply> {
        let now_ms = clock::unix_ms();
        let foreign = || {
            Denied::not_found(
                format!("this invite is not known to {}", self.site.id),
                "it was made by another site, has run out, or was withdrawn: ask for a new one",
            )
        };
        let mut invite = self.invites.get(&request.invite).cloned().ok_or_else(foreign)?;
        if invite.expires_ms <= now_ms {
            return Err(Denied::conflict("this invite has run out", "", "ask for a new one"));
        }
        let secret = invite.secret().ok_or_else(foreign)?;
        let context = proof::redeem_context(request.site.uid, &request.bundle);
        if !proof::verify(&secret, exporter, &context, &request.proof) {
            return Err(Denied::invalid(
                "the proof of this invite is not good",
                "it is damaged, or is used over another connection",
                "copy the invite again, whole",
            ));
        }
        if let Some(to) = invite.to.as_ref().filter(|to| to.0 != request.site.trust_domain) {
            return Err(Denied::conflict(
                format!("this invite is for {to}, and {} is {}", request.site.id, request.site.trust_domain),
                "",
                "ask for an invite for your trust domain",
            ));
        }
        let taker = (request.site.uid, bundle::digest(&request.bundle));
        let bound = invite.bound.as_ref().map(|(uid, digest)| (uid.0, digest.0.as_slice()));
        if bound.is_some_and(|bound| bound != (taker.0, taker.1.as_slice())) {
            return Err(Denied::conflict(
                "this invite was used already, by another site",
                "",
                "ask for a new one",
            ));
        }
        self.check_link(&LinkCheck { site: request.site.clone(), bundle: request.bundle.clone() })?;
        let id = request.site.id.clone();
        // Whoever repeats himself is answered as before, also when a person has changed the link since.
        if invite.bound.is_none() {
            self.check_keeps_scopes(&id, &invite.spec)?;
        }
        let mut link = self.links.get(&id).cloned().unwrap_or_else(|| LinkDoc {
            site: SiteDoc::from(&request.site),
            bundle: BundleDoc::from(&request.bundle),
            spec: invite.spec.clone(),
            linked_at_ms: now_ms,
            state: LinkState::AwaitsConfirmation,
            pending_until_ms: Some(invite.expires_ms),
            invite: None,
            holds: 0,
        });
        let was_active = link.state == LinkState::Active;
        if link.state == LinkState::AwaitsConfirmation {
            // It may have begun with an earlier invite, which opened something else.
            (link.spec, link.pending_until_ms) = (invite.spec.clone(), Some(invite.expires_ms));
        }
        if request.confirm && !was_active {
            (link.state, link.pending_until_ms, link.invite) = (LinkState::Active, None, None);
        }
        invite.bound = Some((Text(taker.0), Hex(taker.1.to_vec())));
        let mut batch = WriteBatch::default();
        batch.put(invite_key(&request.invite), &invite);
        batch.put(link_key(&id), &link);
        self.write_now(&batch)?;
        self.invites.insert(request.invite, invite);
        let active = link.state == LinkState::Active;
        if !active && !self.links.contains_key(&id) {
            let why = "it has shown an invite of this site, and has to confirm";
            self.events.note(format!("peer {id}"), "begins to link", why);
        }
        let offer = link.scopes().offer;
        self.links.insert(id.clone(), link);
        if active && !was_active {
            self.begin_link(&id);
            self.events.note(format!("peer {id}"), "is linked", "it took up an invite of this site");
        }
        Ok(RedeemReply { site: self.site.clone(), bundle: self.pki.bundle(), offer, active })
    }

    /// How to take up an invite.
    ///
    /// # Errors
    /// It is not good, or may not be taken up here.
    pub fn plan_accept(&mut self, request: &LinkRequest, invite: &Invite) -> Answer<AcceptPlan> {
        let spec = LinkSpec {
            offer: request.offer.clone().or_else(|| Some(ScopeSpec::all())),
            accept: request.accept.clone().or_else(|| Some(ScopeSpec::new_names())),
        };
        let scopes = spec.scopes()?;
        if let Some(to) = invite.to.as_ref().filter(|to| **to != self.site.trust_domain) {
            return Err(Denied::conflict(
                format!("this invite is for {to}, and this site is {}", self.site.trust_domain),
                "",
                "ask for an invite for your trust domain",
            ));
        }
        let site = SiteInfo {
            id: invite.site.clone(),
            uid: invite.uid,
            trust_domain: invite.bundle.trust_domain.clone(),
            locality: Default::default(),
            clusterset: invite.clusterset.clone(),
            gateways: Vec::new(),
        };
        self.check_link(&LinkCheck { site, bundle: invite.bundle.clone() })?;
        self.check_keeps_scopes(&invite.site, &spec)?;
        let gateways = self.dialling_gateways()?;
        Ok(AcceptPlan { site: self.site.clone(), bundle: self.pki.bundle(), spec, scopes, gateways })
    }

    /// Refuses to link a site again that is linked already, when that would change what the link opens: whoever
    /// accepts an invite a second time repeats himself, and nothing would tell him what else he has done.
    fn check_keeps_scopes(&self, site: &SiteId, asked: &LinkSpec) -> Answer<()> {
        let Some(link) = self.links.get(site).filter(|link| link.state == LinkState::Active) else {
            return Ok(());
        };
        let (held, asked) = (link.scopes(), asked.scopes()?);
        if held == asked {
            return Ok(());
        }
        Err(Denied::conflict(
            format!(
                "{} and {site} are linked already, and this would change what the link opens",
                self.site.id
            ),
            format!("it now {}; this asks that it {}; nothing was changed", words(&held), words(&asked)),
            format!(
                "to change it, write a Link named {site} with `offer` and `accept` to a file, and: meshfed apply -f \
                 FILE; to link anew: meshfed unlink {site}, then ask for a new invite"
            ),
        ))
    }

    /// The inviter has answered: the link is stored, and trusted from here on.
    ///
    /// # Errors
    /// The answer is not that of the invite, or the store cannot be written.
    pub fn accepted(&mut self, invite: &Invite, spec: LinkSpec, reply: &RedeemReply) -> Answer<()> {
        let wrong = |what: &str| {
            Err(Denied::conflict(
                format!("{} answered with another {what} than its invite has", invite.site),
                "nothing was changed",
                "ask for a new invite",
            ))
        };
        if reply.site.id != invite.site {
            return wrong("name");
        }
        if reply.site.uid != invite.uid {
            return wrong("uid");
        }
        if bundle::digest(&reply.bundle) != bundle::digest(&invite.bundle) {
            return wrong("bundle");
        }
        self.check_link(&LinkCheck { site: reply.site.clone(), bundle: reply.bundle.clone() })?;
        let id = reply.site.id.clone();
        self.check_keeps_scopes(&id, &spec)?;
        let link = match self.links.get(&id) {
            Some(link) if link.state == LinkState::Active => link.clone(),
            Some(_) | None => LinkDoc {
                site: SiteDoc::from(&reply.site),
                bundle: BundleDoc::from(&reply.bundle),
                spec,
                linked_at_ms: clock::unix_ms(),
                state: LinkState::Confirming,
                pending_until_ms: Some(invite.expires_ms),
                invite: Some(InviteText(invite.encode())),
                holds: 0,
            },
        };
        if link.state == LinkState::Confirming {
            let why = "this site has taken up its invite, and the confirmation is on its way";
            self.events.note(format!("peer {id}"), "begins to link", why);
        }
        self.store_link(&id, link)?;
        self.begin_link(&id);
        Ok(())
    }

    /// The inviter has heard the confirmation, or has shown otherwise that the link is active on its side.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn confirmed(&mut self, site: &SiteId) -> Answer<()> {
        let Some(link) = self.links.get(site).filter(|link| link.state == LinkState::Confirming) else {
            return Ok(());
        };
        let link = LinkDoc { state: LinkState::Active, pending_until_ms: None, invite: None, ..link.clone() };
        self.store_link(site, link)?;
        self.events.note(format!("peer {site}"), "is linked", "this site took up its invite");
        Ok(())
    }

    /// Links whose confirmation has to be repeated, with the invite.
    pub fn unconfirmed(&self) -> Vec<(SiteId, String)> {
        let invite = |(site, link): (&SiteId, &LinkDoc)| {
            Some((
                site.clone(),
                link.invite.as_ref().filter(|_| link.state == LinkState::Confirming)?.0.clone(),
            ))
        };
        self.links.iter().filter_map(invite).collect()
    }

    /// How to confirm a link again that was accepted.
    pub fn plan_again(site: SiteId) -> impl FnOnce(&mut Self) -> Answer<AcceptPlan> + Send {
        move |hub| {
            let gone = || Denied::not_found(format!("there is no link with {site}"), "");
            let link = hub.links.get(&site).ok_or_else(gone)?;
            Ok(AcceptPlan {
                site: hub.site.clone(),
                bundle: hub.pki.bundle(),
                spec: link.spec.clone(),
                scopes: link.scopes(),
                gateways: hub.gateways_towards(None).into_iter().map(|(name, _)| name).collect(),
            })
        }
    }

    /// How long to wait between repeated confirmations.
    pub const CONFIRM_AGAIN: Duration = Duration::from_secs(5);
}
