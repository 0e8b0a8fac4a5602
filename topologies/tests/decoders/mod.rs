//! What is asked of the reader of topologies, whatever it is given. The fuzz target asks the same.

use hostile::is_readable;
use topologies::check::FINDINGS_MAX;
use topologies::schema::{GATEWAYS_MAX, HOSTS_MAX, SITES_MAX};
use topologies::{inspect, plan, read, render};

/// Reads a topology, and plans what can be read.
pub fn check(text: &str) -> bool {
    let found = inspect("x.yaml", text);
    assert_eq!(found.topology.is_some(), found.errors.is_empty());
    assert!(found.errors.len() <= FINDINGS_MAX && found.warnings.len() <= FINDINGS_MAX);
    match read("x.yaml", text) {
        Ok(topology) => {
            assert!(topology.sites.len() <= SITES_MAX);
            for site in topology.sites.values() {
                assert!(
                    (1..=usize::from(GATEWAYS_MAX)).contains(&site.gateways.count())
                        && site.hosts.len() <= HOSTS_MAX
                );
            }
            let plan = plan::plan(&topology, 0);
            assert_eq!(plan.sites.len(), topology.sites.len());
            let _ = plan.describe();
            assert!(render::text(&plan).lines().all(|line| line.chars().count() <= 2 * render::TEXT_WIDTH));
            if plan.links.len() <= 30 {
                let _ = render::svg(&plan);
            }
            let yaml = api::yaml::write(&topology).expect("a topology can be written");
            assert_eq!(read("again.yaml", &yaml), Ok(topology), "{yaml}");
            true
        }
        Err(mistake) => {
            is_readable(&mistake.to_string());
            // In YAML a carriage return alone ends a line too.
            assert!(mistake.line <= text.split(['\n', '\r']).count() + 1, "{mistake}");
            false
        }
    }
}
