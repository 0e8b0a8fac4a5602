//! Commands against sites that answer what the test wants, over real TLS with real certificates.

mod support;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::{Accept, server_config};
use identity::trust::TrustStore;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Home, Ran};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A question that a site was asked.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    what: String,
    body: Value,
}

/// Answers by `METHOD /path?query`, or not at all.
type Answer = Arc<dyn Fn(&Asked) -> Option<(u16, Value)> + Send + Sync>;

/// A site that runs as long as this lives.
struct FakeSite {
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeSite {
    /// Serves the API of the site in `directory`, made by `init` with this address.
    fn start(directory: &Path, name: &str, address: &str, answer: Answer) -> Self {
        let domain: model::identity::TrustDomain = format!("{name}.mesh").parse().expect("valid");
        let ca = meshfed::commands::init::read_ca(directory, &domain).expect("a CA");
        let key = NodeKey::generate().expect("randomness");
        let id = format!("spiffe://{domain}/federation/fed-0").parse().expect("valid");
        let hour = Duration::from_secs(3600);
        let chain = ca.issue(&key.csr_der(), &id, hour, runtime::clock::unix_ms()).expect("issued");
        let live = LiveCredentials::new(Credentials::new(chain, &key).expect("a pair"));
        let trust = TrustStore::new(ca.bundle(1)).expect("a good bundle");
        let accept = Accept { own: &[RoleKind::Admin], linked: &[], anonymous: false };
        let tls = TlsAcceptor::from(Arc::new(server_config(&live, &trust, accept, &[b"http/1.1"])));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let tokio = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = tokio.block_on(TcpListener::bind((address, 15080))).expect("a free address");
        tokio.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answer, seen) = (tls.clone(), Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        serve(request, Arc::clone(&answer), Arc::clone(&seen))
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { asked, _runtime: tokio }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: Answer,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let what = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let asked = Asked { what, body: serde_json::from_slice(&body).unwrap_or(Value::Null) };
    let (status, body) = answer(&asked).unwrap_or_else(|| (404, json!("unexpected")));
    seen.lock().expect("no panic").push(asked);
    let body = Full::new(Bytes::from(body.to_string()));
    Ok(Response::builder().status(status).body(body).expect("valid"))
}

fn refusal(message: &str) -> (u16, Value) {
    (409, json!({"error": {"message": message, "cause": "it is used", "help": "make another one"}}))
}

/// A home with a site that answers by a function.
fn with_site(
    address: &str,
    answer: impl Fn(&Asked) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Home, FakeSite) {
    let home = Home::new();
    home.good(&["init", "east", "--address", address]);
    let site = FakeSite::start(&home.path().join("east"), "east", address, Arc::new(answer));
    (home, site)
}

#[test]
fn a_token_alone_goes_to_standard_output() {
    let (home, site) = with_site("127.0.203.1", |asked| {
        let expires = runtime::clock::unix_ms() + 900_000;
        (asked.what == "POST /v1/tokens")
            .then(|| (200, json!({"token": "mft1.secret", "expires_at_ms": expires})))
    });
    let ran = home.good(&["token", "agent", "vm-1", "--namespace", "shop"]);
    assert_eq!(ran.out, "mft1.secret\n");
    assert!(ran.err.contains("works once, within 15 m") && !ran.err.contains("secret"), "{}", ran.err);
    let body = &site.asked()[0].body;
    assert_eq!(
        (&body["kind"], &body["namespaces"], &body["expires_in_s"]),
        (&json!("agent"), &json!(["shop"]), &json!(900))
    );
    let ran = home.good(&["token", "agent", "vm-1", "--to", "vm-1.token"]);
    assert_eq!(ran.out, "");
    assert_eq!(std::fs::read_to_string(home.path().join("vm-1.token")).expect("there"), "mft1.secret\n");
}

#[test]
fn an_error_of_the_site_is_shown_with_its_cause_and_the_way_out() {
    let (home, _site) = with_site("127.0.203.2", |_| Some(refusal("the token was refused")));
    let ran = home.run(&["export", "shop/cart"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.err, "error: the token was refused\n  because  it is used\n  do       make another one\n");
    let (home, _site) = with_site("127.0.203.3", |_| None);
    let ran = home.run(&["export", "shop/cart"]);
    assert!(ran.err.contains("was answered with 404") && ran.err.contains("meshfed version"), "{}", ran.err);
}

#[test]
fn a_site_that_was_made_anew_is_not_believed() {
    let (home, _site) = with_site("127.0.203.4", |_| None);
    let other = Home::new();
    other.good(&["init", "east", "--address", "127.0.203.4"]);
    // The context of another site of the same name, which is served here with the keys of the first.
    let ran = other.run(&["status"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("was not believed, or did not believe us"), "{}", ran.err);
    drop(home);
}

#[test]
fn status_is_exit_code_1_when_something_needs_a_person() {
    let (home, _site) = with_site("127.0.203.5", |asked| {
        let site = json!({"name": "east", "certificates": {"ok": true}});
        (asked.what == "GET /v1/status").then(|| (200, json!({"healthy": false, "site": site})))
    });
    let ran = home.run(&["status"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("site east · not healthy"), "{}", ran.out);
    assert_eq!(ran.err, "");
    let ran = home.run(&["status", "--json"]);
    let value: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &value["healthy"]), (1, &json!(false)));
}

#[test]
fn expose_sends_the_whole_workload() {
    let (home, site) = with_site("127.0.203.6", |asked| {
        (asked.what == "PUT /v1/workloads").then(|| {
            (200, json!({"workload": {"service": "shop/cart", "host": "vm-1", "address": "127.0.0.1", "target_ports": [9090]}}))
        })
    });
    let args = [
        "expose",
        "shop/cart",
        "--on",
        "vm-1",
        "--port",
        "8080:9090",
        "--protocol",
        "http",
        "--check",
        "http:/healthz",
    ];
    let ran = home.good(&args);
    assert!(ran.out.starts_with("127.0.0.1:9090 on vm-1 is an endpoint of shop/cart in east"), "{}", ran.out);
    let asked = site.asked();
    let request: api::rest::workload::WorkloadRequest =
        serde_json::from_value(asked[0].body.clone()).expect("valid");
    assert!(request.export && !request.dry_run);
    let spec = request
        .workload
        .workload(&"vm-1".parse().expect("valid"), &"".parse().expect("valid"))
        .expect("valid");
    assert_eq!(spec.ports[0].1, 9090);
    assert_eq!(spec.check.probe, model::config::HealthProbe::Http { port: 9090, path: "/healthz".into() });
}

#[test]
fn unlink_asks_first() {
    let (home, site) = with_site("127.0.203.7", |asked| {
        asked
            .what
            .starts_with("DELETE /v1/links/west")
            .then(|| (200, json!({"site": "west", "peer_told": true})))
    });
    let ran = home.run(&["unlink", "west"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("Part east and west? [y/N]") && ran.err.contains("add --yes"), "{}", ran.err);
    assert!(ran.err.contains("or pipe the answer (`echo y | meshfed …`)"), "{}", ran.err);
    assert_eq!(site.asked().len(), 1, "only the preview was asked for");
    let ran = home.run_piped(&["unlink", "west"], "perhaps\n");
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("nothing was changed") && ran.err.contains("`perhaps`"), "{}", ran.err);
    assert_eq!(site.asked().len(), 2, "only the preview was asked for");
    assert_eq!(home.run_piped(&["unlink", "west"], "y\n").code, 0);
    assert_eq!(site.asked().len(), 4, "and then the deed");
    let help = home.good(&["unlink", "--help"]).out;
    assert!(
        help.contains("meshfed unlink east west --yes") && help.contains("a `y` on standard input"),
        "{help}"
    );
    let ran = home.good(&["unlink", "west", "--yes"]);
    assert!(
        ran.out.starts_with("unlinked east from west in 0.") && ran.out.ends_with("peer told\n"),
        "{}",
        ran.out
    );
    let what: Vec<String> = site.asked().iter().skip(4).map(|a| a.what.clone()).collect();
    assert_eq!(what, ["DELETE /v1/links/west?dry_run=true", "DELETE /v1/links/west"]);
}

/// What a site of a link test answers. It knows the link as soon as it was asked to invite or accept.
struct LinkSite {
    name: &'static str,
    peer: &'static str,
    reached: bool,
    clusterset: &'static str,
}

impl LinkSite {
    fn answer(self) -> Answer {
        let linked = Arc::new(Mutex::new(false));
        Arc::new(move |asked| {
            let Self { name, peer, reached, clusterset } = &self;
            let mut linked = linked.lock().expect("no panic");
            let link =
                json!({"site": peer, "state": "connected", "synced": true, "paths_live": 1, "rtt_ms": 0.3});
            Some((
                200,
                match asked.what.as_str() {
                    "GET /v1/site" => json!({
                        "name": name, "uid": format!("uid-{name}"), "trust_domain": format!("{name}.mesh"), "version": "0.1.0",
                        "clusterset": clusterset, "now_at_ms": runtime::clock::unix_ms(),
                        "gateways": [{"name": "gw-0", "address": "127.0.203.99:4430", "connected": true}],
                    }),
                    "GET /v1/links" => json!({"links": if *linked { vec![link] } else { vec![] }}),
                    "POST /v1/reach" => {
                        let outcome = if *reached { "answered" } else { "silent" };
                        let seen = if *reached { "answered" } else { "no answer in 3 s" };
                        json!({"probes": [{"gateway": "gw-0", "address": "127.0.203.99:4430", "outcome": outcome, "seen": seen}]})
                    }
                    "POST /v1/invites" => {
                        *linked = true;
                        json!({"invite": "mfi1.secret"})
                    }
                    "POST /v1/links" => {
                        *linked = true;
                        link
                    }
                    _ => return None,
                },
            ))
        })
    }
}

/// Two sites, of which the first hears from the second with `east_hears`, and the reverse.
fn link(
    net: u8,
    east_hears: bool,
    west_hears: bool,
    clusterset: &'static str,
) -> (Ran, Vec<String>, Vec<String>) {
    let home = Home::new();
    let mut sites = Vec::new();
    for (last, name, peer, reached) in [(1, "east", "west", west_hears), (2, "west", "east", east_hears)] {
        let address = format!("127.0.{net}.{last}");
        home.good(&["init", name, "--address", &address]);
        let clusterset = if name == "west" { clusterset } else { "meshfed" };
        let answer = LinkSite { name, peer, reached, clusterset }.answer();
        sites.push(FakeSite::start(&home.path().join(name), name, &address, answer));
    }
    let ran = home.run(&["link", "east", "west"]);
    let posts = |site: &FakeSite| {
        site.asked()
            .into_iter()
            .map(|a| a.what)
            .filter(|w| w.contains("invites") || w.contains("POST /v1/links"))
            .collect()
    };
    (ran, posts(&sites[0]), posts(&sites[1]))
}

#[test]
fn link_checks_then_does_both_ends() {
    let (ran, east, west) = link(204, true, true, "meshfed");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("linked east and west in 0."), "{}", ran.out);
    assert!(
        ran.err.contains("  checking   east   127.0.204.1:15080")
            && ran.err.contains("trust domain west.mesh   ok")
    );
    assert!(ran.err.contains("1 of 1 gateways reachable each way"), "{}", ran.err);
    assert!(!format!("{}{}", ran.out, ran.err).contains("secret"));
    assert_eq!(
        (east.as_slice(), west.as_slice()),
        (&["POST /v1/invites".to_owned()][..], &["POST /v1/links".to_owned()][..])
    );
}

#[test]
fn whoever_can_be_dialled_invites() {
    let (ran, east, west) = link(205, false, true, "meshfed");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        (east.as_slice(), west.as_slice()),
        (&["POST /v1/links".to_owned()][..], &["POST /v1/invites".to_owned()][..])
    );
}

#[test]
fn a_link_that_cannot_work_changes_nothing() {
    let (ran, east, west) = link(206, false, false, "meshfed");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("error: west cannot reach any gateway of east, nor the reverse"), "{}", ran.err);
    assert!(
        ran.err.contains("  tried   127.0.203.99:4430/udp from west gateway gw-0: no answer in 3 s"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert!(east.is_empty() && west.is_empty());
    let (ran, east, west) = link(207, true, true, "other");
    assert!(
        ran.err.contains("error: east and west are in different clustersets; nothing was changed"),
        "{}",
        ran.err
    );
    assert!(east.is_empty() && west.is_empty());
}
