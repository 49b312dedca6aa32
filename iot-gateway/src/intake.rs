//! The one way in: a message is taken when there is room for it, and answered for when the server has answered.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use trace::{
    hash::sha256,
    pack::{
        Topic,
        carriage::{self, Body, Item, Outcome},
        device::Direction,
    },
    uplink::sparkplug,
};

use crate::{
    metrics::Metrics,
    register::{Device, Registry},
    uplink::{Command, Nodes, RouteError, Routed, Signer},
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

/// A message that is on its way.
#[derive(Debug)]
pub struct Taken {
    /// Resolves when the server has answered for it, and fails if the gateway stops first.
    pub verdict: oneshot::Receiver<Outcome>,
    /// What its sender should be told now.
    pub command: Option<Command>,
}

/// What `application/{application}/device/{DevEUI}/event/{event}` matches of ChirpStack's MQTT integration.
pub const CHIRPSTACK_FILTERS: [&str; 2] =
    ["application/+/device/+/event/up", "application/+/device/+/event/status"];

/// The DevEUI in a topic of ChirpStack's MQTT integration.
fn dev_eui(topic: &str) -> Option<&str> {
    let parts: Vec<&str> = topic.split('/').collect();
    match parts.as_slice() {
        ["application", _, "device", dev_eui, "event", "up" | "status"] => Some(dev_eui),
        _ => None,
    }
}

/// Cheap to clone: every source and every connection has one.
#[derive(Debug, Clone)]
pub struct Intake {
    pub registry: Registry,
    pub metrics: Arc<Metrics>,
    signer: Arc<Signer>,
    nodes: Arc<Nodes>,
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Intake {
    pub fn new(registry: Registry, signer: Signer, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, waiting) = mpsc::channel(WAITING_ITEMS_MAX);
        let room = Arc::new(Semaphore::new(usize::try_from(WAITING_BYTES_MAX).unwrap_or(usize::MAX)));
        (Self { registry, metrics, signer: Arc::new(signer), nodes: Arc::default(), sender, room }, waiting)
    }

    /// From here on every [`take`](Self::take) is refused; what was taken is still answered for.
    pub fn stop(&self) {
        self.room.close();
    }

    /// Takes one message, waiting for room.
    pub async fn take(&self, topic: &str, payload: &[u8]) -> Result<Taken, Stopping> {
        self.take_received(topic, now_ms(), payload).await
    }

    /// The same for a message that arrived at `received_ms`, Unix milliseconds, and is taken in again.
    pub async fn take_received(
        &self,
        topic: &str,
        received_ms: i64,
        payload: &[u8],
    ) -> Result<Taken, Stopping> {
        let flight = Flight::new(&self.metrics);
        let limit = self.registry.current.borrow().payload_bytes_max;
        let (item, command) = if payload.len() > limit {
            self.metrics.oversized.one();
            let size = u64::try_from(payload.len()).unwrap_or(u64::MAX);
            (item(topic, received_ms, Body::Oversize { size, sha256: sha256(payload) }), None)
        } else {
            self.route(topic, received_ms, payload)
        };
        let bytes = u32::try_from(item.len()).unwrap_or(WAITING_BYTES_MAX).min(WAITING_BYTES_MAX);
        let room = self.room.clone().acquire_many_owned(bytes).await.map_err(|_| Stopping)?;
        let (answer, verdict) = oneshot::channel();
        let waiting = Waiting { item, answer, _room: room, _flight: flight };
        self.sender.send(waiting).await.map_err(|_| Stopping)?;
        Ok(Taken { verdict, command })
    }

    /// The item for the server. A topic of another network is carried as its device's own.
    fn route(&self, topic: &str, received_ms: i64, payload: &[u8]) -> (Vec<u8>, Option<Command>) {
        if let Ok(topic_of_node) = topic.parse::<sparkplug::Topic>() {
            return self.route_sparkplug(topic, &topic_of_node, received_ms, payload);
        }
        let own = topic.parse::<Topic>().ok().filter(|topic| topic.direction == Direction::Up);
        let device = match (&own, dev_eui(topic)) {
            (Some(topic), _) => self.registry.device(&topic.device),
            (None, Some(dev_eui)) => self.registry.node(dev_eui),
            (None, None) => None,
        };
        let Some(device) = device else { return (self.of_nobody(topic, received_ms, payload), None) };
        let routed = self.signer.route(&device, topic, payload);
        (self.carried(&device.name.up().to_string(), received_ms, payload, routed), None)
    }

    fn route_sparkplug(
        &self,
        topic: &str,
        of: &sparkplug::Topic,
        received_ms: i64,
        payload: &[u8],
    ) -> (Vec<u8>, Option<Command>) {
        let register = self.registry.current.borrow().clone();
        if !register.has_edge(&of.edge()) {
            return (self.of_nobody(topic, received_ms, payload), None);
        }
        let device: Option<&Arc<Device>> = register.node(&of.node());
        let map = device.map(|device| &device.map);
        let now_ms = u64::try_from(received_ms).unwrap_or_default();
        let (read, command) = self.nodes.take(of, payload, map, Instant::now(), now_ms);
        if self.nodes.len() > register.edges() {
            self.nodes.retain(|edge| register.has_edge(edge));
        }
        self.metrics.sparkplug_missed.add(u64::from(read.missed));
        if command.is_some() {
            self.metrics.rebirths_asked.one();
        }
        let Some(device) = device else { return (self.of_nobody(topic, received_ms, payload), command) };
        let signed = read.readings.map_err(RouteError::from);
        let signed = signed.and_then(|readings| self.signer.sign(device, topic, payload, readings));
        (
            self.carried(&device.name.up().to_string(), received_ms, payload, signed.map(Routed::Signed)),
            command,
        )
    }

    fn carried(
        &self,
        topic: &str,
        received_ms: i64,
        payload: &[u8],
        routed: Result<Routed, RouteError>,
    ) -> Vec<u8> {
        match routed {
            Ok(Routed::Signed(pack)) => {
                self.metrics.signed.one();
                return item(topic, received_ms, Body::Bytes(&pack));
            }
            Ok(Routed::AsReceived) => {}
            Err(error) => {
                self.metrics.passed_on.one();
                if let RouteError::Uplink(error) = &error {
                    self.metrics.undecoded.one(error.reason());
                }
                tracing::debug!(topic, error = crate::cause(&error), "passed on undecoded");
            }
        }
        item(topic, received_ms, Body::Bytes(payload))
    }

    /// No device of the register: the server says so, too, and the register may be old.
    fn of_nobody(&self, topic: &str, received_ms: i64, payload: &[u8]) -> Vec<u8> {
        self.metrics.passed_on.one();
        self.registry.want_fresh();
        item(topic, received_ms, Body::Bytes(payload))
    }
}

fn item(topic: &str, received_ms: i64, body: Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    carriage::write_item(&mut bytes, &Item { topic, received_ms, body });
    bytes
}

/// When the gateway received it, Unix milliseconds. Stands beside the signed bytes, never in them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
