//! `vips.json`: which name has which virtual IP. A file of its own, so that a lost store moves no address.

use federation_core::imports::vips::{VipPool, VipRecord};
use model::config::VipRange;
use model::service::ServiceName;
use runtime::file::{self, FileError, MODE_PUBLIC};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Longest file that is read: all names of a range, at their longest.
const BYTES_MAX: usize = 32 << 20;

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VipFileError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no such file.
    #[error("{}: {what}; correct it, or remove it: names then get new virtual IPs, and clients that remember old ones fail", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    assigned: BTreeMap<String, Ipv4Addr>,
    freed: Vec<(String, Ipv4Addr)>,
}

/// Reads the file; a missing one is an unused range.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn read(path: &Path, range: VipRange) -> Result<VipPool, VipFileError> {
    let Some(bytes) = file::read_if_present(path, BYTES_MAX)? else { return Ok(VipPool::new(range)) };
    let damaged = |what: String| VipFileError::Damaged { path: path.to_owned(), what };
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let parse = |name: String| name.parse::<ServiceName>().map_err(|error| damaged(error.to_string()));
    let pairs = |pairs: Vec<(String, Ipv4Addr)>| -> Result<Vec<_>, VipFileError> {
        pairs.into_iter().map(|(name, vip)| Ok((parse(name)?, vip))).collect()
    };
    let record =
        VipRecord { assigned: pairs(content.assigned.into_iter().collect())?, freed: pairs(content.freed)? };
    Ok(VipPool::restore(range, &record))
}

/// Writes the file, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, pool: &VipPool) -> Result<(), VipFileError> {
    let record = pool.record();
    let content = Content {
        assigned: record.assigned.iter().map(|(name, vip)| (name.to_string(), *vip)).collect(),
        freed: record.freed.iter().map(|(name, vip)| (name.to_string(), *vip)).collect(),
    };
    let bytes = serde_json::to_vec(&content).expect("names and addresses are valid JSON");
    Ok(file::write_atomic(path, &bytes, MODE_PUBLIC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: VipRange = VipRange { base: Ipv4Addr::new(127, 71, 0, 0) };

    #[test]
    fn addresses_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vips.json");
        let mut pool = read(&path, RANGE).expect("a missing file is an unused range");
        let cart = pool.assign(&"shop/cart".parse().expect("valid")).expect("free");
        pool.assign(&"shop/orders".parse().expect("valid")).expect("free");
        pool.release(&"shop/orders".parse().expect("valid"));
        write(&path, &pool).expect("writes");
        let again = read(&path, RANGE).expect("reads");
        assert_eq!(again.find(&"shop/cart".parse().expect("valid")), Some(cart));
        assert_eq!(again.record(), pool.record());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vips.json");
        for content in ["", "{}", r#"{"assigned":{"cart":"127.71.0.1"},"freed":[]}"#] {
            std::fs::write(&path, content).expect("writes");
            assert!(read(&path, RANGE).is_err(), "{content}");
        }
    }
}
