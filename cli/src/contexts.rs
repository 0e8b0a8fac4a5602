//! Contexts: which sites this person can talk to, and with what.
//!
//! One YAML file: `$MESHFED_CONFIG`, else `$XDG_CONFIG_HOME/meshfed/contexts.yaml`, else
//! `~/.config/meshfed/contexts.yaml`. It names files and holds no secrets itself.

use crate::failure::{Failure, OrFail};
use model::identity::TrustDomain;
use model::ids::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Longest contexts file that is read: about a thousand contexts of 1 KiB.
const FILE_MAX: usize = 1 << 20;

/// The contexts file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Contexts {
    /// The one that commands use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// How to reach the API of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Context {
    /// Site.
    pub site: api::text::Text<SiteId>,
    /// Its trust domain; the API must present a certificate of it.
    pub trust_domain: api::text::Text<TrustDomain>,
    /// Address of its API.
    pub api: SocketAddr,
    /// Own certificate chain, PEM.
    pub certificate: PathBuf,
    /// Own key, PEM.
    pub key: PathBuf,
    /// Certificates of the site's CA, PEM.
    pub ca: PathBuf,
    /// Directory of the site, where it is on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

/// The contexts file and where it is.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store of this person.
    ///
    /// # Errors
    /// No environment variable says where it should be.
    pub fn of_user() -> Result<Self, Failure> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let path = variable("MESHFED_CONFIG")
            .or_else(|| variable("XDG_CONFIG_HOME").map(|dir| dir.join("meshfed/contexts.yaml")))
            .or_else(|| variable("HOME").map(|dir| dir.join(".config/meshfed/contexts.yaml")))
            .ok_or_else(|| {
                Failure::new("there is no place for the contexts file")
                    .seen("none of MESHFED_CONFIG, XDG_CONFIG_HOME and HOME is set")
                    .fix("set MESHFED_CONFIG to a file that you can write")
            })?;
        Ok(Self { path })
    }

    /// A store at a given place.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; a file that is not there has no contexts.
    ///
    /// # Errors
    /// It cannot be read, or is not what it should be.
    pub fn read(&self) -> Result<Contexts, Failure> {
        let text = match runtime::file::read_text(&self.path, FILE_MAX) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return Ok(Contexts::default()),
            Err(error) => return Err(Failure::caused("the contexts cannot be read", &error)),
        };
        if text.trim().is_empty() {
            return Ok(Contexts::default());
        }
        let name = self.path.display().to_string();
        Ok(api::yaml::read(&name, &text)?)
    }

    /// Changes it: reads, changes, writes, with a lock against other commands.
    ///
    /// # Errors
    /// It cannot be read or written, or `change` fails.
    pub fn change<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T, Failure>) -> Result<T, Failure> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).or_fail(|| format!("cannot make {}", directory.display()))?;
        let lock_path = self.path.with_extension("lock");
        let lock =
            std::fs::File::create(&lock_path).or_fail(|| format!("cannot write {}", lock_path.display()))?;
        lock.lock().or_fail(|| format!("cannot lock {}", lock_path.display()))?;
        let mut contexts = self.read()?;
        let result = change(&mut contexts)?;
        let text = api::yaml::write(&contexts).or_fail(|| "the contexts cannot be written".to_owned())?;
        runtime::file::write_atomic(&self.path, text.as_bytes(), runtime::file::MODE_SECRET)
            .or_fail(|| "the contexts cannot be written".to_owned())?;
        Ok(result)
    }
}

impl Contexts {
    /// Finds a context by name; none: the chosen one, or the only one.
    ///
    /// # Errors
    /// There is none, or it is not clear which.
    pub fn find(&self, name: Option<&str>) -> Result<(&str, &Context), Failure> {
        let known = || crate::render::words::list(&self.contexts.keys().collect::<Vec<_>>());
        if self.contexts.is_empty() {
            return Err(Failure::new("no site is known here")
                .fix("make one with `meshfed init NAME`, or set MESHFED_CONFIG to your contexts file"));
        }
        let Some(wanted) = name.or(self.current.as_deref()) else {
            if let (1, Some((name, context))) = (self.contexts.len(), self.contexts.iter().next()) {
                return Ok((name, context));
            }
            return Err(Failure::usage("it is not clear which site is meant")
                .seen(format!("contexts: {}", known()))
                .fix("add --context NAME, or choose one with `meshfed context use NAME`"));
        };
        if let Some((name, context)) = self.contexts.get_key_value(wanted) {
            return Ok((name, context));
        }
        let meant = api::suggest::nearest(wanted, self.contexts.keys().map(String::as_str));
        let hint = meant.map_or_else(
            || "name one of them, or make the site with `meshfed init`".to_owned(),
            |m| format!("did you mean `{m}`?"),
        );
        Err(Failure::usage(format!("there is no context `{wanted}`"))
            .seen(format!("contexts: {}", known()))
            .fix(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(site: &str) -> Context {
        Context {
            site: api::text::Text(site.parse().expect("valid")),
            trust_domain: api::text::Text(format!("{site}.mesh").parse().expect("valid")),
            api: "127.0.1.1:15080".parse().expect("valid"),
            certificate: "/x/admin.crt".into(),
            key: "/x/admin.key".into(),
            ca: "/x/ca.crt".into(),
            directory: None,
        }
    }

    fn contexts(names: &[&str], current: Option<&str>) -> Contexts {
        let contexts = names.iter().map(|n| ((*n).to_owned(), context(n))).collect();
        Contexts { current: current.map(str::to_owned), contexts }
    }

    #[test]
    fn the_named_the_chosen_or_the_only_one_is_used() {
        let two = contexts(&["east", "west"], Some("west"));
        assert_eq!(two.find(Some("east")).expect("there").0, "east");
        assert_eq!(two.find(None).expect("chosen").0, "west");
        assert_eq!(contexts(&["east"], None).find(None).expect("only").0, "east");
        let failure = contexts(&["east", "west"], None).find(None).expect_err("unclear");
        assert_eq!(failure.code, crate::failure::USAGE);
        let failure = two.find(Some("est")).expect_err("unknown");
        assert!(failure.text().contains("did you mean"), "{}", failure.text());
        assert!(contexts(&[], None).find(None).expect_err("empty").text().contains("meshfed init"));
    }

    #[test]
    fn a_store_survives_the_disk_and_refuses_unknown_fields() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::at(directory.path().join("deep/er/contexts.yaml"));
        assert_eq!(store.read().expect("none yet"), Contexts::default());
        let wanted = contexts(&["east", "west"], Some("east"));
        store
            .change(|c| {
                *c = wanted.clone();
                Ok(())
            })
            .expect("written");
        assert_eq!(store.read().expect("read"), wanted);
        std::fs::write(store.path(), "currant: east\ncontexts: {}\n").expect("written");
        let text = store.read().expect_err("unknown field").text();
        assert!(text.contains("contexts.yaml:1:1: unknown field `currant`"), "{text}");
        assert!(text.contains("did you mean `current`?"), "{text}");
    }
}
