//! What must hold, written apart from the core: a slow projection of the truth, its history, and the rules.

use model::catalog::{EntryKey, EntryValue, ExportInfo, GroupSummary, OwnKey, OwnValue, Scope, View};
use model::endpoint::{Endpoint, Health};
use model::service::{ServiceKind, ServiceName};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Entries by key.
pub type Entries = BTreeMap<EntryKey, EntryValue>;

/// What a peer is to hold of a site whose sources say `truth`.
pub fn project(truth: &BTreeMap<OwnKey, OwnValue>, offer: &Scope, want: &Scope, view: View) -> Entries {
    let mut told = Entries::new();
    for (key, value) in truth {
        match (key, value) {
            (OwnKey::Site, OwnValue::Site(site)) => {
                told.insert(EntryKey::Site, EntryValue::Site(site.clone()));
            }
            (OwnKey::Export(name), OwnValue::Export { created_at_ms })
                if offer.contains(name) && want.contains(name) =>
            {
                project_service(truth, name, *created_at_ms, view, &mut told);
            }
            _ => {}
        }
    }
    told
}

fn project_service(
    truth: &BTreeMap<OwnKey, OwnValue>,
    name: &ServiceName,
    created_at_ms: u64,
    view: View,
    told: &mut Entries,
) {
    let Some(OwnValue::Service(spec)) = truth.get(&OwnKey::Service(name.clone())) else { return };
    told.insert(
        EntryKey::Export(name.clone()),
        EntryValue::Export(ExportInfo { spec: spec.clone(), created_at_ms }),
    );
    for (key, value) in truth {
        let (OwnKey::Endpoint(service, id), OwnValue::Endpoint(endpoint)) = (key, value) else { continue };
        if service != name {
            continue;
        }
        if view == View::Endpoints || spec.kind == ServiceKind::Headless {
            told.insert(EntryKey::Endpoint(name.clone(), id.clone()), EntryValue::Endpoint(endpoint.clone()));
            continue;
        }
        let key = EntryKey::Group(name.clone(), endpoint.locality.clone(), endpoint.subset.clone());
        let mut group = match told.get(&key) {
            Some(EntryValue::Group(group)) => *group,
            _ => GroupSummary { healthy: 0, total: 0, capacity: 0 },
        };
        group.total += 1;
        if endpoint.health == Health::Healthy {
            group.healthy += 1;
            group.capacity += u64::from(endpoint.weight);
        }
        told.insert(key, EntryValue::Group(group));
    }
}

/// What the sources of a site say, offered or not, as single values.
pub fn said(truth: &BTreeMap<OwnKey, OwnValue>) -> Entries {
    let entry = |(key, value): (&OwnKey, &OwnValue)| match (key, value) {
        (OwnKey::Site, OwnValue::Site(site)) => Some((EntryKey::Site, EntryValue::Site(site.clone()))),
        (OwnKey::Service(name), OwnValue::Service(spec)) => {
            let export = ExportInfo { spec: spec.clone(), created_at_ms: 0 };
            Some((EntryKey::Export(name.clone()), EntryValue::Export(export)))
        }
        (OwnKey::Endpoint(name, id), OwnValue::Endpoint(endpoint)) => {
            Some((EntryKey::Endpoint(name.clone(), id.clone()), EntryValue::Endpoint(endpoint.clone())))
        }
        _ => None,
    };
    truth.iter().filter_map(entry).collect()
}

/// Entries as text, for comparing byte by byte and for showing a difference.
pub fn text(entries: &Entries) -> String {
    entries.iter().map(|(key, value)| format!("{key:?} = {value:?}\n")).collect()
}

/// What a peer was to hold of a site, at every time.
#[derive(Debug, Default)]
pub struct History {
    present: Entries,
    /// From when each key had which value. Before the first it was absent.
    states: BTreeMap<EntryKey, Vec<(Instant, Option<EntryValue>)>>,
}

/// A change at the origin takes this long to be told; a sample may be this much older than its message.
const SLACK: Duration = Duration::from_millis(10);

impl History {
    /// From `now` on a peer is to hold this.
    pub fn update(&mut self, now: Instant, projected: Entries) {
        for key in self.present.keys().filter(|key| !projected.contains_key(key)) {
            self.states.entry(key.clone()).or_default().push((now, None));
        }
        for (key, value) in &projected {
            if self.present.get(key) != Some(value) {
                self.states.entry(key.clone()).or_default().push((now, Some(value.clone())));
            }
        }
        self.present = projected;
    }

