//! The metrics of one process: what there is, read from the state that is there when somebody scrapes.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts, TextEncoder};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Instant;

/// Most series of one metric; what is beyond is left out of the scrape, and said in the log at debug.
pub const SERIES_MAX: usize = 4_096;

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process runs; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One metric: what it is called and what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, with its unit last.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Names of its labels. Their values come from closed or bounded sets.
    pub labels: &'static [&'static str],
}

/// Why metrics could not be added.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be added: a name is not good, or was added before")]
pub struct AddError(#[from] prometheus::Error);

/// The values of one scrape, as they are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    values: BTreeMap<&'static str, BTreeMap<Vec<String>, f64>>,
    left_out: usize,
}

impl Reading {
    /// Notes a value. A value that is noted again for the same labels counts in its place.
    pub fn set(&mut self, spec: &'static Spec, labels: &[&str], value: f64) {
        let series = self.values.entry(spec.name).or_default();
        let room = series.len() < SERIES_MAX;
        match series.entry(labels.iter().map(|label| (*label).to_owned()).collect()) {
            Entry::Occupied(mut place) => {
                place.insert(value);
            }
            Entry::Vacant(place) if room => {
                place.insert(value);
            }
            Entry::Vacant(_) => self.left_out += 1,
        }
    }

    /// Notes which of `states` is the case: 1 for `state`, 0 for the others. The state is the last label.
    pub fn set_state(&mut self, spec: &'static Spec, labels: &[&str], states: &[&str], state: &str) {
        for candidate in states {
            let labels: Vec<&str> = labels.iter().copied().chain([*candidate]).collect();
            self.set(spec, &labels, if *candidate == state { 1.0 } else { 0.0 });
        }
    }
}

/// The metrics of one process. Clones share them.
#[derive(Clone)]
pub struct Registry(prometheus::Registry);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// Makes one with what every process has: that it is up, its version and what it takes of its host.
    ///
    /// # Errors
    /// Never with the metrics of this module, whose names a test checks.
    pub fn new(process: &'static str, version: &'static str) -> Result<Self, AddError> {
        let registry = Self(prometheus::Registry::new());
        let started = Instant::now();
        registry.add(PROCESS, move |reading| read_process(reading, process, version, started))?;
        Ok(registry)
    }

    /// Adds metrics, which `read` fills in at each scrape. It must not block.
    ///
    /// # Errors
    /// A name is not good, or was added before.
    pub fn add(
        &self,
        specs: &'static [Spec],
        read: impl Fn(&mut Reading) + Send + Sync + 'static,
    ) -> Result<(), AddError> {
        let mut descs = Vec::new();
        for spec in specs {
            let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
            descs.push(Desc::new(spec.name.to_owned(), spec.help.to_owned(), labels, Default::default())?);
        }
        Ok(self.0.register(Box::new(Source { specs, descs, read }))?)
    }

    /// All values in the Prometheus text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0.gather(), &mut text) {
            tracing::debug!(%error, "the metrics cannot be written");
        }
        text
    }
}

/// Metrics that are read together.
struct Source<F> {
    specs: &'static [Spec],
    descs: Vec<Desc>,
    read: F,
}

impl<F: Fn(&mut Reading) + Send + Sync> Collector for Source<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut reading = Reading::default();
        (self.read)(&mut reading);
        if reading.left_out > 0 {
            tracing::debug!(series = reading.left_out, "more series than a scrape may have");
        }
        self.specs
            .iter()
            .filter_map(|spec| family(spec, reading.values.get(spec.name)?).ok())
            .flatten()
            .collect()
    }
}

fn family(spec: &Spec, series: &BTreeMap<Vec<String>, f64>) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let opts = Opts::new(spec.name, spec.help);
    match spec.kind {
        Kind::Counter => {
            let counters = CounterVec::new(opts, spec.labels)?;
            for (labels, value) in series {
                counters.get_metric_with_label_values(labels)?.inc_by(value.max(0.0));
            }
            Ok(counters.collect())
        }
        Kind::Gauge => {
            let gauges = GaugeVec::new(opts, spec.labels)?;
            for (labels, value) in series {
                gauges.get_metric_with_label_values(labels)?.set(*value);
            }
            Ok(gauges.collect())
        }
    }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind: Kind::Gauge, labels }
}

