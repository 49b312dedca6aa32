//! Sensors of the season: each a separate MQTT client that waits until its message is committed. The gateway's own endpoint
//! says so by its PUBACK; behind a site's broker only the receipt says so, and the message is kept and sent again until then.

use std::{collections::VecDeque, time::Duration};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value as Json, json};
use trace::pack::{
    carriage::{Status, read_receipt},
    gateway_cti,
};

/// Readings of one message.
const READINGS_MAX: usize = 100;
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// A message without a receipt is sent again: nobody may have heard it, and hearing it twice does no harm.
const SENT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a site's devices publish to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub committed_by: Word,
}

/// What tells a device that its message is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The gateway is the endpoint.
    Puback,
    /// A broker stands between, whose PUBACK promises less.
    Receipt,
}

#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error("{device} is not connected")]
    Connection { device: String, source: Box<rumqttc::ConnectionError> },
    #[error("{device} cannot queue a message")]
    Client { device: String, source: Box<rumqttc::ClientError> },
    #[error("{device} got no acknowledgement within {ACKNOWLEDGED_WITHIN:?}")]
    NotAcknowledged { device: String },
    #[error("{device} sent what became a dead letter")]
    DeadLetter { device: String },
}

/// One reading of a sensor: name, SenML unit (RFC 8428 §12.1), Unix seconds, value.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub unit: &'static str,
    pub at: i64,
    pub value: f64,
}

/// A device as it signs in: `{party}/{device}` and its token.
#[derive(Debug, Clone)]
pub struct Device {
    pub party: String,
    pub name: String,
    pub token: String,
}

/// SenML JSON (RFC 8428 §5), absolute times.
fn pack(samples: &[Sample]) -> Vec<u8> {
    let records: Vec<Json> = samples
        .iter()
        .map(|sample| json!({"n": sample.name, "u": sample.unit, "t": sample.at, "v": sample.value}))
        .collect();
    Json::Array(records).to_string().into_bytes()
}

/// Publishes at QoS 1 and returns when every message is committed.
pub async fn publish(endpoint: &Endpoint, device: &Device, samples: &[Sample]) -> Result<(), SensorError> {
    let name = format!("{}/{}", device.party, device.name);
    let mut options = MqttOptions::new(name.replace('/', "."), endpoint.host.as_str(), endpoint.port);
    options.set_credentials(name.clone(), device.token.clone()).set_keep_alive(Duration::from_secs(30));
    let (client, connection) = AsyncClient::new(options, 16);
    let outbox = Outbox {
        up: format!("suyuan/v1/{name}/up"),
        receipts: format!("suyuan/v1/{name}/receipt"),
        messages: samples.chunks(READINGS_MAX).map(pack).collect(),
        client,
        connection,
        device: &name,
    };
    let emptied = tokio::time::timeout(ACKNOWLEDGED_WITHIN, outbox.empty(endpoint.committed_by)).await;
    emptied.map_err(|_| SensorError::NotAcknowledged { device: name.clone() })?
}

/// What a device still has to say. One message is under way at a time, so that their order is the order of the log.
struct Outbox<'a> {
    device: &'a str,
    up: String,
    receipts: String,
    messages: VecDeque<Vec<u8>>,
    client: AsyncClient,
    connection: rumqttc::EventLoop,
}

impl Outbox<'_> {
    async fn empty(mut self, committed_by: Word) -> Result<(), SensorError> {
        while !self.messages.is_empty() {
            let event = match tokio::time::timeout(SENT_AGAIN_AFTER, self.connection.poll()).await {
                Ok(event) => event.map_err(|source| SensorError::Connection {
                    device: self.device.to_owned(),
                    source: Box::new(source),
                })?,
                Err(_) if committed_by == Word::Receipt => {
                    self.send_first().await?;
                    continue;
                }
                Err(_) => continue,
            };
            let committed = match (event, committed_by) {
                (Event::Incoming(Packet::ConnAck(_)), Word::Receipt) => {
                    let asked = self.client.subscribe(&self.receipts, QoS::AtLeastOnce).await;
                    asked.map_err(|source| self.refused(source))?;
                    continue;
                }
                (Event::Incoming(Packet::ConnAck(_)), Word::Puback)
                | (Event::Incoming(Packet::SubAck(_)), _) => false,
                (Event::Incoming(Packet::PubAck(_)), Word::Puback) => true,
                (Event::Incoming(Packet::Publish(receipt)), _) if self.is_of_first(&receipt.payload)? => true,
                _ => continue,
            };
            if committed {
                self.messages.pop_front();
            }
            self.send_first().await?;
        }
        Ok(())
    }

    async fn send_first(&mut self) -> Result<(), SensorError> {
        let Some(message) = self.messages.front() else { return Ok(()) };
        let sent = self.client.publish(&self.up, QoS::AtLeastOnce, false, message.clone()).await;
        sent.map_err(|source| self.refused(source))
    }

    /// A receipt names the pack that the gateway made of the message by its counter.
    fn is_of_first(&self, receipt: &[u8]) -> Result<bool, SensorError> {
        let (Some(message), Ok((cti, status))) = (self.messages.front(), read_receipt(receipt)) else {
            return Ok(false);
        };
        if cti != gateway_cti(&self.up, message) {
            return Ok(false);
        }
        match status {
            Status::Stored | Status::Duplicate => Ok(true),
            Status::DeadLetter => Err(SensorError::DeadLetter { device: self.device.to_owned() }),
        }
    }

    fn refused(&self, source: rumqttc::ClientError) -> SensorError {
        SensorError::Client { device: self.device.to_owned(), source: Box::new(source) }
    }
}
