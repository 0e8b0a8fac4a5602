//! Whether a bundle comes after the one that is held: no trust in the sender is needed beyond that of the old anchors.

use crate::bundle::{self, BundleError};
use crate::ca::CROSSES_MAX;
use crate::x509;
use model::identity::{Bundle, TrustDomain};
use std::collections::BTreeSet;

/// Most vouchers of a bundle: one for the anchor that is published, and those that stand behind leaves.
pub const VOUCHERS_MAX: usize = CROSSES_MAX + 1;

/// Why a bundle that a site has sent does not take the place of the one that is held. What is held stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBundle {
    /// It is not good.
    #[error("it cannot be used")]
    Bad(#[source] BundleError),
    /// It is the bundle of somebody else.
    #[error("it is the bundle of {named}, and not of {trust_domain}")]
    Foreign {
        /// Whose is held.
        trust_domain: TrustDomain,
        /// Whose it is.
        named: TrustDomain,
    },
    /// The sender has gone back: its files were restored, or it is not who it says.
    #[error("it is number {offered}, older than number {held}, which is held")]
    Older {
        /// Its sequence.
        offered: u64,
        /// The sequence that is held.
        held: u64,
    },
    /// Two bundles with one number.
    #[error("it is number {sequence} as the one that is held, with other anchors")]
    Differs {
        /// The sequence of both.
        sequence: u64,
    },
    /// An anchor that nobody vouches for.
    #[error("no anchor that is held vouches for anchor {at} of it")]
    Stranger {
        /// Which, from 0.
        at: usize,
    },
}

/// What becomes of a bundle that a linked site has sent: the newer of the two; none: it is the one that is held.
///
/// Every anchor of it has a key that is held already, or that one which is held vouches for, if need be through others:
/// `vouchers` are certificates of newer keys signed with older ones, newest first. So a site that was away through
/// whole rotations takes what it has missed, and a thief of a leaf cannot bring in a root of his own.
///
/// # Errors
/// See [`RefusedBundle`].
pub fn successor(
    held: &Bundle,
    offered: &Bundle,
    vouchers: &[Vec<u8>],
) -> Result<Option<Bundle>, RefusedBundle> {
    if offered.trust_domain != held.trust_domain {
        let (trust_domain, named) = (held.trust_domain.clone(), offered.trust_domain.clone());
        return Err(RefusedBundle::Foreign { trust_domain, named });
    }
    bundle::check(offered).map_err(RefusedBundle::Bad)?;
    if offered.sequence < held.sequence {
        return Err(RefusedBundle::Older { offered: offered.sequence, held: held.sequence });
    }
    if offered.sequence == held.sequence {
        let same = bundle::digest(offered) == bundle::digest(held);
        return if same { Ok(None) } else { Err(RefusedBundle::Differs { sequence: held.sequence }) };
    }
    let mut known: BTreeSet<Vec<u8>> = held.anchors.iter().filter_map(|anchor| key_of(anchor)).collect();
    for voucher in vouchers.iter().take(VOUCHERS_MAX).rev() {
        if let Some(read) = x509::read(voucher).filter(|read| read.is_ca)
            && known.iter().any(|key| x509::is_signed_with(voucher, key))
        {
            known.insert(read.spki);
        }
    }
    let is_stranger = |anchor: &Vec<u8>| key_of(anchor).is_none_or(|key| !known.contains(&key));
    match offered.anchors.iter().position(is_stranger) {
        Some(at) => Err(RefusedBundle::Stranger { at }),
        None => Ok(Some(offered.clone())),
    }
}

fn key_of(anchor: &[u8]) -> Option<Vec<u8>> {
    x509::read(anchor).map(|read| read.spki)
}
