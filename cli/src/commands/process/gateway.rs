//! `meshfed gateway`.

use super::node_file::{NodeFile, read_token, unused_token};
use super::{begin, process_failed};
use crate::args::GatewayArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use api::resource::site::PortsSpec;
use api::text::Text;
use gateway_server::{Entry, Local, Options};
use local::dns::Forward;
use local::vip::VipSettings;
use model::config::VipRange;
use model::locality::Locality;
use node::enroll::{Membership, NodeFolder};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Runs a gateway until it is asked to end; then it drains.
///
/// # Errors
/// It has not joined and cannot, or a port is taken.
pub async fn run(args: GatewayArgs, ui: &Ui) -> Outcome {
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let file = NodeFile::read(&folder)?;
    let held =
        NodeFolder::open(&folder).map_err(|error| process_failed("the directory of the gateway", &error))?;
    let joined = held.membership().map_err(|error| process_failed("the directory of the gateway", &error))?;
    let is_good = |joined: &Membership| joined.credentials.not_after_ms() > runtime::clock::unix_ms();
    let (entry, federation) = match (&joined, &args.join) {
        (Some(joined), path) if path.is_none() || is_good(joined) => {
            if let Some(path) = path {
                unused_token(path, &folder, &joined.reply.site.id, ui)?;
            }
            (Entry::Folder, joined.addresses.first().copied())
        }
        (_, Some(path)) => {
            let token = read_token(path)?;
            if token.name.as_str() != args.name.as_str() {
                return Err(Failure::usage(format!(
                    "the token is for gateway {}, not {}",
                    token.name, args.name
                ))
                .fix(format!("make one with `meshfed token gateway {}`", args.name)));
            }
            let federation = token.addresses.first().copied();
            (Entry::Token(Box::new(token)), federation)
        }
        (_, None) => {
            return Err(Failure::usage(format!("{} has not joined a site yet", args.name)).fix(format!(
                "make a token with `meshfed token gateway {} --context SITE`, and pass it with --join",
                args.name
            )));
        }
    };
    let federation =
        federation.ok_or_else(|| Failure::new("nothing says where the federation of the site is"))?;
    let address = args.address.or(file.address.map(|a| a.0)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let advertise = args.advertise.or(file.advertise.map(|a| a.0));
    let locality = args.locality.or(file.locality.map(|l| l.0)).filter(|l| *l != Locality::default());
    let shutdown = begin(&args.process)?;
    let ports = PortsSpec::default();
    let file = NodeFile {
        address: Some(Text(address)),
        advertise: advertise.map(Text),
        locality: locality.clone().map(Text),
        workloads: None,
    };
    let mut options = Options::new(folder.clone(), address, federation, entry);
    options.advertise = advertise;
    options.locality = locality;
    options.local = (!args.no_ways_in)
        .then(|| ways_in(address, ports, args.vip_range.map(|range| range.0), BTreeSet::new()));
    let what = format!("gateway {} does not start", args.name);
    let handle =
        gateway_server::run(options, shutdown).await.map_err(|error| process_failed(what, &error))?;
    // Not before: the folder might be another process's.
    file.write(&folder)?;
    handle.ended().await;
    Ok(())
}

/// The ways in for programs of the host: virtual IPs, DNS, SOCKS5 and HTTP CONNECT.
pub(super) fn ways_in(
    address: IpAddr,
    ports: PortsSpec,
    range: Option<VipRange>,
    reserved_ports: BTreeSet<u16>,
) -> Local {
    let proxy = SocketAddr::new(address, ports.proxy);
    Local {
        range,
        vips: VipSettings { reserved_ports, proxy: Some(proxy), ..VipSettings::default() },
        proxy: Some(proxy),
        dns: Some(SocketAddr::new(address, ports.dns)),
        forward: Forward::System,
    }
}
