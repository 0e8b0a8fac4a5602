//! What is kept in the store beside the catalogs, in JSON: links, invites, tokens, nodes, drains, resources.

use crate::store::documents::{DocumentKey, DocumentKind};
use api::resource::Resource;
use api::resource::link::{LinkScopes, LinkSpec};
use api::text::Text;
use identity::secret::Secret;
use model::catalog::{GatewayAddress, OwnKey, Scope, SiteInfo};
use model::identity::{Bundle, TrustDomain};
use model::ids::{Clusterset, HostName, Label, Namespace, SiteId, SiteUid};
use model::locality::Locality;
use model::node::NodeKind;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use sync_core::source::SourceId;

/// Bytes as hexadecimal text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

impl std::fmt::Debug for Hex {
    // Secrets are kept as such text too.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hex({} bytes)", self.0.len())
    }
}

impl Hex {
    /// As text. Not `Display`: what is secret should not slip into a message.
    pub fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads hexadecimal text; none: it is not.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        (0..text.len()).step_by(2).map(byte).collect::<Option<_>>().map(Self)
    }

    fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.as_slice().try_into().ok()
    }
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDoc {
    id: Text<SiteId>,
    uid: Text<SiteUid>,
    trust_domain: Text<TrustDomain>,
    locality: Text<Locality>,
    clusterset: Text<Clusterset>,
    gateways: Vec<(Text<Label>, SocketAddr)>,
}

impl From<&SiteInfo> for SiteDoc {
    fn from(site: &SiteInfo) -> Self {
        let label = |name: &str| name.parse().expect("the name of a gateway is a label");
        Self {
            id: Text(site.id.clone()),
            uid: Text(site.uid),
            trust_domain: Text(site.trust_domain.clone()),
            locality: Text(site.locality.clone()),
            clusterset: Text(site.clusterset.clone()),
            gateways: site.gateways.iter().map(|gw| (Text(label(gw.name.as_str())), gw.address)).collect(),
        }
    }
}

impl SiteDoc {
    /// Back to the model.
    pub fn site(&self) -> SiteInfo {
        let gateway = |(name, address): &(Text<Label>, SocketAddr)| GatewayAddress {
            name: name.as_str().parse().expect("a label is the name of a gateway"),
            address: *address,
        };
        SiteInfo {
            id: self.id.0.clone(),
            uid: self.uid.0,
            trust_domain: self.trust_domain.0.clone(),
            locality: self.locality.0.clone(),
            clusterset: self.clusterset.0.clone(),
            gateways: self.gateways.iter().map(gateway).collect(),
        }
    }
}

/// Anchors of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDoc {
    trust_domain: Text<TrustDomain>,
    sequence: u64,
    anchors: Vec<Hex>,
}

impl From<&Bundle> for BundleDoc {
    fn from(bundle: &Bundle) -> Self {
        Self {
            trust_domain: Text(bundle.trust_domain.clone()),
            sequence: bundle.sequence,
            anchors: bundle.anchors.iter().cloned().map(Hex).collect(),
        }
    }
}

impl BundleDoc {
    /// Its number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Back to the model.
    pub fn bundle(&self) -> Bundle {
        Bundle {
            trust_domain: self.trust_domain.0.clone(),
            sequence: self.sequence,
            anchors: self.anchors.iter().map(|anchor| anchor.0.clone()).collect(),
        }
    }
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// This site was asked for the link, and the other has not yet confirmed. It is not trusted yet.
    AwaitsConfirmation,
    /// This site has accepted an invite, and does not yet know that the other side has heard the confirmation.
    Confirming,
    /// Both sides have it.
    Active,
}

/// A link to another site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDoc {
    /// The other site, as it was when linking; its catalog says how it is.
    pub site: SiteDoc,
    /// Its anchors.
    pub bundle: BundleDoc,
    /// What the link opens.
    pub spec: LinkSpec,
    /// When it was made, by the own clock.
    pub linked_at_ms: u64,
    /// How far it is.
    pub state: LinkState,
    /// While `AwaitsConfirmation`: when it is given up.
    #[serde(default)]
    pub pending_until_ms: Option<u64>,
    /// While `Confirming`: the invite, so that the confirmation can be repeated. It holds a secret.
    #[serde(default)]
    pub invite: Option<InviteText>,
    /// Number of the own bundle that the other site has said that it has stored; 0: it has said nothing.
    #[serde(default)]
    pub holds: u64,
}

/// An invite as text; a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteText(pub String);

impl std::fmt::Debug for InviteText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InviteText(hidden)")
    }
}

impl LinkDoc {
    /// What the link opens. Documents were checked before they were stored; one that is not good opens nothing.
    pub fn scopes(&self) -> LinkScopes {
        let nothing = || LinkScopes {
            offer: Scope::none(),
            accept: api::resource::link::Accept { scope: Scope::none(), new_names: false },
        };
        self.spec.scopes().unwrap_or_else(|_| nothing())
    }
}

/// An invite that was made here. It goes when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteDoc {
    secret: Hex,
    /// When it ends.
    pub expires_ms: u64,
    /// The only trust domain that may take it up.
    pub to: Option<Text<TrustDomain>>,
    /// What the link will open.
    pub spec: LinkSpec,
    /// Who took it up: uid, and digest of the bundle.
    pub bound: Option<(Text<SiteUid>, Hex)>,
}

impl InviteDoc {
    /// A new invite.
    pub fn new(secret: &Secret, expires_ms: u64, to: Option<TrustDomain>, spec: LinkSpec) -> Self {
        Self { secret: Hex(secret.expose().to_vec()), expires_ms, to: to.map(Text), spec, bound: None }
    }

    /// The secret that proofs are made with.
    pub fn secret(&self) -> Option<Secret> {
        self.secret.array().map(Secret::from_bytes)
    }
}

