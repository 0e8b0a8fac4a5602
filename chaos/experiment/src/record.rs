//! What was seen of a run. All times count from the start of the load.

use bench::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything that was seen of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// How it was run, for people: `live, loopback`.
    pub mode: String,
    /// Sites, ordered by name.
    pub sites: Vec<String>,
    /// Gateways in all.
    pub gateways: usize,
    /// Requests per second.
    pub rate: u32,
    /// How long the load ran.
    pub length: Duration,
    /// Delay and ramp with which a tier takes its load back, as configured.
    pub grace: Duration,
    /// Requests, ordered by index.
    pub samples: Vec<Sample>,
    /// What was done, in order.
    pub faults: Vec<Happened>,
    /// What sites said, ordered by time.
    pub looks: Vec<Look>,
    /// How the decision for the load changed, ordered by time.
    pub decisions: Vec<Decided>,
    /// Catalogs at the end, one for each linked pair and direction.
    pub catalogs: Vec<Catalog>,
}

/// A fault that was there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Happened {
    /// In a few words.
    pub words: String,
    /// Just before it began.
    pub before: Duration,
    /// When it was in force.
    pub after: Duration,
    /// When it was taken back; none: never.
    pub ended: Option<Duration>,
}

/// What one site said of itself at a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// When.
    pub at: Duration,
    /// Who.
    pub site: String,
    /// Its peers.
    pub peers: Vec<Peer>,
    /// Services, and the sites that each is known of.
    pub imports: BTreeMap<String, BTreeSet<String>>,
}

/// A peer, as a site sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Peer {
    /// Name.
    pub site: String,
    /// `connected`, `degraded`, `unreachable` …
    pub state: String,
    /// Round trip over the best path, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Paths that answer, and all.
    pub paths: (u32, u32),
    /// Since its catalog was last confirmed, in seconds.
    pub age_s: u64,
}

/// The decision for the load, from a moment on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// Since when.
    pub at: Duration,
    /// Where a request goes.
    pub verdict: String,
    /// Why.
    pub why: String,
}

/// What a site holds of another at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// Who holds it.
    pub site: String,
    /// Whose it is.
    pub of: String,
    /// Epoch and revision that are held.
    pub held: (u64, u64),
    /// Epoch and revision that its owner says; none: the owner does not answer.
    pub own: Option<(u64, u64)>,
    /// Differences that the digests have found.
    pub repairs: u64,
}

impl Catalog {
    /// Nothing is missing and nothing was ever repaired.
    pub fn is_equal(&self) -> bool {
        self.own == Some(self.held) && self.repairs == 0
    }
}

impl Record {
    /// Sites that are linked and answered at the end and hold each other's catalog, and all such pairs.
    pub fn equal_catalogs(&self) -> (usize, usize) {
        (self.catalogs.iter().filter(|catalog| catalog.is_equal()).count(), self.catalogs.len())
    }

    /// Imports that a site once had of another and then had no more, each counted once.
    pub fn withdrawn(&self) -> BTreeSet<(String, String, String)> {
        let mut had: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
        let mut lost = BTreeSet::new();
        for look in &self.looks {
            let has: BTreeSet<(&str, &str)> = look
                .imports
                .iter()
                .flat_map(|(service, sites)| sites.iter().map(|site| (service.as_str(), site.as_str())))
                .collect();
            let before = had.entry(look.site.as_str()).or_default();
            let gone = before
                .difference(&has)
                .map(|(service, of)| (look.site.clone(), (*service).to_owned(), (*of).to_owned()));
            lost.extend(gone);
            before.extend(has);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(site: &str, at: u64, services: &[(&str, &[&str])]) -> Look {
        let imports = services
            .iter()
            .map(|(service, sites)| ((*service).to_owned(), sites.iter().map(|s| (*s).to_owned()).collect()))
            .collect();
        Look { at: Duration::from_secs(at), site: site.to_owned(), imports, ..Look::default() }
    }

    #[test]
    fn an_import_that_is_gone_once_is_withdrawn_even_if_it_comes_back() {
        let both: &[(&str, &[&str])] = &[("shop/cart", &["east", "dc"])];
        let one: &[(&str, &[&str])] = &[("shop/cart", &["east"])];
        let looks =
            vec![look("west", 1, both), look("dc", 1, one), look("west", 2, one), look("west", 3, both)];
        let record = Record { looks, ..Record::default() };
        let lost: Vec<_> = record.withdrawn().into_iter().collect();
        assert_eq!(lost, [("west".to_owned(), "shop/cart".to_owned(), "dc".to_owned())]);
    }

    #[test]
    fn a_catalog_whose_owner_is_silent_or_that_was_repaired_is_not_equal() {
        let equal = Catalog { held: (1, 7), own: Some((1, 7)), ..Catalog::default() };
        assert!(equal.is_equal());
        assert!(!Catalog { own: None, ..equal.clone() }.is_equal());
        assert!(!Catalog { own: Some((2, 7)), ..equal.clone() }.is_equal());
        assert!(!Catalog { repairs: 1, ..equal }.is_equal());
    }
}
