//! The one way in: a message is taken when there is room for it, and answered for when the server has answered.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use trace::{
    hash::sha256,
    pack::{
        Topic,
        carriage::{self, Body, Item, Outcome},
        device::Direction,
    },
};

use crate::{
    metrics::Metrics,
    register::Registry,
    uplink::{Routed, Signer},
};

/// Bytes of items that wait for the server's word. Beyond it devices wait: their next PUBACK does not come.
const WAITING_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Items that wait to enter a batch.
const WAITING_ITEMS_MAX: usize = 4 * carriage::ITEMS_MAX;

/// An item on its way to the server.
#[derive(Debug)]
pub struct Waiting {
    pub item: Vec<u8>,
    pub answer: oneshot::Sender<Outcome>,
    /// Returned when the answer is known, and not before.
    _room: OwnedSemaphorePermit,
    _flight: Flight,
}

/// Counts one message between taken and answered for.
#[derive(Debug)]
struct Flight(Arc<Metrics>);

impl Flight {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.messages.one();
        metrics.in_flight.one();
        Self(metrics.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.take(1);
    }
}

/// The gateway is going down; the message was not taken and must not be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is stopping")]
pub struct Stopping;

/// Cheap to clone: every source and every connection has one.
#[derive(Debug, Clone)]
pub struct Intake {
    pub registry: Registry,
    pub metrics: Arc<Metrics>,
    signer: Arc<Signer>,
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Intake {
    pub fn new(registry: Registry, signer: Signer, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, waiting) = mpsc::channel(WAITING_ITEMS_MAX);
        let room = Arc::new(Semaphore::new(usize::try_from(WAITING_BYTES_MAX).unwrap_or(usize::MAX)));
        (Self { registry, metrics, signer: Arc::new(signer), sender, room }, waiting)
    }

    /// From here on every [`take`](Self::take) is refused; what was taken is still answered for.
    pub fn stop(&self) {
        self.room.close();
    }

    /// Takes one message, waiting for room. The receiver resolves when the server has answered for it, and fails if
    /// the gateway stops first.
    pub async fn take(&self, topic: &str, payload: &[u8]) -> Result<oneshot::Receiver<Outcome>, Stopping> {
        let flight = Flight::new(&self.metrics);
        let limit = self.registry.current.borrow().payload_bytes_max;
        let item = if payload.len() > limit {
            self.metrics.oversized.one();
            let size = u64::try_from(payload.len()).unwrap_or(u64::MAX);
            item(topic, Body::Oversize { size, sha256: sha256(payload) })
        } else {
            self.route(topic, payload)
        };
        let bytes = u32::try_from(item.len()).unwrap_or(WAITING_BYTES_MAX).min(WAITING_BYTES_MAX);
        let room = self.room.clone().acquire_many_owned(bytes).await.map_err(|_| Stopping)?;
        let (answer, verdict) = oneshot::channel();
        let waiting = Waiting { item, answer, _room: room, _flight: flight };
        self.sender.send(waiting).await.map_err(|_| Stopping)?;
        Ok(verdict)
    }

    fn route(&self, topic: &str, payload: &[u8]) -> Vec<u8> {
        let name = topic.parse::<Topic>().ok().filter(|topic| topic.direction == Direction::Up);
        let device = name.and_then(|topic| self.registry.device(&topic.device));
        match device.map(|device| self.signer.route(&device, topic, payload)) {
            Some(Ok(Routed::Signed(pack))) => {
                self.metrics.signed.one();
                return item(topic, Body::Bytes(&pack));
            }
            Some(Ok(Routed::AsReceived)) => {}
            Some(Err(error)) => {
                self.metrics.passed_on.one();
                tracing::debug!(topic, error = crate::cause(&error), "passed on undecoded");
            }
            None => {
                self.metrics.passed_on.one();
                self.registry.want_fresh();
            }
        }
        item(topic, Body::Bytes(payload))
    }
}

fn item(topic: &str, body: Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    carriage::write_item(&mut bytes, &Item { topic, received_ms: now_ms(), body });
    bytes
}

/// When the gateway received it, Unix milliseconds. Stands beside the signed bytes, never in them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
