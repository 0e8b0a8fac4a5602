//! Virtual IPs: each name has one, and keeps it.

use model::config::VipRange;
use model::service::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Addresses of a /16 that can be given: all but the first (the range itself) and the last.
pub const CAPACITY: usize = 65_534;

/// No address is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all {CAPACITY} virtual IPs of {base}/16 are in use, so {service} gets none")]
pub struct VipError {
    /// First address of the range.
    pub base: Ipv4Addr,
    /// Who got none.
    pub service: ServiceName,
}

/// What a [`VipPool`] keeps over a restart; plain data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VipRecord {
    /// Who has which address, ordered by name.
    pub assigned: Vec<(ServiceName, Ipv4Addr)>,
    /// Addresses that were let go, longest ago first, with the name that had them.
    pub freed: Vec<(ServiceName, Ipv4Addr)>,
}

/// Gives addresses of one /16 within 127.64.0.0/10.
///
/// An address that was never used goes first, then the one that was let go longest ago, so that a client with an old
/// answer of DNS is unlikely to reach another service. A name that comes back gets its old address while that is free.
#[derive(Debug, Clone)]
pub struct VipPool {
    base: Ipv4Addr,
    assigned: BTreeMap<ServiceName, u16>,
    /// Freed offsets by when they were let go. At most `CAPACITY`.
    freed: BTreeMap<u64, (ServiceName, u16)>,
    /// Which entry of `freed` a name has; it has one at most, since it gets that address when it comes back.
    freed_of: BTreeMap<ServiceName, u64>,
    next_freed: u64,
    /// Greatest offset ever given; those above are untouched.
    used: u16,
    changes: u64,
}

impl VipPool {
    /// An unused range.
    pub fn new(range: VipRange) -> Self {
        Self {
            base: range.base,
            assigned: BTreeMap::new(),
            freed: BTreeMap::new(),
            freed_of: BTreeMap::new(),
            next_freed: 0,
            used: 0,
            changes: 0,
        }
    }

    /// Goes on from a record. Addresses outside the range, or named twice, are left out: the range was changed by a
    /// person, or the file was.
    pub fn restore(range: VipRange, record: &VipRecord) -> Self {
        let mut pool = Self::new(range);
        let mut taken = BTreeSet::new();
        for (service, address) in &record.assigned {
            if let Some(offset) = pool.offset(*address)
                && !pool.assigned.contains_key(service)
                && taken.insert(offset)
            {
                pool.assigned.insert(service.clone(), offset);
            }
        }
        for (service, address) in &record.freed {
            if let Some(offset) = pool.offset(*address)
                && !pool.assigned.contains_key(service)
                && !pool.freed_of.contains_key(service)
                && taken.insert(offset)
            {
                pool.push_freed(service.clone(), offset);
            }
        }
        pool.used = taken.last().copied().unwrap_or(0);
        pool
    }

    /// What to keep.
    pub fn record(&self) -> VipRecord {
        let address = |offset: u16| self.address(offset);
        VipRecord {
            assigned: self.assigned.iter().map(|(s, o)| (s.clone(), address(*o))).collect(),
            freed: self.freed.values().map(|(s, o)| (s.clone(), address(*o))).collect(),
        }
    }

    /// Grows with every change; the record needs to be written again when it has grown.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The address of a name, if it has one.
    pub fn find(&self, service: &ServiceName) -> Option<Ipv4Addr> {
        self.assigned.get(service).map(|offset| self.address(*offset))
    }

    /// The address of a name, given to it if it has none.
    ///
    /// # Errors
    /// All are in use.
    pub fn assign(&mut self, service: &ServiceName) -> Result<Ipv4Addr, VipError> {
        if let Some(offset) = self.assigned.get(service) {
            return Ok(self.address(*offset));
        }
        let offset =
            self.take(service).ok_or_else(|| VipError { base: self.base, service: service.clone() })?;
        self.assigned.insert(service.clone(), offset);
        self.changes += 1;
        Ok(self.address(offset))
    }

    /// Lets the address of a name go; nothing happens when it has none.
    pub fn release(&mut self, service: &ServiceName) {
        if let Some(offset) = self.assigned.remove(service) {
            self.push_freed(service.clone(), offset);
            self.changes += 1;
        }
    }

    /// Lets go the addresses of all names that are not to be kept.
    pub fn release_all_but(&mut self, keep: impl Fn(&ServiceName) -> bool) {
        let lost: Vec<ServiceName> = self.assigned.keys().filter(|service| !keep(service)).cloned().collect();
        for service in lost {
            self.release(&service);
        }
    }

    fn take(&mut self, service: &ServiceName) -> Option<u16> {
        if let Some(at) = self.freed_of.remove(service) {
            return self.freed.remove(&at).map(|(_, offset)| offset);
        }
        if usize::from(self.used) < CAPACITY {
            self.used += 1;
            return Some(self.used);
        }
        let (_, (name, offset)) = self.freed.pop_first()?;
        self.freed_of.remove(&name);
        Some(offset)
    }

    fn push_freed(&mut self, service: ServiceName, offset: u16) {
        self.freed_of.insert(service.clone(), self.next_freed);
        self.freed.insert(self.next_freed, (service, offset));
        self.next_freed += 1;
    }

    fn address(&self, offset: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) | u32::from(offset))
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u16> {
        let [a, b, c, d] = address.octets();
        let [x, y, ..] = self.base.octets();
        let offset = u16::from_be_bytes([c, d]);
        ([a, b] == [x, y] && offset != 0 && offset != u16::MAX).then_some(offset)
    }
}
