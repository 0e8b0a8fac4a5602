//! The CAs of a site over time: a root is rotated in three steps, and at each of them everybody knows everybody.
//!
//! 1. [`Authority::publish`]: the bundle has the old anchor and the new one; the old CA signs.
//! 2. [`Authority::switch`]: the new CA signs; the old one has vouched for it ([`Ca::cross`]), so that whoever has not
//!    heard of the new anchor yet accepts its leaves all the same.
//! 3. [`Authority::retire`]: the bundle has the new anchor alone. Only now are leaves of the old CA refused.
//!
//! This is pure: the shell stores [`Authority`] after each step, tells it what others hold, and publishes its bundle.

mod successor;

pub use successor::{RefusedBundle, VOUCHERS_MAX, successor};

use crate::ca::{Ca, CrossError};
use model::identity::{Bundle, TrustDomain};
use std::collections::BTreeMap;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One CA, one anchor.
    Settled,
    /// The next anchor is published, and does not sign yet.
    Published,
    /// The new CA signs; the old anchor still counts.
    Switched,
}

/// Why a step was not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The caller's fault: another step comes first.
    #[error("this step is not the next one: {is}")]
    Phase {
        /// Where the rotation stands, in words.
        is: &'static str,
    },
    /// The new CA cannot follow the old one.
    #[error("the new CA cannot follow the old one")]
    Cross(#[source] CrossError),
    /// Somebody would be locked out, or would be believed no more.
    #[error("the old root is still needed by {}; wait, or force it", names.join(", "))]
    HeldUp {
        /// Who, in order.
        names: Vec<String>,
    },
}

/// The CA that signs for a site, the one that will, and the anchor of the one that did.
#[derive(Debug)]
pub struct Authority {
    signing: Ca,
    coming: Option<Ca>,
    /// Anchor of the CA that signed before.
    going: Option<Vec<u8>>,
    sequence: u64,
}

impl Authority {
    /// One CA, whose bundle has this sequence number.
    pub fn settled(ca: Ca, sequence: u64) -> Self {
        Self { signing: ca, coming: None, going: None, sequence }
    }

    /// As it was stored: the CA that signs, the published one, the anchor that is to be retired. There is never both
    /// of the latter.
    ///
    /// # Errors
    /// They do not belong together.
    pub fn stored(
        signing: Ca,
        coming: Option<Ca>,
        going: Option<Vec<u8>>,
        sequence: u64,
    ) -> Result<Self, RotationError> {
        if coming.is_some() && going.is_some() {
            return Err(RotationError::Phase { is: "one CA is coming while another one is going" });
        }
        if let Some(next) = coming.as_ref().filter(|next| next.trust_domain() != signing.trust_domain()) {
            let (own, other) = (signing.trust_domain().clone(), next.trust_domain().clone());
            return Err(RotationError::Cross(CrossError::Foreign { own, other }));
        }
        Ok(Self { signing, coming, going, sequence })
    }

    /// How far its rotation is.
    pub fn phase(&self) -> Phase {
        match (&self.coming, &self.going) {
            (Some(_), _) => Phase::Published,
            (None, Some(_)) => Phase::Switched,
            (None, None) => Phase::Settled,
        }
    }

