//! The root of the site over time, as `identity::rotation` decides it: steps that a person asks for, what linked sites
//! and nodes have taken of them, and what linked sites say of their own.
//!
//! Peers are told over the session (`PeerMessage::Trust`), not as an entry of the catalog: an older meshfed keeps what it
//! does not know out of its digest, and a revision that it acknowledges says nothing of a bundle that it did not read.

use super::Hub;
use super::links::{link_key, trusts};
use super::nodes::{Node, node_key};
use crate::answer::{Answer, Denied};
use crate::docs::{BundleDoc, Hex, LinkDoc};
use crate::names::NodeId;
use crate::pki::{Pki, StepError};
use api::rest::status::Finding;
use api::rest::trust::{AdminCertificate, HolderView, RootView, TrustReply, TrustRequest, TrustView};
use federation_core::session::SessionId;
use identity::bundle;
use identity::ca::Ca;
use identity::rotation::{Phase, successor};
use model::exchange::PeerMessage;
use model::identity::{Bundle, Role, SpiffeId};
use model::ids::SiteId;
use model::node::NodeKind;
use runtime::clock;
use runtime::telemetry::chain;
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most names in one finding or refusal.
const NAMES_MAX: usize = 10;

/// A step that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Publish the next root, or let it sign.
    Rotate,
    /// Retire the old one.
    Finish,
}

/// Words of the API for how far a rotation is.
pub(crate) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Settled => "settled",
        Phase::Published => "published",
        Phase::Switched => "switched",
    }
}

fn denied(error: &StepError) -> Denied {
    let why = chain(error).to_string();
    match error {
        StepError::Rotation(_) => Denied::conflict("nothing was changed", why, ""),
        StepError::Ca(_) | StepError::Bundle(_) | StepError::Store(_) => {
            Denied::unavailable("nothing was changed", why, "see to what it says, and run this again")
        }
    }
}

fn subject(holder: &HolderView) -> String {
    format!("{} {}", holder.kind, holder.name)
}

