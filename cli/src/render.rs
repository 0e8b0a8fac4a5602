//! Screens: from answers of the API to text, without any I/O.

pub mod agent;
pub mod change;
pub mod chaos;
pub mod demo;
pub mod diagnose;
pub mod drain;
pub mod event;
pub mod explain;
pub mod link;
pub mod resource;
pub mod service;
pub mod status;
pub mod style;
pub mod table;
pub mod topology;
pub mod trust;
pub mod words;