/// What every process has.
pub static PROCESS: &[Spec] = &[
    gauge("meshfed_up", "The process runs.", &["process"]),
    gauge("meshfed_build_info", "Always 1; the version is in the label.", &["version"]),
    gauge("meshfed_uptime_seconds", "How long the process has run.", &[]),
    gauge("meshfed_process_resident_memory_bytes", "Memory of the process that is in RAM.", &[]),
    gauge("meshfed_process_open_fds", "File descriptors that are open.", &[]),
];

fn read_process(reading: &mut Reading, process: &str, version: &str, started: Instant) {
    reading.set(&PROCESS[0], &[process], 1.0);
    reading.set(&PROCESS[1], &[version], 1.0);
    reading.set(&PROCESS[2], &[], started.elapsed().as_secs_f64());
    // Both are absent where there is no /proc.
    if let Some(bytes) = resident_bytes() {
        reading.set(&PROCESS[3], &[], bytes);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this listing's own.
        reading.set(&PROCESS[4], &[], entries.count().saturating_sub(1) as f64);
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}

/// What is wrong with the names and texts of metrics, one line each: for tests of the crates that have some.
pub fn lint(specs: &[Spec]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Spec { name, help, kind, labels } in specs {
        let snake =
            |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !name.starts_with("meshfed_") || !snake(name) || !labels.iter().all(|label| snake(label)) {
            wrong.push(format!("{name}: not meshfed_ and snake_case"));
        }
        if help.is_empty() || !help.ends_with('.') {
            wrong.push(format!("{name}: its help is no sentence"));
        }
        if name.ends_with("_total") != (*kind == Kind::Counter) {
            wrong.push(format!("{name}: _total is for counters, and for all of them"));
        }
        if ["_ms", "_millis", "_permille", "_percent", "_kb"].iter().any(|unit| name.ends_with(unit)) {
            wrong.push(format!("{name}: seconds, bytes and ratios are the units"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    static SEEN: [Spec; 1] =
        [Spec { name: "meshfed_seen_total", help: "Seen.", kind: Kind::Counter, labels: &["peer"] }];

    #[test]
    fn a_scrape_reads_the_state_as_it_is_then() {
        let registry = Registry::new("test", "1.2.3").expect("good names");
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(3));
        let read = count.clone();
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        registry
            .add(&SEEN, move |reading| reading.set(&SEEN[0], &["eu"], read.load(relaxed) as f64))
            .expect("good names");
        assert!(registry.encode().contains("meshfed_seen_total{peer=\"eu\"} 3\n"), "{}", registry.encode());
        count.store(5, relaxed);
        let text = registry.encode();
        assert!(text.contains("meshfed_seen_total{peer=\"eu\"} 5\n"), "{text}");
        assert!(text.contains("# TYPE meshfed_seen_total counter\n"), "{text}");
        assert!(text.contains("meshfed_build_info{version=\"1.2.3\"} 1\n"), "{text}");
        assert!(registry.add(&SEEN, |_| {}).is_err(), "added twice");
    }

    #[test]
    fn series_are_bounded() {
        let mut reading = Reading::default();
        for peer in 0..SERIES_MAX + 7 {
            reading.set(&SEEN[0], &[&peer.to_string()], 1.0);
        }
        assert_eq!(reading.values["meshfed_seen_total"].len(), SERIES_MAX);
        assert_eq!(reading.left_out, 7);
    }

    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(lint(PROCESS), Vec::<String>::new());
        static BAD: [Spec; 1] = [Spec { name: "Rtt_ms", help: "", kind: Kind::Counter, labels: &[] }];
        assert_eq!(lint(&BAD).len(), 4);
    }
}
