//! Sans-IO intake of service sources: ownership, conflicts, debounce, bounds.
//!
//! - [`intake::Intake`]: the core; start here. It hears several sources and says what the site's own catalog becomes.
//! - [`source`]: who speaks ([`source::SourceId`]), what it may say, how long its silence is borne.
//! - [`event`]: what comes out: changes of the catalog, conflicts, states of sources, each with its cause.
//! - [`refused::Refused`]: why a source's event was not taken.
//!
//! What this crate deliberately does not know: where events come from, how the catalog is stored or replicated, what
//! is exported, any clock. Silence, a restart or half a list never removes anything here; only the owner's word or
//! a lease that has run out does.

mod check;
mod claims;
pub mod event;
pub mod intake;
pub mod refused;
pub mod source;
