//! Shared by the shells: drain, signals, health, telemetry, files, clock.
//!
//! - [`shutdown::Shutdown`]: one word for "this process is leaving"; [`shutdown::Tasks`]: what it has to wait for.
//! - [`health`]: `/healthz`, `/readyz`, `/metrics` over plain HTTP.
//! - [`metrics::Registry`]: the metrics of one process, read at each scrape.
//! - [`telemetry::init`]: logs to standard error.
//! - [`mod@file`]: whole files, written so that a crash leaves the old one or the new one.
//! - [`bind`], [`backoff`], [`clock`]: small things that every shell needs.
//!
//! What this crate deliberately does not know: anything of meshfed's own words, and the environment: all that it is
//! configured with is passed in.

pub mod backoff;
pub mod bind;
pub mod clock;
pub mod file;
pub mod health;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
