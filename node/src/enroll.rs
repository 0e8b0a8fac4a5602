//! How a gateway or an agent becomes part of its site, and stays so: joining with a token, renewing its certificate.

mod folder;
mod lock;

pub use folder::{Membership, NodeFolder};
pub use lock::{FolderLock, LockError};

use crate::channel;
use crate::config::NodeConfig;
use crate::store::ConfigStore;
use crate::stream::{Dial, Io};
use crate::tally::Tally;
use anyhow::{Context, bail};
use identity::credentials::Credentials;
use identity::invite::JoinToken;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use model::identity::Role;
use model::ids::SiteId;
use model::node::NodeKind;
use runtime::backoff::Backoff;
use runtime::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};
use wire::enroll::{JoinReply, JoinRequest, RenewReply, RenewRequest};
use wire::pb;
use wire::pb::enroll_client::EnrollClient;

/// How long the site may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between two tries to renew that failed, from and to.
const RENEW_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest sleep until a renewal, so that a clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Why a node could not join. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The site has answered, and does not take the token. Another way to it changes nothing.
    #[error("site {site} refused the token: {reason}")]
    Refused {
        /// Which.
        site: SiteId,
        /// In its words.
        reason: String,
    },
    /// The site could not be asked over this way, or is not the one of the token. Another way may lead to it.
    #[error("site {site} could not be asked")]
    Unreached {
        /// Which.
        site: SiteId,
        /// What went wrong.
        source: anyhow::Error,
    },
    /// Site or token are at fault: what came is not what the token promised.
    #[error("site {site} gave an answer that cannot be used")]
    BadAnswer {
        /// Which.
        site: SiteId,
        /// What is wrong with it.
        source: anyhow::Error,
    },
}

impl JoinError {
    /// Whether asking over another way makes sense.
    pub fn is_of_the_way(&self) -> bool {
        match self {
            Self::Unreached { .. } => true,
            Self::Refused { .. } | Self::BadAnswer { .. } => false,
        }
    }
}

/// Joins over `way`, which leads to the site's federation, with a key that is made for it. See [`join_as`].
///
/// # Errors
/// The site cannot be asked, is not the one of the token, or refuses the token; nothing was stored.
pub async fn join(
    token: &JoinToken,
    way: Box<dyn Io>,
    tunnel_address: Option<SocketAddr>,
) -> Result<Membership, JoinError> {
    let key = NodeKey::generate().map_err(|error| unreached(token, error.into()))?;
    join_as(&key, token, way, tunnel_address).await
}

/// Joins over `way`, which leads to the site's federation. The key never leaves the host; the site is known by the digest
/// in the token, and the token is bound to this TLS session.
///
/// The first join binds the token to the key, so one that is repeated, since its answer was lost, needs the same.
///
/// # Errors
/// The site cannot be asked, is not the one of the token, or refuses the token; nothing was stored.
pub async fn join_as(
    key: &NodeKey,
    token: &JoinToken,
    way: Box<dyn Io>,
    tunnel_address: Option<SocketAddr>,
) -> Result<Membership, JoinError> {
    let site = || token.site.clone();
    let asked = ask(key, token, way, tunnel_address).await.map_err(|error| unreached(token, error))?;
    let reply = match asked {
        Ok(reply) => reply.into_inner(),
        Err(status) if is_of_the_way(&status) => {
            return Err(unreached(token, anyhow::anyhow!("{}", status.message())));
        }
        Err(status) => return Err(JoinError::Refused { site: site(), reason: status.message().to_owned() }),
    };
    joined(key, token, reply).map_err(|source| JoinError::BadAnswer { site: site(), source })
}

fn unreached(token: &JoinToken, source: anyhow::Error) -> JoinError {
    JoinError::Unreached { site: token.site.clone(), source }
}

/// Whether a call was lost on its way, or the site cannot answer now. What the site has decided has another code.
fn is_of_the_way(status: &tonic::Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
    )
}

async fn ask(
    key: &NodeKey,
    token: &JoinToken,
    way: Box<dyn Io>,
    tunnel_address: Option<SocketAddr>,
) -> anyhow::Result<Result<tonic::Response<pb::JoinReply>, tonic::Status>> {
    let csr = key.csr_der();
    let expect = Expect::digest(token.trust_domain.clone(), token.digest, RoleKind::Federation);
    let tls = channel::handshake(way, None, &expect).await?;
    let exporter = identity::proof::exporter(tls.get_ref().1).context("bind the token to the TLS session")?;
    let context = identity::proof::join_context(token.kind, &token.name, &csr);
    let request = JoinRequest {
        token: token.id,
        proof: identity::proof::prove(&token.secret, &exporter, &context),
        csr,
        kind: token.kind,
        name: token.name.clone(),
        tunnel_address,
    };
    let answered = async {
        let mut client = EnrollClient::new(channel::channel(tls).await?);
        Ok(client.join(pb::JoinRequest::from(&request)).await)
    };
    tokio::time::timeout(ANSWER_TIMEOUT, answered).await.context("the site does not answer")?
}

