//! A running mesh takes faults from another terminal: one JSON document each way over a Unix socket in its directory.

use experiment::schema::Timed;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longest document.
const DOCUMENT_MAX: u64 = 64 * 1024;
/// How long somebody may take to say what they want.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long the answer may take: a restart of everything drains each part.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Orders that wait; at the limit the next one waits at the socket.
const ORDERS_MAX: usize = 16;

/// Where the socket of a mesh in `directory` is.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// What is asked of a running mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Begin a fault now; its `at` says nothing.
    Inject(Box<Timed>),
    /// End every fault.
    Heal,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is done; in words.
    Done(String),
    /// It was not done, or not all of it, and why.
    Refused(String),
}

/// An order, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The order.
    pub order: Order,
    /// Its answer.
    pub answer: oneshot::Sender<Answer>,
}

/// A mesh that cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be made.
    #[error("the socket {path} cannot be made")]
    Bind {
        /// Its path.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error("no mesh listens at {path}; is `meshfed up` running there?")]
    Connect {
        /// Path of the socket.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("the mesh at {path} does not answer: {why}")]
    Silent {
        /// Path of the socket.
        path: String,
        /// What was seen.
        why: String,
    },
}

/// Takes orders until it is dropped.
#[derive(Debug)]
pub struct Control {
    /// What was asked, in order.
    pub asked: mpsc::Receiver<Asked>,
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // It says that a mesh runs here.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens in the directory of a mesh; it alone may be there.
    ///
    /// # Errors
    /// [`ControlError::Bind`].
    pub fn listen(directory: &Path) -> Result<Self, ControlError> {
        let path = socket(directory);
        let listener = UnixListener::bind(&path)
            .map_err(|source| ControlError::Bind { path: path.display().to_string(), source })?;
        let (to, asked) = mpsc::channel(ORDERS_MAX);
        let task = tokio::spawn(async move {
            // One at a time: orders of one mesh have an order.
            while let Ok((stream, _)) = listener.accept().await {
                if let Err(error) = serve(stream, &to).await {
                    tracing::debug!(%error, "an order was not understood");
                }
            }
        });
        Ok(Self { asked, path, task })
    }
}

async fn serve(mut stream: UnixStream, to: &mpsc::Sender<Asked>) -> std::io::Result<()> {
    let text = tokio::time::timeout(ASK_LIMIT, document(&mut stream)).await??;
    let (answer, answered) = oneshot::channel();
    let answer = match serde_json::from_str::<Order>(&text) {
        Ok(order) => {
            let taken = to.send(Asked { order, answer }).await.is_ok();
            let gone = || Answer::Refused("the mesh is ending".to_owned());
            if taken { answered.await.unwrap_or_else(|_| gone()) } else { gone() }
        }
        Err(error) => Answer::Refused(format!("the order is not understood: {error}")),
    };
    stream.write_all(serde_json::to_string(&answer)?.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads to the end of what the other side writes.
async fn document(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut text = String::new();
    stream.take(DOCUMENT_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

/// Tells the mesh in `directory` to do something, and waits until it has.
///
/// # Errors
/// [`ControlError::Connect`], [`ControlError::Silent`].
pub async fn tell(directory: &Path, order: &Order) -> Result<Answer, ControlError> {
    let path = socket(directory);
    let shown = path.display().to_string();
    let mut stream = UnixStream::connect(&path)
        .await
        .map_err(|source| ControlError::Connect { path: shown.clone(), source })?;
    let silent = |why: String| ControlError::Silent { path: shown.clone(), why };
    let ask = async {
        stream.write_all(serde_json::to_string(order)?.as_bytes()).await?;
        stream.shutdown().await?;
        document(&mut stream).await
    };
    let text = match tokio::time::timeout(ANSWER_LIMIT, ask).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(silent(error.to_string())),
        Err(_) => return Err(silent(format!("nothing in {} s", ANSWER_LIMIT.as_secs()))),
    };
    serde_json::from_str(&text).map_err(|error| silent(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_is_answered_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut control = Control::listen(directory.path()).expect("can listen");
        let at = directory.path().to_owned();
        let told = tokio::spawn(async move { tell(&at, &Order::Heal).await });
        let asked = control.asked.recv().await.expect("an order");
        assert_eq!(asked.order, Order::Heal);
        asked.answer.send(Answer::Done("healed".into())).expect("somebody waits");
        assert_eq!(told.await.expect("no panic").expect("answered"), Answer::Done("healed".into()));

        let mut stream = UnixStream::connect(socket(directory.path())).await.expect("listens");
        stream.write_all(b"{\"inject\": {}}").await.expect("written");
        stream.shutdown().await.expect("shut");
        let answer = document(&mut stream).await.expect("an answer");
        assert!(answer.contains("the order is not understood"), "{answer}");
    }

    #[tokio::test]
    async fn where_nothing_runs_that_is_said() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = tell(directory.path(), &Order::Heal).await.expect_err("nobody").to_string();
        assert!(error.contains("is `meshfed up` running there?"), "{error}");
        // An ended one leaves no socket behind.
        drop(Control::listen(directory.path()).expect("can listen"));
        assert!(!socket(directory.path()).exists());
    }
}
