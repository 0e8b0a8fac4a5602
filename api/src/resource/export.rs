//! The decision to offer a service to linked sites; the form of the Multi-Cluster Services API is taken too.

use super::{API_VERSION, Kind, Metadata};
use crate::problem::Problem;
use crate::text::Text;
use model::service::ServiceName;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An export of the service that has the same name and namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceExport {
    /// `meshfed.dev/v1alpha1`, or one of the Multi-Cluster Services API.
    pub api_version: String,
    /// `ServiceExport`.
    pub kind: String,
    /// Name and namespace of the service.
    pub metadata: Metadata,
    /// Labels and annotations that travel with the export.
    #[serde(default, skip_serializing_if = "ExportSpec::is_empty")]
    pub spec: ExportSpec,
    /// What a cluster says of the export; read over, so that `kubectl get -o yaml` can be given.
    #[serde(default, skip_serializing, rename = "status")]
    ignored: Ignored,
}

/// What an export says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExportSpec {
    /// Labels that travel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_labels: BTreeMap<String, String>,
    /// Annotations that travel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_annotations: BTreeMap<String, String>,
}

impl ExportSpec {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Anything, forgotten as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl ServiceExport {
    /// An export of a service.
    pub fn of(service: &ServiceName) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: Kind::ServiceExport.to_string(),
            metadata: Metadata {
                name: Text(service.name.clone()),
                namespace: Some(Text(service.namespace.clone())),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            },
            spec: ExportSpec::default(),
            ignored: Ignored,
        }
    }

    /// The service that is offered.
    ///
    /// # Errors
    /// When the namespace is missing.
    pub fn service(&self) -> Result<ServiceName, Problem> {
        let Some(namespace) = &self.metadata.namespace else {
            return Err(Problem::at("metadata.namespace", "field `namespace` is missing")
                .help("add `namespace:` to `metadata:`"));
        };
        Ok(ServiceName { namespace: namespace.0.clone(), name: self.metadata.name.0.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    #[test]
    fn an_export_of_kubernetes_is_taken_with_its_status() {
        let text = "\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: cart, namespace: shop}
spec: {exportedLabels: {tier: gold}}
status: {conditions: [{type: Valid, status: 'True'}]}
";
        let Resource::ServiceExport(export) = parse("e.yaml", text).expect("valid").remove(0) else {
            unreachable!("it is one")
        };
        assert_eq!(export.service().expect("valid").to_string(), "shop/cart");
        assert_eq!(export.spec.exported_labels["tier"], "gold");
        let json =
            serde_json::to_string(&ServiceExport::of(&export.service().expect("valid"))).expect("json");
        assert!(!json.contains("status"), "{json}");
    }
}
