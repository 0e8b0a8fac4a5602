//! Whole federations on loopback, with real TLS. Gateways are played by the test: they open config streams, report
//! paths, and carry bytes by plain TCP from one federation to the other.

#[path = "federation/support.rs"]
mod support;

#[path = "federation/joins.rs"]
mod joins;
#[path = "federation/links.rs"]
mod links;
#[path = "federation/one_site.rs"]
mod one_site;
