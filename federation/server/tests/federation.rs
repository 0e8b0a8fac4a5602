//! Whole federations on loopback, with real TLS. Gateways are played by the test: they open config streams, report
//! paths, and carry bytes by plain TCP from one federation to the other.

#[path = "federation/support.rs"]
mod support;

#[path = "federation/joins.rs"]
mod joins;
#[path = "federation/leaving.rs"]
mod leaving;
#[path = "federation/links.rs"]
mod links;
#[path = "federation/news.rs"]
mod news;
#[path = "federation/one_site.rs"]
mod one_site;
#[path = "federation/pending.rs"]
mod pending;
#[path = "federation/rest.rs"]
mod rest;
#[path = "federation/scrapes.rs"]
mod scrapes;
#[path = "federation/storing.rs"]
mod storing;
#[path = "federation/trust.rs"]
mod trust;
#[path = "federation/unlinking.rs"]
mod unlinking;
