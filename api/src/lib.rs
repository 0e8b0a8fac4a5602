//! The resources that people write, and what the REST API says and hears.
//!
//! Begin with [`resource::parse`], which reads files and shows every mistake at its place, and with the table in
//! [`rest`]. Topology files and other YAML of our own are read with [`yaml::read`].
//!
//! What this crate deliberately does not know: files, sockets, HTTP, and what becomes of a resource.

pub mod diagnostic;
pub mod problem;
pub mod resource;
pub mod rest;
pub mod suggest;
pub mod text;
pub mod yaml;

pub use diagnostic::Diagnostic;
pub use problem::Problem;
pub use resource::{Kind, Resource};
pub use text::{Span, Text};
