//! How processes and sites come to be known: the messages of `Enroll`, checked.

use crate::convert::{self, Cause, InField, WireError, limits, need};
use crate::pb;
use model::catalog::{Scope, SiteInfo};
use model::config::VipRange;
use model::identity::Bundle;
use model::ids::Label;
use model::locality::Locality;
use model::node::NodeKind;
use std::net::{Ipv4Addr, SocketAddr};

/// A gateway or an agent asks to join its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Names the token.
    pub token: [u8; 16],
    /// Proves that the sender holds its secret, on this connection.
    pub proof: [u8; 32],
    /// PKCS #10, DER. Names in it are ignored.
    pub csr: Vec<u8>,
    /// What the sender is.
    pub kind: NodeKind,
    /// Name of the gateway or the host.
    pub name: Label,
    /// For gateways: where others can dial its tunnel port.
    pub tunnel_address: Option<SocketAddr>,
}

/// The node has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Its certificate and those above it without the anchor, DER.
    pub chain: Vec<Vec<u8>>,
    /// Anchors of the site.
    pub bundle: Bundle,
    /// The site, with its gateways.
    pub site: SiteInfo,
    /// Where the node is, unless it says otherwise.
    pub locality: Locality,
    /// From where the node may take virtual IPs.
    pub vip_range: Option<VipRange>,
}

/// A site takes up an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemRequest {
    /// Names the invite.
    pub invite: [u8; 16],
    /// Proves that the accepter holds its secret, on this connection.
    pub proof: [u8; 32],
    /// The accepter.
    pub site: SiteInfo,
    /// Its anchors, of the same trust domain.
    pub bundle: Bundle,
    /// What it offers.
    pub offer: Scope,
    /// It has stored the inviter's answer, so the link becomes active; without it the link is pending. Both may be
    /// repeated.
    pub confirm: bool,
}

/// The invite was taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemReply {
    /// The inviter.
    pub site: SiteInfo,
    /// Its anchors, of the same trust domain.
    pub bundle: Bundle,
    /// What it offers.
    pub offer: Scope,
    /// The link is active on the inviter's side.
    pub active: bool,
}

/// A node asks for a new leaf for its own identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewRequest {
    /// PKCS #10, DER. Names in it are ignored.
    pub csr: Vec<u8>,
}

/// The new leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewReply {
    /// The certificate and those above it without the anchor, DER.
    pub chain: Vec<Vec<u8>>,
}

