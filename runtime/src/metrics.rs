//! The metrics of one process: what there is, read from the state that is there when somebody scrapes.
//!
//! What happens is counted where it happens ([`Count`], [`Counts`], [`Durations`]), without knowing who reads it; a
//! [`Spec`] says what a metric is called, and a reading function puts the two together at each scrape.

mod tally;

pub use tally::{BOUNDS, Count, Counts, Durations, Elapsed, label};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry as Inner, TextEncoder};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Instant;

/// Most series of one metric; what is beyond is left out of the scrape, and said in the log at debug.
pub const SERIES_MAX: usize = 4_096;

/// What a metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process runs; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How long something took, in buckets; its name ends in `_seconds`.
    Histogram,
}

/// One metric: what it is called and what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, with its unit last.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Names of its labels. Their values come from closed or bounded sets.
    pub labels: &'static [&'static str],
}

impl Spec {
    /// A metric that only grows.
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, kind: Kind::Counter, labels }
    }

    /// A metric that goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, kind: Kind::Gauge, labels }
    }

    /// A metric of durations.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, labels: &[] }
    }
}

/// Why metrics could not be added.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be added: a name is not good, or was added before")]
pub struct AddError(#[from] prometheus::Error);

/// One value.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Elapsed(Elapsed),
}

/// The values of one scrape, as they are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    values: BTreeMap<&'static str, BTreeMap<Vec<String>, Value>>,
    left_out: usize,
}

impl Reading {
    /// Notes a value. A value that is noted again for the same labels counts in its place.
    pub fn set(&mut self, spec: &'static Spec, labels: &[&str], value: f64) {
        self.put(spec, labels.iter().map(|label| (*label).to_owned()).collect(), Value::Number(value));
    }

    /// Notes what was counted, also where that is 0: one series for each word. The word is the last label, after
    /// `labels`.
    pub fn set_counts(&mut self, spec: &'static Spec, labels: &[&str], counts: &Counts) {
        for (word, count) in counts.iter() {
            let labels = labels.iter().map(|label| (*label).to_owned()).chain([word]).collect();
            self.put(spec, labels, Value::Number(count as f64));
        }
    }

    /// Notes durations.
    pub fn set_durations(&mut self, spec: &'static Spec, durations: &Durations) {
        self.put(spec, Vec::new(), Value::Elapsed(durations.read()));
    }

    /// Notes which of `states` is the case: 1 for `state`, 0 for the others. The state is the last label.
    pub fn set_state(&mut self, spec: &'static Spec, labels: &[&str], states: &[&str], state: &str) {
        for candidate in states {
            let labels: Vec<&str> = labels.iter().copied().chain([*candidate]).collect();
            self.set(spec, &labels, if *candidate == state { 1.0 } else { 0.0 });
        }
    }

    fn put(&mut self, spec: &'static Spec, labels: Vec<String>, value: Value) {
        let series = self.values.entry(spec.name).or_default();
        let room = series.len() < SERIES_MAX;
        match series.entry(labels) {
            Entry::Occupied(mut place) => {
                place.insert(value);
            }
            Entry::Vacant(place) if room => {
                place.insert(value);
            }
            Entry::Vacant(_) => self.left_out += 1,
        }
    }
}

/// The metrics of one process. Clones share them.
#[derive(Clone)]
pub struct Registry(Inner);

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
        let registry = Self(Inner::new());
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
        specs: &'static [&'static Spec],
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
    specs: &'static [&'static Spec],
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
        let read = |spec: &&'static Spec| Some(family(spec, reading.values.get(spec.name)?));
        self.specs.iter().filter_map(read).collect()
    }
}

fn family(spec: &Spec, series: &BTreeMap<Vec<String>, Value>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(spec.name.to_owned());
    family.set_help(spec.help.to_owned());
    family.set_field_type(match spec.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(series.iter().map(|(labels, value)| metric(spec, labels, value)).collect());
    family
}

fn metric(spec: &Spec, labels: &[String], value: &Value) -> Metric {
    let mut metric = Metric::default();
    let pair = |(name, value): (&&str, &String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    };
    metric.set_label(spec.labels.iter().zip(labels).map(pair).collect());
    match (spec.kind, value) {
        (Kind::Counter, Value::Number(value)) => {
            let mut counter = proto::Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
        }
        (Kind::Gauge, Value::Number(value)) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
        (_, Value::Elapsed(elapsed)) => metric.set_histogram(histogram(elapsed)),
        // Nothing was measured, in the form of a histogram.
        (Kind::Histogram, Value::Number(_)) => metric.set_histogram(histogram(&Elapsed::default())),
    }
    metric
}

fn histogram(elapsed: &Elapsed) -> proto::Histogram {
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(elapsed.count());
    histogram.set_sample_sum(elapsed.sum_s);
    let mut below = 0;
    let bucket = |(bound, count): (&f64, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    };
    histogram.set_bucket(BOUNDS.iter().zip(&elapsed.counts).map(bucket).collect());
    histogram
}

static UP: Spec = Spec::gauge("meshfed_up", "The process runs.", &["process"]);
static BUILD: Spec =
    Spec::gauge("meshfed_build_info", "Always 1; the version is in the label.", &["version"]);
static UPTIME: Spec = Spec::gauge("meshfed_uptime_seconds", "How long the process has run.", &[]);
static CPU: Spec =
    Spec::counter("meshfed_process_cpu_seconds_total", "Processor time that the process has taken.", &[]);
static MEMORY: Spec =
    Spec::gauge("meshfed_process_resident_memory_bytes", "Memory of the process that is in RAM.", &[]);
static FILES: Spec = Spec::gauge("meshfed_process_open_fds", "File descriptors that are open.", &[]);

/// What every process has.
pub static PROCESS: &[&Spec] = &[&UP, &BUILD, &UPTIME, &CPU, &MEMORY, &FILES];

fn read_process(reading: &mut Reading, process: &str, version: &str, started: Instant) {
    reading.set(&UP, &[process], 1.0);
    reading.set(&BUILD, &[version], 1.0);
    reading.set(&UPTIME, &[], started.elapsed().as_secs_f64());
    // All three are absent where there is no /proc.
    if let Some(seconds) = cpu_seconds() {
        reading.set(&CPU, &[], seconds);
    }
    if let Some(bytes) = resident_bytes() {
        reading.set(&MEMORY, &[], bytes);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this listing's own.
        reading.set(&FILES, &[], entries.count().saturating_sub(1) as f64);
    }
}

/// Ticks of a second in /proc: part of the interface of Linux to programs, and 100 on every machine (proc(5)).
const TICKS: f64 = 100.0;

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in brackets and may have spaces and brackets in it.
    let (_, rest) = stat.rsplit_once(')')?;
    // Fields 14 and 15 of the line; `rest` begins with field 3.
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}

