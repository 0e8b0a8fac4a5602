//! Changing what a site holds, and reading back what people wrote.

use crate::resource::{Kind, Resource};
use crate::text::Text;
use model::ids::{Label, Namespace};
use serde::{Deserialize, Serialize};

/// Query of requests without a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeQuery {
    /// Check, and change nothing.
    pub dry_run: bool,
}

/// `POST /v1/apply`: all of it is applied, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyRequest {
    /// Files with resources.
    pub files: Vec<FileText>,
    /// Check, and change nothing.
    pub dry_run: bool,
}

/// A file, sent whole, so that mistakes are reported with their place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileText {
    /// As the person named it.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// `POST /v1/delete`: by file, or by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteRequest {
    /// Files whose resources are deleted.
    pub files: Vec<FileText>,
    /// Resources by name.
    pub names: Vec<ResourceName>,
    /// Check, and change nothing.
    pub dry_run: bool,
}

/// Names a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceName {
    /// Kind.
    pub kind: Text<Kind>,
    /// Namespace, for kinds that have one.
    #[serde(default)]
    pub namespace: Option<Text<Namespace>>,
    /// Name.
    pub name: Text<Label>,
}

/// Answer to [`ApplyRequest`] and [`DeleteRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyReply {
    /// What came of each resource, in order.
    pub changes: Vec<Change>,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
}

/// What came of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Kind.
    pub kind: String,
    /// Namespace; may be empty.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `created`, `changed`, `unchanged`, `deleted` or `absent`.
    pub change: String,
    /// What follows from it, in words; may be empty.
    pub note: String,
}

/// Answer to changes of one thing: an export, a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeReply {
    /// What was changed.
    pub change: Change,
    /// Name that others now use; may be empty.
    pub dns_name: String,
    /// Virtual IP in this site.
    pub vip: Option<String>,
    /// Sites that are offered it now, or no longer.
    pub sites: Vec<String>,
    /// Who may call, in words.
    pub access: Vec<String>,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
}

/// `GET /v1/resources/{kind}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceList {
    /// The resources, ordered by namespace and name.
    pub items: Vec<Resource>,
}
