//! Sensors of the season: each a separate MQTT client, waiting for the PUBACK that means "committed".

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value as Json, json};

/// Readings of one message.
const READINGS_MAX: usize = 100;
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error("{device} is not connected")]
    Connection { device: String, source: Box<rumqttc::ConnectionError> },
    #[error("{device} cannot queue a message")]
    Client { device: String, source: Box<rumqttc::ClientError> },
    #[error("{device} got no acknowledgement within {ACKNOWLEDGED_WITHIN:?}")]
    NotAcknowledged { device: String },
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

/// Publishes at QoS 1 and returns when every message is acknowledged.
pub async fn publish(host: &str, port: u16, device: &Device, samples: &[Sample]) -> Result<(), SensorError> {
    let name = format!("{}/{}", device.party, device.name);
    let mut options = MqttOptions::new(name.replace('/', "."), host, port);
    options.set_credentials(name.clone(), device.token.clone()).set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = AsyncClient::new(options, 16);
    let messages: Vec<Vec<u8>> = samples.chunks(READINGS_MAX).map(pack).collect();
    let topic = format!("suyuan/v1/{name}/up");
    let mut waiting = messages.len();
    let mut to_send = messages.into_iter();
    let exchange = async {
        while waiting > 0 {
            let event = connection.poll().await;
            let event = event.map_err(|source| SensorError::Connection {
                device: name.clone(),
                source: Box::new(source),
            })?;
            let acknowledged = matches!(event, Event::Incoming(Packet::PubAck(_)));
            waiting -= usize::from(acknowledged);
            // One message under way at a time, so that their order is the order of the log.
            if acknowledged || matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                let Some(payload) = to_send.next() else { continue };
                let sent = client.publish(&topic, QoS::AtLeastOnce, false, payload).await;
                sent.map_err(|source| SensorError::Client {
                    device: name.clone(),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    };
    tokio::time::timeout(ACKNOWLEDGED_WITHIN, exchange)
        .await
        .map_err(|_| SensorError::NotAcknowledged { device: name.clone() })?
}