impl From<&JoinRequest> for pb::JoinRequest {
    fn from(request: &JoinRequest) -> Self {
        Self {
            token: request.token.to_vec(),
            proof: request.proof.to_vec(),
            csr: request.csr.clone(),
            kind: pb::NodeKind::from(request.kind) as i32,
            name: request.name.to_string(),
            tunnel_address: request.tunnel_address.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::JoinRequest> for JoinRequest {
    type Error = WireError;

    fn try_from(request: pb::JoinRequest) -> Result<Self, WireError> {
        Ok(Self {
            token: convert::bytes("token", &request.token)?,
            proof: convert::bytes("proof", &request.proof)?,
            csr: csr(request.csr)?,
            kind: convert::word::<pb::NodeKind, _>("kind", request.kind)?,
            name: convert::parse("name", &request.name)?,
            tunnel_address: convert::socket_some("tunnel_address", &request.tunnel_address)?,
        })
    }
}

impl From<&JoinReply> for pb::JoinReply {
    fn from(reply: &JoinReply) -> Self {
        Self {
            chain: reply.chain.clone(),
            bundle: Some((&reply.bundle).into()),
            site: Some((&reply.site).into()),
            locality: reply.locality.to_string(),
            vip_base: reply.vip_range.map(|range| range.base.into()),
        }
    }
}

impl TryFrom<pb::JoinReply> for JoinReply {
    type Error = WireError;

    fn try_from(reply: pb::JoinReply) -> Result<Self, WireError> {
        let (site, bundle) = site_and_bundle(reply.site, reply.bundle)?;
        Ok(Self {
            chain: chain(reply.chain)?,
            bundle,
            site,
            locality: convert::parse("locality", &reply.locality)?,
            vip_range: reply.vip_base.map(vip_range).transpose()?,
        })
    }
}

impl From<&RedeemRequest> for pb::RedeemRequest {
    fn from(request: &RedeemRequest) -> Self {
        Self {
            invite: request.invite.to_vec(),
            proof: request.proof.to_vec(),
            site: Some((&request.site).into()),
            bundle: Some((&request.bundle).into()),
            offer: Some((&request.offer).into()),
            confirm: request.confirm,
        }
    }
}

impl TryFrom<pb::RedeemRequest> for RedeemRequest {
    type Error = WireError;

    fn try_from(request: pb::RedeemRequest) -> Result<Self, WireError> {
        let (site, bundle) = site_and_bundle(request.site, request.bundle)?;
        Ok(Self {
            invite: convert::bytes("invite", &request.invite)?,
            proof: convert::bytes("proof", &request.proof)?,
            site,
            bundle,
            offer: convert::convert("offer", request.offer)?,
            confirm: request.confirm,
        })
    }
}

impl From<&RedeemReply> for pb::RedeemReply {
    fn from(reply: &RedeemReply) -> Self {
        Self {
            site: Some((&reply.site).into()),
            bundle: Some((&reply.bundle).into()),
            offer: Some((&reply.offer).into()),
            active: reply.active,
        }
    }
}

impl TryFrom<pb::RedeemReply> for RedeemReply {
    type Error = WireError;

    fn try_from(reply: pb::RedeemReply) -> Result<Self, WireError> {
        let (site, bundle) = site_and_bundle(reply.site, reply.bundle)?;
        Ok(Self { site, bundle, offer: convert::convert("offer", reply.offer)?, active: reply.active })
    }
}

impl From<&RenewRequest> for pb::RenewRequest {
    fn from(request: &RenewRequest) -> Self {
        Self { csr: request.csr.clone() }
    }
}

impl TryFrom<pb::RenewRequest> for RenewRequest {
    type Error = WireError;

    fn try_from(request: pb::RenewRequest) -> Result<Self, WireError> {
        Ok(Self { csr: csr(request.csr)? })
    }
}

impl From<&RenewReply> for pb::RenewReply {
    fn from(reply: &RenewReply) -> Self {
        Self { chain: reply.chain.clone() }
    }
}

impl TryFrom<pb::RenewReply> for RenewReply {
    type Error = WireError;

    fn try_from(reply: pb::RenewReply) -> Result<Self, WireError> {
        Ok(Self { chain: chain(reply.chain)? })
    }
}

fn csr(csr: Vec<u8>) -> Result<Vec<u8>, WireError> {
    convert::count("csr", csr.len(), "bytes", limits::CERTIFICATE_MAX)?;
    if csr.is_empty() {
        return Err(WireError::new("csr", Cause::Missing));
    }
    Ok(csr)
}

fn chain(chain: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, WireError> {
    let chain = convert::certificates("chain", chain, limits::CHAIN_MAX)?;
    if chain.is_empty() {
        return Err(WireError::new("chain", Cause::Missing));
    }
    Ok(chain)
}

/// A site with its own bundle: a site may not speak for another's trust domain.
fn site_and_bundle(
    site: Option<pb::SiteInfo>,
    bundle: Option<pb::Bundle>,
) -> Result<(SiteInfo, Bundle), WireError> {
    let site: SiteInfo = need("site", site)?.try_into().in_field("site")?;
    let bundle: Bundle = need("bundle", bundle)?.try_into().in_field("bundle")?;
    if site.trust_domain != bundle.trust_domain {
        return Err(WireError::new("bundle.trust_domain", Cause::Rule("it is not that of the site")));
    }
    Ok((site, bundle))
}

/// A /16 within 127.64.0.0/10.
fn vip_range(base: u32) -> Result<VipRange, WireError> {
    let base = Ipv4Addr::from(base);
    let [first, second, third, fourth] = base.octets();
    if first != 127 || !(64..128).contains(&second) || third != 0 || fourth != 0 {
        let cause = Cause::Rule("it is no /16 within 127.64.0.0/10");
        return Err(WireError::new("vip_base", cause));
    }
    Ok(VipRange { base })
}
