//! The files of a site's CAs, in `ca/`. `ca.crt` and `ca.key` are the CA that signs, `crosses.crt` what vouches for it,
//! `next.crt` and `next.key` the one that is published, `old.crt` the anchor that is to be retired, and `sequence` the
//! number of the bundle. A site that has never rotated its root has the first two alone.
//!
//! A step of a rotation changes several of them at once. It is written whole into `step` first, and from there into the
//! files: a process that dies in between finds `step` at its next start, and does the rest.

use super::{PEM_BYTES_MAX, SiteDirError};
use identity::ca::{Ca, CaError};
use identity::rotation::Authority;
use model::identity::TrustDomain;
use runtime::file::{self, MODE_PUBLIC, MODE_SECRET};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;
use tracing::warn;
use zeroize::Zeroizing;

const STEP: &str = "step";
/// Longest file of a step that is read: all others, as JSON.
const STEP_BYTES_MAX: usize = 8 * PEM_BYTES_MAX;

/// The files with their texts; none: the file is not there.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    signing: String,
    signing_key: KeyText,
    crosses: Option<String>,
    next: Option<String>,
    next_key: Option<KeyText>,
    old: Option<String>,
    sequence: u64,
}

/// A key, PEM. Its memory is cleared.
#[derive(Clone, Default)]
struct KeyText(Zeroizing<String>);

impl Serialize for KeyText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// One file, and what it should hold.
type File<'a> = (&'static str, Option<Cow<'a, str>>, u32);

impl Files {
    /// Those of a site's CAs.
    pub(crate) fn of(authority: &Authority) -> Self {
        let pem = |certificates: &[Vec<u8>]| {
            (!certificates.is_empty()).then(|| identity::bundle::to_pem(certificates))
        };
        let (signing, next) = (authority.signing(), authority.coming());
        Self {
            signing: signing.cert_pem(),
            signing_key: KeyText(signing.key_pem()),
            crosses: pem(signing.crosses()),
            next: next.map(Ca::cert_pem),
            next_key: next.map(|next| KeyText(next.key_pem())),
            old: authority.going().and_then(|anchor| pem(&[anchor.to_vec()])),
            sequence: authority.bundle().sequence,
        }
    }

