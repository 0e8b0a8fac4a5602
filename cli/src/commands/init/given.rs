//! A CA that is there already: two files, or a folder in the layout of Istio's `cacerts`.

use crate::args::InitArgs;
use crate::failure::{Failure, OrFail};
use identity::ca::Ca;
use model::identity::TrustDomain;
use std::path::{Path, PathBuf};

/// Longest file of a certificate or key.
const PEM_MAX: usize = 64 * 1024;

/// Reads the CA that was named; none: a new one is made. Every check is done here, before anything is written.
///
/// # Errors
/// A file is missing or malformed, key and certificate are not a pair, the certificate is that of another trust domain
/// or of no CA, or it is not valid now.
pub(super) fn ca(args: &InitArgs, trust_domain: &TrustDomain) -> Result<Option<Ca>, Failure> {
    let (certificate, key) = match (&args.cacerts, &args.ca_cert, &args.ca_key) {
        (Some(folder), _, _) => (folder.join("ca-cert.pem"), folder.join("ca-key.pem")),
        (None, Some(certificate), Some(key)) => (PathBuf::from(certificate), PathBuf::from(key)),
        (None, _, _) => return Ok(None),
    };
    let what = || format!("the CA in {} cannot be used, and nothing was made", certificate.display());
    let ca = Ca::from_pem(trust_domain, &read(&certificate)?, &read(&key)?).map_err(|error| {
        Failure::caused(what(), &error)
            .fix("give the certificate of a CA of this trust domain, or of none, alone in its file, and its own key")
    })?;
    let now_ms = runtime::clock::unix_ms();
    if ca.is_valid_at(now_ms) {
        return Ok(Some(ca));
    }
    let seen = if ca.not_after_ms() <= now_ms { "it has run out" } else { "it is not valid yet" };
    Err(Failure::new(what()).seen(seen).fix("give one that is valid now, or set the clock"))
}

fn read(path: &Path) -> Result<String, Failure> {
    runtime::file::read_text(path, PEM_MAX)
        .or_fail(|| format!("{} cannot be used as a part of the CA, and nothing was made", path.display()))
}
