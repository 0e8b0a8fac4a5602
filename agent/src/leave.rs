//! How an agent leaves: it takes its word back, refuses what is new, lets what is open finish, and closes.

use crate::draining::Draining;
use crate::upstream::Said;
use node::enroll::FolderLock;
use node::stream::Upstream;
use runtime::shutdown::{Shutdown, Tasks, drain_within};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use tunnel::{CloseCode, Tunnel};

/// How long the federation may take to hear what leaves. After it the lease does the same, later.
const WITHDRAW: Duration = Duration::from_secs(5);
/// How long callers elsewhere may take to hear of it. Until then they are served: none of them has to try twice.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the last packets may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What is left to wait for.
pub(crate) struct Leaving {
    pub(crate) connector: JoinHandle<()>,
    pub(crate) carrier: JoinHandle<Said>,
    pub(crate) taken: watch::Receiver<u64>,
    pub(crate) upstream: Upstream,
    pub(crate) draining: Arc<Draining>,
    pub(crate) tasks: Tasks,
    pub(crate) limit: Duration,
    /// What serves until the last stream is done.
    pub(crate) late: Shutdown,
    pub(crate) tunnel: Tunnel,
    /// Writes the config to disk.
    pub(crate) kept: JoinHandle<()>,
    /// Of the folder: the next process may have it once this one has left.
    pub(crate) lock: FolderLock,
}

impl Leaving {
    /// Leaves.
    pub(crate) async fn leave(self) {
        info!(streams = self.tasks.running(), "the agent leaves");
        // The connector withdraws what it has registered, over the config stream, which is still up.
        let (connector, carrier) = (self.connector, self.carrier);
        let (taken, upstream) = (self.taken, self.upstream);
        let withdraw = async {
            // They only fail when the runtime goes away first.
            let _ = connector.await;
            let said = carrier.await.unwrap_or_default();
            (!said.withdrew || said.was_taken(taken, &upstream).await, said.withdrew)
        };
        match tokio::time::timeout(WITHDRAW.min(self.limit), withdraw).await {
            Ok((true, true)) => tokio::time::sleep(SETTLE.min(self.limit)).await,
            Ok((_, false)) => {}
            Ok((false, true)) | Err(_) => {
                warn!("the federation could not be told what leaves; its lease will run out");
            }
        }
        self.draining.leave();
        let left = self.tasks.finish(self.limit).await;
        if left > 0 {
            warn!(left, limit = ?self.limit, "streams were still open, and were cut off");
        }
        self.tunnel.close(CloseCode::Drained, "the agent leaves");
        drain_within(GOODBYE, self.tunnel.wait_idle()).await;
        self.late.begin();
        // The last config reaches the disk.
        let _ = self.kept.await;
        drop(self.lock);
    }
}
