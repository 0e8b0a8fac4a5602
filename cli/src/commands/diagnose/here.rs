//! This host, where the directory of the site is on it: ports of its processes, and settings of the kernel.

use super::{Checks, Verdict};
use crate::client::Client;
use crate::commands::process;
use api::resource::site::SiteSettings;
use api::rest::status::StatusView;
use runtime::bind::{self, BindError};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a port of this host may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer of `/readyz` that is read.
const ANSWER_MAX: u64 = 16 * 1024;

/// `status`: of the site; none: it does not answer.
pub(super) async fn check(client: &Client, status: Option<&StatusView>, checks: &mut Checks) {
    let Some(directory) = client.context.directory.as_deref().filter(|path| path.join("site.yaml").is_file())
    else {
        let next = "run this on the host that has the site's directory";
        return checks.note(
            "this host",
            "ports and socket buffers were not looked at: no site lives here",
            next,
        );
    };
    let settings = match process::settings(directory) {
        Ok(settings) => settings,
        Err(failure) => return checks.failed(Verdict::Wrong, "site.yaml", &failure),
    };
    match status {
        Some(status) => running(&settings, status, checks).await,
        None => stopped(&settings, checks).await,
    }
    buffers(Path::new("/proc/sys/net/core"), tunnel::Config::wan().socket_buffer, checks);
}

/// The ports of processes that should be there.
async fn running(settings: &SiteSettings, status: &StatusView, checks: &mut Checks) {
    let at = |port| SocketAddr::new(settings.address, port);
    ready("federation", at(settings.ports.health), checks).await;
    let gateway = status.site.gateways.iter().any(|gateway| {
        let address = gateway.address.parse::<SocketAddr>();
        gateway.connected && address.is_ok_and(|address| address == settings.advertise)
    });
    if gateway {
        ready("gateway", at(settings.ports.gateway_health), checks).await;
    }
}

/// Whether a process says that it is ready.
async fn ready(process: &str, address: SocketAddr, checks: &mut Checks) {
    let what = format!("health of the {process} on {address}/tcp");
    match tokio::time::timeout(PATIENCE, ask(address)).await {
        Err(_) => checks.wrong(what, format!("no answer in {} s", PATIENCE.as_secs()), "look at its log"),
        Ok(Err(error)) => checks.wrong(what, error.to_string(), "does another process have the port?"),
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => checks.ok(what, "ready"),
        Ok(Ok(answer)) => {
            let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
            checks.wrong(what, body.trim().replace('\n', "; "), "wait, or look at its log");
        }
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The ports of a site whose federation does not answer: does anybody else have them?
async fn stopped(settings: &SiteSettings, checks: &mut Checks) {
    let ports = settings.ports;
    let tcp = [
        (ports.config, "ports.config"),
        (ports.api, "ports.api"),
        (ports.health, "ports.health"),
        (ports.gateway_health, "ports.gatewayHealth"),
        (ports.dns, "ports.dns"),
        (ports.proxy, "ports.proxy"),
    ];
    let mut taken = Vec::new();
    for (port, setting) in tcp {
        taken.extend(bind::bind_tcp(SocketAddr::new(settings.address, port), setting).await.err());
    }
    let tunnel = SocketAddr::new(settings.address, ports.tunnel);
    taken.extend(bind::bind_udp(tunnel, "ports.tunnel").err());
    if taken.is_empty() {
        return checks
            .ok(format!("ports on {}", settings.address), "free: nothing keeps the site from starting");
    }
    for error in &taken {
        let next = match error {
            BindError::InUse { .. } => "if that is the site itself, it hangs: look at its log",
            BindError::Forbidden { .. } | BindError::NotHere { .. } | BindError::Other { .. } => "",
        };
        checks.wrong(format!("ports on {}", settings.address), error.to_string(), next);
    }
}

/// What the kernel allows for, against what the tunnel asks for.
fn buffers(folder: &Path, wanted: usize, checks: &mut Checks) {
    for (name, direction) in [("rmem_max", "receive"), ("wmem_max", "send")] {
        let what = format!("UDP {direction} buffer");
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        // In a network namespace of its own a host does not show it.
        let Ok(most) = text.trim().parse::<usize>() else { continue };
        if most < wanted {
            let seen = format!("the tunnel asks for {wanted} bytes and gets {most}: bursts are lost");
            checks.note(
                what,
                seen,
                format!("sysctl -w net.core.{name}={wanted}, then restart gateways and agents"),
            );
        } else {
            checks.ok(what, format!("{wanted} bytes, as the tunnel asks for"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_the_kernel_cuts_is_named_with_the_command() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("rmem_max"), "212992\n").expect("written");
        std::fs::write(folder.path().join("wmem_max"), "9000000\n").expect("written");
        let mut checks = Checks::default();
        buffers(folder.path(), 8 << 20, &mut checks);
        let [receive, send] = checks.0.as_slice() else { panic!("{checks:?}") };
        assert_eq!((receive.verdict, send.verdict), (Verdict::Note, Verdict::Ok));
        assert!(receive.next.starts_with("sysctl -w net.core.rmem_max=8388608"), "{receive:?}");
    }
}
