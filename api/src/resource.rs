//! The resources that people write: one form in files, over the REST API, and as Kubernetes objects.
//!
//! Begin with [`parse`]. Each kind has a file of its own, with what it turns into.

pub mod access;
pub mod export;
pub mod failover;
pub mod link;
pub mod port;
pub mod service;
pub mod site;
pub mod workload;

use crate::diagnostic::Diagnostic;
use crate::problem::Problem;
use crate::suggest::nearest;
use crate::text::{Text, plain};
use crate::yaml;
use model::ids::{Label, Namespace};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// `apiVersion` of our own kinds.
pub const API_VERSION: &str = "meshfed.dev/v1alpha1";
/// Other values of `apiVersion` that a `ServiceExport` may have: those of the Multi-Cluster Services API.
pub const MCS_VERSIONS: [&str; 2] = ["multicluster.x-k8s.io/v1beta1", "multicluster.x-k8s.io/v1alpha1"];

/// Reads all resources of a file, and checks each of them.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(file: &str, text: &str) -> Result<Vec<Resource>, Diagnostic> {
    let mut seen = BTreeSet::new();
    let mut resources = Vec::new();
    for document in yaml::documents(file, text)? {
        let resource = read(&document)?;
        resource.check().map_err(|problem| document.diagnose(&problem))?;
        if !seen.insert(resource.key()) {
            let twice =
                Problem::at("metadata.name", format!("{} is given twice in this file", resource.key()))
                    .help("keep one of them");
            return Err(document.diagnose(&twice));
        }
        resources.push(resource);
    }
    if resources.is_empty() {
        return Err(Diagnostic::of_file(file, "the file has no resources")
            .help(format!("a resource begins with `apiVersion: {API_VERSION}` and `kind:`")));
    }
    Ok(resources)
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `site.yaml`.
    Site,
    /// What a link opens.
    Link,
    /// A workload on a host with an agent.
    Workload,
    /// How load moves between tiers.
    FailoverPolicy,
    /// Who may call.
    AccessPolicy,
    /// The decision to offer a service.
    ServiceExport,
    /// A service with fixed endpoints.
    Service,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Site,
        Self::Link,
        Self::Workload,
        Self::FailoverPolicy,
        Self::AccessPolicy,
        Self::ServiceExport,
        Self::Service,
    ];

    /// The word that stands in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Site => "Site",
            Self::Link => "Link",
            Self::Workload => "Workload",
            Self::FailoverPolicy => "FailoverPolicy",
            Self::AccessPolicy => "AccessPolicy",
            Self::ServiceExport => "ServiceExport",
            Self::Service => "Service",
        }
    }

    /// Whether resources of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Site | Self::Link)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a kind of resource; {hint}")]
pub struct UnknownKind {
    /// The word, cut to 80 characters.
    pub word: String,
    /// What may have been meant, or what there is.
    pub hint: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Takes the word of `kind:`, in any case, also in the plural: `failoverpolicies`.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let lower = word.to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|kind| {
            let name = kind.as_str().to_ascii_lowercase();
            let plural = match name.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{name}s"),
            };
            lower == name || lower == plural
        });
        found.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str);
            let hint = match nearest(word, words) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("kinds are {}", words.join(", ")),
            };
            UnknownKind { word: plain(word, 80), hint }
        })
    }
}

/// Name of a resource: unique for its kind within a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace; none for kinds that have none.
    pub namespace: Option<Namespace>,
    /// Name.
    pub name: Label,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What every resource has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name.
    pub name: Text<Label>,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Text<Namespace>>,
    /// Labels; kept, and without meaning.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; kept, and without meaning.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The frame of a resource around its `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope<S> {
    /// `meshfed.dev/v1alpha1`.
    pub api_version: String,
    /// The kind's name.
    pub kind: String,
    /// Name and namespace.
    pub metadata: Metadata,
    /// What the resource says.
    pub spec: S,
}

impl<S> Envelope<S> {
    /// A resource of our own group.
    pub fn new(kind: Kind, namespace: Option<Namespace>, name: Label, spec: S) -> Self {
        let namespace = namespace.map(Text);
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        let metadata = Metadata { name: Text(name), namespace, labels, annotations };
        Self { api_version: API_VERSION.to_owned(), kind: kind.to_string(), metadata, spec }
    }

