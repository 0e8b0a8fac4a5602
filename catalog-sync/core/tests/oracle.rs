//! Random runs against a slow oracle that recomputes everything from a plain list of claims.

mod support;

use model::catalog::{OwnKey, OwnValue};
use model::endpoint::Health;
use model::node::{Instance, SourceChange};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use support::{Bench, agent, config, files, instance, secs, service};
use sync_core::event::Conflict;
use sync_core::intake::Restored;
use sync_core::source::SourceId;

/// Everything that may happen; sources, services and endpoints by small numbers, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Open(usize),
    Gone(usize),
    Init(usize),
    InitApply(usize, Word),
    InitDone(usize),
    Apply(usize, Word),
    Delete(usize, usize, usize),
    Renew(usize),
    LoseAnEvent(usize),
    Wait(u64),
}

/// Service, endpoint, port (the spec), weight.
type Word = (usize, usize, u16, u32);

const SERVICES: [&str; 3] = ["shop/cart", "shop/web", "pay/api"];
const ENDPOINTS: [&str; 3] = ["a", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let source = || 0..3usize;
    let word = || (0..3usize, 0..3usize, 80..82u16, 1..3u32);
    prop_oneof![
        3 => source().prop_map(Step::Open),
        1 => source().prop_map(Step::Gone),
        4 => source().prop_map(Step::Init),
        6 => (source(), word()).prop_map(|(source, word)| Step::InitApply(source, word)),
        4 => source().prop_map(Step::InitDone),
        8 => (source(), word()).prop_map(|(source, word)| Step::Apply(source, word)),
        4 => (source(), 0..3usize, 0..3usize).prop_map(|(source, a, b)| Step::Delete(source, a, b)),
        4 => source().prop_map(Step::Renew),
        1 => source().prop_map(Step::LoseAnEvent),
        4 => prop_oneof![0..60u64, 1_000..40_000u64, 100_000..130_000u64].prop_map(Step::Wait),
    ]
}

/// The list of a connection, as the oracle sees it.
#[derive(Debug, Clone, Default, PartialEq)]
enum List {
    #[default]
    None,
    Open(BTreeSet<(usize, usize)>),
    Complete,
}

#[derive(Default)]
struct Oracle {
    /// Claims on endpoints, oldest first, each with its latest value.
    endpoints: Vec<(usize, (usize, usize), Instance)>,
    /// Claims on services, oldest first, with the port of the latest spec.
    services: Vec<(usize, usize, u16)>,
    lists: BTreeMap<usize, List>,
    heard: BTreeMap<usize, Instant>,
    open: BTreeSet<usize>,
    awaited: BTreeSet<usize>,
}

impl Oracle {
    fn put(&mut self, source: usize, word: Word, said: Instance) {
        let (of, id, port, _) = word;
        match self.endpoints.iter_mut().find(|claim| claim.0 == source && claim.1 == (of, id)) {
            Some(claim) => claim.2 = said,
            None => self.endpoints.push((source, (of, id), said)),
        }
        match self.services.iter_mut().find(|claim| claim.0 == source && claim.1 == of) {
            Some(claim) => claim.2 = port,
            None => self.services.push((source, of, port)),
        }
    }

    fn keep(&mut self, keep: impl Fn(usize, (usize, usize)) -> bool) {
        self.endpoints.retain(|claim| keep(claim.0, claim.1));
        let endpoints = &self.endpoints;
        self.services.retain(|(source, of, _)| endpoints.iter().any(|e| e.0 == *source && e.1.0 == *of));
    }

    fn expire(&mut self, now: Instant) {
        for source in 0..2 {
            if now - self.heard[&source] >= secs(120) {
                self.keep(|of, _| of != source);
                self.lists.insert(source, List::None);
                self.awaited.remove(&source);
            }
        }
    }

    fn list(&mut self, source: usize) -> &mut List {
        self.lists.entry(source).or_default()
    }