/// Names, cut where they are too many for one line.
fn names(of: &[String]) -> String {
    let more = of.len().saturating_sub(NAMES_MAX);
    let shown = of[..of.len().min(NAMES_MAX)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Hub {
    fn phase(&self) -> Phase {
        self.pki.current().authority.phase()
    }

    fn command(&self, verb: &str) -> String {
        format!("meshfed trust {verb} --context {}", self.site.id)
    }

    /// How the roots stand.
    pub fn trust_view(&self) -> TrustView {
        let current = self.pki.current();
        let authority = &current.authority;
        let signs = authority.signing().cert_der();
        let bundle = authority.bundle();
        let root = |anchor: &Vec<u8>| {
            let role = if anchor == signs {
                "signs"
            } else if authority.going() == Some(anchor) {
                "old"
            } else {
                "next"
            };
            let ends = X509Certificate::from_der(anchor)
                .map_or(0, |(_, read)| read.validity().not_after.timestamp());
            RootView {
                fingerprint: Hex(bundle::fingerprint(anchor).to_vec()).text(),
                role: role.to_owned(),
                expires_at_ms: u64::try_from(ends).unwrap_or(0).saturating_mul(1_000),
            }
        };
        let holders = self.holders();
        let waits_for: Vec<String> = match authority.phase() {
            Phase::Settled => Vec::new(),
            Phase::Published | Phase::Switched => {
                holders.iter().filter(|holder| !holder.ready).map(subject).collect()
            }
        };
        let next = match (authority.phase(), waits_for.is_empty()) {
            (Phase::Settled | Phase::Published, true) | (Phase::Settled, false) => self.command("rotate"),
            (Phase::Switched, true) => self.command("finish"),
            (Phase::Published | Phase::Switched, false) => self.command("status"),
        };
        TrustView {
            site: self.site.id.to_string(),
            trust_domain: self.site.trust_domain.to_string(),
            step: word(authority.phase()).to_owned(),
            sequence: bundle.sequence,
            roots: bundle.anchors.iter().map(root).collect(),
            holders,
            waits_for,
            open_tokens: super::services::count(self.tokens.len()),
            next,
        }
    }

    /// How many steps of a rotation are taken, and how many are not ready for the next one.
    pub(super) fn rotation(&self) -> (u8, usize) {
        let late = || self.holders().iter().filter(|holder| !holder.ready).count();
        match self.phase() {
            Phase::Settled => (0, 0),
            Phase::Published => (1, late()),
            Phase::Switched => (2, late()),
        }
    }

    /// Everybody who has to know the roots, and whether the next step can be taken as far as they go.
    fn holders(&self) -> Vec<HolderView> {
        let (phase, sequence) = (self.phase(), self.pki.current().authority.sequence());
        let peers = self.links.iter().filter(|(_, link)| trusts(link)).map(|(site, link)| {
            let note = match link.holds {
                0 => "has not said what it holds: an older meshfed, or not reached since".to_owned(),
                holds if holds >= sequence => format!("holds bundle {holds}"),
                holds => format!("holds bundle {holds}, and this one is {sequence}"),
            };
            let ready = link.holds >= sequence;
            HolderView { kind: "peer".to_owned(), name: site.to_string(), ready, note }
        });
        let nodes = self.nodes.iter().map(|(id, node)| {
            let (ready, note) = match phase {
                Phase::Published => self.has_taken(node),
                Phase::Settled | Phase::Switched => self.has_new_leaf(node),
            };
            let kind = match id.kind() {
                NodeKind::Gateway => "gateway",
                NodeKind::Agent => "agent",
            };
            HolderView { kind: kind.to_owned(), name: id.name().to_owned(), ready, note }
        });
        peers.chain(nodes).collect()
    }

    /// Whether a node knows the bundle as it is.
    fn has_taken(&self, node: &Node) -> (bool, String) {
        let acked = node.acked.zip(self.bundle_told_at);
        let has = acked.is_some_and(|(acked, told)| {
            acked.incarnation == told.incarnation && acked.revision >= told.revision
        });
        let until_ms = node.doc.certificate_until_ms;
        match (has, &node.live) {
            (true, _) => (true, "has it in its config".to_owned()),
            (false, Some(_)) => (false, "has not acknowledged the config that has it".to_owned()),
            (false, None) if until_ms > 0 && until_ms <= clock::unix_ms() => {
                (true, "its certificate has run out: it joins again anyway".to_owned())
            }
            (false, None) => (false, "is not connected".to_owned()),
        }
    }

    /// Whether a node has a leaf of the CA that signs, or none that counts.
    fn has_new_leaf(&self, node: &Node) -> (bool, String) {
        let (now_ms, until_ms) = (clock::unix_ms(), node.doc.certificate_until_ms);
        let away = if node.live.is_none() { ", and it is not connected" } else { "" };
        if node.doc.certificate_signer == Hex(self.pki.signer().to_vec()) {
            (true, "has a certificate of the root that signs".to_owned())
        } else if until_ms > 0 && until_ms <= now_ms {
            (true, "its certificate has run out: it joins again anyway".to_owned())
        } else if until_ms > 0 {
            let hours = (until_ms - now_ms).div_ceil(3_600_000);
            (false, format!("its certificate is of an older root, and good for {hours} h more{away}"))
        } else {
            (false, format!("it is not known which root has signed its certificate{away}"))
        }
    }

    /// Whether a gateway would be cut off by the end of the rotation that is under way.
    pub(super) fn needs_old_root(&self, id: &NodeId) -> bool {
        self.phase() != Phase::Settled && self.nodes.get(id).is_some_and(|node| !self.has_new_leaf(node).0)
    }

    /// Takes a gateway that is away from those that are told to peers, and keeps it in mind.
    pub(super) fn hide_gateway(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id).filter(|node| !node.doc.left) else { return };
        node.doc.left = true;
        self.batch.put(node_key(id), &node.doc);
        self.dirty_config = true;
        let why = "it was away for 15 min; it is kept in mind while the root is rotated";
        self.events.note(id.to_string(), "is no longer told to peers", why);
    }

    /// Takes a step, for the administrator `admin`.
    ///
    /// # Errors
    /// It is not the next one, somebody holds it up, or it cannot be stored; nothing is changed then.
    pub fn trust_step(&mut self, step: Step, request: &TrustRequest, admin: &SpiffeId) -> Answer<TrustReply> {
        let csr = request.csr_hex.as_deref().map(|text| Hex::parse(text).ok_or(text.len())).transpose();
        let csr = csr.map_err(|_| Denied::invalid("the certificate request is not hexadecimal", "", ""))?;
        let before = self.trust_view();
        let phase = self.phase();
        let done = match (step, phase) {
            (Step::Rotate, Phase::Settled) => "the next root is published",
            (Step::Rotate, Phase::Published) => "the new root signs",
            (Step::Finish, Phase::Switched) => "the old root is retired",
            (Step::Rotate, Phase::Switched) => {
                let help = format!("the last step is: {}", self.command("finish"));
                return Err(Denied::conflict("the new root signs already", "nothing was changed", help));
            }
            (Step::Finish, Phase::Settled | Phase::Published) => {
                let what = match phase {
                    Phase::Settled => "no rotation is under way",
                    Phase::Published | Phase::Switched => "the next root is published, and does not sign yet",
                };
                let help = format!("first: {}", self.command("rotate"));
                return Err(Denied::conflict(what, "nothing was changed", help));
            }
        };
        let passed_over = self.passed_over(step, &before);
        if !passed_over.is_empty() && !request.force && !request.dry_run {
            return Err(self.held_up(step, &before, &passed_over));
        }
        let mut reply = TrustReply {
            done: done.to_owned(),
            passed_over,
            dry_run: request.dry_run,
            ..TrustReply::default()
        };
        if !request.dry_run {
            let taken = match step {
                Step::Rotate if phase == Phase::Settled => self.publish_root(),
                Step::Rotate => self.pki.take_step(|authority| Ok(authority.switch(clock::unix_ms())?)),
                Step::Finish => {
                    let (holders, leaves) = self.holders_and_leaves();
                    self.pki.take_step(|authority| Ok(authority.retire(&holders, &leaves, request.force)?))
                }
            };
            taken.map_err(|error| denied(&error))?;
            self.dirty_config = true;
            let who = if request.force {
                "an administrator asked for it, and forced it"
            } else {
                "an administrator asked for it"
            };
            self.events.note(format!("trust domain {}", self.site.trust_domain), done, who);
            reply.admin =
                csr.map(|csr| admin_certificate(&self.pki, &csr, admin.role.clone())).transpose()?;
        }
        reply.trust = self.trust_view();
        Ok(reply)
    }

    fn publish_root(&self) -> Result<(), StepError> {
        self.pki.take_step(|authority| {
            let now_ms = clock::unix_ms();
            let next = Ca::generate(authority.trust_domain(), now_ms)?;
            Ok(authority.publish(next, now_ms)?)
        })
    }

    /// For `Authority::retire`.
    fn holders_and_leaves(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        let peers = self.links.iter().filter(|(_, link)| trusts(link));
        let holders = peers.map(|(site, link)| (format!("peer {site}"), link.holds)).collect();
        let leaves = self.nodes.iter().filter(|(_, node)| !self.has_new_leaf(node).0);
        (holders, leaves.map(|(id, _)| id.to_string()).collect())
    }

    /// Who is not ready for a step, and what it means for each.
    fn passed_over(&self, step: Step, view: &TrustView) -> Vec<String> {
        if view.waits_for.is_empty() {
            return Vec::new();
        }
        let late = view.holders.iter().filter(|holder| !holder.ready);
        let line = |holder: &HolderView| {
            let means = match (step, holder.kind.as_str()) {
                (Step::Rotate, _) => {
                    "goes on all the same: the old root vouches for the new one, as long as both are valid"
                }
                (Step::Finish, "peer") => {
                    "still knows this site by the old root, which vouches for the new one: it is not cut off before four \
                     rotations or the end of the old root"
                }
                (Step::Finish, _) => "is cut off until it joins again with a token; what it has open goes on",
            };
            format!("{}: {}; {means}", subject(holder), holder.note)
        };
        late.map(line).collect()
    }

    fn held_up(&self, step: Step, view: &TrustView, passed_over: &[String]) -> Denied {
        let (what, verb) = match step {
            Step::Rotate => ("the next root does not sign yet", "rotate"),
            Step::Finish => ("the old root is still needed", "finish"),
        };
        let seen: Vec<&str> = passed_over.iter().take(NAMES_MAX).map(String::as_str).collect();
        let help = format!(
            "wait until {} {} ready ({}), or pass over them: {} --force",
            names(&view.waits_for),
            if view.waits_for.len() == 1 { "is" } else { "are" },
            self.command("status"),
            self.command(verb)
        );
        let what = format!("{what}: {} hold it up; nothing was changed", names(&view.waits_for));
        let what = if view.waits_for.len() == 1 { what.replace(" hold it up", " holds it up") } else { what };
        Denied::conflict(what, seen.join("\n"), help)
    }

    /// Tells peers the own bundle, and which of theirs is stored, where it is not what they were told last.
    pub(super) fn tell_trust(&mut self) {
        let current = self.pki.current();
        let own = current.authority.sequence();
        for entry in self.sessions.values_mut().filter(|entry| entry.greeted) {
            let Some(link) = self.links.get(&entry.site).filter(|link| trusts(link)) else { continue };
            let told = (own, link.bundle.sequence());
            if entry.trust_told == Some(told) {
                continue;
            }
            let message = PeerMessage::Trust {
                bundle: current.authority.bundle(),
                vouchers: current.vouchers.clone(),
                holds: told.1,
            };
            // One that is full, or ends, is told at the next turn, or over the next session.
            if entry.to.try_send(message).is_ok() {
                entry.trust_told = Some(told);
            }
        }
    }

    /// A peer says what its bundle is, and which one of this site it has stored.
    pub(super) fn heard_trust(&mut self, site: &SiteId, session: SessionId, message: &PeerMessage) {
        let PeerMessage::Trust { bundle: offered, vouchers, holds } = message else { return };
        let Some(link) = self.links.get(site).filter(|link| trusts(link)) else { return };
        let taken = self.check_successor(site, link, offered, vouchers);
        let Some(link) = self.links.get_mut(site) else { return };
        let before = link.clone();
        link.holds = *holds;
        match taken {
            Ok(None) => {}
            Ok(Some(taken)) => link.bundle = BundleDoc::from(&taken),
            Err(why) => {
                let noted = self.sessions.get_mut(&session).map(|entry| &mut entry.refusal_noted);
                if noted.is_some_and(|noted| !std::mem::replace(noted, true)) {
                    self.events.note(
                        format!("peer {site}"),
                        "has sent a bundle that was refused; what is held of it stays",
                        why,
                    );
                }
            }
        }
        if *link == before {
            return;
        }
        // It is acknowledged after this batch is stored.
        self.batch.put(link_key(site), &*link);
        let (bundle_changed, sequence) = (link.bundle != before.bundle, link.bundle.sequence());
        if bundle_changed {
            self.refresh_trust();
            self.dirty_config = true;
            let why = format!("it rotates its root: this is its bundle {sequence}");
            self.events.note(format!("peer {site}"), "has other roots", why);
        }
        let own = self.pki.current().authority.sequence();
        if self.phase() != Phase::Settled && *holds >= own && before.holds < own {
            let why = format!("it has stored bundle {own} of this site");
            self.events.note(format!("peer {site}"), "has taken the new root", why);
        }
    }

    fn check_successor(
        &self,
        site: &SiteId,
        link: &LinkDoc,
        offered: &Bundle,
        vouchers: &[Vec<u8>],
    ) -> Result<Option<Bundle>, String> {
        let taken = successor(&link.bundle.bundle(), offered, vouchers);
        let Some(taken) = taken.map_err(|refused| chain(&refused).to_string())? else { return Ok(None) };
        let shares = |with: &Bundle| bundle::shares_anchor_key(&taken, with);
        if shares(&self.pki.bundle()) {
            return Err("it shares a CA key with this site: each could issue in the other's name".to_owned());
        }
        let others = self.links.iter().filter(|(other, _)| *other != site);
        match others.map(|(other, link)| (other, link.bundle.bundle())).find(|(_, with)| shares(with)) {
            Some((other, _)) => {
                Err(format!("it shares a CA key with {other}: each could issue in the other's name"))
            }
            None => Ok(Some(taken)),
        }
    }

    /// A rotation that is under way, and who holds it up.
    pub(super) fn find_trust(&self, findings: &mut Vec<Finding>) {
        let (what, verb) = match self.phase() {
            Phase::Settled => return,
            Phase::Published => ("the next root is published, and does not sign yet", "rotate"),
            Phase::Switched => ("the new root signs, and the old one is not retired yet", "finish"),
        };
        let view = self.trust_view();
        let (severity, why, next) = if view.waits_for.is_empty() {
            ("note", "everybody is ready for the next step".to_owned(), self.command(verb))
        } else {
            let holds = if view.waits_for.len() == 1 { "holds" } else { "hold" };
            let next =
                format!("{} says why; wait, or: {} --force", self.command("status"), self.command(verb));
            ("warning", format!("{} {holds} it up", names(&view.waits_for)), next)
        };
        findings.push(Finding {
            severity: severity.to_owned(),
            subject: "trust".to_owned(),
            what: what.to_owned(),
            why,
            next,
        });
    }
}

fn admin_certificate(pki: &Pki, csr: &Hex, role: Role) -> Answer<AdminCertificate> {
    let issued = pki.issue(&csr.0, role).map_err(|error| {
        let what = "the step was taken, but no certificate was issued for you";
        Denied::invalid(
            what,
            chain(&error).to_string(),
            "run any command on the host that has the site's directory",
        )
    })?;
    Ok(AdminCertificate {
        certificate: bundle::to_pem(&issued),
        anchors: bundle::to_pem(&pki.bundle().anchors),
    })
}