    /// What a key was from the time of a sample until the last change; none stands for absent.
    fn since(&self, key: &EntryKey, sampled: Option<Instant>) -> impl Iterator<Item = Option<&EntryValue>> {
        let states = self.states.get(key).map(Vec::as_slice).unwrap_or_default();
        let first = sampled.map_or(0, |sampled| {
            states.partition_point(|(from, _)| *from + SLACK <= sampled).saturating_sub(1)
        });
        let from_nothing = (sampled.is_none() || states.is_empty()).then_some(None);
        from_nothing.into_iter().chain(states[first..].iter().map(|(_, value)| value.as_ref()))
    }

    /// Judges a withdrawal: since the value that is withdrawn was sent, the key was absent at some time.
    pub fn check_withdrawn(&self, key: &EntryKey, sampled: Option<Instant>) -> Result<(), Violation> {
        if self.since(key, sampled).any(|state| state.is_none()) {
            return Ok(());
        }
        Err(Violation {
            rule: "nothing that its sources still have is withdrawn",
            what: format!("{key:?} was withdrawn, and was there all the time"),
        })
    }

    /// Judges a group: it is not smaller than it was since the value before was sent, nor than it is at the reader.
    pub fn check_group(
        &self,
        key: &EntryKey,
        total: u32,
        before: Option<&EntryValue>,
        sampled: Option<Instant>,
    ) -> Result<(), Violation> {
        let total_of = |state: Option<&EntryValue>| match state {
            Some(EntryValue::Group(was)) => was.total,
            _ => 0,
        };
        let least = self.since(key, sampled).map(total_of).chain([total_of(before)]).min();
        if least.is_none_or(|least| total >= least) {
            return Ok(());
        }
        Err(Violation {
            rule: "no group gets smaller on partial knowledge",
            what: format!("{key:?} has {total} endpoints, and never had fewer than {least:?}"),
        })
    }

    /// Judges a single value, in the history of what was said: it was true at some time since the value before was
    /// sent, or is that value.
    pub fn check_value(
        &self,
        key: &EntryKey,
        value: &EntryValue,
        before: Option<&EntryValue>,
        sampled: Option<Instant>,
    ) -> Result<(), Violation> {
        // Place and the rest of an endpoint apart: while its site recovers, it stays in its group.
        let place = |state: Option<&EntryValue>| match (value, state) {
            (EntryValue::Endpoint(is), Some(EntryValue::Endpoint(was))) => {
                (&was.locality, &was.subset) == (&is.locality, &is.subset)
            }
            (EntryValue::Endpoint(_), _) => false,
            _ => true,
        };
        let rest = |state: Option<&EntryValue>| match (state, value) {
            (Some(EntryValue::Export(was)), EntryValue::Export(is)) => was.spec == is.spec,
            (Some(EntryValue::Endpoint(was)), EntryValue::Endpoint(is)) => {
                let (locality, subset) = (is.locality.clone(), is.subset.clone());
                Endpoint { locality, subset, ..was.clone() } == *is
            }
            (state, value) => state == Some(value),
        };
        let states = || self.since(key, sampled).chain([before]);
        if states().any(place) && states().any(rest) {
            return Ok(());
        }
        Err(Violation {
            rule: "no value is older than the one it replaces",
            what: format!("{key:?} became {value:?}, which it was not since the value before was sent"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Change, change_of};

    #[test]
    fn a_withdrawal_without_a_cause_is_found() {
        let start = Instant::now();
        let mut truth = BTreeMap::new();
        let mut history = History::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut say = |change: Change, history: &mut History, seconds| {
            let (key, value) = change_of(0, &change);
            match value {
                Some(value) => truth.insert(key, value),
                None => truth.remove(&key),
            };
            history.update(at(seconds), project(&truth, &Scope::All, &Scope::All, View::Endpoints));
        };
        say(Change::Service { service: 0, headless: false, ports: 1 }, &mut history, 1);
        say(Change::Export { service: 0, at_ms: 1 }, &mut history, 2);
        let key = EntryKey::Export(crate::truth::service_name(0));
        assert!(history.check_withdrawn(&key, None).is_ok());
        assert!(history.check_withdrawn(&key, Some(at(3))).is_err());
        say(Change::ExportGone { service: 0 }, &mut history, 4);
        say(Change::Export { service: 0, at_ms: 1 }, &mut history, 5);
        assert!(history.check_withdrawn(&key, Some(at(3))).is_ok());
        assert!(history.check_withdrawn(&key, Some(at(6))).is_err());
    }
}
