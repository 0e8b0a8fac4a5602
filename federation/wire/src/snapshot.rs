//! The whole config of a node as a file, from which it serves when the federation is dead.
//!
//! Eight bytes `meshfed\n`, two of format version (1), eight of the content's length, the content's SHA-256, the
//! content: a `ConfigSnapshot`. Numbers are big endian. Nothing follows it.

use crate::convert::{Cause, WireError, config_entries, need};
use crate::pb;
use model::config::{ConfigEntry, ConfigVersion};
use prost::Message;
use ring::digest::{SHA256, digest};

const MAGIC: &[u8; 8] = b"meshfed\n";
/// Version of the format that is written, and the only one that is read.
pub const FORMAT: u16 = 1;
const HEAD: usize = MAGIC.len() + 2 + 8 + 32;

/// Longest snapshot that is read: far over a site of 1 000 000 endpoints elsewhere and 100 000 of its own.
pub const SNAPSHOT_MAX: usize = 256 * 1024 * 1024;

/// The config of a node at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of the federation that sent it.
    pub version: ConfigVersion,
    /// All entries; no key twice.
    pub entries: Vec<ConfigEntry>,
}

/// Why a file is no snapshot that can be used. It is then as if there were none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It does not begin as one.
    #[error("it is no config snapshot")]
    NotOne,
    /// A version of the format that is not known here.
    #[error("it has format {0}, and this version of meshfed reads format {FORMAT}")]
    Format(u16),
    /// It is shorter or longer than it says.
    #[error("it has {found} bytes and should have {expected}: it was cut off, or something follows it")]
    Size {
        /// Size of the file.
        found: u64,
        /// As its head says.
        expected: u64,
    },
    /// Its content was damaged.
    #[error("its checksum does not match its content")]
    Checksum,
    /// Its content breaks the rules.
    #[error("its content breaks the rules")]
    Content(#[source] WireError),
}

/// Writes a snapshot.
pub fn encode(version: ConfigVersion, entries: &[ConfigEntry]) -> Vec<u8> {
    let snapshot = pb::ConfigSnapshot {
        version: Some((&version).into()),
        entries: entries.iter().map(Into::into).collect(),
    };
    let content = snapshot.encode_to_vec();
    let mut file = Vec::with_capacity(HEAD + content.len());
    file.extend(MAGIC);
    file.extend(FORMAT.to_be_bytes());
    file.extend((content.len() as u64).to_be_bytes());
    file.extend(digest(&SHA256, &content).as_ref());
    file.extend(content);
    file
}

/// Reads a snapshot.
///
/// # Errors
/// The file is not one, of another format, cut off, damaged, or breaks the rules of config.
pub fn decode(file: &[u8]) -> Result<Snapshot, SnapshotError> {
    let rest = file.strip_prefix(MAGIC).ok_or(SnapshotError::NotOne)?;
    let cut = |expected| SnapshotError::Size { found: file.len() as u64, expected };
    let (format, rest) = rest.split_first_chunk().ok_or(cut(HEAD as u64))?;
    let format = u16::from_be_bytes(*format);
    if format != FORMAT {
        return Err(SnapshotError::Format(format));
    }
    let (length, rest) = rest.split_first_chunk().ok_or(cut(HEAD as u64))?;
    let (checksum, content) = rest.split_first_chunk::<32>().ok_or(cut(HEAD as u64))?;
    let length = u64::from_be_bytes(*length);
    if content.len() as u64 != length {
        return Err(cut(length.saturating_add(HEAD as u64)));
    }
    if digest(&SHA256, content).as_ref() != checksum {
        return Err(SnapshotError::Checksum);
    }
    let bad = |error: prost::DecodeError| WireError::new("", Cause::Bytes(error.to_string()));
    let read = || {
        let snapshot = pb::ConfigSnapshot::decode(content).map_err(bad)?;
        Ok(Snapshot {
            version: need("version", snapshot.version)?.into(),
            entries: config_entries(snapshot.entries)?,
        })
    };
    read().map_err(SnapshotError::Content)
}
