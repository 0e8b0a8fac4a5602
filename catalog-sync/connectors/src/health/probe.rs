//! One probe.

use super::exec;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::config::HealthProbe;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// It took too long.
    #[error("no answer within {limit:?}")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// Nobody listens, or the connection broke.
    #[error("{address}: {reason}")]
    Connection {
        /// What was asked.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// HTTP: the status is not 200 to 399.
    #[error("GET {path} answered {status}")]
    Status {
        /// Path that was asked.
        path: String,
        /// The status.
        status: u16,
    },
    /// gRPC: the service does not serve, or is not known.
    #[error("grpc.health.v1 of `{service}`: {answer}")]
    NotServing {
        /// Service that was asked about; empty: the server.
        service: String,
        /// The answer.
        answer: String,
    },
    /// The command could not be started.
    #[error("`{program}` cannot be run: {reason}")]
    CannotRun {
        /// The program.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The command ended with another code than 0.
    #[error("`{program}` ended with {how}{}", said(output))]
    Exit {
        /// The program.
        program: String,
        /// With what.
        how: String,
        /// The beginning of what it printed.
        output: String,
    },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

/// Makes one probe, within `limit`.
///
/// # Errors
/// Why it failed.
pub async fn probe(probe: &HealthProbe, address: IpAddr, limit: Duration) -> Result<(), ProbeFailure> {
    let at = |port: &u16| SocketAddr::new(address, *port);
    match probe {
        HealthProbe::None => Ok(()),
        HealthProbe::Tcp { port } => within(limit, tcp(at(port))).await,
        HealthProbe::Http { port, path } => within(limit, http(at(port), path)).await,
        HealthProbe::Grpc { port, service } => within(limit, grpc(at(port), service)).await,
        // It bounds itself, since its processes have to be killed.
        HealthProbe::Exec { command } => exec::run(command, limit).await,
    }
}

async fn within(
    limit: Duration,
    work: impl Future<Output = Result<(), ProbeFailure>>,
) -> Result<(), ProbeFailure> {
    timeout(limit, work).await.unwrap_or(Err(ProbeFailure::TimedOut { limit }))
}

fn broken(address: SocketAddr, error: &(dyn std::error::Error + 'static)) -> ProbeFailure {
    // The last cause says what happened: "Connection refused".
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    ProbeFailure::Connection { address, reason: cause.to_string() }
}

async fn tcp(address: SocketAddr) -> Result<(), ProbeFailure> {
    TcpStream::connect(address).await.map(drop).map_err(|error| broken(address, &error))
}

async fn http(address: SocketAddr, path: &str) -> Result<(), ProbeFailure> {
    let stream = TcpStream::connect(address).await.map_err(|error| broken(address, &error))?;
    let failed = |error: hyper::Error| broken(address, &error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "meshfed-health")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(address, &error))?;
    let (sending, mut driven) = (sender.send_request(request), true);
    tokio::pin!(sending, connection);
    // The connection is driven only until the status is there; the body does not matter. One that has ended may have
    // left the answer behind.
    let status = loop {
        tokio::select! {
            biased;
            response = &mut sending => break response.map_err(failed)?.status(),
            _ = &mut connection, if driven => driven = false,
        }
    };
    if (StatusCode::OK.as_u16()..400).contains(&status.as_u16()) {
        return Ok(());
    }
    Err(ProbeFailure::Status { path: path.to_owned(), status: status.as_u16() })
}

async fn grpc(address: SocketAddr, service: &str) -> Result<(), ProbeFailure> {
    let failed = |error: tonic::transport::Error| broken(address, &error);
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(failed)?
        .connect()
        .await
        .map_err(failed)?;
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: service.to_owned() };
    let not = |answer: String| ProbeFailure::NotServing { service: service.to_owned(), answer };
    match client.check(request).await {
        Ok(response) => {
            let status = response.into_inner().status();
            if status == ServingStatus::Serving { Ok(()) } else { Err(not(status.as_str_name().to_owned())) }
        }
        Err(status) => Err(not(match status.code() {
            Code::NotFound => "it is not known to the server".to_owned(),
            Code::Unimplemented => "the server has no health service".to_owned(),
            code => format!("{code}: {}", status.message().chars().take(200).collect::<String>()),
        })),
    }
}
