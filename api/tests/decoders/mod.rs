//! What is asked of every reader of YAML and JSON, whatever it is given: a value that can be written and read again, or a
//! mistake that can be read. The fuzz targets ask the same.

use api::diagnostic::Diagnostic;
use api::resource::{self, Resource};
use api::rest::change::{ApplyRequest, ChangeQuery, DeleteRequest};
use api::rest::drain::DrainRequest;
use api::rest::event::EventsQuery;
use api::rest::explain::ExplainRequest;
use api::rest::link::{InviteRequest, LinkRequest};
use api::rest::reach::ReachRequest;
use api::rest::token::TokenRequest;
use api::rest::workload::WorkloadRequest;
use api::{rest, yaml};
use hostile::is_readable;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One resource of each kind that says all it can.
pub const RESOURCES: &str = "\
apiVersion: meshfed.dev/v1alpha1
kind: Site
metadata: {name: east, labels: {tier: gold}}
spec:
  trustDomain: east.example
  locality: eu/fra/a
  address: 10.0.0.1
  advertise: 198.18.4.10:443
  clusterset: prod
  vipRange: 127.71.0.0/16
  ports: {tunnel: 443, api: 8443}
  reservedPorts: [8080]
  drainTimeout: 5s
  services: [services.yaml]
  leaseSeconds: 60
  defaultDeny: true
---
apiVersion: meshfed.dev/v1alpha1
kind: Link
metadata: {name: west}
spec: {offer: {namespaces: [shop], services: [pay/api]}, accept: {newNames: true}}
---
apiVersion: meshfed.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec:
  service: basket
  id: a:1
  host: vm-1
  address: 10.0.0.9
  ports:
    - {port: 80, targetPort: 8080, name: http, protocol: http, retry: safe}
    - port: 90
  check: {type: http, path: /healthz, interval: 500ms, timeout: 200ms, healthyThreshold: 2, unhealthyThreshold: 3}
  weight: 10
  locality: eu/ams
  account: cart
---
apiVersion: meshfed.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: a, namespace: shop}
spec: {services: [cart], order: [west, dc], overprovisioningPercent: 200, minHealthy: 2, strict: true,
  failbackDelay: 1m, failbackRamp: 0s}
--- # a comment
apiVersion: meshfed.dev/v1alpha1
kind: AccessPolicy
metadata: {name: allow-web, namespace: shop}
spec: {services: [cart], from: [{namespace: web}, {site: west, account: a}], minProof: pod-ip}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: cart, namespace: shop}
spec: {exportedLabels: {tier: gold}}
status: {conditions: [{type: Valid, status: 'True'}]}
---
apiVersion: meshfed.dev/v1alpha1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{port: 80, targetPort: 8080, protocol: http}]
  endpoints:
    - &one {address: 10.0.0.2}
    - {address: 10.0.0.1, ports: {80: 9090}, locality: eu/ams, weight: 5, subset: v2, hostname: a, id: one}
";

/// One body of each request, in the order of [`read_bodies`].
pub const BODIES: [&str; 10] = [
    r#"{"dry_run": true}"#,
    r#"{"files": [{"name": "a.yaml", "text": "kind: Site"}], "dry_run": false}"#,
    r#"{"files": [], "names": [{"kind": "Service", "namespace": "shop", "name": "cart"}], "dry_run": true}"#,
    r#"{"target": {"gateway": {"name": "gw-0"}}, "drain": true, "dry_run": false}"#,
    r#"{"after": 7, "wait_ms": 1000}"#,
    r#"{"service": "shop/cart", "port": 8080, "as": "spiffe://east.mesh/ns/shop/sa/web", "locality": "eu/fra", "without": ["dc"]}"#,
    r#"{"to": "west.mesh", "offer": {"namespaces": ["shop"]}, "accept": {"all": true}, "expires_in_s": 900}"#,
    r#"{"invite": "meshfed-invite-1.e30", "offer": {"all": true}, "dry_run": true}"#,
    r#"{"kind": "agent", "name": "vm-1", "namespaces": ["shop"], "accounts": ["web"], "expires_in_s": 60}"#,
    r#"{"addresses": ["127.0.1.1:4430", "[::1]:4430"]}"#,
];

/// A mistake says where and what, in a bearable length.
pub fn is_good_mistake(mistake: &Diagnostic, lines: usize) {
    is_readable(&mistake.to_string());
    assert!(!mistake.message.is_empty(), "{mistake}");
    assert!(mistake.line <= lines + 1, "{mistake} in a file of {lines} lines");
    let json = serde_json::to_string(mistake).expect("it can be sent");
    assert_eq!(serde_json::from_str::<Diagnostic>(&json).expect("and read"), *mistake);
}

/// A file of resources.
pub fn read_resources(text: &str) -> Option<Vec<Resource>> {
    match resource::parse("x.yaml", text) {
        Ok(taken) => {
            for one in &taken {
                let json = serde_json::to_string(one).expect("a resource can be written");
                assert_eq!(&serde_json::from_str::<Resource>(&json).expect("own text"), one);
                let yaml = yaml::write(one).expect("a resource can be written");
                let again = resource::parse("again.yaml", &yaml).expect("own text");
                assert_eq!(again.as_slice(), std::slice::from_ref(one), "{yaml}");
            }
            Some(taken)
        }
        Err(mistake) => {
            // In YAML a carriage return alone ends a line too.
            is_good_mistake(&mistake, text.split(['\n', '\r']).count());
            None
        }
    }
}

/// A body of one kind.
pub fn read_body<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> bool {
    match rest::read::<T>(bytes) {
        Ok(taken) => {
            let again = serde_json::to_string(&taken).expect("a request can be written");
            let again: T = rest::read(again.as_bytes()).expect("own text");
            assert_eq!(
                serde_json::to_string(&again).expect("written"),
                serde_json::to_string(&taken).expect("written")
            );
            true
        }
        Err(error) => {
            is_readable(&error.to_string());
            false
        }
    }
}

/// Reads bytes as each of the bodies; which of them took it.
pub fn read_bodies(bytes: &[u8]) -> [bool; 10] {
    if let Err(error) = rest::read::<WorkloadRequest>(bytes) {
        is_readable(&error.to_string());
    }
    [
        read_body::<ChangeQuery>(bytes),
        read_body::<ApplyRequest>(bytes),
        read_body::<DeleteRequest>(bytes),
        read_body::<DrainRequest>(bytes),
        read_body::<EventsQuery>(bytes),
        read_body::<ExplainRequest>(bytes),
        read_body::<InviteRequest>(bytes),
        read_body::<LinkRequest>(bytes),
        read_body::<TokenRequest>(bytes),
        read_body::<ReachRequest>(bytes),
    ]
}
