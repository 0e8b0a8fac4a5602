//! Gateways and agents that join: tokens, and the leaves that are issued for them.

use super::Hub;
use super::nodes::{Node, node_key};
use super::replica::hex_name;
use crate::answer::{Answer, Denied};
use crate::docs::{Hex, NodeDoc, TokenDoc};
use crate::names::NodeId;
use crate::pki::Pki;
use crate::store::WriteBatch;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::rest::token::{TokenKind, TokenReply, TokenRequest};
use identity::bundle;
use identity::invite::{JoinToken, SCOPE_MAX};
use identity::proof::{self, Exporter};
use identity::secret::{self, Secret};
use model::config::VipRange;
use model::identity::{Role, SpiffeId};
use model::node::NodeKind;
use runtime::clock;
use std::net::SocketAddr;
use wire::enroll::{JoinReply, JoinRequest, RenewReply};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most tokens that are open at a time.
const TOKENS_MAX: usize = 4_096;
/// How long a token is good when nothing else is asked, in seconds: long enough to bring up a host.
const TOKEN_SECONDS_DEFAULT: u32 = 3_600;
/// Most nodes that are named as having the same range of virtual IPs.
const SHARERS_TOLD_MAX: usize = 5;
/// How long a token may be good, in seconds.
const TOKEN_SECONDS: std::ops::RangeInclusive<u32> = 10..=604_800;

fn token_key(id: &[u8; 16]) -> DocumentKey {
    DocumentKey::new(DocumentKind::Token, hex_name(id))
}

/// When the leaf of a chain that was just issued runs out.
fn end_of(chain: &[Vec<u8>]) -> u64 {
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let end = leaf.map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp());
    u64::try_from(end).unwrap_or(0).saturating_mul(1_000)
}