    /// Applies a step; answers whether it has to be taken.
    fn step(&mut self, step: &Step, said: Option<Instance>, now: Instant) -> bool {
        let taken = match step {
            Step::Open(source) => {
                self.open.insert(*source);
                *self.list(*source) = List::None;
                return true;
            }
            Step::Gone(source) => {
                self.open.remove(source);
                *self.list(*source) = List::None;
                return true;
            }
            Step::LoseAnEvent(source) => {
                *self.list(*source) = List::None;
                return false;
            }
            Step::Wait(_) => {
                self.expire(now);
                return true;
            }
            Step::Init(source) => {
                *self.list(*source) = List::Open(BTreeSet::new());
                true
            }
            Step::InitApply(source, word) => match self.list(*source) {
                List::Open(listed) => {
                    listed.insert((word.0, word.1));
                    let allowed = *source != 1 || word.0 != 2;
                    if allowed {
                        self.put(*source, *word, said.expect("an instance"));
                    }
                    allowed
                }
                _ => false,
            },
            Step::InitDone(source) => match self.list(*source).clone() {
                List::Open(listed) => {
                    self.keep(|of, key| of != *source || listed.contains(&key));
                    *self.list(*source) = List::Complete;
                    self.awaited.remove(source);
                    true
                }
                _ => false,
            },
            Step::Apply(source, word) => {
                let allowed = *source != 1 || word.0 != 2;
                match self.list(*source) {
                    List::None => false,
                    list => {
                        if let List::Open(listed) = list {
                            listed.insert((word.0, word.1));
                        }
                        if allowed {
                            self.put(*source, *word, said.expect("an instance"));
                        }
                        allowed
                    }
                }
            }
            Step::Delete(source, of, id) => {
                if *self.list(*source) == List::None || (*source == 1 && *of == 2) {
                    false
                } else {
                    if let List::Open(listed) = self.list(*source) {
                        listed.remove(&(*of, *id));
                    }
                    self.keep(|claimant, key| claimant != *source || key != (*of, *id));
                    true
                }
            }
            Step::Renew(source) => *self.list(*source) == List::Complete,
        };
        let source = match step {
            Step::Init(s) | Step::InitApply(s, _) | Step::InitDone(s) | Step::Apply(s, _) => *s,
            Step::Delete(s, ..) | Step::Renew(s) => *s,
            Step::Open(_) | Step::Gone(_) | Step::LoseAnEvent(_) | Step::Wait(_) => unreachable!(),
        };
        if taken {
            self.heard.insert(source, now);
        }
        taken
    }

    fn catalog(&self, ids: &[SourceId], now: Instant) -> BTreeMap<OwnKey, (OwnValue, SourceId)> {
        let mut catalog = BTreeMap::new();
        for (source, of, port) in &self.services {
            let value = OwnValue::Service(support::spec(*port));
            let key = OwnKey::Service(service(SERVICES[*of]));
            catalog.entry(key).or_insert((value, ids[*source].clone()));
        }
        for (source, (of, id), said) in &self.endpoints {
            let mut endpoint = said.endpoint.clone();
            if *source < 2 && now - self.heard[source] >= secs(15) {
                endpoint.health = Health::Unhealthy;
            }
            let key = OwnKey::Endpoint(service(SERVICES[*of]), ENDPOINTS[*id].parse().expect("valid"));
            catalog.entry(key).or_insert((OwnValue::Endpoint(endpoint), ids[*source].clone()));
        }
        catalog
    }

    fn conflicts(&self, ids: &[SourceId]) -> BTreeSet<Conflict> {
        let mut conflicts = BTreeSet::new();
        for (at, (source, key, _)) in self.endpoints.iter().enumerate() {
            if let Some(first) = self.endpoints[..at].iter().find(|claim| claim.1 == *key) {
                let id = ENDPOINTS[key.1].parse().expect("valid");
                conflicts.insert(Conflict {
                    key: OwnKey::Endpoint(service(SERVICES[key.0]), id),
                    winner: ids[first.0].clone(),
                    loser: ids[*source].clone(),
                });
            }
        }
        for (at, (source, of, port)) in self.services.iter().enumerate() {
            if let Some(first) = self.services[..at].iter().find(|claim| claim.1 == *of)
                && first.2 != *port
            {
                conflicts.insert(Conflict {
                    key: OwnKey::Service(service(SERVICES[*of])),
                    winner: ids[first.0].clone(),
                    loser: ids[*source].clone(),
                });
            }
        }
        conflicts
    }
}

