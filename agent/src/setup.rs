//! `meshfed agent setup`: the redirect of the host's virtual IPs, and its resolver, for this agent.

use crate::Options;
use anyhow::{Context, bail};
use local::setup::Setup;
use model::config::VipRange;
use node::enroll::NodeFolder;
use runtime::file;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::Path;
use tokio::net::TcpListener;

/// The redirect listener, beside the agent's other ports.
const REDIRECT_PORT: u16 = 15_055;
/// File that says where the agent listens.
const LISTENS: &str = "listens";

/// Writes down where this agent listens, so that `agent setup` can be run without repeating it.
pub(crate) fn remember(folder: &NodeFolder, dns: SocketAddr) -> anyhow::Result<()> {
    file::write_atomic(&folder.path().join(LISTENS), dns.to_string().as_bytes(), file::MODE_PUBLIC)?;
    Ok(())
}

fn of(range: VipRange, dns: SocketAddr) -> Option<Setup> {
    // Virtual IPs are IPv4, and a redirect stays within its family.
    let IpAddr::V4(address) = dns.ip() else { return None };
    Some(Setup::of_this_host(range, SocketAddrV4::new(address, REDIRECT_PORT), Some(dns)))
}

/// What `agent setup` does for the agent in this folder.
///
/// # Errors
/// The agent has not run yet, or has no range of virtual IPs of its own.
pub fn of_folder(path: &Path) -> anyhow::Result<Setup> {
    let no_agent =
        || format!("{} is no agent's folder: start the agent once, then set the host up", path.display());
    if !path.is_dir() {
        // Opening it would make it.
        bail!(no_agent());
    }
    let Some(membership) = NodeFolder::open(path)?.membership()? else { bail!(no_agent()) };
    let listens = file::read_text(&path.join(LISTENS), 256).context("read where the agent listens")?;
    let dns = listens.trim().parse().context("read where the agent listens")?;
    let Some(range) = membership.reply.vip_range else {
        bail!("the site has set no range of virtual IPs aside for this host");
    };
    match of(range, dns) {
        Some(setup) => Ok(setup),
        None => bail!("the agent listens on {dns}; the redirect needs an IPv4 `--address`"),
    }
}

/// The listener behind the redirect, where the host was set up for this agent.
pub(crate) async fn redirect_listener(
    options: &Options,
    range: Option<VipRange>,
) -> anyhow::Result<Option<TcpListener>> {
    let dns = SocketAddr::new(options.address, options.dns_port);
    let Some(setup) = range.and_then(|range| of(range, dns)).filter(Setup::is_applied) else {
        return Ok(None);
    };
    let listener = runtime::bind::bind_tcp(SocketAddr::V4(setup.redirect), "--address").await?;
    Ok(Some(listener))
}
