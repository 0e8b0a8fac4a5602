//! Where a request goes, and why: pure decisions over the model.
//!
//! One function decides for traffic, for DNS and for `explain`: [`decide()`]. It is given everything that counts in an
//! [`Input`], and answers with a [`model::decision::Decision`], which carries every number that counted. What must be
//! remembered from one decision to the next (how many endpoints a group has had, what has just recovered, what keeps
//! failing) is in [`Memory`]. [`Router`] puts both together for gateways and agents.
//!
//! In reading order:
//! - [`router`]: what a process holds and asks;
//! - [`mod@decide`]: the decision, step by step;
//! - [`access`]: who may call; [`tier`]: how far is it; [`share`]: who takes how much; [`pick`]: which one of several;
//! - [`memory`]: high-water marks, returns, outliers, the order of sites;
//! - [`explain`]: the same decision, told to a person.
//!
//! What this crate deliberately does not know: time (it is told), paths and sockets, how a candidate is reached.

pub mod access;
pub mod decide;
pub mod explain;
pub mod memory;
pub mod pick;
pub mod router;
pub mod share;
pub mod tier;

pub use decide::{Input, Tried, decide};
pub use memory::{Memory, Outcome};
pub use router::{Ask, Router};
