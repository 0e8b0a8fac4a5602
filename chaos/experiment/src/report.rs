//! The result of an experiment, as JSON has it and as the page draws it.

use bench::report::Latency;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A judged run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Name of the experiment.
    pub name: String,
    /// What it rehearses.
    pub about: String,
    /// Name of the topology.
    pub topology: String,
    /// How it was run: `live, loopback`.
    pub mode: String,
    /// Sites, ordered by name.
    pub sites: Vec<String>,
    /// Gateways in all.
    pub gateways: usize,
    /// Requests per second.
    pub rate: u32,
    /// Length of the run, in seconds.
    pub length_s: f64,
    /// By how much bounds of time were stretched; 1: not at all.
    pub slack: f64,
    /// Everything that was expected held.
    pub held: bool,
    /// What was expected, and what was measured.
    pub rows: Vec<Row>,
    /// The numbers, judged or not.
    pub numbers: Numbers,
    /// What was done.
    pub faults: Vec<Band>,
    /// The load over time, [`Report::bucket_ms`] each.
    pub buckets: Vec<Bucket>,
    /// Width of a bucket, in milliseconds.
    pub bucket_ms: u64,
    /// Peers over time, one line for each site and peer.
    pub peers: Vec<Line>,
    /// How the decision for the load changed.
    pub decisions: Vec<Decision>,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// What was expected, in words.
    pub expected: String,
    /// What was measured, in words.
    pub measured: String,
    /// It held.
    pub held: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Requests that were due.
    pub requests: u64,
    /// Those without a complete answer.
    pub failed: u64,
    /// Those of `failed` that were open when something was hit.
    pub in_flight: u64,
    /// What became of the failed ones, in words.
    pub failures: BTreeMap<String, u64>,
    /// From the beginning or end of a fault to the end of the last request that failed after it; none: none failed.
    pub last_failure_ms: Option<u64>,
    /// Longest time without a completed answer.
    pub longest_gap_ms: u64,
    /// From the end of the last fault until the load is divided as before it all; none: nothing was mended, or the
    /// load was not divided so again before the run was over.
    pub full_return_ms: Option<u64>,
    /// Configured delay and ramp of the return, contained in `full_return_ms`.
    pub grace_ms: u64,
    /// Imports that some site lost, as `SITE: SERVICE of SITE`.
    pub withdrawn: Vec<String>,
    /// Pairs of linked sites, each direction, whose catalogs are equal at the end.
    pub catalogs_equal: usize,
    /// All such pairs.
    pub catalogs: usize,
    /// How often the site that answers most changed, from one second to the next.
    pub swings: u32,
    /// Of completed answers.
    pub latency: Latency,
}

/// A fault, as a band of the timeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Band {
    /// In a few words.
    pub words: String,
    /// Beginning, in seconds.
    pub from_s: f64,
    /// End, in seconds; none: it stayed.
    pub until_s: Option<f64>,
}

/// A short time of the load, by when requests ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bucket {
    /// Completed answers by site.
    pub by_site: BTreeMap<String, u64>,
    /// Failed requests.
    pub failed: u64,
}

/// A peer of a site, over time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Line {
    /// The site.
    pub site: String,
    /// The peer.
    pub peer: String,
    /// What was seen.
    pub points: Vec<Point>,
}

/// A peer at a moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// When, in seconds.
    pub at_s: f64,
    /// State.
    pub state: String,
    /// Round trip in milliseconds, while there is one.
    pub rtt_ms: Option<f64>,
    /// Paths that answer.
    pub paths_live: u32,
    /// All paths.
    pub paths: u32,
    /// Age of its catalog, in seconds.
    pub age_s: u64,
}

/// A decision and its reason.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Since when, in seconds.
    pub at_s: f64,
    /// Where a request goes.
    pub verdict: String,
    /// Why.
    pub why: String,
}
