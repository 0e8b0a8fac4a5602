//! The files of a site directory that say who the site is: `uid`, and its CAs in `ca/` (see `authority`). They live apart from the
//! store, so that a lost store does not make the site another one.

mod authority;

pub(crate) use authority::Files;

use identity::ca::{Ca, CaError, IssueError, lifetime};
use identity::credentials::{Credentials, CredentialsError};
use identity::key::{KeyError, NodeKey};
use identity::rotation::Authority;
use model::config::VipRange;
use model::identity::{Role, SpiffeId, TrustDomain};
use model::ids::{InvalidId, Label, SiteUid};
use runtime::file::{self, FileError, MODE_PUBLIC, MODE_SECRET};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest certificate or key file that is read.
const PEM_BYTES_MAX: usize = 64 * 1024;

/// Why a site directory could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SiteDirError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no site directory.
    #[error("{} is no site directory: it has no file `{name}`; `meshfed init` makes one", dir.display())]
    Missing {
        /// Directory.
        dir: PathBuf,
        /// File that is missing.
        name: &'static str,
    },
    /// There is a site already.
    #[error("{} has a site already (its file `uid` is there); choose another directory, or remove it", dir.display())]
    Exists {
        /// Directory.
        dir: PathBuf,
    },
    /// The uid is damaged.
    #[error("{}: restore it from a backup: a site with another uid is another site to its peers", path.display())]
    Uid {
        /// File.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: InvalidId,
    },
    /// The CA cannot be used.
    #[error("the CA in {} cannot be used", path.display())]
    Ca {
        /// Folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: CaError,
    },
    /// A file of a rotation is not what it should be.
    #[error("{} cannot be used: {reason}; restore `ca/` from a backup", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be removed.
    #[error("{} cannot be removed", path.display())]
    Remove {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No key could be made.
    #[error("no key could be made")]
    Key(#[source] KeyError),
    /// No certificate could be issued.
    #[error("no certificate could be issued")]
    Issue(#[source] IssueError),
    /// A certificate that was issued does not fit.
    #[error("the certificate that was issued cannot be used")]
    Credentials(#[source] CredentialsError),
}

/// Who a site is.
pub struct SiteDir {
    /// The directory.
    pub path: PathBuf,
    /// Its uid.
    pub uid: SiteUid,
    /// Its CAs.
    pub authority: Authority,
}

impl std::fmt::Debug for SiteDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteDir").field("path", &self.path).field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl SiteDir {
    /// Makes the directory with a new uid and a new CA. Nothing that is there is overwritten.
    ///
    /// # Errors
    /// There is a site already, or a file cannot be written.
    pub fn create(path: &Path, trust_domain: &TrustDomain, now_ms: u64) -> Result<Self, SiteDirError> {
        if path.join("uid").exists() {
            return Err(SiteDirError::Exists { dir: path.to_owned() });
        }
        let folder = path.join("ca");
        file::make_private_folder(path)?;
        file::make_private_folder(&folder)?;
        let ca = Ca::generate(trust_domain, now_ms)
            .map_err(|source| SiteDirError::Ca { path: folder.clone(), source })?;
        let random = identity::secret::random_id();
        let uid = SiteUid(random.map_err(|error| SiteDirError::Key(KeyError::Generate(error.to_string())))?);
        file::write_atomic(&folder.join("ca.key"), ca.key_pem().as_bytes(), MODE_SECRET)?;
        file::write_atomic(&folder.join("ca.crt"), ca.cert_pem().as_bytes(), MODE_PUBLIC)?;
        // Last, since it marks the directory as whole.
        file::write_atomic(&path.join("uid"), format!("{uid}\n").as_bytes(), MODE_PUBLIC)?;
        Ok(Self { path: path.to_owned(), uid, authority: Authority::settled(ca, 1) })
    }

    /// Reads the directory.
    ///
    /// # Errors
    /// A file is missing, unreadable or damaged.
    pub fn open(path: &Path, trust_domain: &TrustDomain) -> Result<Self, SiteDirError> {
        let read = |file: PathBuf, name: &'static str| match file::read_text(&file, PEM_BYTES_MAX) {
            Ok(text) => Ok(text),
            Err(error) if error.is_missing() => Err(SiteDirError::Missing { dir: path.to_owned(), name }),
            Err(error) => Err(error.into()),
        };
        let uid = read(path.join("uid"), "uid")?;
        let uid =
            uid.trim().parse().map_err(|source| SiteDirError::Uid { path: path.join("uid"), source })?;
        let authority = authority::open(path, trust_domain)?;
        Ok(Self { path: path.to_owned(), uid, authority })
    }

    /// Makes a key and a certificate for an administrator.
    ///
    /// # Errors
    /// The CA has run out, or the system gave no randomness.
    pub fn issue_admin(&self, name: Label, now_ms: u64) -> Result<Credentials, SiteDirError> {
        let role = Role::Admin(name);
        let lifetime = lifetime(&role);
        issue(self.authority.signing(), role, lifetime, now_ms)
    }

    /// File of the store.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// File of the virtual IPs.
    pub fn vips(&self) -> PathBuf {
        self.path.join("vips.json")
    }

    /// The range that a site takes its virtual IPs from when its `site.yaml` names none: drawn from its uid, so that
    /// it stays the same and that sites on one host rarely take the same.
    pub fn default_vip_range(&self) -> VipRange {
        VipRange { base: Ipv4Addr::new(127, 64 + self.uid.0[0] % 64, 0, 0) }
    }
}

/// Makes a key and a certificate for a process that lives beside the CA.
pub(crate) fn issue(
    ca: &Ca,
    role: Role,
    lifetime: Duration,
    now_ms: u64,
) -> Result<Credentials, SiteDirError> {
    let key = NodeKey::generate().map_err(SiteDirError::Key)?;
    let id = SpiffeId { trust_domain: ca.trust_domain().clone(), role };
    let chain = ca.issue(&key.csr_der(), &id, lifetime, now_ms).map_err(SiteDirError::Issue)?;
    Credentials::new(chain, &key).map_err(SiteDirError::Credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_the_same_after_a_restart_and_is_never_made_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("east");
        let domain: TrustDomain = "east.mesh".parse().expect("valid");
        let made = SiteDir::create(&path, &domain, runtime::clock::unix_ms()).expect("makes");
        let opened = SiteDir::open(&path, &domain).expect("opens");
        assert_eq!(made.uid, opened.uid);
        assert_eq!(made.authority.bundle(), opened.authority.bundle());
        let error = SiteDir::create(&path, &domain, 1).expect_err("is there").to_string();
        assert!(error.contains("has a site already"), "{error}");
        let admin =
            opened.issue_admin("root".parse().expect("valid"), runtime::clock::unix_ms()).expect("issues");
        assert_eq!(admin.id().to_string(), "spiffe://east.mesh/admin/root");
        let other =
            SiteDir::open(&path, &"west.mesh".parse().expect("valid")).expect_err("another trust domain");
        assert!(matches!(other, SiteDirError::Ca { .. }));
    }

    #[test]
    fn a_folder_that_is_no_site_is_said_to_be_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = SiteDir::open(folder.path(), &"east.mesh".parse().expect("valid")).expect_err("none");
        assert!(error.to_string().contains("meshfed init"), "{error}");
    }
}
