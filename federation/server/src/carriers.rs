//! Carriers: tunnel streams to other sites that a gateway opens for this federation.
//!
//! The federation asks a gateway over its config stream (`OpenCarrier`), and the gateway joins the tunnel stream to a
//! `Carry` call with the same number. What flows through it is TLS between the two federations.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::ids::GatewayName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use wire::pb;

/// Most carriers that may be awaited at a time: one for each linked peer, and a few for links that are being made.
const PENDING_MAX: usize = 512;
/// Bytes that wait in each direction of a carrier.
const BUFFER_BYTES: usize = 64 * 1024;
/// Chunks that wait to be sent to a gateway.
const CHUNKS_MAX: usize = 4;

/// Why there is no carrier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// The gateway says why.
    #[error("gateway {gateway} could not open it: {reason}")]
    Failed {
        /// Gateway that was asked.
        gateway: GatewayName,
        /// In its words.
        reason: String,
    },
    /// The gateway's config stream ended first.
    #[error("gateway {gateway} left before it was open")]
    GatewayLeft {
        /// Gateway that was asked.
        gateway: GatewayName,
    },
    /// Too many are awaited.
    #[error("{PENDING_MAX} carriers are being opened already")]
    TooMany,
}

/// What is awaited.
#[derive(Debug)]
struct Pending {
    gateway: GatewayName,
    done: oneshot::Sender<Result<DuplexStream, CarrierError>>,
}

/// The carriers that are awaited. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Carriers {
    pending: Arc<Mutex<BTreeMap<u64, Pending>>>,
}

/// A carrier that was asked for. Dropped, it is awaited no more.
#[derive(Debug)]
pub struct Awaited {
    /// Its number, for `OpenCarrier`.
    pub carrier: u64,
    gateway: GatewayName,
    done: oneshot::Receiver<Result<DuplexStream, CarrierError>>,
    carriers: Carriers,
}

impl Awaited {
    /// Waits until the gateway has joined it, or says that it cannot.
    ///
    /// # Errors
    /// It could not be opened.
    pub async fn open(mut self) -> Result<DuplexStream, CarrierError> {
        let gateway = self.gateway.clone();
        (&mut self.done).await.unwrap_or(Err(CarrierError::GatewayLeft { gateway }))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.carriers.lock().remove(&self.carrier);
    }
}

impl Carriers {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to await a carrier through a gateway.
    ///
    /// # Errors
    /// Too many are awaited.
    pub fn expect(&self, gateway: &GatewayName) -> Result<Awaited, CarrierError> {
        let (sender, done) = oneshot::channel();
        let mut pending = self.lock();
        if pending.len() >= PENDING_MAX {
            return Err(CarrierError::TooMany);
        }
        let carrier = std::iter::repeat_with(|| fastrand::u64(1..))
            .find(|carrier| !pending.contains_key(carrier))
            .expect("an endless iterator finds a number that is free");
        pending.insert(carrier, Pending { gateway: gateway.clone(), done: sender });
        Ok(Awaited { carrier, gateway: gateway.clone(), done, carriers: self.clone() })
    }

    /// A gateway says that it could not open a carrier, or that it has ended.
    pub fn fail(&self, carrier: u64, gateway: &GatewayName, reason: &str) {
        if let Some(pending) = self.take(carrier, gateway) {
            let reason = reason.to_owned();
            let _ = pending.done.send(Err(CarrierError::Failed { gateway: gateway.clone(), reason }));
        }
    }

    /// A gateway has left: what was awaited through it will not come.
    pub fn gateway_left(&self, gateway: &GatewayName) {
        self.lock().retain(|_, pending| pending.gateway != *gateway);
    }

    /// A gateway joins a carrier: its chunks come in as `inbound`, the answer is what goes out.
    ///
    /// # Errors
    /// Nobody awaits a carrier of this number through this gateway.
    pub fn join<S>(
        &self,
        carrier: u64,
        gateway: &GatewayName,
        inbound: S,
    ) -> Result<mpsc::Receiver<Result<pb::Chunk, Status>>, Status>
    where
        S: Stream<Item = Result<pb::Chunk, Status>> + Send + Unpin + 'static,
    {
        let Some(pending) = self.take(carrier, gateway) else {
            return Err(Status::not_found(format!(
                "no carrier {carrier} is awaited through gateway {gateway}"
            )));
        };
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let (sender, outbound) = mpsc::channel(CHUNKS_MAX);
        tokio::spawn(pump(ours, inbound, sender));
        if pending.done.send(Ok(theirs)).is_err() {
            return Err(Status::cancelled("the carrier is no longer awaited"));
        }
        Ok(outbound)
    }

    fn take(&self, carrier: u64, gateway: &GatewayName) -> Option<Pending> {
        let mut pending = self.lock();
        if pending.get(&carrier)?.gateway != *gateway {
            return None;
        }
        pending.remove(&carrier)
    }
}

/// Copies both ways until both have ended, or one has failed.
async fn pump<S>(ours: DuplexStream, mut inbound: S, sender: mpsc::Sender<Result<pb::Chunk, Status>>)
where
    S: Stream<Item = Result<pb::Chunk, Status>> + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(ours);
    let incoming = async {
        while let Some(chunk) = inbound.next().await {
            let Ok(chunk) = chunk else { return };
            if writer.write_all(&chunk.data).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    let outgoing = async {
        let mut buffer = vec![0; wire::CHUNK_MAX];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let data = Bytes::copy_from_slice(&buffer[..count]);
                    if sender.send(Ok(pb::Chunk { data })).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // The TLS session inside ends as a whole: when either direction is over, so is the carrier.
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str) -> GatewayName {
        name.parse().expect("valid")
    }

    #[tokio::test]
    async fn bytes_flow_both_ways() {
        let carriers = Carriers::default();
        let awaited = carriers.expect(&gateway("gw-0")).expect("room");
        let (to_federation, inbound) = mpsc::channel(4);
        let stream = tokio_stream::wrappers::ReceiverStream::new(inbound);
        let mut outbound = carriers.join(awaited.carrier, &gateway("gw-0"), stream).expect("awaited");
        let mut io = awaited.open().await.expect("open");
        to_federation.send(Ok(pb::Chunk { data: Bytes::from_static(b"ping") })).await.expect("taken");
        let mut buffer = [0; 4];
        io.read_exact(&mut buffer).await.expect("reads");
        assert_eq!(&buffer, b"ping");
        io.write_all(b"pong").await.expect("writes");
        assert_eq!(&outbound.recv().await.expect("sent").expect("fine").data[..], b"pong");
        drop(to_federation);
        assert_eq!(io.read(&mut buffer).await.expect("ends"), 0);
    }

    #[tokio::test]
    async fn another_gateway_cannot_join_a_carrier() {
        let carriers = Carriers::default();
        let awaited = carriers.expect(&gateway("gw-0")).expect("room");
        let nothing = tokio_stream::empty();
        assert!(carriers.join(awaited.carrier, &gateway("gw-1"), nothing).is_err());
        carriers.fail(awaited.carrier, &gateway("gw-1"), "not mine");
        carriers.fail(awaited.carrier, &gateway("gw-0"), "no path");
        let error = awaited.open().await.expect_err("failed").to_string();
        assert!(error.contains("no path"), "{error}");
    }

    #[tokio::test]
    async fn a_gateway_that_leaves_fails_its_carriers() {
        let carriers = Carriers::default();
        let awaited = carriers.expect(&gateway("gw-0")).expect("room");
        carriers.gateway_left(&gateway("gw-0"));
        assert!(awaited.open().await.is_err());
        assert!(carriers.lock().is_empty());
    }
}
