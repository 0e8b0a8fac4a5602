//! Joining a site: over its tunnel port, with nothing but a token.

use crate::Options;
use anyhow::{Context, bail};
use identity::invite::JoinToken;
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::identity::Role;
use model::node::NodeKind;
use node::enroll::{self, Membership, NodeFolder};
use std::net::{IpAddr, SocketAddr};
use tracing::{debug, info, warn};
use tunnel::{Config, ConnectError, Tunnel};

/// Who the agent is: as its folder says, or after joining with its token.
///
/// # Errors
/// It is no member and cannot become one, or the folder is that of another host or site.
pub(crate) async fn membership(options: &Options, folder: &NodeFolder) -> anyhow::Result<Membership> {
    if let Some(membership) = folder.membership()? {
        check(&membership, options, folder)?;
        let over = membership.credentials.not_after_ms() <= runtime::clock::unix_ms();
        if !over || options.token.is_none() {
            if over {
                warn!(
                    "the certificate of this host has run out (or its clock is ahead): join again with a new token"
                );
            }
            return Ok(membership);
        }
    }
    let Some(token) = &options.token else {
        bail!(
            "{} has no certificate yet: make a token with `meshfed token agent {} --context SITE` and pass it with --join",
            folder.path().display(),
            options.host
        );
    };
    if token.name.as_str() != options.host.as_str() {
        bail!("the token is for host {}, not {}", token.name, options.host);
    }
    let membership = join(token, folder, options.address).await?;
    info!(site = %membership.reply.site.id, "joined");
    Ok(membership)
}

fn check(membership: &Membership, options: &Options, folder: &NodeFolder) -> anyhow::Result<()> {
    let site = &membership.reply.site.id;
    if let Some(token) = options.token.as_ref().filter(|token| token.site != *site) {
        let path = folder.path().display();
        bail!("{path} belongs to site {site}, and the token is for site {}; use another --dir", token.site);
    }
    let id = membership.credentials.id();
    if id.role != Role::Agent(options.host.clone()) {
        bail!("{} is that of {id}, not of host {}; use another --dir", folder.path().display(), options.host);
    }
    Ok(())
}

/// Joins with the token, over the first gateway in it that leads to the site's federation, and stores who this host is
/// from now on.
///
/// # Errors
/// No gateway leads there, or the site refuses the token. Nothing was stored but the key.
pub async fn join(token: &JoinToken, folder: &NodeFolder, address: IpAddr) -> anyhow::Result<Membership> {
    if token.kind != NodeKind::Agent {
        bail!(
            "this token lets a gateway join; make one for this host with `meshfed token agent {}`",
            token.name
        );
    }
    let key = folder.joining_key()?;
    let tunnel = Tunnel::stranger(SocketAddr::new(address, 0), Config::wan()).context("open a UDP socket")?;
    let expect = Expect::digest(token.trust_domain.clone(), token.digest, RoleKind::Gateway);
    let mut tried = Vec::new();
    // A gateway takes strangers only while a token is open; then nobody can say what became of this one.
    let mut is_closed = false;
    for gateway in &token.addresses {
        let error = match tunnel.connect_link(*gateway, expect.clone()).await {
            Err(error) => {
                is_closed |= matches!(error, ConnectError::Refused { .. });
                error.into()
            }
            Ok(stream) => match enroll::join_as(&key, token, Box::new(stream), None).await {
                Ok(membership) => {
                    folder.store(&membership)?;
                    return Ok(membership);
                }
                Err(error) if !error.is_of_the_way() => return Err(error.into()),
                Err(error) => anyhow::Error::from(error).context(format!("through {gateway}")),
            },
        };
        debug!(%gateway, error = format!("{error:#}"), "cannot join here");
        tried.push(format!("{error:#}"));
    }
    let tried = tried.join("; ");
    if is_closed {
        bail!(
            "no gateway of site {} lets this host join, so the token was probably used already or has run out: make a new \
             one with `meshfed token agent {}` ({tried})",
            token.site,
            token.name
        );
    }
    bail!("no gateway of site {} lets this host join: {tried}", token.site)
}
