//! `node.yaml`: how a gateway or an agent was started, so that the next start needs only its directory.

use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use identity::invite::JoinToken;
use model::ids::SiteId;
use model::locality::Locality;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Longest file: a handful of lines.
const FILE_MAX: usize = 64 * 1024;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct NodeFile {
    /// Address to listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<api::text::Text<IpAddr>>,
    /// Address at which others reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<api::text::Text<SocketAddr>>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<api::text::Text<Locality>>,
    /// File with its workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<PathBuf>,
}

impl NodeFile {
    /// Reads the file of a directory, if there is one.
    ///
    /// # Errors
    /// It has a mistake.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("node.yaml");
        let text = match runtime::file::read_text(&path, FILE_MAX) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return Ok(Self::default()),
            Err(error) => return Err(Failure::caused("node.yaml cannot be read", &error)),
        };
        Ok(api::yaml::read(&path.display().to_string(), &text)?)
    }

    /// Writes it; the directory is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Outcome {
        let text = api::yaml::write(self).or_fail(|| "node.yaml cannot be written".to_owned())?;
        let text = format!("# How this process was started; flags change it.\n{}\n", text.trim_end());
        runtime::file::write_atomic(&directory.join("node.yaml"), text.as_bytes(), runtime::file::MODE_PUBLIC)
            .or_fail(|| "node.yaml cannot be written".to_owned())
    }
}

/// Reads a join token from a file that the person named; `-` is standard input.
///
/// # Errors
/// It cannot be read, or is no token that is still good.
pub(super) fn read_token(path: &Path) -> Result<JoinToken, Failure> {
    let text = crate::commands::read_input(path)?;
    JoinToken::decode(&text, runtime::clock::unix_ms()).map_err(|error| {
        Failure::caused(format!("{} is no token that can be used", path.display()), &error)
            .fix("make a new one with `meshfed token`")
    })
}

/// Says that the token in a file is not used, since the node of this directory has joined already. Whether it has run
/// out, or is gone, does not matter any more.
///
/// # Errors
/// It is one of another site, which is a mistake: the node would not become a member of that one.
pub(super) fn unused_token(path: &Path, directory: &Path, site: &SiteId, ui: &Ui) -> Outcome {
    let directory = directory.display();
    let token = std::fs::read_to_string(path).ok().and_then(|text| JoinToken::decode(text.trim(), 0).ok());
    if let Some(token) = token.filter(|token| token.site != *site) {
        return Err(Failure::new(format!(
            "{directory} belongs to site {site}, and the token is for site {}",
            token.site
        ))
        .fix(format!("use another --dir, or leave out --join to go on as a member of {site}")));
    }
    ui.progress(format!(
        "note: {directory} has joined {site} already, so the token in {} is not used; leave out --join",
        path.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_remembered() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(NodeFile::read(directory.path()).expect("none yet"), NodeFile::default());
        let file = NodeFile {
            address: Some(api::text::Text("127.0.3.1".parse().expect("valid"))),
            advertise: Some(api::text::Text("198.51.100.7:4430".parse().expect("valid"))),
            locality: Some(api::text::Text("eu/fra/rack-1".parse().expect("valid"))),
            workloads: Some("/etc/meshfed/workloads.yaml".into()),
        };
        file.write(directory.path()).expect("written");
        assert_eq!(NodeFile::read(directory.path()).expect("read"), file);
    }

    #[test]
    fn what_is_no_token_is_said_to_be_none() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("vm-1.token");
        std::fs::write(&path, "not a token\n").expect("written");
        let text = read_token(&path).expect_err("no token").text();
        assert!(text.contains("is no token that can be used") && text.contains("meshfed token"), "{text}");
    }
}
