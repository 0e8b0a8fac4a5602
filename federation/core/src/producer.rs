//! The origin's side of one session: what the peer was told, and the next batch for it.
//!
//! No batch is made before there is room in the peer's window, so a slow peer costs no memory: what changes meanwhile
//! replaces older values in the projection.

use crate::check::MessageError;
use crate::digest::key_bytes;
use crate::held::is_whole;
use crate::own::OwnCatalog;
use crate::projection::Projection;
use crate::settings::Settings;
use model::catalog::{Entry, EntryKey, EntryValue, Epoch, Revision, Scope, Version, View};
use model::exchange::{Batch, Held, PeerMessage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The origin's side of one session.
#[derive(Debug)]
pub(crate) struct Producer {
    view: View,
    /// What the peer wants to hear of.
    want: Scope,
    epoch: Epoch,
    mode: Mode,
    /// Everything up to here was looked at for this peer.
    seen: Revision,
    /// Position that the peer was last told; at most `seen`, less when what was between did not concern it.
    told: Revision,
    /// Changes that concern this peer alone: services that were shared with it, or no longer are.
    private: BTreeMap<Revision, EntryKey>,
    /// Estimated bytes of each batch that is not acknowledged. Bounded by `Settings::window_batches`.
    in_flight: VecDeque<usize>,
    acknowledged: Option<Version>,
    /// The peer is to be sent a digest when it has been told everything.
    digest_due: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// Sends changes.
    Changes,
    /// Sends a snapshot: goes once through all entries, from this key on.
    Pass { after: Option<EntryKey> },
    /// Still in the snapshot: sends what changed during the pass, and then that it is complete.
    CatchUp,
}

/// What there is to send.
struct Gathered {
    entries: BTreeMap<EntryKey, Option<EntryValue>>,
    bytes: usize,
    /// Position after the entries.
    at: Revision,
}

impl Producer {
    /// Begins to send from what the peer holds, or a snapshot.
    pub fn new(own: &OwnCatalog, want: Scope, view: View, held: Option<Held>, offer_since: Revision) -> Self {
        let mut producer = Self {
            view,
            want,
            epoch: own.version().epoch,
            mode: Mode::Changes,
            seen: Revision(0),
            told: Revision(0),
            private: BTreeMap::new(),
            in_flight: VecDeque::new(),
            acknowledged: None,
            digest_due: false,
        };
        match held.filter(|held| can_follow(held, own, own.projection(view), offer_since)) {
            Some(held) => {
                producer.seen = held.version.revision;
                producer.told = held.version.revision;
                producer.acknowledged = Some(held.version);
            }
            None => producer.restart(own),
        }
        producer
    }

    pub fn acknowledged(&self) -> Option<Version> {
        self.acknowledged
    }

    /// Batches that are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Changes that concern this peer alone and were not yet sent.
    pub fn private(&self) -> usize {
        self.private.len()
    }

    /// Begins a snapshot at the present position.
    pub fn restart(&mut self, own: &OwnCatalog) {
        self.epoch = own.version().epoch;
        self.mode = Mode::Pass { after: None };
        self.seen = own.version().revision;
        self.told = self.seen;
        self.private.clear();
    }

    /// The peer asks for a snapshot. One that is under way will do.
    pub fn handle_resync(&mut self, own: &OwnCatalog) {
        if self.mode == Mode::Changes {
            self.restart(own);
        }
    }

    /// # Errors
    /// `FalseAck` when nothing was sent that this could acknowledge.
    pub fn handle_ack(&mut self, version: Version) -> Result<(), MessageError> {
        let told = Version { epoch: self.epoch, revision: self.told };
        if version > told || self.in_flight.pop_front().is_none() {
            return Err(MessageError::FalseAck);
        }
        self.acknowledged = Some(version);
        Ok(())
    }

    /// At this position, a key began or ceased to be shared with this peer.
    pub fn touch(&mut self, key: EntryKey, at: Revision) {
        self.private.insert(at, key);
    }

    /// Keys whose sharing changes with the offer, for `touch`. Among them are deleted ones of which the peer has not
    /// been told yet: under the new offer it would never be.
    pub fn reshared(&self, own: &OwnCatalog, before: &Scope, after: &Scope) -> BTreeSet<EntryKey> {
        let projection = own.projection(self.view);
        let live = projection.live_after(None).map(|(key, _)| key);
        let untold = projection.changed_after(self.seen).map(|(_, key)| key);
        live.chain(untold)
            .filter(|key| self.is_told(key, before) != self.is_told(key, after))
            .cloned()
            .collect()
    }

    /// A digest is to be sent as soon as the peer has been told everything.
    pub fn want_digest(&mut self) {
        self.digest_due = true;
    }

    /// The next message, if there is something to say and room in the window.
    pub fn next(&mut self, own: &OwnCatalog, offer: &Scope, settings: &Settings) -> Option<PeerMessage> {
        if !self.has_room(settings) {
            return None;
        }
        if self.epoch != own.version().epoch || self.seen < own.projection(self.view).floor() {
            self.restart(own);
        }
        let (batch, bytes) = match self.mode {
            Mode::Changes => match self.changes(own, offer, settings) {
                Some(batch) => batch,
                None => return self.digest(own, offer),
            },
            Mode::Pass { .. } => self.pass(own, offer, settings),
            Mode::CatchUp => self.catch_up(own, offer, settings)?,
        };
        self.in_flight.push_back(bytes);
        Some(PeerMessage::Batch(batch))
    }

    fn has_room(&self, settings: &Settings) -> bool {
        self.in_flight.len() < settings.window_batches
            && self.in_flight.iter().sum::<usize>() < settings.window_bytes
    }

    fn changes(&mut self, own: &OwnCatalog, offer: &Scope, settings: &Settings) -> Option<(Batch, usize)> {
        let gathered = self.gather(own, offer, settings);
        self.seen = gathered.at;
        // Positions that held nothing for this peer are told only when a digest is due at them.
        if gathered.entries.is_empty() && !(self.digest_due && self.told < gathered.at) {
            return None;
        }
        Some(self.batch(gathered, false, true))
    }

    fn digest(&mut self, own: &OwnCatalog, offer: &Scope) -> Option<PeerMessage> {
        if !self.digest_due || self.told != own.version().revision {
            return None;
        }
        self.digest_due = false;
        let digest = self.digest_of(own, offer);
        Some(PeerMessage::Digest { version: own.version(), digest })
    }

    /// Digest of what the peer holds when it holds everything.
    pub fn digest_of(&self, own: &OwnCatalog, offer: &Scope) -> [u8; 32] {
        own.projection(self.view).digest(|key| self.is_told(key, offer)).bytes()
    }

    /// Whether nothing that the peer is told of changed after a position.
    pub fn is_unchanged_since(&self, own: &OwnCatalog, offer: &Scope, revision: Revision) -> bool {
        !own.projection(self.view).changed_after(revision).any(|(_, key)| self.is_told(key, offer))
    }

    /// Whether changes are sent, and no snapshot.
    pub fn follows(&self) -> bool {
        self.mode == Mode::Changes
    }

    fn pass(&mut self, own: &OwnCatalog, offer: &Scope, settings: &Settings) -> (Batch, usize) {
        let after = match &self.mode {
            Mode::Pass { after } => after.clone(),
            Mode::Changes | Mode::CatchUp => None,
        };
        let mut gathered = Gathered { entries: BTreeMap::new(), bytes: 0, at: self.told };
        let mut rest = false;
        for (key, (value, measure)) in own.projection(self.view).live_after(after.as_ref()) {
            if !self.is_told(key, offer) {
                continue;
            }
            let bytes = measure.bytes as usize;
            if gathered.is_full(bytes, settings) {
                rest = true;
                break;
            }
            gathered.add(key.clone(), Some(value.clone()), bytes);
        }
        let mut complete = false;
        self.mode = if rest {
            Mode::Pass { after: gathered.entries.last_key_value().map(|(key, _)| key.clone()) }
        } else {
            complete = own.version().revision == self.told && !own.is_recovering();
            if complete { Mode::Changes } else { Mode::CatchUp }
        };
        self.batch(gathered, true, complete)
    }

    fn catch_up(&mut self, own: &OwnCatalog, offer: &Scope, settings: &Settings) -> Option<(Batch, usize)> {
        let gathered = self.gather(own, offer, settings);
        let complete = gathered.at == own.version().revision && !own.is_recovering();
        self.seen = gathered.at;
        if gathered.entries.is_empty() && !complete {
            return None;
        }
        if complete {
            self.mode = Mode::Changes;
        }
        Some(self.batch(gathered, true, complete))
    }

    fn batch(&mut self, gathered: Gathered, snapshot: bool, complete: bool) -> (Batch, usize) {
        let base = Version { epoch: self.epoch, revision: self.told };
        let version = Version { epoch: self.epoch, revision: gathered.at };
        self.told = gathered.at;
        let entries = gathered.entries.into_iter().map(|(key, value)| Entry { key, value }).collect();
        (Batch { base, version, snapshot, complete, entries }, gathered.bytes)
    }

    /// Gathers what changed for this peer since `seen`, in the order of change, up to the size of a batch.
    fn gather(&mut self, own: &OwnCatalog, offer: &Scope, settings: &Settings) -> Gathered {
        let projection = own.projection(self.view);
        let mut gathered = Gathered { entries: BTreeMap::new(), bytes: 0, at: self.seen };
        let mut public = projection.changed_after(self.seen).peekable();
        let mut private = self.private.iter().map(|(at, key)| (*at, key)).peekable();
        loop {
            let (from_private, (at, key)) = match (public.peek(), private.peek()) {
                (Some(next), Some(own)) if own.0 < next.0 => (true, *own),
                (Some(next), _) => (false, *next),
                (None, Some(own)) => (true, *own),
                (None, None) => {
                    gathered.at = own.version().revision;
                    break;
                }
            };
            let told = self.is_told(key, offer);
            if told || from_private {
                let live = projection.value(key).filter(|_| told);
                let bytes = live.map_or_else(|| key_bytes(key), |(_, measure)| measure.bytes as usize);
                if gathered.is_full(bytes, settings) {
                    break;
                }
                gathered.add(key.clone(), live.map(|(value, _)| value.clone()), bytes);
            }
            gathered.at = at;
            if from_private {
                private.next();
            } else {
                public.next();
            }
        }
        let sent = gathered.at;
        self.private.retain(|at, _| *at > sent);
        gathered
    }

    fn is_told(&self, key: &EntryKey, offer: &Scope) -> bool {
        key.service().is_none_or(|service| self.want.contains(service) && offer.contains(service))
    }
}

impl Gathered {
    fn is_full(&self, more: usize, settings: &Settings) -> bool {
        !self.entries.is_empty() && self.bytes + more > settings.batch_bytes
    }

    fn add(&mut self, key: EntryKey, value: Option<EntryValue>, bytes: usize) {
        if self.entries.insert(key, value).is_none() {
            self.bytes += bytes;
        }
    }
}

/// Whether changes suffice for a peer that holds `held`.
fn can_follow(held: &Held, own: &OwnCatalog, projection: &Projection, offer_since: Revision) -> bool {
    let whole = is_whole(held);
    let (own, held) = (own.version(), held.version);
    whole
        && held.epoch == own.epoch
        && held.revision <= own.revision
        && held.revision >= projection.floor()
        && held.revision >= offer_since
}
