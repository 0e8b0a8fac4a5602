//! How a federation is run.

use api::resource::site::SiteSettings;
use model::ids::Label;
use runtime::metrics::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a federation is run. All of it comes from the caller: nothing is read from flags or the environment here.
#[derive(Debug, Clone)]
pub struct Options {
    /// The site directory.
    pub dir: PathBuf,
    /// What `site.yaml` says.
    pub settings: SiteSettings,
    /// Name of this federation process within its site.
    pub name: Label,
    /// Where enrolment, config and exchange are served; port 0 takes a free one.
    pub config_address: SocketAddr,
    /// Where the API is served; port 0 takes a free one.
    pub api_address: SocketAddr,
    /// Where health is served; none: another part of the process does that.
    pub health_address: Option<SocketAddr>,
    /// Metrics of the process that it is part of; none: it is a process of its own.
    pub metrics: Option<Registry>,
    /// Sources of this process whose full list is waited for after a start: the connectors that the caller will open
    /// with `Handle::source`.
    pub connectors: Vec<Label>,
}

impl Options {
    /// The addresses and defaults that the settings name.
    pub fn new(dir: PathBuf, settings: SiteSettings) -> Self {
        let at = |port| SocketAddr::new(settings.address, port);
        Self {
            name: "fed-0".parse().expect("a label"),
            config_address: at(settings.ports.config),
            api_address: at(settings.ports.api),
            health_address: Some(at(settings.ports.health)),
            metrics: None,
            connectors: Vec::new(),
            dir,
            settings,
        }
    }
}