    /// Number of the bundle.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whose it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.signing.trust_domain()
    }

    /// The CA that signs.
    pub fn signing(&self) -> &Ca {
        &self.signing
    }

    /// The CA that is published and does not sign yet.
    pub fn coming(&self) -> Option<&Ca> {
        self.coming.as_ref()
    }

    /// The anchor that is to be retired, DER.
    pub fn going(&self) -> Option<&[u8]> {
        self.going.as_deref()
    }

    /// What others should hold, oldest anchor first. Its sequence grows with each step that changes it.
    pub fn bundle(&self) -> Bundle {
        let going = self.going.iter().cloned();
        let coming = self.coming.iter().map(|ca| ca.cert_der().to_vec());
        let anchors = going.chain([self.signing.cert_der().to_vec()]).chain(coming).collect();
        Bundle { trust_domain: self.trust_domain().clone(), sequence: self.sequence, anchors }
    }

    /// What shows whoever holds an older bundle that this one comes from the same site: certificates of newer keys under
    /// older ones, newest first. See [`successor()`].
    pub fn vouchers(&self, now_ms: u64) -> Vec<Vec<u8>> {
        let coming = self.coming.iter().filter_map(|next| self.signing.cross(next, now_ms).ok());
        coming.chain(self.signing.crosses().iter().cloned()).collect()
    }

    /// Step 1: publishes the anchor of the next CA. The signature that will be needed is tried first.
    ///
    /// # Errors
    /// A rotation is under way, or the CAs do not fit together.
    pub fn publish(&mut self, next: Ca, now_ms: u64) -> Result<(), RotationError> {
        self.expect(Phase::Settled)?;
        self.signing.cross(&next, now_ms).map_err(RotationError::Cross)?;
        self.coming = Some(next);
        self.sequence += 1;
        Ok(())
    }

    /// Takes step 1 back: nothing was signed with the next CA yet.
    ///
    /// # Errors
    /// None is published, or it signs already.
    pub fn withdraw(&mut self) -> Result<(), RotationError> {
        self.expect(Phase::Published)?;
        self.coming = None;
        self.sequence += 1;
        Ok(())
    }

    /// Step 2: the next CA signs from now on. Nobody needs to know its anchor yet, so this never waits; the bundle
    /// stays the same. The key of the old CA is not kept.
    ///
    /// # Errors
    /// None is published, or one of the two CAs has run out.
    pub fn switch(&mut self, now_ms: u64) -> Result<(), RotationError> {
        self.expect(Phase::Published)?;
        let Some(next) = &self.coming else { return Ok(()) };
        let cross = self.signing.cross(next, now_ms).map_err(RotationError::Cross)?;
        let mut crosses = vec![cross];
        crosses.extend(self.signing.crosses().iter().cloned());
        let Some(next) = self.coming.take() else { return Ok(()) };
        let old = self.signing.cert_der().to_vec();
        self.signing = next.with_crosses(crosses).map_err(RotationError::Cross)?;
        self.going = Some(old);
        Ok(())
    }

    /// Who still needs the old anchor. `holders`: the linked sites and the sequence of the bundle that each has said
    /// that it holds; 0: it has said nothing. `leaves`: those whose leaf is of the old CA and has not run out.
    pub fn held_up_by(&self, holders: &BTreeMap<String, u64>, leaves: &[String]) -> Vec<String> {
        if self.phase() != Phase::Switched {
            return Vec::new();
        }
        let behind = holders.iter().filter(|(_, held)| **held < self.sequence).map(|(name, _)| name);
        let mut names: Vec<String> = behind.chain(leaves).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// Step 3: the old anchor counts no more.
    ///
    /// # Errors
    /// Somebody [holds it up](Self::held_up_by), unless it is forced; or the new CA does not sign yet.
    pub fn retire(
        &mut self,
        holders: &BTreeMap<String, u64>,
        leaves: &[String],
        force: bool,
    ) -> Result<(), RotationError> {
        self.expect(Phase::Switched)?;
        let names = self.held_up_by(holders, leaves);
        if !names.is_empty() && !force {
            return Err(RotationError::HeldUp { names });
        }
        self.going = None;
        self.sequence += 1;
        Ok(())
    }

    fn expect(&self, phase: Phase) -> Result<(), RotationError> {
        let is = match self.phase() {
            is if is == phase => return Ok(()),
            Phase::Settled => "no rotation is under way",
            Phase::Published => "the next root is published, and does not sign yet",
            Phase::Switched => "the new root signs, and the old one is not retired yet",
        };
        Err(RotationError::Phase { is })
    }
}