    /// The namespace, for kinds that have one.
    ///
    /// # Errors
    /// When it is missing.
    pub fn namespace(&self) -> Result<&Namespace, Problem> {
        self.metadata.namespace.as_deref().ok_or_else(|| {
            Problem::at("metadata.namespace", "field `namespace` is missing")
                .help("add `namespace:` to `metadata:`")
        })
    }
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Resource {
    /// `site.yaml`.
    Site(site::Site),
    /// What a link opens.
    Link(link::Link),
    /// A workload on a host with an agent.
    Workload(workload::Workload),
    /// How load moves between tiers.
    FailoverPolicy(failover::FailoverPolicy),
    /// Who may call.
    AccessPolicy(access::AccessPolicy),
    /// The decision to offer a service.
    ServiceExport(export::ServiceExport),
    /// A service with fixed endpoints.
    Service(service::Service),
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Site(_) => Kind::Site,
            Self::Link(_) => Kind::Link,
            Self::Workload(_) => Kind::Workload,
            Self::FailoverPolicy(_) => Kind::FailoverPolicy,
            Self::AccessPolicy(_) => Kind::AccessPolicy,
            Self::ServiceExport(_) => Kind::ServiceExport,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Name and namespace.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Site(resource) => &resource.metadata,
            Self::Link(resource) => &resource.metadata,
            Self::Workload(resource) => &resource.metadata,
            Self::FailoverPolicy(resource) => &resource.metadata,
            Self::AccessPolicy(resource) => &resource.metadata,
            Self::ServiceExport(resource) => &resource.metadata,
            Self::Service(resource) => &resource.metadata,
        }
    }

    /// What names it.
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        let kind = self.kind();
        let namespace = metadata.namespace.as_deref().filter(|_| kind.is_namespaced()).cloned();
        Key { kind, namespace, name: metadata.name.0.clone() }
    }

    /// Checks every rule that can be checked without knowing anything else.
    ///
    /// # Errors
    /// The first value that breaks one.
    pub fn check(&self) -> Result<(), Problem> {
        check_version(self.kind(), self.api_version())?;
        let namespaced = self.kind().is_namespaced();
        if !namespaced && self.metadata().namespace.is_some() {
            return Err(Problem::at("metadata.namespace", format!("a {} has no namespace", self.kind()))
                .help("remove this line"));
        }
        match self {
            Self::Site(resource) => resource.settings().map(drop),
            Self::Link(resource) => resource.scopes().map(drop),
            Self::Workload(resource) => resource.check(),
            Self::FailoverPolicy(resource) => resource.rule().map(drop),
            Self::AccessPolicy(resource) => resource.rule().map(drop),
            Self::ServiceExport(resource) => resource.service().map(drop),
            Self::Service(resource) => resource.check(),
        }
    }

    fn api_version(&self) -> &str {
        match self {
            Self::Site(resource) => &resource.api_version,
            Self::Link(resource) => &resource.api_version,
            Self::Workload(resource) => &resource.api_version,
            Self::FailoverPolicy(resource) => &resource.api_version,
            Self::AccessPolicy(resource) => &resource.api_version,
            Self::ServiceExport(resource) => &resource.api_version,
            Self::Service(resource) => &resource.api_version,
        }
    }
}

/// From JSON, as it comes over the REST API. Files are read by [`parse`], which knows the places of mistakes.
impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn of<T: DeserializeOwned, E: de::Error>(value: serde_json::Value) -> Result<T, E> {
            serde_json::from_value(value).map_err(E::custom)
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        let kind = value.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
        Ok(match kind.parse::<Kind>().map_err(de::Error::custom)? {
            Kind::Site => Self::Site(of(value)?),
            Kind::Link => Self::Link(of(value)?),
            Kind::Workload => Self::Workload(of(value)?),
            Kind::FailoverPolicy => Self::FailoverPolicy(of(value)?),
            Kind::AccessPolicy => Self::AccessPolicy(of(value)?),
            Kind::ServiceExport => Self::ServiceExport(of(value)?),
            Kind::Service => Self::Service(of(value)?),
        })
    }
}

