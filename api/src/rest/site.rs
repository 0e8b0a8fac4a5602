//! A site, as its own API describes it.

use model::catalog::{GatewayAddress, SiteInfo};
use serde::{Deserialize, Serialize};

/// `GET /v1/site`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteView {
    /// Name.
    pub name: String,
    /// 32 hexadecimal digits.
    pub uid: String,
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// `region/zone/sub-zone`; may be empty.
    pub locality: String,
    /// Sites that share names.
    pub clusterset: String,
    /// Version of meshfed, `0.1.0`.
    pub version: String,
    /// Its gateways, ordered by name.
    pub gateways: Vec<GatewayView>,
    /// Services that are known here: own and imported.
    pub services: u32,
    /// Endpoints of its own.
    pub endpoints: u32,
    /// Those of them that are healthy.
    pub healthy: u32,
    /// Linked sites.
    pub links: u32,
    /// Where the catalog is stored.
    pub store: StoreView,
    /// State of its certificates.
    pub certificates: CertificatesView,
    /// Its clock.
    pub now_at_ms: u64,
    /// Since its federation started.
    pub uptime_s: u64,
    /// It has not yet heard from all its sources, and only adds to its catalog.
    pub recovering: bool,
    /// It takes nothing new.
    pub draining: bool,
    /// Position of its catalog.
    pub epoch: u64,
    /// Position of its catalog within the epoch.
    pub revision: u64,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayView {
    /// Name within its site.
    pub name: String,
    /// Where its tunnel can be reached, `IP:PORT`.
    pub address: String,
    /// It has a config stream to the federation.
    pub connected: bool,
    /// It takes nothing new.
    pub draining: bool,
    /// Open streams.
    pub streams: u32,
}

/// Where a catalog is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreView {
    /// `redb`.
    pub kind: String,
    /// Size on disk.
    pub bytes: u64,
}

/// Certificates of a site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificatesView {
    /// None has expired or fails to be renewed.
    pub ok: bool,
    /// Until the next one is renewed.
    pub next_renewal_s: u64,
    /// When the first one expires, if none is renewed: until then all goes on without the federation.
    pub expires_at_ms: u64,
    /// What is wrong; empty when nothing is.
    pub problem: String,
}

impl SiteView {
    /// What a site says of itself in its catalog; the rest is left at its default.
    pub fn of(site: &SiteInfo) -> Self {
        Self {
            name: site.id.to_string(),
            uid: site.uid.to_string(),
            trust_domain: site.trust_domain.to_string(),
            locality: site.locality.to_string(),
            clusterset: site.clusterset.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateways: site.gateways.iter().map(GatewayView::of).collect(),
            ..Self::default()
        }
    }
}

impl GatewayView {
    /// A gateway by its address; the rest is left at its default.
    pub fn of(gateway: &GatewayAddress) -> Self {
        Self { name: gateway.name.to_string(), address: gateway.address.to_string(), ..Self::default() }
    }
}