/// Plays a run, and compares after each step once the coalescing time has passed.
fn check(steps: &[Step]) {
    let ids = [agent("vm-1"), agent("vm-2"), files()];
    let scopes = [None, Some(["shop"].as_slice()), None];
    let sources: Vec<_> = ids.iter().zip(scopes).map(|(id, scope)| (id.clone(), config(id, scope))).collect();
    let mut bench = Bench::new(&sources, Restored::default());
    let mut oracle = Oracle::default();
    oracle.heard.extend((0..3).map(|source| (source, bench.now)));
    oracle.awaited.insert(2);
    for step in steps {
        let source = match step {
            Step::Open(s) | Step::Gone(s) | Step::Init(s) | Step::InitDone(s) | Step::Renew(s) => Some(*s),
            Step::InitApply(s, _) | Step::Apply(s, _) | Step::Delete(s, ..) | Step::LoseAnEvent(s) => {
                Some(*s)
            }
            Step::Wait(_) => None,
        };
        let id = source.map(|source| ids[source].clone());
        let is_open = id.as_ref().is_some_and(|id| bench.sessions.contains_key(id));
        if !is_open && !matches!(step, Step::Open(_) | Step::Wait(_)) {
            continue;
        }
        let said = match step {
            Step::InitApply(source, word) | Step::Apply(source, word) => {
                Some(instance(&ids[*source], SERVICES[word.0], ENDPOINTS[word.1], word.2, word.3))
            }
            _ => None,
        };
        let taken = match (step, &id) {
            (Step::Wait(ms), _) => {
                bench.run_for(Duration::from_millis(*ms));
                true
            }
            (Step::Open(_), Some(id)) => {
                bench.open(id);
                true
            }
            (Step::Gone(_), Some(id)) => {
                bench.gone(id);
                true
            }
            (Step::LoseAnEvent(_), Some(id)) => {
                let session = bench.sessions.get_mut(id).expect("open");
                // The first event of a connection has none before it that could be missed.
                if session.1 == 0 {
                    continue;
                }
                session.1 += 1;
                bench.say(id, SourceChange::Renew).is_ok()
            }
            (step, Some(id)) => {
                let change = match step {
                    Step::Init(_) => SourceChange::Init,
                    Step::InitApply(..) => SourceChange::InitApply(said.clone().expect("an instance")),
                    Step::InitDone(_) => SourceChange::InitDone,
                    Step::Apply(..) => SourceChange::Apply(said.clone().expect("an instance")),
                    Step::Delete(_, of, at) => {
                        let id = ENDPOINTS[*at].parse().expect("valid");
                        SourceChange::Delete(service(SERVICES[*of]), id)
                    }
                    _ => SourceChange::Renew,
                };
                bench.say(id, change).is_ok()
            }
            (_, None) => unreachable!("only waiting has no source"),
        };
        assert_eq!(taken, oracle.step(step, said, bench.now), "taken or refused: {step:?}");
        bench.settle();
        oracle.expire(bench.now);
        assert_eq!(bench.catalog, oracle.catalog(&ids, bench.now), "after {step:?}");
        assert_eq!(bench.conflicts, oracle.conflicts(&ids), "after {step:?}");
        assert_eq!(bench.intake.all_complete(), oracle.awaited.is_empty(), "after {step:?}");
    }
    assert!(bench.recovered <= 1);
    // What was told adds up to what the core itself holds.
    let held: BTreeMap<_, _> = bench
        .intake
        .catalog()
        .map(|(key, value, owner)| (key.clone(), (value.clone(), owner.clone())))
        .collect();
    assert_eq!(held, bench.catalog);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_is_what_the_oldest_claims_say(steps in prop::collection::vec(step(), 1..80)) {
        check(&steps);
    }

    #[test]
    fn a_restart_at_any_moment_changes_nothing_by_itself(steps in prop::collection::vec(step(), 1..60)) {
        let (mut bench, one, two, files) = Bench::of_three();
        for step in &steps {
            if let Step::Apply(source, word) | Step::InitApply(source, word) = step {
                let id = [&one, &two, &files][*source];
                if !bench.sessions.contains_key(id) {
                    bench.list(id, &[]);
                }
                let said = instance(id, SERVICES[word.0], ENDPOINTS[word.1], word.2, word.3);
                bench.say(id, SourceChange::Apply(said)).expect("taken");
            }
        }
        bench.settle();
        let sources = [&one, &two, &files].map(|source| (source.clone(), config(source, None)));
        let mut again = Bench::new(&sources, bench.stored());
        again.run_for(secs(10));
        prop_assert!(again.changes.is_empty());
        prop_assert_eq!(again.catalog, bench.catalog);
    }
}
