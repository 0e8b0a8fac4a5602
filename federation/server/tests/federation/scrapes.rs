//! Metrics of a federation whose hub is busy.

use crate::support::{Roads, Site, eventually};
use std::sync::mpsc;

fn value(text: &str, metric: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn a_hub_that_is_stuck_holds_up_no_scrape_and_is_told_by_its_age() {
    let site = Site::start("east", &Roads::default()).await;
    let metrics = site.handle.metrics.clone();
    let first = eventually("the numbers of the hub", async || {
        let text = metrics.encode();
        value(&text, "meshfed_own_catalog_entries").map(|_| text)
    });
    let entries = value(&first.await, "meshfed_own_catalog_entries");
    assert!(entries >= Some(1.0), "the site itself is one");

    let (release, stuck) = mpsc::channel::<()>();
    let hub = site.handle.hub().clone();
    let asked = tokio::spawn(async move { hub.ask(move |_| stuck.recv().is_ok()).await });
    // The hub stays where it is, whoever scrapes and how often.
    let told = eventually("a hub that is stuck", async || {
        let text = metrics.encode();
        value(&text, "meshfed_hub_age_seconds").filter(|age| *age > 1.5).map(|_| text)
    });
    assert_eq!(value(&told.await, "meshfed_own_catalog_entries"), entries, "the last that is known");
    assert!(!asked.is_finished(), "it was not stuck");
    release.send(()).expect("it waits");
    assert!(asked.await.expect("no panic").expect("answered"));
    eventually("a hub that goes on", async || {
        value(&metrics.encode(), "meshfed_hub_age_seconds").filter(|age| *age < 1.5)
    })
    .await;
}
