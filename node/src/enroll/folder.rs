//! What a node keeps on disk of who it is.

use super::lock::FolderLock;
use anyhow::Context;
use identity::credentials::{Credentials, CredentialsError};
use identity::key::NodeKey;
use identity::secret::Secret;
use prost::Message;
use runtime::file;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tracing::warn;
use wire::enroll::JoinReply;
use wire::pb;

/// Files of a node's folder are small.
const FILE_MAX: usize = 1 << 20;

const KEY: &str = "node.key";
const CHAIN: &str = "node.crt";
/// A key whose certificate is about to be written, or has just been.
const NEXT_KEY: &str = "node.key.next";
/// What the transport's keys are derived from; it outlives certificates.
const RESET_SECRET: &str = "reset.key";
const ADDRESSES: &str = "addresses";
/// Written last on joining: without it the node has not joined.
const JOINED: &str = "joined";

/// The folder of a node.
#[derive(Debug, Clone)]
pub struct NodeFolder {
    path: PathBuf,
}

/// Who a node is, and what it was told when it joined.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Certificate and key.
    pub credentials: Credentials,
    /// What the federation said.
    pub reply: JoinReply,
    /// Where the node joined: for gateways the federation, for agents the gateways.
    pub addresses: Vec<SocketAddr>,
}

impl NodeFolder {
    /// Takes `path`, making it when it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        file::make_private_folder(path).context("make the folder of this node")?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the folder for this process, until the lock is dropped, and finishes what the last one left half done.
    /// Whoever only reads needs no lock.
    ///
    /// # Errors
    /// [`LockError`](super::LockError) when another process has it; or the disk knows no locks, or is read-only.
    pub fn lock(&self) -> anyhow::Result<FolderLock> {
        let lock = FolderLock::take(&self.path)?;
        if self.read_pair()?.is_some_and(|(_, key)| key == NEXT_KEY) {
            // Else a renewal would overwrite the only key that fits the certificate.
            std::fs::rename(self.file(NEXT_KEY), self.file(KEY))
                .context("put the key beside its certificate")?;
        }
        Ok(lock)
    }

    /// The secret that lets this node, after a crash, reset the connections that peers still hold. It is made once and
    /// stays when the certificate and its key are renewed.
    ///
    /// # Errors
    /// The file cannot be read or written, or the system gave no randomness.
    pub fn reset_secret(&self) -> anyhow::Result<Secret> {
        let path = self.file(RESET_SECRET);
        if let Some(bytes) = file::read_if_present(&path, FILE_MAX)? {
            if let Ok(bytes) = <[u8; 32]>::try_from(bytes) {
                return Ok(Secret::from_bytes(bytes));
            }
            warn!(path = %path.display(), "this is no secret of 32 bytes; a new one is made");
        }
        let secret = Secret::random()?;
        file::write_atomic(&path, secret.expose(), file::MODE_SECRET)?;
        Ok(secret)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The key to join with: the one of an earlier try, since that may have bound the token, or a new one, which is kept
    /// for the next try.
    ///
    /// # Errors
    /// The file cannot be read or written, or the system gave no randomness.
    pub fn joining_key(&self) -> anyhow::Result<NodeKey> {
        let path = self.file(KEY);
        if path.exists() {
            return NodeKey::from_pem(&file::read_text(&path, FILE_MAX)?)
                .context("read the key of this node");
        }
        let key = NodeKey::generate()?;
        file::write_atomic(&path, key.to_pem().as_bytes(), file::MODE_SECRET)?;
        Ok(key)
    }

    /// What was stored; none: the node has not joined yet.
    ///
    /// # Errors
    /// The files are damaged.
    pub fn membership(&self) -> anyhow::Result<Option<Membership>> {
        let Some(joined) = file::read_if_present(&self.file(JOINED), FILE_MAX)? else { return Ok(None) };
        let reply = pb::JoinReply::decode(joined.as_slice())
            .context("read what the site said when this node joined")?;
        let reply = JoinReply::try_from(reply).context("read what the site said when this node joined")?;
        let credentials = self.credentials()?;
        let addresses = file::read_text(&self.file(ADDRESSES), FILE_MAX)?;
        let addresses: Result<_, _> = addresses.lines().map(str::parse).collect();
        Ok(Some(Membership {
            credentials,
            reply,
            addresses: addresses.context("read the addresses of the site")?,
        }))
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        let pair = self.read_pair()?.context("the certificate of this node is missing")?;
        Ok(pair.0)
    }

    /// The certificate with the key that fits it, and the file of that key; none: there is no certificate. It changes
    /// nothing, since a process that only looks may do so at any moment.
    fn read_pair(&self) -> anyhow::Result<Option<(Credentials, &'static str)>> {
        let Some(chain) = file::read_if_present(&self.file(CHAIN), FILE_MAX)? else { return Ok(None) };
        let chain = String::from_utf8(chain).context("read the certificate of this node")?;
        let read = Credentials::from_pem(&chain, &file::read_text(&self.file(KEY), FILE_MAX)?);
        let next = self.file(NEXT_KEY);
        if matches!(read, Err(CredentialsError::Mismatch(_))) && next.exists() {
            // The last process ended between the certificate and its key.
            let credentials = Credentials::from_pem(&chain, &file::read_text(&next, FILE_MAX)?)
                .context("read the certificate of this node")?;
            return Ok(Some((credentials, NEXT_KEY)));
        }
        Ok(Some((read.context("read the certificate of this node")?, KEY)))
    }

    /// Stores a membership, which counts from the last of its files on.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn store(&self, membership: &Membership) -> anyhow::Result<()> {
        self.store_credentials(&membership.credentials)?;
        let addresses: String = membership.addresses.iter().map(|address| format!("{address}\n")).collect();
        file::write_atomic(&self.file(ADDRESSES), addresses.as_bytes(), file::MODE_PUBLIC)?;
        let joined = pb::JoinReply::from(&membership.reply).encode_to_vec();
        file::write_atomic(&self.file(JOINED), &joined, file::MODE_SECRET)?;
        Ok(())
    }

