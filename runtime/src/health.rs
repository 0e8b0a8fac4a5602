//! `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.

use crate::metrics::Registry;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Most connections at a time; further ones wait in the kernel's queue. A probe and a scraper need two.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send its request, and may keep a connection without one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a process waits for before it is ready: a list of named checks. Clones share it.
///
/// Readiness must never wait for another site without a deadline of a few seconds; that is for the callers to keep.
#[derive(Debug, Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Health {
    /// Builds one without checks, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, which fails with "starting" until it is told otherwise. A name that is already there is taken
    /// over.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { health: self.clone(), name };
        check.not_ready("starting");
        check
    }

    /// The checks that fail, by name, each with its reason. Empty: ready.
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.iter().filter_map(|(name, reason)| Some((*name, reason.clone()?))).collect()
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(name, reason);
    }
}

/// One named check of a [`Health`].
#[derive(Debug, Clone)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Check {
    /// It passes.
    pub fn ready(&self) {
        self.health.set(self.name, None);
    }

    /// It fails, and why: one line, shown by `/readyz`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.set(self.name, Some(reason.into()));
    }
}

/// Serves until `shutdown` is cancelled. Connections that are open then are dropped.
pub async fn serve(listener: TcpListener, health: Health, metrics: Registry, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = shutdown.cancelled() => return,
        };
        let Some((stream, place)) = accepted else { return };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only burn the processor.
                debug!(%error, "health: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (health, metrics, shutdown) = (health.clone(), metrics.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (health, metrics) = (health.clone(), metrics.clone());
                async move { Ok::<_, Infallible>(answer(&request, &health, &metrics)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                served = connection => {
                    if let Err(error) = served {
                        debug!(%error, "health: connection failed");
                    }
                }
                () = shutdown.cancelled() => {}
            }
            drop(place);
        });
    }
}

type Accepted = (std::io::Result<tokio::net::TcpStream>, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    let stream = listener.accept().await.map(|(stream, _)| stream);
    Some((stream, place))
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Registry) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let failing = health.failing();
            if failing.is_empty() {
                return text(StatusCode::OK, "ready\n".to_owned());
            }
            let mut body = "not ready\n".to_owned();
            for (name, reason) in failing {
                let _ = writeln!(body, "{name}: {reason}");
            }
            text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.encode());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_checks_and_names_the_failing_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let config = health.check("config");
        let tunnel = health.check("tunnel");
        let metrics = Registry::new("test", "1.2.3").expect("good names");
        let server = tokio::spawn(serve(listener, health, metrics, shutdown.clone()));

        assert!(ask(address, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        tunnel.ready();
        config.not_ready("no snapshot, and the federation is silent");
        let answer = ask(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("config: no snapshot, and the federation is silent\n"), "{answer}");
        config.ready();
        assert!(ask(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "GET /metrics").await.contains("\nmeshfed_up{process=\"test\"} 1\n"));
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /readyz").await.starts_with("HTTP/1.1 405"));

        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), server).await.expect("ends").expect("no panic");
    }
}