impl Hub {
    /// Makes a token. `config_address` is where this federation serves enrolment.
    ///
    /// # Errors
    /// The request makes no sense, or there is no gateway through which an agent could join.
    pub fn make_token(&mut self, request: TokenRequest, config_address: SocketAddr) -> Answer<TokenReply> {
        let seconds = request.expires_in_s.unwrap_or(TOKEN_SECONDS_DEFAULT);
        if !TOKEN_SECONDS.contains(&seconds) {
            return Err(Denied::invalid(
                "a token is good for 10 to 604800 seconds",
                format!("{seconds} was asked"),
                "",
            ));
        }
        if request.namespaces.len().max(request.accounts.len()) > SCOPE_MAX {
            return Err(Denied::invalid(
                format!("a token names at most {SCOPE_MAX} namespaces and accounts"),
                "",
                "leave out `namespaces` to allow all",
            ));
        }
        let (kind, word, addresses) = match request.kind {
            TokenKind::Agent => {
                (NodeKind::Agent, "agent", self.site.gateways.iter().map(|gateway| gateway.address).collect())
            }
            TokenKind::Gateway => (NodeKind::Gateway, "gateway", vec![config_address]),
        };
        let scoped = !request.namespaces.is_empty() || !request.accounts.is_empty();
        if kind == NodeKind::Gateway && scoped {
            return Err(Denied::invalid(
                "a gateway registers nothing, so its token has no namespaces or accounts",
                "",
                "leave them out",
            ));
        }
        if addresses.is_empty() {
            return Err(Denied::unavailable(
                format!("{} has no gateway through which an agent could join", self.site.id),
                "no gateway has joined this site yet",
                "start one: meshfed site, or meshfed gateway; then run this again",
            ));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Denied::conflict(
                format!("{TOKENS_MAX} tokens are open already"),
                "",
                "let some of them be used, or run out",
            ));
        }
        let random = secret::random_id().and_then(|id| Ok((id, Secret::random()?)));
        let (id, secret) =
            random.map_err(|error| Denied::unavailable(error.to_string(), "", "run this again"))?;
        let expires_ms = clock::unix_ms() + u64::from(seconds) * 1_000;
        let name = request.name.0.clone();
        let doc = TokenDoc::new(
            &secret,
            expires_ms,
            (kind, name.clone()),
            request.namespaces.clone(),
            request.accounts.clone(),
        );
        let mut batch = WriteBatch::default();
        batch.put(token_key(&id), &doc);
        self.write_now(&batch)?;
        self.tokens.insert(id, doc);
        self.dirty_config = true;
        let token = JoinToken {
            id,
            secret,
            expires_ms,
            site: self.site.id.clone(),
            trust_domain: self.site.trust_domain.clone(),
            digest: bundle::digest(&self.pki.bundle()),
            kind,
            name,
            namespaces: request.namespaces.iter().map(|namespace| namespace.0.clone()).collect(),
            accounts: request.accounts.iter().map(|account| account.0.clone()).collect(),
            addresses,
        };
        Ok(TokenReply {
            token: token.encode(),
            kind: word.to_owned(),
            name: request.name.to_string(),
            namespaces: request.namespaces.iter().map(ToString::to_string).collect(),
            accounts: request.accounts.iter().map(ToString::to_string).collect(),
            expires_at_ms: expires_ms,
        })
    }

    /// A gateway or an agent joins with a token.
    ///
    /// # Errors
    /// Why not; nothing is changed then.
    pub fn join(&mut self, request: &JoinRequest, exporter: &Exporter) -> Answer<JoinReply> {
        let foreign = || {
            Denied::not_found(
                format!("this token is not known to {}", self.site.id),
                "it was made by another site, was used, or has run out: make a new one with meshfed token",
            )
        };
        let mut token = self.tokens.get(&request.token).cloned().ok_or_else(foreign)?;
        if token.expires_ms <= clock::unix_ms() {
            return Err(Denied::conflict("this token has run out", "", "make a new one with meshfed token"));
        }
        let secret = token.secret().ok_or_else(foreign)?;
        let context = proof::join_context(request.kind, &request.name, &request.csr);
        if !proof::verify(&secret, exporter, &context, &request.proof) {
            return Err(Denied::invalid(
                "the proof of this token is not good",
                "it is damaged, or is used over another connection",
                "copy the token again, whole",
            ));
        }
        if token.kind() != request.kind || token.name.0 != request.name {
            let word = |kind| if kind == NodeKind::Agent { "agent" } else { "gateway" };
            return Err(Denied::conflict(
                format!(
                    "this token is for {} {}, not for {} {}",
                    word(token.kind()),
                    token.name,
                    word(request.kind),
                    request.name
                ),
                "",
                "make one for this name with meshfed token",
            ));
        }
        let key = Pki::requested_key(&request.csr)
            .ok_or_else(|| Denied::invalid("the certificate request is malformed", "", ""))?;
        if token.bound.as_ref().is_some_and(|bound| bound.0 != key) {
            return Err(Denied::conflict(
                "this token was used already",
                "it is good for one node",
                "make a new one with meshfed token",
            ));
        }
        let id = NodeId::new(request.kind, request.name.as_str()).ok_or_else(foreign)?;
        let chain = self.pki.issue(&request.csr, id.role()).map_err(|error| {
            Denied::invalid("no certificate was issued", runtime::telemetry::chain(&error).to_string(), "")
        })?;
        token.bound = Some(Hex(key));
        let slot = self.vip_slot(&id);
        let doc = NodeDoc {
            joined_at_ms: clock::unix_ms(),
            tunnel_address: request.tunnel_address.or_else(|| self.nodes.get(&id)?.doc.tunnel_address),
            locality: None,
            namespaces: token.namespaces.clone(),
            accounts: token.accounts.clone(),
            vip_slot: Some(slot),
            left: false,
            certificate_until_ms: end_of(&chain),
            certificate_signer: Hex(self.pki.signer().to_vec()),
        };
        let mut batch = WriteBatch::default();
        batch.put(token_key(&request.token), &token);
        batch.put(node_key(&id), &doc);
        self.write_now(&batch)?;
        self.tokens.insert(request.token, token);
        self.joined(id.clone(), doc);
        self.events.note(id.to_string(), "has joined", "with a token");
        self.note_shared_range(&id, slot);
        Ok(JoinReply {
            chain,
            bundle: self.pki.bundle(),
            site: self.site.clone(),
            locality: self.site.locality.clone(),
            vip_range: Some(self.vip_range.in_block(slot)),
        })
    }

    /// The range of a node within the block of the site, counted from the site's own, which is 0: kept, and unlike
    /// those of the others, since several processes may run on one host and must not listen on the same addresses.
    /// When the block is full, it is the range that the fewest nodes have: nodes on different hosts may share one.
    fn vip_slot(&self, id: &NodeId) -> u8 {
        let slots = 1..VipRange::BLOCK;
        let kept = self.nodes.get(id).and_then(|node| node.doc.vip_slot);
        kept.filter(|slot| slots.contains(slot)).unwrap_or_else(|| {
            let least = slots.min_by_key(|slot| self.nodes_with(*slot, id).count());
            least.expect("a block has more than one range")
        })
    }

    /// The other nodes with a range.
    fn nodes_with(&self, slot: u8, but: &NodeId) -> impl Iterator<Item = &NodeId> {
        let has = move |(id, node): &(&NodeId, &Node)| *id != but && node.doc.vip_slot == Some(slot);
        self.nodes.iter().filter(has).map(|(id, _)| id)
    }

    /// Says with whom a node shares its range, for whoever runs several on one host.
    fn note_shared_range(&self, id: &NodeId, slot: u8) {
        let others: Vec<String> =
            self.nodes_with(slot, id).map(ToString::to_string).take(SHARERS_TOLD_MAX).collect();
        if !others.is_empty() {
            let base = self.vip_range.in_block(slot).base;
            let what = format!("takes its virtual IPs from {base}/16, as {} does", others.join(", "));
            let why = format!(
                "a site has {} ranges for its nodes, and all are taken; it matters only to nodes on one host, \
                 of which one then cannot listen: run it with --no-ways-in, or on another host",
                VipRange::BLOCK - 1
            );
            self.events.note(id.to_string(), what, why);
        }
    }

    /// A gateway of this very process joins: it needs no token.
    ///
    /// # Errors
    /// The certificate request is not good, or the store cannot be written.
    pub fn join_local(
        &mut self,
        id: NodeId,
        csr: &[u8],
        tunnel_address: Option<SocketAddr>,
    ) -> Answer<JoinReply> {
        let chain = self.pki.issue(csr, id.role()).map_err(|error| {
            Denied::invalid("no certificate was issued", runtime::telemetry::chain(&error).to_string(), "")
        })?;
        let before = self.nodes.get(&id).map(|node| node.doc.clone()).unwrap_or_default();
        let doc = NodeDoc {
            joined_at_ms: if before.joined_at_ms == 0 { clock::unix_ms() } else { before.joined_at_ms },
            tunnel_address: tunnel_address.or(before.tunnel_address),
            left: false,
            certificate_until_ms: end_of(&chain),
            certificate_signer: Hex(self.pki.signer().to_vec()),
            ..before
        };
        let mut batch = WriteBatch::default();
        batch.put(node_key(&id), &doc);
        self.write_now(&batch)?;
        self.joined(id, doc);
        Ok(JoinReply {
            chain,
            bundle: self.pki.bundle(),
            site: self.site.clone(),
            locality: self.site.locality.clone(),
            vip_range: Some(self.vip_range),
        })
    }

    /// A node renews its own leaf.
    ///
    /// # Errors
    /// Its role gets none here, or the request is not good.
    pub fn renew(&mut self, id: &SpiffeId, csr: &[u8]) -> Answer<RenewReply> {
        match &id.role {
            Role::Gateway(_) | Role::Agent(_) | Role::Admin(_) => {}
            Role::Federation(_) | Role::Workload { .. } => {
                return Err(Denied::conflict(format!("{id} does not renew its certificate here"), "", ""));
            }
        }
        let signer = self.pki.signer();
        let chain = self.pki.issue(csr, id.role.clone()).map_err(|error| {
            Denied::invalid("no certificate was issued", runtime::telemetry::chain(&error).to_string(), "")
        })?;
        let node = match &id.role {
            Role::Gateway(name) => NodeId::new(NodeKind::Gateway, name.as_str()),
            Role::Agent(name) => NodeId::new(NodeKind::Agent, name.as_str()),
            Role::Admin(_) | Role::Federation(_) | Role::Workload { .. } => None,
        };
        if let Some((id, node)) = node.and_then(|id| Some((id.clone(), self.nodes.get_mut(&id)?))) {
            node.doc.certificate_until_ms = end_of(&chain);
            node.doc.certificate_signer = Hex(signer.to_vec());
            // With the next batch: it only explains why a node cannot connect.
            self.batch.put(node_key(&id), &node.doc);
        }
        Ok(RenewReply { chain })
    }

    /// A node has connected with its certificate: the token that it joined with has served.
    pub(super) fn forget_used_tokens(&mut self, id: &NodeId) {
        let of = |token: &TokenDoc| {
            token.bound.is_some() && token.kind() == id.kind() && token.name.as_str() == id.name()
        };
        let used: Vec<[u8; 16]> =
            self.tokens.iter().filter(|(_, token)| of(token)).map(|(id, _)| *id).collect();
        for token in used {
            self.tokens.remove(&token);
            self.batch.delete(token_key(&token));
            self.dirty_config = true;
        }
    }

    pub(super) fn expire_joins(&mut self, now_ms: u64) {
        let ended: Vec<[u8; 16]> =
            self.tokens.iter().filter(|(_, token)| token.expires_ms <= now_ms).map(|(id, _)| *id).collect();
        for id in ended {
            self.tokens.remove(&id);
            self.batch.delete(token_key(&id));
            self.dirty_config = true;
        }
    }
}
