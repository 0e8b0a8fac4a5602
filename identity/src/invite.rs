//! Invites and join tokens: one line of text each, that travels in a file or over standard input.
//!
//! `meshfed-invite-1.` or `meshfed-token-1.`, then base64url (no padding) of a JSON object. Both hold a secret.

mod text;

use crate::bundle::{self, BundleError};
use crate::secret::Secret;
use model::identity::{Bundle, TrustDomain};
use model::ids::{Clusterset, InvalidId, Label, Namespace, SiteId, SiteUid};
use model::node::NodeKind;
use std::net::SocketAddr;
use std::time::Duration;

const INVITE_PREFIX: &str = "meshfed-invite-1.";
const TOKEN_PREFIX: &str = "meshfed-token-1.";

/// Longest text of an invite or a token.
pub const TEXT_MAX: usize = 64 * 1024;
/// Most addresses in an invite or a token.
pub const ADDRESSES_MAX: usize = 64;
/// Most namespaces and most accounts in a token's scope.
pub const SCOPE_MAX: usize = 256;
/// How long an invite or a token is good.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Invites one site to link with another.
#[derive(Debug, Clone)]
pub struct Invite {
    /// Names the invite to the inviter.
    pub id: [u8; 16],
    /// Proves that the accepter has it.
    pub secret: Secret,
    /// When it ends, in milliseconds since 1970, by the inviter's clock.
    pub expires_ms: u64,
    /// The inviter.
    pub site: SiteId,
    /// Its uid.
    pub uid: SiteUid,
    /// The set of sites with which it shares names.
    pub clusterset: Clusterset,
    /// Its anchors, with its trust domain.
    pub bundle: Bundle,
    /// Tunnel ports of its gateways; at least one.
    pub gateways: Vec<SocketAddr>,
    /// The only trust domain that may take it up; none: any.
    pub to: Option<TrustDomain>,
}

/// Lets one gateway or one agent join its site.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// Names the token to the site.
    pub id: [u8; 16],
    /// Proves that the joiner has it.
    pub secret: Secret,
    /// When it ends, in milliseconds since 1970, by the site's clock.
    pub expires_ms: u64,
    /// The site.
    pub site: SiteId,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// [Digest](crate::bundle::digest) of its bundle.
    pub digest: [u8; 32],
    /// What joins.
    pub kind: NodeKind,
    /// Name of the gateway or the host.
    pub name: Label,
    /// For agents: namespaces that it may register in; empty: any. The site's own record of the token decides.
    pub namespaces: Vec<Namespace>,
    /// For agents: accounts that it may assert; empty: none. The site's own record of the token decides.
    pub accounts: Vec<Label>,
    /// Where to join: for agents the tunnel ports of the gateways, for gateways the federation; at least one.
    pub addresses: Vec<SocketAddr>,
}

/// Why an invite or a token was refused before anything was dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Another text.
    #[error("this is no {what}: it must begin with `{prefix}`")]
    NotOne {
        /// What it should be.
        what: &'static str,
        /// How it would begin.
        prefix: &'static str,
    },
    /// A token was given for an invite, or the reverse.
    #[error("this is {found}, and {what} is needed here")]
    Other {
        /// What it should be.
        what: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// It is longer than any can be.
    #[error("the {what} has over {TEXT_MAX} characters")]
    TooLong {
        /// What it should be.
        what: &'static str,
    },
    /// It was cut off or changed on its way.
    #[error("the {what} is damaged ({reason}): copy it again, whole, in one line")]
    Damaged {
        /// What it should be.
        what: &'static str,
        /// How.
        reason: String,
    },
    /// A name in it breaks its rules.
    #[error("the {what} has a bad name: {cause}")]
    Name {
        /// What it should be.
        what: &'static str,
        /// Which.
        cause: InvalidId,
    },
    /// It has none of something, or too many.
    #[error("the {what} has {found} {of}; it must have {min} to {max}")]
    Count {
        /// What it should be.
        what: &'static str,
        /// What was counted.
        of: &'static str,
        /// As found.
        found: usize,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The bundle in an invite is not good.
    #[error("the invite has a bad bundle: {0}")]
    Bundle(BundleError),
    /// Its time is over.
    #[error("the {what} ended {ago_s} s ago (by this host's clock): ask for a new one")]
    Expired {
        /// What it should be.
        what: &'static str,
        /// Since when.
        ago_s: u64,
    },
}

impl Invite {
    /// The invite as one line of text. It holds a secret: print it to the one who asked, nowhere else.
    pub fn encode(&self) -> String {
        text::encode(INVITE_PREFIX, &text::InviteText::from(self))
    }

    /// Reads an invite; white space around it does not matter.
    ///
    /// # Errors
    /// It is none, is damaged, breaks a bound, or ended before `now_ms`.
    pub fn decode(text: &str, now_ms: u64) -> Result<Self, InviteError> {
        let invite: text::InviteText = text::decode("invite", INVITE_PREFIX, TOKEN_PREFIX, text)?;
        let invite = Self::try_from(invite)?;
        not_over("invite", invite.expires_ms, now_ms)?;
        bundle::check(&invite.bundle).map_err(InviteError::Bundle)?;
        Ok(invite)
    }
}

impl JoinToken {
    /// The token as one line of text. It holds a secret: print it to the one who asked, nowhere else.
    pub fn encode(&self) -> String {
        text::encode(TOKEN_PREFIX, &text::TokenText::from(self))
    }

    /// Reads a token; white space around it does not matter.
    ///
    /// # Errors
    /// It is none, is damaged, breaks a bound, or ended before `now_ms`.
    pub fn decode(text: &str, now_ms: u64) -> Result<Self, InviteError> {
        let token: text::TokenText = text::decode("join token", TOKEN_PREFIX, INVITE_PREFIX, text)?;
        let token = Self::try_from(token)?;
        not_over("join token", token.expires_ms, now_ms)?;
        Ok(token)
    }
}

fn not_over(what: &'static str, expires_ms: u64, now_ms: u64) -> Result<(), InviteError> {
    match now_ms.checked_sub(expires_ms) {
        Some(ago_ms) => Err(InviteError::Expired { what, ago_s: ago_ms / 1000 }),
        None => Ok(()),
    }
}
