//! `meshfed site`: federation, gateway and connectors in one process.

use super::gateway::ways_in;
use super::{begin, process_failed, settings, site_directory, start_federation};
use crate::args::SiteArgs;
use crate::failure::{Failure, Outcome};
use api::resource::site::SiteSettings;
use gateway_server::{Entry, Options};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use model::ids::GatewayName;
use node::enroll::Membership;
use runtime::metrics::Registry;
use runtime::shutdown::Shutdown;
use std::path::Path;

/// Name of the gateway of a site process.
const GATEWAY: &str = "gw-0";

/// Runs a site until it is asked to end: the gateway drains first, the federation ends last.
///
/// # Errors
/// The directory is no site, or a port is taken.
pub async fn run(args: &SiteArgs) -> Outcome {
    let directory = site_directory(&args.site)?;
    let settings = settings(&directory)?;
    let shutdown = begin(&args.process)?;
    let federation_shutdown = Shutdown::new();
    let metrics = Registry::new("site", env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::caused("the metrics cannot be set up", &error))?;
    let federation =
        start_federation(&directory, settings.clone(), Some(metrics), &federation_shutdown).await?;
    let gateway = start_gateway(&directory, &settings, &federation, shutdown).await;
    let outcome = match gateway {
        Ok(gateway) => {
            gateway.ended().await;
            Ok(())
        }
        Err(failure) => Err(failure),
    };
    federation_shutdown.begin();
    federation.ended().await;
    outcome
}

async fn start_gateway(
    directory: &Path,
    settings: &SiteSettings,
    federation: &federation_server::Handle,
    shutdown: Shutdown,
) -> Result<gateway_server::Handle, Failure> {
    let what = || format!("the gateway of {} does not start", settings.site);
    let name: GatewayName = GATEWAY.parse().expect("a label");
    let key = NodeKey::generate().map_err(|error| Failure::caused(what(), &error))?;
    let reply = federation
        .join_gateway(name, key.csr_der(), Some(settings.advertise))
        .await
        .map_err(|error| Failure::new(what()).seen(error.to_string()))?;
    let credentials =
        Credentials::new(reply.chain.clone(), &key).map_err(|error| Failure::caused(what(), &error))?;
    let membership = Membership { credentials, reply, addresses: vec![federation.config_address] };
    let mut options = Options::new(
        directory.join("gateway"),
        settings.address,
        federation.config_address,
        Entry::Given(Box::new(membership)),
    );
    options.port = settings.ports.tunnel;
    options.advertise = Some(settings.advertise);
    options.health = Some(std::net::SocketAddr::new(settings.address, settings.ports.gateway_health));
    options.metrics = Some(federation.metrics.clone());
    options.drain_timeout = settings.drain_timeout;
    options.local =
        Some(ways_in(settings.address, settings.ports, settings.vip_range, settings.reserved_ports.clone()));
    gateway_server::run(options, shutdown).await.map_err(|error| process_failed(what(), &error))
}