/// The part of a document that says how to read the rest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
}

fn read(document: &yaml::Document) -> Result<Resource, Diagnostic> {
    let header: Header = document.read()?;
    let kind = header.kind.parse::<Kind>().ok().filter(|kind| kind.as_str() == header.kind);
    let Some(kind) = kind else {
        let words = Kind::ALL.map(Kind::as_str);
        let help = match nearest(&header.kind, words) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("kinds are {}", words.join(", ")),
        };
        let word = plain(&header.kind, 80);
        return Err(document.diagnose(&Problem::at("kind", format!("unknown kind `{word}`")).help(help)));
    };
    check_version(kind, &header.api_version).map_err(|problem| document.diagnose(&problem))?;
    Ok(match kind {
        Kind::Site => Resource::Site(document.read()?),
        Kind::Link => Resource::Link(document.read()?),
        Kind::Workload => Resource::Workload(document.read()?),
        Kind::FailoverPolicy => Resource::FailoverPolicy(document.read()?),
        Kind::AccessPolicy => Resource::AccessPolicy(document.read()?),
        Kind::ServiceExport => Resource::ServiceExport(document.read()?),
        Kind::Service => Resource::Service(document.read()?),
    })
}

fn check_version(kind: Kind, version: &str) -> Result<(), Problem> {
    if version == API_VERSION || (kind == Kind::ServiceExport && MCS_VERSIONS.contains(&version)) {
        return Ok(());
    }
    let word = plain(version, 80);
    Err(Problem::at("apiVersion", format!("unknown apiVersion `{word}` of a {kind}"))
        .help(format!("write `{API_VERSION}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        parse("a.yaml", text).expect_err("a mistake").to_string()
    }

    #[test]
    fn a_kind_is_known_by_its_name_and_its_plural() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("failoverpolicies".parse(), Ok(Kind::FailoverPolicy));
        assert_eq!("sites".parse(), Ok(Kind::Site));
        let error = "Worklod".parse::<Kind>().expect_err("unknown");
        assert_eq!(error.to_string(), "`Worklod` is not a kind of resource; did you mean `Workload`?");
    }

    #[test]
    fn a_mistake_in_the_frame_is_explained() {
        let unknown = mistake("apiVersion: meshfed.dev/v1alpha1\nkind: Serviceexport\nmetadata: {name: a}\n");
        assert!(unknown.contains("a.yaml:2:7: unknown kind `Serviceexport`"), "{unknown}");
        assert!(unknown.contains("did you mean `ServiceExport`?"), "{unknown}");
        let version = mistake("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {}\n");
        assert!(version.contains("a.yaml:1:13: unknown apiVersion `v1` of a Service"), "{version}");
        let missing = mistake("kind: Service\n");
        assert!(missing.contains("field `apiVersion` is missing"), "{missing}");
        assert!(mistake("\n# nothing\n").contains("the file has no resources"));
    }

    #[test]
    fn a_resource_is_given_once_and_in_a_namespace() {
        let export = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
                      metadata: {name: cart, namespace: shop}\n";
        assert_eq!(parse("a.yaml", export).expect("valid").len(), 1);
        let twice = mistake(&format!("{export}---\n{export}"));
        assert!(twice.contains("a.yaml:7:18: ServiceExport shop/cart is given twice"), "{twice}");
        let lost =
            mistake("apiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata:\n  name: cart\n");
        assert!(lost.contains("a.yaml:4:3: field `namespace` is missing"), "{lost}");
    }

    #[test]
    fn a_resource_survives_json_and_yaml() {
        let text = "apiVersion: meshfed.dev/v1alpha1\nkind: Link\nmetadata: {name: east}\n\
                    spec: {offer: {namespaces: [shop]}, accept: {newNames: true}}\n";
        let resource = parse("a.yaml", text).expect("valid").remove(0);
        let json = serde_json::to_string(&resource).expect("json");
        assert_eq!(serde_json::from_str::<Resource>(&json).expect("reads"), resource);
        let yaml = yaml::write(&resource).expect("yaml");
        assert_eq!(parse("b.yaml", &yaml).expect("reads"), [resource]);
    }
}