    /// Reads them.
    fn read(folder: &Path, site: &Path) -> Result<Self, SiteDirError> {
        let read = |name: &str| match file::read_text(&folder.join(name), PEM_BYTES_MAX) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(SiteDirError::from(error)),
        };
        let missing = |name| SiteDirError::Missing { dir: site.to_owned(), name };
        let sequence = match read("sequence")? {
            None => 1,
            Some(text) => text.trim().parse().map_err(|_| damaged(folder, "sequence", "it is no number"))?,
        };
        Ok(Self {
            signing: read("ca.crt")?.ok_or_else(|| missing("ca/ca.crt"))?,
            signing_key: KeyText(read("ca.key")?.ok_or_else(|| missing("ca/ca.key"))?.into()),
            crosses: read("crosses.crt")?,
            next: read("next.crt")?,
            next_key: read("next.key")?.map(|text| KeyText(text.into())),
            old: read("old.crt")?,
            sequence,
        })
    }

    /// The CAs that they hold.
    ///
    /// # Errors
    /// They cannot be used, or do not belong together.
    pub(crate) fn authority(
        &self,
        trust_domain: &TrustDomain,
        folder: &Path,
    ) -> Result<Authority, SiteDirError> {
        let bad = |source: CaError| SiteDirError::Ca { path: folder.to_owned(), source };
        let signing = Ca::from_pem(trust_domain, &self.signing, &self.signing_key.0).map_err(bad)?;
        let crosses = certificates(self.crosses.as_deref(), folder, "crosses.crt")?;
        let signing = signing
            .with_crosses(crosses)
            .map_err(|error| damaged(folder, "crosses.crt", &error.to_string()))?;
        let next = match (&self.next, &self.next_key) {
            (Some(certificate), Some(key)) => {
                Some(Ca::from_pem(trust_domain, certificate, &key.0).map_err(bad)?)
            }
            (None, None) => None,
            (Some(_), None) => return Err(damaged(folder, "next.crt", "next.key is missing")),
            (None, Some(_)) => return Err(damaged(folder, "next.key", "next.crt is missing")),
        };
        let old = certificates(self.old.as_deref(), folder, "old.crt")?.pop();
        Authority::stored(signing, next, old, self.sequence)
            .map_err(|error| damaged(folder, "next.crt", &error.to_string()))
    }

    /// In the order in which they are written.
    fn list(&self) -> [File<'_>; 7] {
        fn is(text: &str) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(text))
        }
        fn may(text: &Option<String>) -> Option<Cow<'_, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        [
            ("ca.key", is(&self.signing_key.0), MODE_SECRET),
            ("ca.crt", is(&self.signing), MODE_PUBLIC),
            ("crosses.crt", may(&self.crosses), MODE_PUBLIC),
            ("next.key", self.next_key.as_ref().and_then(|key| is(&key.0)), MODE_SECRET),
            ("next.crt", may(&self.next), MODE_PUBLIC),
            ("old.crt", may(&self.old), MODE_PUBLIC),
            ("sequence", Some(Cow::Owned(format!("{}\n", self.sequence))), MODE_PUBLIC),
        ]
    }

    /// Writes all of them; the step is taken when this returns, whatever happens then.
    ///
    /// # Errors
    /// The step could not be written; nothing was changed.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), SiteDirError> {
        self.begin(folder)?;
        // The step stands in its own file: what is missing is done at the next start.
        if let Err(error) = self.finish(folder, usize::MAX) {
            warn!(error = %runtime::telemetry::chain(&error), "the files in ca/ are not all written; that is done at the next start");
        }
        Ok(())
    }

    fn begin(&self, folder: &Path) -> Result<(), SiteDirError> {
        let text = serde_json::to_vec(self).map(Zeroizing::new);
        let text = text.map_err(|error| damaged(folder, STEP, &error.to_string()))?;
        let path = folder.join(STEP);
        file::write_atomic(&path, &text, MODE_SECRET).map_err(|error| {
            // One of which it is not known whether it would outlast a crash is not taken at the next start either.
            let _ = std::fs::remove_file(&path);
            error.into()
        })
    }

    /// Brings the first `most` files in line with the step that was begun, and with the last of them ends it.
    fn finish(&self, folder: &Path, most: usize) -> Result<(), SiteDirError> {
        let removes = |name: &str| {
            let path = folder.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(SiteDirError::Remove { path, source })
                }
                Ok(()) | Err(_) => Ok(()),
            }
        };
        for (name, text, mode) in self.list().into_iter().take(most) {
            match text {
                Some(text) => file::write_atomic(&folder.join(name), text.as_bytes(), mode)?,
                None => removes(name)?,
            }
        }
        if most > self.list().len() {
            // What was removed is gone for good before the step is forgotten.
            file::sync_folder(&folder.join(STEP))?;
            removes(STEP)?;
        }
        Ok(())
    }
}

/// Reads the CAs of a site, after a step that was begun is done.
///
/// # Errors
/// A file is missing, unreadable or damaged.
pub(super) fn open(site: &Path, trust_domain: &TrustDomain) -> Result<Authority, SiteDirError> {
    let folder = site.join("ca");
    if let Some(bytes) = file::read_if_present(&folder.join(STEP), STEP_BYTES_MAX)?.map(Zeroizing::new) {
        let step: Files = serde_json::from_slice(&bytes)
            .map_err(|_| damaged(&folder, STEP, "it is not what a step of a rotation writes"))?;
        // Before anything is overwritten with it.
        step.authority(trust_domain, &folder)?;
        step.finish(&folder, usize::MAX)?;
    }
    Files::read(&folder, site)?.authority(trust_domain, &folder)
}

fn certificates(text: Option<&str>, folder: &Path, name: &'static str) -> Result<Vec<Vec<u8>>, SiteDirError> {
    let text = text.unwrap_or_default();
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).map(|der| der.map(|der| der.to_vec()));
    read.collect::<Result<_, _>>().map_err(|_| damaged(folder, name, "it has no certificates in PEM"))
}

