//! The HTTPS client of a site's API.

use crate::contexts::{Context, Store};
use crate::failure::{Failure, OrFail};
use api::rest::error::ErrorBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use identity::credentials::Credentials;
use identity::live::LiveCredentials;
use identity::peer::{PeerError, RoleKind};
use identity::tls::{Expect, client_config, server_name};
use model::identity::{Bundle, Role};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take; the API holds `events` for at most 60 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Longest answer: a catalog of many thousand services.
const ANSWER_MAX: usize = 64 << 20;
/// Longest copy of a store that is taken.
const BACKUP_MAX: usize = 2 << 30;
/// Longest file of a certificate or key.
const PEM_MAX: usize = 64 * 1024;

/// A client of one site.
#[derive(Clone)]
pub struct Client {
    /// Name of the context.
    pub name: String,
    /// The context.
    pub context: Context,
    tls: TlsConnector,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// The client of the context that was named, or chosen.
    ///
    /// # Errors
    /// There is no such context, or its certificate cannot be used.
    pub fn of(name: Option<&str>) -> Result<Self, Failure> {
        let contexts = Store::of_user()?.read()?;
        let (name, context) = contexts.find(name)?;
        Self::new(name, context)
    }

    /// The client of a context.
    ///
    /// # Errors
    /// Its certificate cannot be used.
    pub fn new(name: &str, context: &Context) -> Result<Self, Failure> {
        let credentials = credentials(name, context)?;
        let anchors = anchors(&context.ca)?;
        let bundle = Bundle { trust_domain: context.trust_domain.0.clone(), sequence: 1, anchors };
        let expect = Expect::bundle(bundle, RoleKind::Federation)
            .or_fail(|| format!("the CA of context {name} in {} cannot be used", context.ca.display()))?;
        let live = LiveCredentials::new(credentials);
        let config = client_config(Some(&live), &expect, &[b"http/1.1"]);
        Ok(Self {
            name: name.to_owned(),
            context: context.clone(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Where the API is.
    pub fn address(&self) -> SocketAddr {
        self.context.api
    }

    /// GET.
    ///
    /// # Errors
    /// The site does not answer, or answers with an error.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// POST.
    ///
    /// # Errors
    /// The site does not answer, or answers with an error.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// PUT.
    ///
    /// # Errors
    /// The site does not answer, or answers with an error.
    pub async fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        self.call(Method::PUT, path, body).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// The site does not answer, or answers with an error.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::DELETE, path, None::<&()>).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        let bytes = match body {
            Some(body) => {
                serde_json::to_vec(body).or_fail(|| "the request cannot be written as JSON".to_owned())?
            }
            None => Vec::new(),
        };
        let bytes = self.raw(&method, path, bytes, ANSWER_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.strange(&format!("the answer to {method} {path} is not what it should be: {error}"))
        })
    }

    /// GET of a copy of the site's store.
    ///
    /// # Errors
    /// The site does not answer, or answers with an error.
    pub async fn backup(&self) -> Result<Bytes, Failure> {
        self.raw(&Method::GET, "/v1/backup", Vec::new(), BACKUP_MAX).await
    }

    /// The answer as bytes, of which there are at most `most`.
    async fn raw(&self, method: &Method, path: &str, body: Vec<u8>, most: usize) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, self.context.api.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .or_fail(|| format!("`{path}` cannot be asked for"))?;
        let answer = timeout(ANSWER_LIMIT, self.exchange(request, most)).await;
        let (status, bytes) = answer.map_err(|_| {
            self.silent(&format!("no answer to {method} {path} in {} s", ANSWER_LIMIT.as_secs()))
        })??;
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(body.error.into()),
            Err(_) => Err(self.strange(&format!("{method} {path} was answered with {status}"))),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<(hyper::StatusCode, Bytes), Failure> {
        let address = self.context.api;
        let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
        let stream = connected
            .map_err(|_| {
                self.silent(&format!("no answer on {address}/tcp in {} s", CONNECT_LIMIT.as_secs()))
            })?
            .map_err(|error| self.silent(&format!("{address}/tcp: {}", io_words(&error))))?;
        // The request follows the end of the handshake, and would wait 40 ms for an acknowledgement of that.
        let _ = stream.set_nodelay(true);
        let stream = timeout(CONNECT_LIMIT, self.tls.connect(server_name(), stream))
            .await
            .map_err(|_| self.silent(&format!("{address} does not speak TLS: nothing came in 5 s")))?
            .map_err(|error| self.refused(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.http(&error))?;
        // It ends with the exchange; what goes wrong in it is told by the exchange.
        let mut driver = tokio::spawn(connection);
        let answer = async {
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                // The connection may have met the reason first; then the request only knows that it was dropped.
                Err(error) if error.is_canceled() => {
                    return Err(match (&mut driver).await {
                        Ok(Err(cause)) => self.http(&cause),
                        // Closed right behind the handshake, in good order: what a server does that wants no such client.
                        Ok(Ok(())) => {
                            self.disbelieved("the connection was closed right after the TLS handshake")
                        }
                        Err(_) => self.http(&error),
                    });
                }
                Err(error) => return Err(self.http(&error)),
            };
            let status = response.status();
            let body = Limited::new(response.into_body(), most).collect().await;
            let body = body.map_err(|error| self.silent(&format!("the answer broke off: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        let answer = answer.await;
        driver.abort();
        answer
    }

    /// TLS 1.3 tells a client that its certificate was refused only with the first bytes after the handshake.
    fn http(&self, error: &hyper::Error) -> Failure {
        use std::error::Error as _;
        let cause = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        match cause {
            Some(error) => self.refused(error),
            None => self.silent(&format!("{}: {error}", self.context.api)),
        }
    }

    fn refused(&self, error: &std::io::Error) -> Failure {
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if !tls {
            return self.silent(&format!("{}: {}", self.context.api, io_words(error)));
        }
        match PeerError::of(error) {
            Some(why @ (PeerError::NotYetValid { .. } | PeerError::Expired { .. })) => self
                .not_believed(&why.to_string())
                .fix("compare the clocks of both hosts, and set them (NTP)"),
            _ => self.disbelieved(&error.to_string()),
        }
    }

    fn not_believed(&self, seen: &str) -> Failure {
        Failure::new(format!("{} at {} was not believed, or did not believe us", self.name, self.context.api))
            .seen(seen)
    }

    fn disbelieved(&self, seen: &str) -> Failure {
        self.not_believed(seen).fix(format!(
            "if the site was made anew, take its context again: `meshfed context remove {}`, then `meshfed init` or a new \
             contexts file",
            self.name
        ))
    }

    fn silent(&self, seen: &str) -> Failure {
        let start = match &self.context.directory {
            Some(directory) => format!("start it with `meshfed site {}`", directory.display()),
            None => format!("see that the federation of {} runs and that you can reach it", self.name),
        };
        Failure::new(format!("{} does not answer", self.name)).seen(seen).fix(start)
    }

    fn strange(&self, seen: &str) -> Failure {
        Failure::new(format!("{} answers in a way that is not understood", self.name))
            .seen(seen)
            .fix("compare `meshfed version` here with the version that runs there")
    }
}

fn io_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody listens (connection refused)".to_owned(),
        std::io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads the certificate of a context. Where the site's CA is on this host, it is made anew when half of its life is over,
/// when the CA has not signed it (the root was rotated), and when it cannot be used. One of somebody else, an agent or an
/// administrator of another site, is never written over: a context that names it is wrong.
fn credentials(name: &str, context: &Context) -> Result<Credentials, Failure> {
    let read = |path: &Path| {
        runtime::file::read_text(path, PEM_MAX).map_err(|error| {
            Failure::caused(format!("the certificate of context {name} cannot be read"), &error)
                .fix(format!("is the site's directory still there? else `meshfed context remove {name}`"))
        })
    };
    let (chain, key) = (read(&context.certificate)?, read(&context.key)?);
    let held = Credentials::from_pem(&chain, &key).or_fail(|| {
        format!("the certificate of context {name} in {} cannot be used", context.certificate.display())
    });
    let now = runtime::clock::unix_ms();
    let ca = context.directory.as_deref().and_then(|directory| anchors(&directory.join("ca/ca.crt")).ok());
    let is_of = |held: &Credentials, ca: &[Vec<u8>]| ca.iter().any(|anchor| held.is_signed_by(anchor));
    let is_foreign = |held: &Credentials| {
        held.id().trust_domain != context.trust_domain.0 || !matches!(held.id().role, Role::Admin(_))
    };
    if let Ok(held) = &held
        && (is_foreign(held) || now < held.renew_at_ms() && ca.is_none_or(|ca| is_of(held, &ca)))
    {
        return Ok(held.clone());
    }
    let renewed = context.directory.as_deref().map(|directory| {
        let ca = crate::commands::init::read_ca(directory, &context.trust_domain)?;
        crate::commands::init::write_admin(&ca, directory, now)
    });
    match renewed {
        Some(Ok(fresh)) => Ok(fresh),
        Some(Err(_)) | None if now < held.as_ref().map_or(u64::MAX, Credentials::not_after_ms) => held,
        Some(Err(_)) | None => Err(Failure::new(format!("the certificate of context {name} has expired"))
            .seen(context.certificate.display().to_string())
            .fix("run a command on the host that has the site's directory: it is renewed there")),
    }
}

fn anchors(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let text =
        runtime::file::read_text(path, PEM_MAX).or_fail(|| "the CA certificate cannot be read".to_owned())?;
    CertificateDer::pem_slice_iter(text.as_bytes())
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::new(format!("{} is no PEM", path.display())).seen(error.to_string()))
}