/// Checks that the answer makes this node what the token says, and nothing else.
fn joined(key: &NodeKey, token: &JoinToken, reply: pb::JoinReply) -> anyhow::Result<Membership> {
    let reply = JoinReply::try_from(reply)?;
    let credentials = Credentials::new(reply.chain.clone(), key)?;
    let id = credentials.id();
    let is_meant = match (&id.role, token.kind) {
        (Role::Gateway(name), NodeKind::Gateway) => name.as_str() == token.name.as_str(),
        (Role::Agent(name), NodeKind::Agent) => name.as_str() == token.name.as_str(),
        (
            Role::Gateway(_) | Role::Agent(_) | Role::Federation(_) | Role::Admin(_) | Role::Workload { .. },
            _,
        ) => false,
    };
    if !is_meant || id.trust_domain != token.trust_domain {
        bail!(
            "it issued a certificate for {id}, and the token is for {} of {}",
            token.name,
            token.trust_domain
        );
    }
    if reply.site.id != token.site || reply.site.trust_domain != token.trust_domain {
        bail!("it calls itself {} of {}", reply.site.id, reply.site.trust_domain);
    }
    Ok(Membership { credentials, reply, addresses: token.addresses.clone() })
}

/// Renews the certificate at half of its life, and when the config says that another root of the site signs than the one
/// that it is of, until shutdown begins. Connections that are open stay open: the new certificate counts for the next
/// handshakes.
pub async fn keep_renewed(
    credentials: LiveCredentials,
    folder: NodeFolder,
    dial: Arc<dyn Dial>,
    trust: TrustStore,
    store: Arc<ConfigStore>,
    tally: Arc<Tally>,
    shutdown: Shutdown,
) {
    let mut config = store.subscribe();
    // A certificate that is due again as soon as it was issued (a clock is wrong, or the CA runs out) is like a failure.
    let mut backoff = Backoff::new(RENEW_PAUSES.0, RENEW_PAUSES.1);
    loop {
        let left = Duration::from_millis(
            credentials.current().renew_at_ms().saturating_sub(runtime::clock::unix_ms()),
        );
        let signer = config.borrow_and_update().site.as_ref().and_then(|site| site.signer);
        let of_another = is_of_another_root(&credentials.current(), &store.current());
        let wait = if left.is_zero() || of_another {
            let renewed = tokio::select! {
                renewed = renew(&credentials, &folder, dial.as_ref(), &trust) => renewed,
                () = shutdown.begun() => return,
            };
            tally.renewed(renewed.is_ok());
            match renewed {
                Ok(()) => info!(of_another_root = of_another, "certificate renewed"),
                Err(error) => {
                    let error = format!("{error:#}");
                    let end = credentials.current().not_after_ms();
                    let good_for_s = end.saturating_sub(runtime::clock::unix_ms()) / 1_000;
                    if good_for_s == 0 {
                        error!(
                            error,
                            "the certificate has run out and could not be renewed: open connections go on, new handshakes \
                             fail; if the federation runs, join again with a new token"
                        );
                    } else {
                        warn!(error, good_for_s, "the certificate could not be renewed; it is tried again");
                    }
                }
            }
            backoff.next_wait()
        } else {
            backoff.reset();
            left.min(SLEEP_MAX)
        };
        // Config changes often; whether the leaf is of another root is looked at only when that may have changed.
        let other_signer =
            config.wait_for(|config| config.site.as_ref().and_then(|site| site.signer) != signer);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(_) = other_signer => {}
            () = shutdown.begun() => return,
        }
    }
}

/// Whether the site's leaves are signed by another root than the one that has signed this.
fn is_of_another_root(held: &Credentials, config: &NodeConfig) -> bool {
    let signs = config.site.as_ref().and_then(|site| {
        let signer = site.signer?;
        site.bundle.anchors.iter().find(|anchor| identity::bundle::fingerprint(anchor) == signer)
    });
    signs.is_some_and(|anchor| !held.is_signed_by(anchor))
}

async fn renew(
    credentials: &LiveCredentials,
    folder: &NodeFolder,
    dial: &dyn Dial,
    trust: &TrustStore,
) -> anyhow::Result<()> {
    let key = NodeKey::generate()?;
    let mut client = EnrollClient::new(channel::connect(dial, credentials, trust).await?);
    let request = RenewRequest { csr: key.csr_der() };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.renew(pb::RenewRequest::from(&request)))
        .await
        .context("the federation does not answer")?
        .context("the federation refused to renew")?;
    let reply = RenewReply::try_from(answer.into_inner()).context("the federation's answer")?;
    let renewed = Credentials::new(reply.chain, &key).context("the certificate from the federation")?;
    if *renewed.id() != credentials.id() {
        bail!("the federation renewed the certificate of {}, and this is {}", renewed.id(), credentials.id());
    }
    folder.store_credentials(&renewed)?;
    credentials.replace(renewed);
    Ok(())
}
