//! One source as the intake sees it: its connection, its list, its lease.

use crate::claims::EndpointKey;
use crate::intake::Limits;
use crate::refused::Refused;
use crate::source::{Lease, SourceConfig, SourceId, SourceScope, SourceState};
use model::node::{SourceChange, SourceEvent};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How far the full list of the present connection is.
#[derive(Debug)]
pub(super) enum List {
    /// None has begun.
    None,
    /// It has begun, and named these; all of them are among what the source claims.
    Open(BTreeSet<EndpointKey>),
    /// It is complete.
    Complete,
}

/// One source.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) config: SourceConfig,
    /// Number of the present connection, while there is one.
    pub(super) session: Option<u64>,
    /// Connections so far.
    sessions: u64,
    /// Number of the last event of the present connection.
    sequence: Option<u64>,
    pub(super) list: List,
    /// What it claims, at most `Limits::instances_per_source`.
    pub(super) instances: BTreeSet<EndpointKey>,
    /// When it last renewed its lease; at first, when it was registered.
    pub(super) heard: Instant,
    /// It has spoken since the start.
    spoken: bool,
    /// Added to the time until it counts as silent, until it first speaks.
    grace: Duration,
    /// It misses renewals.
    pub(super) silent: bool,
    /// Its lease has run out.
    pub(super) gone: bool,
    /// Recovery waits for it.
    pub(super) awaited: bool,
    /// State that was told last.
    pub(super) told: SourceState,
}

impl Source {
    pub(super) fn new(config: SourceConfig, now: Instant) -> Self {
        let awaited = config.expected;
        Self {
            config,
            session: None,
            sessions: 0,
            sequence: None,
            list: List::None,
            instances: BTreeSet::new(),
            heard: now,
            spoken: false,
            grace: Duration::ZERO,
            silent: false,
            gone: false,
            awaited,
            told: SourceState::Awaited,
        }
    }

    /// A source that is known only by what a store holds of it: it may say nothing, and its lease runs out.
    pub(super) fn stranger(now: Instant) -> Self {
        let scope = SourceScope { namespaces: Some(BTreeSet::new()), host: None };
        Self::new(SourceConfig { scope, lease: Some(Lease::default()), expected: true }, now)
    }

    /// It has endpoints from before a restart.
    pub(super) fn restored(&mut self, limits: &Limits) {
        self.awaited = true;
        self.grace = limits.restored_grace;
    }

    pub(super) fn open(&mut self) -> u64 {
        self.sessions += 1;
        self.session = Some(self.sessions);
        self.sequence = None;
        self.list = List::None;
        self.sessions
    }

    pub(super) fn close(&mut self) {
        self.session = None;
        self.list = List::None;
    }

    /// Checks that an event is the next one of the present connection. The beginning of a list may come at any time
    /// and with any number: nothing that was missed before it matters.
    pub(super) fn take_sequence(
        &mut self,
        id: &SourceId,
        session: u64,
        event: &SourceEvent,
    ) -> Result<(), Refused> {
        if self.session != Some(session) {
            return Err(Refused::StaleSession { source_id: id.clone() });
        }
        let sequence = event.sequence;
        let last = self.sequence.unwrap_or_else(|| sequence.saturating_sub(1));
        if event.change == SourceChange::Init {
            self.sequence = Some(sequence);
            return Ok(());
        }
        if self.sequence.is_some() && sequence <= last {
            return Err(Refused::Repeated { source_id: id.clone(), sequence, last });
        }
        self.sequence = Some(sequence);
        if sequence - last > 1 {
            self.list = List::None;
            return Err(Refused::Gap { source_id: id.clone(), sequence, last });
        }
        Ok(())
    }

    pub(super) fn need_open_list(&self, id: &SourceId) -> Result<(), Refused> {
        match self.list {
            List::None | List::Complete => Err(Refused::NoList { source_id: id.clone() }),
            List::Open(_) => Ok(()),
        }
    }

    /// Notes that the open list, if there is one, names an endpoint. One that the source does not claim needs no note.
    pub(super) fn note_listed(&mut self, key: &EndpointKey) {
        if let List::Open(listed) = &mut self.list
            && self.instances.contains(key)
        {
            listed.insert(key.clone());
        }
    }

    /// The source claims this no more.
    pub(super) fn drop_instance(&mut self, key: &EndpointKey) {
        self.instances.remove(key);
        if let List::Open(listed) = &mut self.list {
            listed.remove(key);
        }
    }

    pub(super) fn complete_list(&mut self, id: &SourceId) -> Result<BTreeSet<EndpointKey>, Refused> {
        match std::mem::replace(&mut self.list, List::None) {
            List::Open(listed) => {
                self.list = List::Complete;
                self.awaited = false;
                Ok(listed)
            }
            other => {
                self.list = other;
                Err(Refused::NoList { source_id: id.clone() })
            }
        }
    }

    pub(super) fn need_list(&self, id: &SourceId) -> Result<(), Refused> {
        match self.list {
            List::None => Err(Refused::ListFirst { source_id: id.clone() }),
            List::Open(_) | List::Complete => Ok(()),
        }
    }

    pub(super) fn need_complete(&self, id: &SourceId) -> Result<(), Refused> {
        match self.list {
            List::None | List::Open(_) => Err(Refused::ListFirst { source_id: id.clone() }),
            List::Complete => Ok(()),
        }
    }

    /// Renews the lease; answers whether the source had been silent.
    pub(super) fn renew(&mut self, now: Instant) -> bool {
        self.heard = now;
        self.spoken = true;
        self.gone = false;
        self.grace = Duration::ZERO;
        std::mem::take(&mut self.silent)
    }

    /// The lease has run out.
    pub(super) fn lapse(&mut self) {
        self.gone = true;
        self.silent = false;
        self.awaited = false;
        self.list = List::None;
    }

    fn deadlines(&self) -> Option<(Instant, Instant)> {
        let lease = self.config.lease?;
        let silent = self.heard + lease.unhealthy_after + self.grace;
        let gone = self.heard + lease.gone_after.max(lease.unhealthy_after + self.grace);
        Some((silent, gone))
    }

    /// What the lease says at this time: Silent, Gone, or nothing against Live.
    pub(super) fn lease_state(&self, now: Instant) -> SourceState {
        match self.deadlines() {
            Some((_, gone)) if now >= gone => SourceState::Gone,
            Some((silent, _)) if now >= silent => SourceState::Silent,
            Some(_) | None => SourceState::Live,
        }
    }

    /// When the lease next changes something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let (silent, gone) = self.deadlines()?;
        match (self.gone, self.silent) {
            (true, _) => None,
            (false, true) => Some(gone),
            (false, false) => Some(silent),
        }
    }

    pub(super) fn state(&self) -> SourceState {
        if self.gone {
            return SourceState::Gone;
        }
        if self.silent {
            return SourceState::Silent;
        }
        match (&self.list, self.session) {
            (List::Complete, Some(_)) => SourceState::Live,
            (_, Some(_)) => SourceState::Listing,
            (_, None) if self.spoken => SourceState::Away,
            (_, None) => SourceState::Awaited,
        }
    }
}
