//! Waiting with a deadline, for things that report when they are ready.

use bench::http1::{Target, get};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Something did not become ready in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} was not ready after {} s: {last}", limit.as_secs())]
pub struct NotReady {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
    /// What was seen last.
    pub last: String,
}

/// Asks again and again, until the answer is yes or the time is up. `look` returns what it saw instead.
///
/// # Errors
/// [`NotReady`] with what was seen last.
pub async fn until<F, L>(what: &str, limit: Duration, mut look: F) -> Result<(), NotReady>
where
    F: FnMut() -> L,
    L: Future<Output = Result<(), String>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let Err(last) = look().await else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(NotReady { what: what.to_owned(), limit, last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether `GET /readyz` is answered with 200.
///
/// # Errors
/// What was seen instead.
pub async fn answers_readyz(address: SocketAddr) -> Result<(), String> {
    let target =
        Target { path: "/readyz".to_owned(), timeout: Duration::from_secs(1), ..Target::new(address) };
    match get(&target, None).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(format!("http://{address}/readyz: {failure}")),
    }
}

/// Whether a TCP port accepts connections.
///
/// # Errors
/// What was seen instead.
pub async fn listens(address: SocketAddr) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(1), tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address}/tcp: {error}")),
        Err(_) => Err(format!("{address}/tcp: no answer in 1 s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_last_is_told() {
        let mut looks = 0;
        let waited = until("the moon", Duration::from_millis(80), || {
            looks += 1;
            let seen = format!("look {looks}");
            async move { Err(seen) }
        })
        .await;
        let error = waited.expect_err("never ready");
        assert!(looks >= 2);
        assert_eq!(error.to_string(), format!("the moon was not ready after 0 s: look {looks}"));
    }

    #[tokio::test]
    async fn a_port_is_ready_when_it_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        listens(address).await.expect("listens");
        drop(listener);
        assert!(listens(address).await.expect_err("closed").contains("refused"));
    }
}
