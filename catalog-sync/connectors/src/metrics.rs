//! The metrics of sources of services: health checks.

use runtime::metrics::{AddError, Counts, Registry, Spec};
use std::sync::Arc;

/// How a probe went.
pub(crate) const PASSED: &str = "passed";
/// The other way.
pub(crate) const FAILED: &str = "failed";

static CHECKS: Spec = Spec::counter(
    "meshfed_health_checks_total",
    "Probes of endpoints and workloads, by result.",
    &["result"],
);

/// What a process with sources has.
pub static SPECS: &[&Spec] = &[&CHECKS];

/// Where the results of probes are counted; all sources of a process may share it.
pub fn probes() -> Arc<Counts> {
    Arc::new(Counts::new([PASSED, FAILED]))
}

/// Adds them.
///
/// # Errors
/// They were added before.
pub fn add(registry: &Registry, probes: Arc<Counts>) -> Result<(), AddError> {
    registry.add(SPECS, move |reading| reading.set_counts(&CHECKS, &[], &probes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(runtime::metrics::lint(super::SPECS), Vec::<String>::new());
    }
}
