//! Digests over entries, so that two sides can tell that they hold the same without sending it.
//!
//! The hash of one entry is SHA-256 over an encoding of its key and value that is made here and nowhere else: each
//! field in the order of its declaration, numbers big-endian, texts and lists preceded by their length in four bytes,
//! variants by one byte. The digest of a set is the sum of the hashes of its entries, in four lanes of 64 bits that
//! wrap, each read and written big-endian; so it does not depend on order, and one entry is added or taken out without
//! looking at the others. It finds faults; it is no proof against an owner who wants to lie about his own catalog.

use model::catalog::{EntryKey, EntryValue, ExportInfo, SiteInfo};
use model::endpoint::{Endpoint, Health, Reach};
use model::locality::Locality;
use model::service::{AppProtocol, PortKey, Protocol, ServiceKind, ServiceName};
use ring::digest::{Context, SHA256};
use std::net::IpAddr;

/// Digest of a set of entries. The digest of the empty set is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest([u64; 4]);

/// Hash and size of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    hash: [u64; 4],
    /// Estimated bytes of the entry on the wire and in memory: the length of its encoding.
    pub bytes: u32,
}

impl Measure {
    /// Measures an entry.
    pub fn of(key: &EntryKey, value: &EntryValue) -> Self {
        let mut encoder = Encoder { context: Context::new(&SHA256), bytes: 0 };
        encoder.key(key);
        encoder.value(value);
        let hash = encoder.context.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self { hash: Digest::from(bytes).0, bytes: encoder.bytes }
    }
}

impl Digest {
    /// Takes an entry into the set.
    pub fn add(&mut self, entry: &Measure) {
        for (lane, hash) in self.0.iter_mut().zip(entry.hash) {
            *lane = lane.wrapping_add(hash);
        }
    }

    /// Takes an entry out of the set.
    pub fn subtract(&mut self, entry: &Measure) {
        for (lane, hash) in self.0.iter_mut().zip(entry.hash) {
            *lane = lane.wrapping_sub(hash);
        }
    }

    /// The digest as it is sent.
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_be_bytes());
        }
        bytes
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        Self(lanes)
    }
}

/// Estimated bytes of a key, for tombstones.
pub(crate) fn key_bytes(key: &EntryKey) -> usize {
    let service = |name: &ServiceName| 16 + name.namespace.as_str().len() + name.name.as_str().len();
    match key {
        EntryKey::Site => 16,
        EntryKey::Export(name) => service(name),
        EntryKey::Group(name, locality, subset) => {
            service(name)
                + 16
                + locality.region.len()
                + locality.zone.len()
                + locality.sub_zone.len()
                + subset.0.len()
        }
        EntryKey::Endpoint(name, id) => service(name) + 4 + id.as_str().len(),
    }
}

/// Feeds the encoding of an entry into a hash.
struct Encoder {
    context: Context,
    bytes: u32,
}

impl Encoder {
    fn raw(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    fn tag(&mut self, tag: u8) {
        self.raw(&[tag]);
    }

    fn u16(&mut self, number: u16) {
        self.raw(&number.to_be_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.raw(&number.to_be_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.raw(text.as_bytes());
    }

    fn maybe<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.tag(0),
            Some(value) => {
                self.tag(1);
                encode(self, value);
            }
        }
    }

    fn service(&mut self, service: &ServiceName) {
        self.text(service.namespace.as_str());
        self.text(service.name.as_str());
    }

    fn locality(&mut self, locality: &Locality) {
        self.text(&locality.region);
        self.text(&locality.zone);
        self.text(&locality.sub_zone);
    }

    fn port(&mut self, port: PortKey) {
        self.tag(match port.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
        });
        self.u16(port.number);
    }

    fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.tag(4);
                self.raw(&address.octets());
            }
            IpAddr::V6(address) => {
                self.tag(6);
                self.raw(&address.octets());
            }
        }
    }

    fn key(&mut self, key: &EntryKey) {
        match key {
            EntryKey::Site => self.tag(0),
            EntryKey::Export(service) => {
                self.tag(1);
                self.service(service);
            }
            EntryKey::Group(service, locality, subset) => {
                self.tag(2);
                self.service(service);
                self.locality(locality);
                self.text(&subset.0);
            }
            EntryKey::Endpoint(service, id) => {
                self.tag(3);
                self.service(service);
                self.text(id.as_str());
            }
        }
    }

    fn value(&mut self, value: &EntryValue) {
        match value {
            EntryValue::Site(site) => {
                self.tag(0);
                self.site(site);
            }
            EntryValue::Export(export) => {
                self.tag(1);
                self.export(export);
            }
            EntryValue::Group(group) => {
                self.tag(2);
                self.u32(group.healthy);
                self.u32(group.total);
                self.u64(group.capacity);
            }
            EntryValue::Endpoint(endpoint) => {
                self.tag(3);
                self.endpoint(endpoint);
            }
        }
    }

    fn site(&mut self, site: &SiteInfo) {
        self.text(site.id.as_str());
        self.raw(&site.uid.0);
        self.text(site.trust_domain.as_str());
        self.locality(&site.locality);
        self.text(site.clusterset.as_str());
        self.length(site.gateways.len());
        for gateway in &site.gateways {
            self.text(gateway.name.as_str());
            self.ip(gateway.address.ip());
            self.u16(gateway.address.port());
        }
    }

    fn export(&mut self, export: &ExportInfo) {
        self.length(export.spec.ports.len());
        for port in &export.spec.ports {
            self.port(port.key);
            self.maybe(port.name.as_ref(), |this, name| this.text(name.as_str()));
            self.tag(match port.app {
                AppProtocol::Tcp => 0,
                AppProtocol::Http => 1,
                AppProtocol::Http2 => 2,
                AppProtocol::Grpc => 3,
                AppProtocol::Tls => 4,
            });
            self.tag(u8::from(port.retry_safe));
        }
        self.tag(match export.spec.kind {
            ServiceKind::ClusterSetIp => 0,
            ServiceKind::Headless => 1,
        });
        self.maybe(export.spec.declared_total, Self::u32);
        self.u64(export.created_at_ms);
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.text(endpoint.id.as_str());
        self.locality(&endpoint.locality);
        self.text(endpoint.network.as_str());
        self.text(&endpoint.subset.0);
        self.u32(endpoint.weight);
        self.tag(match endpoint.health {
            Health::Healthy => 0,
            Health::Unhealthy => 1,
            Health::Draining => 2,
        });
        match &endpoint.reach {
            Reach::Direct(address) => {
                self.tag(0);
                self.ip(*address);
            }
            Reach::Agent(host) => {
                self.tag(1);
                self.text(host.as_str());
            }
        }
        self.length(endpoint.ports.len());
        for (port, target) in &endpoint.ports {
            self.port(*port);
            self.u16(*target);
        }
        self.maybe(endpoint.hostname.as_ref(), |this, name| this.text(name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::catalog::GroupSummary;
    use model::service::Subset;

    fn group(service: &str, healthy: u32) -> (EntryKey, EntryValue) {
        (
            EntryKey::Group(service.parse().expect("valid"), Locality::default(), Subset::default()),
            EntryValue::Group(GroupSummary { healthy, total: healthy, capacity: u64::from(healthy) }),
        )
    }

    #[test]
    fn the_digest_does_not_depend_on_order_and_forgets_what_was_taken_out() {
        let measures: Vec<Measure> =
            (0..20).map(|n| group("shop/cart", n)).map(|(k, v)| Measure::of(&k, &v)).collect();
        let (mut there, mut back) = (Digest::default(), Digest::default());
        measures.iter().for_each(|m| there.add(m));
        measures.iter().rev().for_each(|m| back.add(m));
        assert_eq!(there, back);
        measures.iter().for_each(|m| there.subtract(m));
        assert_eq!(there, Digest::default());
    }

    #[test]
    fn another_key_or_value_is_another_digest() {
        let digest = |(key, value): (EntryKey, EntryValue)| {
            let mut digest = Digest::default();
            digest.add(&Measure::of(&key, &value));
            digest.bytes()
        };
        assert_ne!(digest(group("shop/cart", 1)), digest(group("shop/cart", 2)));
        assert_ne!(digest(group("shop/cart", 1)), digest(group("shop/carts", 1)));
        assert_ne!(digest(group("shop/cart", 1)), digest(group("shopc/art", 1)));
    }

    #[test]
    fn the_example_of_the_protocol_page_is_true() {
        use model::catalog::ServiceSpec;
        use model::service::{PortKey, ServicePort};
        let page = include_str!("../../../docs/protocol.md");
        let said = |digest: &Digest| {
            let hex: String = digest.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(page.contains(&format!("\n{hex}\n")), "docs/protocol.md does not say {hex}");
        };
        let service: ServiceName = "shop/cart".parse().expect("valid");
        let mut digest = Digest::default();
        digest.add(&Measure::of(
            &EntryKey::Group(service.clone(), "eu/fra".parse().expect("valid"), Subset::default()),
            &EntryValue::Group(GroupSummary { healthy: 2, total: 3, capacity: 2 }),
        ));
        said(&digest);
        let port =
            ServicePort { key: PortKey::tcp(8080), name: None, app: AppProtocol::Http, retry_safe: false };
        let spec = ServiceSpec { ports: vec![port], kind: ServiceKind::ClusterSetIp, declared_total: None };
        digest.add(&Measure::of(
            &EntryKey::Export(service),
            &EntryValue::Export(ExportInfo { spec, created_at_ms: 1_700_000_000_000 }),
        ));
        said(&digest);
    }

    #[test]
    fn a_digest_survives_its_bytes() {
        let (key, value) = group("shop/cart", 7);
        let mut digest = Digest::default();
        digest.add(&Measure::of(&key, &value));
        assert_eq!(Digest::from(digest.bytes()), digest);
    }
}
