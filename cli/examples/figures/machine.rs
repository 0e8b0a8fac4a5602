//! What else ran on this machine while something was measured, and what memory a process has, from `/proc`.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::read_to_string;

/// A stretch of time that is watched.
#[derive(Debug)]
pub struct Watch {
    begin: Used,
    end: Option<Used>,
    load_before: f64,
}

/// The machine during a measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub processors: usize,
    /// Load average of one minute when the measurement began; it counts the start of the mesh.
    pub load_before: f64,
    /// Load average of one minute at its end.
    pub load_after: f64,
    /// Processors kept busy by the mesh and its load, on average.
    pub busy_own: f64,
    /// Processors kept busy by anything else, the kernel's own work included, on average.
    pub busy_other: f64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, load_before, load_after, busy_own, busy_other } = self;
        write!(
            f,
            "machine: {processors} processors, load average {load_before:.1} before and {load_after:.1} after; the mesh \
             and its load used {busy_own:.2} processors, everything else {busy_other:.2}"
        )
    }
}

/// Ticks of processor time since boot.
#[derive(Debug, Clone, Copy)]
struct Used {
    total: u64,
    busy: u64,
    own: u64,
}

impl Watch {
    /// Begins.
    pub fn begin() -> Self {
        Self { begin: Used::read(), end: None, load_before: load_average() }
    }

    /// Ends. What runs later, such as the end of the mesh, is not counted.
    pub fn end(&mut self) {
        self.end = Some(Used::read());
    }

    /// What was seen.
    pub fn machine(&self) -> Machine {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let end = self.end.unwrap_or_else(Used::read);
        let total = end.total.saturating_sub(self.begin.total).max(1) as f64;
        let busy = end.busy.saturating_sub(self.begin.busy);
        let own = end.own.saturating_sub(self.begin.own);
        let share = |ticks: u64| round(ticks as f64 / total * processors as f64);
        Machine {
            processors,
            load_before: self.load_before,
            load_after: load_average(),
            busy_own: share(own),
            busy_other: share(busy.saturating_sub(own)),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn load_average() -> f64 {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

impl Used {
    fn read() -> Self {
        let stat = read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> =
            stat.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
        // user nice system idle iowait irq softirq steal; guests are counted in user.
        let total: u64 = ticks.iter().take(8).sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { total, busy: total - idle, own: own_ticks() }
    }
}

/// What this process, its descendants, and those of them that have ended have used.
fn own_ticks() -> u64 {
    let mut processes = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; what follows it is numbers, and begins with the state.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<u64> = rest.split(' ').skip(1).map(|field| field.parse().unwrap_or(0)).collect();
        // Own user and system time, and those of children that were waited for.
        let ticks: u64 = fields.iter().skip(10).take(4).sum();
        processes.insert(id, (fields.first().copied().unwrap_or(0), ticks));
    }
    let own = std::process::id();
    let is_own = |mut id: u32| {
        // A family tree is not deeper than it has members.
        for _ in 0..processes.len() {
            if id == own {
                return true;
            }
            let Some((parent, _)) = processes.get(&id) else { return false };
            id = u32::try_from(*parent).unwrap_or(0);
        }
        false
    };
    processes.iter().filter(|(id, _)| is_own(**id)).map(|(_, (_, ticks))| ticks).sum()
}

/// Resident memory of a process, bytes; 0 when it is gone.
pub fn resident(pid: u32) -> u64 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
