//! What a source still has to say: the full list of a connection, then what differs from what was said.

use crate::health::Key;
use model::node::{Instance, SourceChange};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Composes what should be registered with what was said of it on this connection.
///
/// Events are made one by one when there is room for them, so that however slow the other side is, what waits is
/// bounded by the number of instances, and the newest state counts.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    wanted: BTreeMap<Key, Instance>,
    /// What was said on this connection.
    said: BTreeMap<Key, Instance>,
    /// Keys whose wanted state may differ from what was said; at most those of the two maps.
    dirty: BTreeSet<Key>,
    phase: Phase,
    renew: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is no connection, or not yet anything to list.
    #[default]
    Silent,
    /// The full list is about to begin.
    Begin,
    /// The full list is said up to here.
    Listing(Option<Key>),
    /// The full list is complete.
    Live,
}

impl Announcer {
    /// Changes what should be registered; none: nothing under this key.
    pub(crate) fn set(&mut self, key: Key, instance: Option<Instance>) {
        let before = self.wanted.get(&key);
        if before == instance.as_ref() {
            return;
        }
        self.dirty.insert(key.clone());
        match instance {
            Some(instance) => self.wanted.insert(key, instance),
            None => self.wanted.remove(&key),
        };
    }

    /// What should be registered.
    pub(crate) fn wanted(&self) -> &BTreeMap<Key, Instance> {
        &self.wanted
    }

    /// Begins a full list.
    pub(crate) fn begin_list(&mut self) {
        self.phase = Phase::Begin;
        self.renew = false;
    }

    /// There is nobody to talk to.
    pub(crate) fn stop(&mut self) {
        self.phase = Phase::Silent;
        self.renew = false;
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.phase == Phase::Silent
    }

    pub(crate) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The lease is to be renewed; without effect before the list is complete.
    pub(crate) fn renew(&mut self) {
        self.renew = self.is_live();
    }

    /// Whether [`Self::next`] has something.
    pub(crate) fn has_next(&self) -> bool {
        match self.phase {
            Phase::Silent => false,
            Phase::Begin | Phase::Listing(_) => true,
            Phase::Live => self.renew || !self.dirty.is_empty(),
        }
    }

    /// The next thing to say. It may have nothing although [`Self::has_next`] says so, when a change was taken back.
    pub(crate) fn next(&mut self) -> Option<SourceChange> {
        match &self.phase {
            Phase::Silent => None,
            Phase::Begin => {
                self.said.clear();
                self.dirty.clear();
                self.phase = Phase::Listing(None);
                Some(SourceChange::Init)
            }
            Phase::Listing(after) => {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let Some((key, instance)) = self.wanted.range((from, Bound::Unbounded)).next() else {
                    self.phase = Phase::Live;
                    return Some(SourceChange::InitDone);
                };
                let (key, instance) = (key.clone(), instance.clone());
                self.said.insert(key.clone(), instance.clone());
                self.dirty.remove(&key);
                self.phase = Phase::Listing(Some(key));
                Some(SourceChange::InitApply(instance))
            }
            Phase::Live => self.next_change(),
        }
    }

    fn next_change(&mut self) -> Option<SourceChange> {
        while let Some(key) = self.dirty.pop_first() {
            let wanted = self.wanted.get(&key);
            if wanted == self.said.get(&key) {
                continue;
            }
            match wanted.cloned() {
                Some(instance) => {
                    self.said.insert(key, instance.clone());
                    return Some(SourceChange::Apply(instance));
                }
                None => {
                    self.said.remove(&key);
                    return Some(SourceChange::Delete(key.0, key.1));
                }
            }
        }
        std::mem::take(&mut self.renew).then_some(SourceChange::Renew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests_support::instance;
    use model::endpoint::Health;

    fn key(id: &str) -> Key {
        ("shop/cart".parse().expect("valid"), id.parse().expect("valid"))
    }

    fn set(announcer: &mut Announcer, id: &str, health: Health) {
        announcer.set(key(id), Some(instance("shop/cart", id, health)));
    }

    fn says(announcer: &mut Announcer) -> String {
        let mut words = Vec::new();
        while announcer.has_next() {
            words.extend(announcer.next().map(|change| word(&change)));
        }
        words.join(" ")
    }

    fn word(change: &SourceChange) -> String {
        let of = |i: &Instance| match i.endpoint.health {
            Health::Healthy => format!("{}+", i.endpoint.id),
            Health::Unhealthy | Health::Draining => format!("{}-", i.endpoint.id),
        };
        match change {
            SourceChange::Init => "(".to_owned(),
            SourceChange::InitApply(instance) | SourceChange::Apply(instance) => of(instance),
            SourceChange::InitDone => ")".to_owned(),
            SourceChange::Delete(_, id) => format!("x{id}"),
            SourceChange::Renew => "renew".to_owned(),
        }
    }

    #[test]
    fn a_connection_begins_with_a_full_list_and_goes_on_with_what_differs() {
        let mut announcer = Announcer::default();
        set(&mut announcer, "a", Health::Healthy);
        set(&mut announcer, "b", Health::Unhealthy);
        assert_eq!(says(&mut announcer), "", "nobody listens");
        announcer.begin_list();
        assert_eq!(says(&mut announcer), "( a+ b- )");
        set(&mut announcer, "b", Health::Healthy);
        announcer.set(key("a"), None);
        announcer.renew();
        assert_eq!(says(&mut announcer), "xa b+ renew");
        announcer.stop();
        set(&mut announcer, "c", Health::Healthy);
        announcer.renew();
        assert_eq!(says(&mut announcer), "");
        announcer.begin_list();
        assert_eq!(says(&mut announcer), "( b+ c+ )");
    }

    #[test]
    fn what_changes_and_changes_back_before_it_is_said_is_not_said() {
        let mut announcer = Announcer::default();
        set(&mut announcer, "a", Health::Healthy);
        announcer.begin_list();
        says(&mut announcer);
        for _ in 0..1_000 {
            set(&mut announcer, "a", Health::Unhealthy);
            set(&mut announcer, "a", Health::Healthy);
        }
        assert_eq!(says(&mut announcer), "");
    }

    #[test]
    fn a_change_in_the_middle_of_the_list_is_said_once() {
        let mut announcer = Announcer::default();
        for id in ["a", "c"] {
            set(&mut announcer, id, Health::Healthy);
        }
        announcer.begin_list();
        assert_eq!([announcer.next(), announcer.next()].map(|c| word(&c.expect("more"))), ["(", "a+"]);
        set(&mut announcer, "a", Health::Unhealthy);
        set(&mut announcer, "b", Health::Healthy);
        announcer.set(key("c"), None);
        assert_eq!(says(&mut announcer), "b+ ) a-");
    }
}