    /// Replaces certificate and key. A crash at any moment leaves the old pair or the new.
    pub(super) fn store_credentials(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let next = self.file(NEXT_KEY);
        file::write_atomic(&next, credentials.key_pem().as_bytes(), file::MODE_SECRET)?;
        file::write_atomic(&self.file(CHAIN), credentials.chain_pem().as_bytes(), file::MODE_PUBLIC)?;
        std::fs::rename(&next, self.file(KEY)).context("put the key beside its certificate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identity::ca::{Ca, INFRASTRUCTURE_LIFETIME};
    use std::os::unix::fs::PermissionsExt;

    fn credentials(ca: &Ca) -> Credentials {
        let key = NodeKey::generate().expect("a key");
        let id = "spiffe://east.mesh/agent/vm-1".parse().expect("valid");
        let now = runtime::clock::unix_ms();
        let chain = ca.issue(&key.csr_der(), &id, INFRASTRUCTURE_LIFETIME, now).expect("issued");
        Credentials::new(chain, &key).expect("a pair")
    }

    fn ca() -> Ca {
        Ca::generate(&"east.mesh".parse().expect("valid"), runtime::clock::unix_ms()).expect("a CA")
    }

    fn pem(folder: &NodeFolder) -> String {
        folder.credentials().expect("a pair").chain_pem()
    }

    #[test]
    fn a_crash_between_certificate_and_key_leaves_a_pair() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = NodeFolder::open(directory.path()).expect("opens");
        let ca = ca();
        let (old, new) = (credentials(&ca), credentials(&ca));
        folder.store_credentials(&old).expect("stored");

        // After the key of the new pair, before its certificate.
        file::write_atomic(&folder.file(NEXT_KEY), new.key_pem().as_bytes(), file::MODE_SECRET)
            .expect("written");
        assert_eq!(pem(&folder), old.chain_pem());

        // After its certificate, before the key is in its place; then once more.
        file::write_atomic(&folder.file(CHAIN), new.chain_pem().as_bytes(), file::MODE_PUBLIC)
            .expect("written");
        assert_eq!(pem(&folder), new.chain_pem());
        assert!(folder.file(NEXT_KEY).exists(), "reading changes nothing");
        let _lock = folder.lock().expect("free");
        assert_eq!(pem(&folder), new.chain_pem());
        assert!(
            !folder.file(NEXT_KEY).exists(),
            "the next renewal must not overwrite the only key that fits"
        );
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = NodeFolder::open(&directory.path().join("vm-1")).expect("opens");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        folder.joining_key().expect("a key");
        assert_eq!((mode(folder.path()), mode(&folder.file(KEY))), (0o700, 0o600));
        folder.store_credentials(&credentials(&ca())).expect("stored");
        assert_eq!(mode(&folder.file(KEY)), 0o600);
    }

    #[test]
    fn the_reset_secret_outlives_the_key_of_the_node() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = NodeFolder::open(directory.path()).expect("opens");
        let ca = ca();
        folder.store_credentials(&credentials(&ca)).expect("stored");
        let first = folder.reset_secret().expect("made");
        folder.store_credentials(&credentials(&ca)).expect("renewed");
        assert_eq!(folder.reset_secret().expect("there").expose(), first.expose());
        let path = folder.file(RESET_SECRET);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

        std::fs::write(&path, b"short").expect("damaged");
        let other = folder.reset_secret().expect("made again");
        assert_ne!(other.expose(), first.expose());
        assert_eq!(folder.reset_secret().expect("there").expose(), other.expose());
    }

    #[test]
    fn a_join_that_is_tried_again_has_the_same_key() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = NodeFolder::open(directory.path()).expect("opens");
        let first = folder.joining_key().expect("a key").to_pem();
        assert_eq!(*folder.joining_key().expect("the key").to_pem(), *first);
        assert!(folder.membership().expect("reads").is_none(), "a key alone is no membership");
    }
}