/// A join token that was made here. It goes when it is used or ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDoc {
    secret: Hex,
    /// When it ends.
    pub expires_ms: u64,
    /// It is for an agent; else for a gateway.
    pub agent: bool,
    /// Name of the host or the gateway.
    pub name: Text<Label>,
    /// Namespaces in which the agent may register; empty: all.
    pub namespaces: Vec<Text<Namespace>>,
    /// Accounts that it may assert.
    pub accounts: Vec<Text<Label>>,
    /// The public key that it was used for. The same key may use it again until the node connects with what it got:
    /// the answer may have been lost on its way.
    pub bound: Option<Hex>,
}

impl TokenDoc {
    /// A new token.
    pub fn new(
        secret: &Secret,
        expires_ms: u64,
        (kind, name): (NodeKind, Label),
        namespaces: Vec<Text<Namespace>>,
        accounts: Vec<Text<Label>>,
    ) -> Self {
        let secret = Hex(secret.expose().to_vec());
        let agent = kind == NodeKind::Agent;
        Self { secret, expires_ms, agent, name: Text(name), namespaces, accounts, bound: None }
    }

    /// The secret that proofs are made with.
    pub fn secret(&self) -> Option<Secret> {
        self.secret.array().map(Secret::from_bytes)
    }

    /// What it is for.
    pub fn kind(&self) -> NodeKind {
        if self.agent { NodeKind::Agent } else { NodeKind::Gateway }
    }
}

/// A gateway or an agent that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDoc {
    /// When it joined, or was first seen.
    pub joined_at_ms: u64,
    /// For gateways: where others dial it.
    pub tunnel_address: Option<SocketAddr>,
    /// Where it is; none: where the site is.
    pub locality: Option<Text<Locality>>,
    /// For agents: namespaces in which it may register; empty: all.
    pub namespaces: Vec<Text<Namespace>>,
    /// For agents: accounts that it may assert.
    pub accounts: Vec<Text<Label>>,
    /// Which /16 it takes its virtual IPs from: so many after that of the site, within the site's block. None: it has
    /// that of the site.
    pub vip_slot: Option<u8>,
    /// It is a gateway that has ended in good order: nobody is told to dial it until it connects again.
    pub left: bool,
    /// When the last certificate that it was given runs out; 0: not known.
    pub certificate_until_ms: u64,
    /// Fingerprint of the CA that has signed it; empty: not known.
    pub certificate_signer: Hex,
}

/// A resource, as a person wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceDoc {
    /// When it was made.
    pub created_at_ms: u64,
    /// What it says.
    pub resource: Resource,
}

/// Who said an entry of the own catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerDoc {
    /// The agent on this host.
    Agent(Text<HostName>),
    /// A connector.
    Connector(Text<Label>),
}

impl From<&SourceId> for OwnerDoc {
    fn from(source: &SourceId) -> Self {
        match source {
            SourceId::Agent(host) => Self::Agent(Text(host.clone())),
            SourceId::Connector(name) => Self::Connector(Text(name.clone())),
        }
    }
}

impl From<OwnerDoc> for SourceId {
    fn from(owner: OwnerDoc) -> Self {
        match owner {
            OwnerDoc::Agent(host) => Self::Agent(host.0),
            OwnerDoc::Connector(name) => Self::Connector(name.0),
        }
    }
}

/// Key of an [`OwnerDoc`].
pub fn owner_key(key: &OwnKey) -> DocumentKey {
    DocumentKey::new(DocumentKind::Owner, owner_name(key))
}

/// The name of an [`OwnerDoc`], for the key of an entry.
pub fn owner_name(key: &OwnKey) -> String {
    match key {
        OwnKey::Site => "site".to_owned(),
        OwnKey::Service(service) => format!("service/{service}"),
        OwnKey::Export(service) => format!("export/{service}"),
        OwnKey::Endpoint(service, id) => format!("endpoint/{service}/{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::random().expect("random");
        let invite = InviteDoc::new(&secret, 1, None, LinkSpec::default());
        let hex = Hex(secret.expose().to_vec()).text();
        assert!(!format!("{invite:?}").contains(&hex));
        let json = serde_json::to_string(&invite).expect("json");
        let back: InviteDoc = serde_json::from_str(&json).expect("reads");
        assert_eq!(back.secret().expect("there").expose(), secret.expose());
    }

    #[test]
    fn links_and_nodes_of_a_store_from_before_rotation_are_read() {
        let link = r#"{"site": {"id": "west", "uid": "00000000000000000000000000000007", "trust_domain": "west.mesh",
            "locality": "us/sjc", "clusterset": "meshfed", "gateways": [["gw-0", "127.0.0.1:4430"]]},
            "bundle": {"trust_domain": "west.mesh", "sequence": 1, "anchors": ["00"]},
            "linked_at_ms": 5, "state": "active"}"#;
        let spec = serde_json::to_value(LinkSpec::default()).expect("json");
        let mut link: serde_json::Value = serde_json::from_str(link).expect("json");
        link["spec"] = spec;
        let link: LinkDoc = serde_json::from_value(link).expect("a link");
        assert_eq!((link.holds, link.bundle.sequence()), (0, 1));
        let node: NodeDoc =
            serde_json::from_str(r#"{"joined_at_ms": 5, "certificate_until_ms": 9}"#).expect("a node");
        assert_eq!((node.certificate_until_ms, node.certificate_signer), (9, Hex::default()));
    }

    #[test]
    fn hexadecimal_text_is_read_strictly() {
        for bad in ["\"0\"", "\"0g\"", "\"+1\"", "7"] {
            assert!(serde_json::from_str::<Hex>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Hex>("\"00ff\"").expect("reads"), Hex(vec![0, 255]));
    }
}
