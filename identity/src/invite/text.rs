//! The JSON inside invites and tokens.

use super::{ADDRESSES_MAX, Invite, InviteError, JoinToken, SCOPE_MAX, TEXT_MAX};
use crate::bundle::{ANCHOR_MAX, ANCHORS_MAX};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::identity::Bundle;
use model::ids::InvalidId;
use model::node::NodeKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteText {
    id: String,
    secret: String,
    expires_ms: u64,
    site: String,
    uid: String,
    clusterset: String,
    trust_domain: String,
    sequence: u64,
    anchors: Vec<String>,
    gateways: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenText {
    id: String,
    secret: String,
    expires_ms: u64,
    site: String,
    trust_domain: String,
    digest: String,
    kind: KindText,
    name: String,
    namespaces: Vec<String>,
    accounts: Vec<String>,
    addresses: Vec<SocketAddr>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum KindText {
    Gateway,
    Agent,
}

impl Drop for InviteText {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Drop for TokenText {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

pub(super) fn encode(prefix: &str, value: &impl Serialize) -> String {
    let json = Zeroizing::new(serde_json::to_vec(value).expect("texts and numbers can be written as JSON"));
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(&*json))
}

pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    prefix: &'static str,
    other_prefix: &str,
    text: &str,
) -> Result<T, InviteError> {
    let text = text.trim();
    if text.len() > TEXT_MAX {
        return Err(InviteError::TooLong { what });
    }
    if text.starts_with(other_prefix) {
        let found = if what == "invite" { "a join token" } else { "an invite for `meshfed link accept`" };
        return Err(InviteError::Other { what, found });
    }
    let body = text.strip_prefix(prefix).ok_or(InviteError::NotOne { what, prefix })?;
    let damaged = |reason: &str| InviteError::Damaged { what, reason: reason.to_owned() };
    let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged("it is not base64url"))?;
    let json = Zeroizing::new(json);
    // The message of the JSON reader could repeat a part of the content, so only the place is given.
    serde_json::from_slice(&json)
        .map_err(|error| damaged(&format!("its JSON breaks at column {}", error.column())))
}

fn bytes(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unbytes<const N: usize>(what: &'static str, field: &str, text: &str) -> Result<[u8; N], InviteError> {
    let damaged = || InviteError::Damaged { what, reason: format!("`{field}` does not have {N} bytes") };
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?);
    decoded.as_slice().try_into().map_err(|_| damaged())
}

fn name<T: FromStr<Err = InvalidId>>(what: &'static str, text: &str) -> Result<T, InviteError> {
    // The text itself is not shown: in one that was damaged it may be the secret.
    let hidden = |cause: InvalidId| InvalidId::new(cause.what, "(not shown)", cause.reason);
    text.parse().map_err(|cause| InviteError::Name { what, cause: hidden(cause) })
}

fn names<T: FromStr<Err = InvalidId>>(
    what: &'static str,
    of: &'static str,
    texts: &[String],
) -> Result<Vec<T>, InviteError> {
    count(what, of, texts.len(), 0, SCOPE_MAX)?;
    texts.iter().map(|text| name(what, text)).collect()
}

fn count(
    what: &'static str,
    of: &'static str,
    found: usize,
    min: usize,
    max: usize,
) -> Result<(), InviteError> {
    if !(min..=max).contains(&found) {
        return Err(InviteError::Count { what, of, found, min, max });
    }
    Ok(())
}

impl From<&Invite> for InviteText {
    fn from(invite: &Invite) -> Self {
        Self {
            id: bytes(&invite.id),
            secret: bytes(invite.secret.expose()),
            expires_ms: invite.expires_ms,
            site: invite.site.to_string(),
            uid: invite.uid.to_string(),
            clusterset: invite.clusterset.to_string(),
            trust_domain: invite.bundle.trust_domain.to_string(),
            sequence: invite.bundle.sequence,
            anchors: invite.bundle.anchors.iter().map(|anchor| bytes(anchor)).collect(),
            gateways: invite.gateways.clone(),
            to: invite.to.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<InviteText> for Invite {
    type Error = InviteError;

    fn try_from(invite: InviteText) -> Result<Self, InviteError> {
        let what = "invite";
        count(what, "anchors", invite.anchors.len(), 1, ANCHORS_MAX)?;
        count(what, "gateways", invite.gateways.len(), 1, ADDRESSES_MAX)?;
        let anchor = |text: &String| match URL_SAFE_NO_PAD.decode(text) {
            Ok(der) if der.len() <= ANCHOR_MAX => Ok(der),
            _ => Err(InviteError::Damaged { what, reason: "an anchor is not base64url".to_owned() }),
        };
        Ok(Self {
            id: unbytes(what, "id", &invite.id)?,
            secret: Secret::from_bytes(unbytes(what, "secret", &invite.secret)?),
            expires_ms: invite.expires_ms,
            site: name(what, &invite.site)?,
            uid: name(what, &invite.uid)?,
            clusterset: name(what, &invite.clusterset)?,
            bundle: Bundle {
                trust_domain: name(what, &invite.trust_domain)?,
                sequence: invite.sequence,
                anchors: invite.anchors.iter().map(anchor).collect::<Result<_, _>>()?,
            },
            gateways: invite.gateways.clone(),
            to: invite.to.as_deref().map(|text| name(what, text)).transpose()?,
        })
    }
}

impl From<&JoinToken> for TokenText {
    fn from(token: &JoinToken) -> Self {
        Self {
            id: bytes(&token.id),
            secret: bytes(token.secret.expose()),
            expires_ms: token.expires_ms,
            site: token.site.to_string(),
            trust_domain: token.trust_domain.to_string(),
            digest: bytes(&token.digest),
            kind: match token.kind {
                NodeKind::Gateway => KindText::Gateway,
                NodeKind::Agent => KindText::Agent,
            },
            name: token.name.to_string(),
            namespaces: token.namespaces.iter().map(ToString::to_string).collect(),
            accounts: token.accounts.iter().map(ToString::to_string).collect(),
            addresses: token.addresses.clone(),
        }
    }
}

impl TryFrom<TokenText> for JoinToken {
    type Error = InviteError;

    fn try_from(token: TokenText) -> Result<Self, InviteError> {
        let what = "join token";
        count(what, "addresses", token.addresses.len(), 1, ADDRESSES_MAX)?;
        Ok(Self {
            id: unbytes(what, "id", &token.id)?,
            secret: Secret::from_bytes(unbytes(what, "secret", &token.secret)?),
            expires_ms: token.expires_ms,
            site: name(what, &token.site)?,
            trust_domain: name(what, &token.trust_domain)?,
            digest: unbytes(what, "digest", &token.digest)?,
            kind: match token.kind {
                KindText::Gateway => NodeKind::Gateway,
                KindText::Agent => NodeKind::Agent,
            },
            name: name(what, &token.name)?,
            namespaces: names(what, "namespaces", &token.namespaces)?,
            accounts: names(what, "accounts", &token.accounts)?,
            addresses: token.addresses.clone(),
        })
    }
}