/// What is wrong with the names and texts of metrics, one line each: for tests of the crates that have some.
pub fn lint(specs: &[&Spec]) -> Vec<String> {
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
        if *kind == Kind::Histogram && !name.ends_with("_seconds") {
            wrong.push(format!("{name}: a histogram is of seconds"));
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
    use std::sync::Arc;
    use std::time::Duration;

    static SEEN: Spec = Spec::counter("meshfed_seen_total", "Seen.", &["peer"]);
    static TOOK: Spec = Spec::histogram("meshfed_took_seconds", "Took.");
    static BOTH: &[&Spec] = &[&SEEN, &TOOK];

    #[test]
    fn a_scrape_reads_the_state_as_it_is_then() {
        let registry = Registry::new("test", "1.2.3").expect("good names");
        let count = Arc::new(Count::default());
        let read = count.clone();
        registry
            .add(BOTH, move |reading| reading.set(&SEEN, &["eu"], read.get() as f64))
            .expect("good names");
        count.add(3);
        assert!(registry.encode().contains("meshfed_seen_total{peer=\"eu\"} 3\n"), "{}", registry.encode());
        count.add(2);
        let text = registry.encode();
        assert!(text.contains("meshfed_seen_total{peer=\"eu\"} 5\n"), "{text}");
        assert!(text.contains("# TYPE meshfed_seen_total counter\n"), "{text}");
        assert!(text.contains("meshfed_build_info{version=\"1.2.3\"} 1\n"), "{text}");
        assert!(registry.add(BOTH, |_| {}).is_err(), "added twice");
    }

    #[test]
    fn what_was_never_counted_is_there_as_a_zero() {
        let counts = Counts::new(["no path", "draining"]);
        counts.add("no path");
        let mut reading = Reading::default();
        reading.set_counts(&SEEN, &[], &counts);
        let series = &reading.values["meshfed_seen_total"];
        assert_eq!(series[&vec!["no_path".to_owned()]], Value::Number(1.0));
        assert_eq!(series[&vec!["draining".to_owned()]], Value::Number(0.0));
    }

    #[test]
    fn durations_are_told_in_buckets_that_include_the_smaller_ones() {
        let registry = Registry::new("test", "1.2.3").expect("good names");
        let took = Arc::new(Durations::default());
        let read = took.clone();
        registry.add(BOTH, move |reading| reading.set_durations(&TOOK, &read)).expect("good names");
        for ms in [2, 20, 60_000] {
            took.note(Duration::from_millis(ms));
        }
        let text = registry.encode();
        for line in [
            "meshfed_took_seconds_bucket{le=\"0.001\"} 0\n",
            "meshfed_took_seconds_bucket{le=\"0.0025\"} 1\n",
            "meshfed_took_seconds_bucket{le=\"10\"} 2\n",
            "meshfed_took_seconds_bucket{le=\"+Inf\"} 3\n",
            "meshfed_took_seconds_sum 60.022\n",
            "meshfed_took_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn series_are_bounded() {
        let mut reading = Reading::default();
        for peer in 0..SERIES_MAX + 7 {
            reading.set(&SEEN, &[&peer.to_string()], 1.0);
        }
        assert_eq!(reading.values["meshfed_seen_total"].len(), SERIES_MAX);
        assert_eq!(reading.left_out, 7);
    }

    #[test]
    fn the_processor_time_of_this_process_grows() {
        let Some(before) = cpu_seconds() else { return };
        let begin = Instant::now();
        while cpu_seconds().is_some_and(|now| now <= before) {
            assert!(begin.elapsed() < Duration::from_secs(30), "it stays at {before}");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(lint(PROCESS), Vec::<String>::new());
        assert_eq!(lint(BOTH), Vec::<String>::new());
        static BAD: Spec = Spec::counter("Rtt_ms", "", &[]);
        assert_eq!(lint(&[&BAD]).len(), 4);
    }
}
