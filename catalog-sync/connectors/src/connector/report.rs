//! What a connector says of itself, for `status`.

use crate::health::Key;
use model::endpoint::Health;
use model::ids::EndpointId;
use model::node::SourceChange;
use model::service::ServiceName;
use std::collections::{BTreeMap, VecDeque};

/// What a source does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceReport {
    /// It is known what should be registered.
    pub known: bool,
    /// The federation was told everything on the present connection.
    pub registered: bool,
    /// What should be registered, ordered by service and endpoint.
    pub instances: Vec<InstanceReport>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    /// Service.
    pub service: ServiceName,
    /// Endpoint.
    pub endpoint: EndpointId,
    /// Its health.
    pub health: Health,
    /// Why its last probe failed.
    pub failure: Option<String>,
    /// Why the federation refused it.
    pub refused: Option<String>,
}

/// Events whose answer may still come; older ones count as taken.
const PENDING_MAX: usize = 4_096;

/// What an event was about.
#[derive(Debug)]
enum About {
    Instance(Key),
    Renewal,
    Other,
}

/// Which instances the federation has refused, and why.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Events that were said, oldest first, at most `PENDING_MAX`.
    pending: VecDeque<(u64, About)>,
    refused: BTreeMap<Key, String>,
}

impl Refusals {
    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.refused.clear();
    }

    pub(super) fn said(&mut self, sequence: u64, change: &SourceChange) {
        let about = match change {
            SourceChange::InitApply(instance) | SourceChange::Apply(instance) => {
                About::Instance((instance.service.clone(), instance.endpoint.id.clone()))
            }
            SourceChange::Delete(service, endpoint) => {
                self.refused.remove(&(service.clone(), endpoint.clone()));
                About::Other
            }
            SourceChange::Renew => About::Renewal,
            SourceChange::Init | SourceChange::InitDone => About::Other,
        };
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((sequence, about));
    }

    fn about(&mut self, sequence: u64) -> Option<About> {
        // Answers come in the order of the events.
        while self.pending.front().is_some_and(|(of, _)| *of < sequence) {
            self.pending.pop_front();
        }
        self.pending.pop_front_if(|(of, _)| *of == sequence).map(|(_, about)| about)
    }

    pub(super) fn taken(&mut self, sequence: u64) {
        if let Some(About::Instance(key)) = self.about(sequence) {
            self.refused.remove(&key);
        }
    }

    /// Notes a refusal; answers whether it was one of a renewal or of the list itself, so that a list is needed.
    pub(super) fn refused(&mut self, sequence: u64, reason: String) -> bool {
        match self.about(sequence) {
            Some(About::Instance(key)) => {
                self.refused.insert(key, reason);
                false
            }
            Some(About::Renewal | About::Other) => true,
            None => false,
        }
    }

    pub(super) fn of(&self, key: &Key) -> Option<&str> {
        self.refused.get(key).map(String::as_str)
    }
}