fn damaged(folder: &Path, name: &'static str, reason: &str) -> SiteDirError {
    SiteDirError::Damaged { path: folder.join(name), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const NOW: u64 = 1_790_000_000_000;

    fn domain() -> TrustDomain {
        "east.mesh".parse().expect("valid")
    }

    fn ca() -> Ca {
        Ca::generate(&domain(), NOW).expect("made")
    }

    /// A site's directory as `init` makes it.
    fn made() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("east");
        super::super::SiteDir::create(&site, &domain(), NOW).expect("makes");
        (folder, site)
    }

    fn picture(authority: &Authority) -> (Vec<u8>, Vec<Vec<u8>>, model::identity::Bundle) {
        let signing = authority.signing();
        (signing.cert_der().to_vec(), signing.crosses().to_vec(), authority.bundle())
    }

    fn names(site: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(site.join("ca")).expect("there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("one").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    type Step = fn(&mut Authority);
    const STEPS: [Step; 3] = [
        |authority| authority.publish(ca(), NOW).expect("published"),
        |authority| authority.switch(NOW).expect("switched"),
        |authority| authority.retire(&Default::default(), &[], false).expect("retired"),
    ];

    #[test]
    fn a_process_that_dies_between_any_two_writes_of_a_rotation_leaves_a_site_that_starts_and_has_taken_the_step()
     {
        let (_folder, site) = made();
        for round in 0..2 {
            for (at, step) in STEPS.iter().enumerate() {
                let mut authority = open(&site, &domain()).expect("opens");
                let before = picture(&authority);
                step(&mut authority);
                let (files, after) = (Files::of(&authority), picture(&authority));
                let folder = site.join("ca");
                for written in 0..=files.list().len() {
                    // Before the step itself is written there is none.
                    let copy = tempfile::tempdir().expect("a folder");
                    std::fs::create_dir(copy.path().join("ca")).expect("made");
                    for name in names(&site) {
                        std::fs::copy(folder.join(&name), copy.path().join("ca").join(&name))
                            .expect("copies");
                    }
                    let opened = open(copy.path(), &domain()).expect("opens as before");
                    assert_eq!(picture(&opened), before, "round {round}, step {at}");
                    files.begin(&copy.path().join("ca")).expect("writes");
                    files.finish(&copy.path().join("ca"), written).expect("writes");
                    for _ in 0..2 {
                        let opened = open(copy.path(), &domain()).expect("starts");
                        let why = format!("round {round}, step {at}, died after {written} files");
                        assert_eq!(
                            (picture(&opened), opened.phase()),
                            (after.clone(), authority.phase()),
                            "{why}"
                        );
                    }
                    assert!(!names(copy.path()).contains(&STEP.to_owned()), "it is done");
                }
                files.write(&folder).expect("writes");
            }
            assert_eq!(names(&site), ["ca.crt", "ca.key", "crosses.crt", "sequence"], "no old key is left");
        }
    }

    #[test]
    fn a_directory_without_the_files_of_a_rotation_opens_as_before() {
        let (_folder, site) = made();
        assert_eq!(names(&site), ["ca.crt", "ca.key"]);
        let authority = open(&site, &domain()).expect("opens");
        assert_eq!((authority.bundle().sequence, authority.phase()), (1, identity::rotation::Phase::Settled));
        assert_eq!(names(&site), ["ca.crt", "ca.key"], "opening writes nothing");
    }

    #[test]
    fn keys_are_for_the_owner_alone_and_what_is_damaged_is_named() {
        let (_folder, site) = made();
        let folder = site.join("ca");
        let mut authority = open(&site, &domain()).expect("opens");
        STEPS[0](&mut authority);
        let files = Files::of(&authority);
        files.begin(&folder).expect("writes");
        let mode =
            |name: &str| std::fs::metadata(folder.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode("step"), 0o600);
        files.finish(&folder, usize::MAX).expect("writes");
        assert_eq!((mode("ca.key"), mode("next.key")), (0o600, 0o600));

        let says = |name: &str, text: &str| {
            let kept = std::fs::read(folder.join(name)).ok();
            std::fs::write(folder.join(name), text).expect("writes");
            let error = open(&site, &domain()).expect_err("damaged");
            let error = runtime::telemetry::chain(&error).to_string();
            assert!(error.contains(name) && !error.contains("PRIVATE"), "{error}");
            match kept {
                Some(kept) => std::fs::write(folder.join(name), kept).expect("writes"),
                None => std::fs::remove_file(folder.join(name)).expect("removes"),
            }
        };
        says("sequence", "seven");
        says("step", "{}");
        says("crosses.crt", &ca().cert_pem());
        std::fs::remove_file(folder.join("next.key")).expect("removes");
        let error = open(&site, &domain()).expect_err("half a pair").to_string();
        assert!(error.contains("next.key is missing"), "{error}");
    }
}
