//! Experiments and topologies that are in the binary, by name.

/// A file in the binary.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Name, as it is typed.
    pub name: &'static str,
    /// Path in the repository, for messages.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(Shipped {
            name: $name,
            file: concat!($folder, $name, ".yaml"),
            text: include_str!(concat!("../../../", $folder, $name, ".yaml")),
        }),*]
    };
}

/// Experiments, in the order of the suite.
pub const EXPERIMENTS: &[Shipped] = shipped!["chaos/experiments/":
    "endpoint-killed",
    "endpoint-frozen",
    "gateway-killed",
    "gateway-frozen",
    "gateway-restarted",
    "site-cut",
    "one-way-cut",
    "link-flapping",
    "mtu-black-hole",
    "loss-and-delay",
    "control-plane-dead",
    "partition",
];

/// Topologies for them.
pub const TOPOLOGIES: &[Shipped] = shipped!["chaos/experiments/topologies/": "three-sites"];

/// The shipped experiment of this name.
pub fn experiment(name: &str) -> Option<&'static Shipped> {
    EXPERIMENTS.iter().find(|shipped| shipped.name == name)
}

/// The shipped topology of this name.
pub fn topology(name: &str) -> Option<&'static Shipped> {
    TOPOLOGIES.iter().find(|shipped| shipped.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_experiment_is_right() {
        for shipped in EXPERIMENTS {
            let experiment = crate::read(shipped.file, shipped.text).expect(shipped.file);
            let of = topology(&experiment.topology).expect(shipped.file);
            let topology = topologies::read(of.file, of.text).expect(of.file);
            crate::read_for(shipped.file, shipped.text, &topology).expect(shipped.file);
            assert!(!experiment.about.is_empty(), "{} does not say what it rehearses", shipped.file);
        }
    }

    #[test]
    fn every_file_of_the_folder_is_shipped() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments");
        for entry in std::fs::read_dir(folder).expect("the folder is there") {
            let name = entry.expect("can be read").file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(".yaml") {
                assert!(experiment(name).is_some(), "{name} is not in EXPERIMENTS");
            }
        }
    }
}
