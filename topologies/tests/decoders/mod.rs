//! What is asked of the reader of topologies, whatever it is given. The fuzz target asks the same.

use hostile::is_readable;
use topologies::schema::{GATEWAYS_MAX, HOSTS_MAX, SITES_MAX};
use topologies::{plan, read};

/// Reads a topology, and plans what can be read.
pub fn check(text: &str) -> bool {
    match read("x.yaml", text) {
        Ok(topology) => {
            assert!(topology.sites.len() <= SITES_MAX);
            for site in topology.sites.values() {
                assert!(site.gateways <= GATEWAYS_MAX && site.hosts.len() <= HOSTS_MAX);
            }
            let plan = plan::plan(&topology, 0);
            assert_eq!(plan.sites.len(), topology.sites.len());
            let _ = plan.describe();
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
