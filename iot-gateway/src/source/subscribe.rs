//! A site's own broker as the source: MQTT 5, manual acknowledgement, subscribed to every `up` topic and, where the
//! register has devices there, to the topics of Sparkplug and ChirpStack.
//!
//! A PUBACK from a broker promises less than ours, so a device that cares keeps an outbox until its receipt comes.
//! Each connection has its own client: an acknowledgement that outlives its connection has nowhere to go, because on
//! the next one its packet identifier may belong to another message.

use std::time::Duration;

use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Publish, SubscribeReasonCode},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use trace::pack::{
    Topic,
    carriage::{Outcome, write_receipt},
    device::UP_FILTER,
};
use trace::uplink::{Format, sparkplug};

use super::{Source, SourceError, stopped};
use crate::{
    intake::{CHIRPSTACK_FILTERS, Intake},
    register::Register,
    uplink::Command,
};

/// Advertised as Receive Maximum and kept by our own queue: mosquitto overruns the former.
const UNACKED_MAX: u16 = 2_000;
/// Advertised as Maximum Packet Size: a payload over 64 KiB still arrives, to be recorded as a dead letter.
const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Acknowledgements that wait to be written. mosquitto 2.0 sends all that it has queued when a session is taken up, and the
/// event loop reads many messages for each acknowledgement that it writes: never fewer than the broker may queue
/// (`max_queued_messages` of `deploy/mosquitto.conf`), and allocated as they come.
const ACKS_MAX: usize = 262_144;
const RECEIPTS_MAX: usize = 1_024;
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Nothing came for so long: the broker holds no more for us.
const QUIET: Duration = Duration::from_secs(3);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Until told to stop; the session stays.
    Run,
    /// Until the broker holds nothing more; the session ends.
    Drain,
}

/// The subscribing side.
#[derive(Debug, Clone)]
pub struct Subscribe {
    pub host: String,
    pub port: u16,
    /// Stable: the broker keeps what arrives while we are away under this name.
    pub client_id: String,
    pub credentials: Option<(String, String)>,
    /// Of several gateways that share what comes.
    pub share: Option<String>,
    pub purpose: Purpose,
    pub keep_alive: Duration,
    pub drain: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the connection to the broker")]
    Connection(#[from] ConnectionError),
    #[error("the broker refused the subscription: {0:?}")]
    Subscription(SubscribeReasonCode),
    #[error("the request queue to the broker")]
    Request(#[from] rumqttc::v5::ClientError),
    #[error("acknowledging has ended")]
    Acknowledging,
    #[error("the gateway is stopping")]
    Stopping,
}

/// A topic and what goes down to it: a receipt, or a command to an edge node.
struct Downlink {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
}

impl Source for Subscribe {
    async fn run(self, intake: Intake, mut stop: watch::Receiver<bool>) -> Result<(), SourceError> {
        let (receipts, published) = mpsc::channel(RECEIPTS_MAX);
        let receipts_task = tokio::spawn(publish_receipts(self.options("-receipts"), published));
        let mut pause = PAUSE_FIRST;
        tokio::select! {
            () = intake.registry.known() => {}
            () = stopped(&mut stop) => {}
        }
        while !*stop.borrow() {
            let mut connected = false;
            let end = self.connection(&intake, &receipts, &mut stop, &mut connected).await;
            let Err(error) = end else {
                if self.purpose == Purpose::Drain && !*stop.borrow() {
                    self.end_session().await;
                }
                break;
            };
            if matches!(error, Ended::Stopping) {
                break;
            }
            intake.metrics.reconnects.one();
            tracing::warn!(error = crate::cause(&error), "connection to the broker ended");
            pause = if connected { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut stop) => {}
            }
        }
        intake.stop();
        drop(receipts);
        receipts_task.abort();
        Ok(())
    }
}

impl Subscribe {
    fn options(&self, suffix: &str) -> MqttOptions {
        let mut options =
            MqttOptions::new(format!("{}{suffix}", self.client_id), self.host.as_str(), self.port);
        options.set_keep_alive(self.keep_alive).set_connection_timeout(5);
        // Sets are one by one: each creates the properties that it needs.
        options.set_max_packet_size(Some(PACKET_BYTES_MAX));
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user.as_str(), password.as_str());
        }
        options
    }

    /// One connection, from ConnAck to its end.
    async fn connection(
        &self,
        intake: &Intake,
        receipts: &mpsc::Sender<Downlink>,
        stop: &mut watch::Receiver<bool>,
        connected: &mut bool,
    ) -> Result<(), Ended> {
        let mut options = self.options("");
        options
            .set_manual_acks(true)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(u32::MAX))
            .set_receive_maximum(Some(UNACKED_MAX));
        let (client, mut events) = AsyncClient::new(options, ACKS_MAX);
        let (taken, verdicts) = mpsc::channel(usize::from(UNACKED_MAX));
        let acks = Acks {
            task: tokio::spawn(acknowledge(client.clone(), verdicts, receipts.clone(), intake.clone())),
            intake,
        };
        let mut register = intake.registry.current.clone();
        let mut subscribed: Vec<String> = Vec::new();
        let quiet = tokio::time::sleep(QUIET);
        tokio::pin!(quiet);
        loop {
            let event = tokio::select! {
                event = events.poll() => event?,
                Ok(()) = register.changed(), if !subscribed.is_empty() => {
                    // The first device of a network brings that network's topics.
                    let more = self.filters(&register.borrow()).into_iter();
                    for filter in more.filter(|filter| !subscribed.contains(filter)).collect::<Vec<_>>() {
                        client.try_subscribe(&filter, QoS::AtLeastOnce)?;
                        subscribed.push(filter);
                    }
                    continue;
                }
                () = &mut quiet, if self.purpose == Purpose::Drain && *connected => {
                    if intake.metrics.in_flight.value() == 0 {
                        return self.finish(events, taken, acks).await;
                    }
                    quiet.as_mut().reset(tokio::time::Instant::now() + QUIET);
                    continue;
                }
                () = stopped(stop) => return self.finish(events, taken, acks).await,
            };
            match event {
                Event::Incoming(Incoming::ConnAck(_)) => {
                    *connected = true;
                    quiet.as_mut().reset(tokio::time::Instant::now() + QUIET);
                    if self.purpose == Purpose::Drain {
                        for filter in all_filters() {
                            client.try_unsubscribe(self.shared(filter))?;
                        }
                        continue;
                    }
                    // On every ConnAck: a broker that lost its sessions has lost our subscription too.
                    subscribed = self.filters(&register.borrow_and_update());
                    for filter in &subscribed {
                        client.try_subscribe(filter, QoS::AtLeastOnce)?;
                    }
                }
                Event::Incoming(Incoming::SubAck(ack)) => {
                    let refused =
                        ack.return_codes.into_iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
                    if let Some(code) = refused {
                        return Err(Ended::Subscription(code));
                    }
                    tracing::info!("a subscription stands");
                }
                Event::Incoming(Incoming::Publish(publish)) => {
                    quiet.as_mut().reset(tokio::time::Instant::now() + QUIET);
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    let message = intake.take(&topic, &publish.payload).await.map_err(|_| Ended::Stopping)?;
                    if let Some(Command { topic, payload }) = message.command
                        && receipts.try_send(Downlink { topic, payload, qos: QoS::AtMostOnce }).is_err()
                    {
                        intake.metrics.receipts_dropped.one();
                    }
                    // Full means that the broker overran our Receive Maximum: it waits, we do not grow. It fails when
                    // acknowledging has ended, and the session is then taken up anew.
                    if taken.send((topic, publish, message.verdict)).await.is_err() {
                        return Err(if *stop.borrow() { Ended::Stopping } else { Ended::Acknowledging });
                    }
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    fn shared(&self, filter: &str) -> String {
        match &self.share {
            Some(name) => format!("$share/{name}/{filter}"),
            None => filter.to_owned(),
        }
    }

    /// What the broker is asked for: our own topics, and those of the networks that the register has devices on.
    fn filters(&self, register: &Register) -> Vec<String> {
        let mut filters = vec![UP_FILTER];
        if register.has_nodes_of(Format::Sparkplug) {
            filters.extend(sparkplug::FILTERS);
        }
        if register.has_nodes_of(Format::Chirpstack) {
            filters.extend(CHIRPSTACK_FILTERS);
        }
        filters.into_iter().map(|filter| self.shared(filter)).collect()
    }

    /// A session that starts clean and expires at once takes the place of the one that is drained (MQTT 5 §3.1.2.4).
    async fn end_session(&self) {
        let mut options = self.options("");
        options.set_clean_start(true).set_session_expiry_interval(Some(0));
        let (client, mut events) = AsyncClient::new(options, 1);
        let ended = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => break client.try_disconnect().is_ok(),
                    Ok(_) => {}
                    Err(_) => break false,
                }
            }
        };
        let is_ended = tokio::time::timeout(self.keep_alive, ended).await.unwrap_or(false);
        // The goodbye is queued; without it the broker ends the session as soon as the connection is gone.
        tokio::time::timeout(Duration::from_millis(100), async { while events.poll().await.is_ok() {} })
            .await
            .ok();
        if is_ended {
            tracing::info!(
                client_id = self.client_id,
                "drained: the broker holds nothing more for this gateway"
            );
        } else {
            tracing::error!("the session could not be ended: drain again");
        }
    }

    /// Takes nothing more, and stays connected until what was taken is acknowledged.
    async fn finish(
        &self,
        mut events: EventLoop,
        taken: mpsc::Sender<Taken>,
        mut acks: Acks<'_>,
    ) -> Result<(), Ended> {
        acks.intake.stop();
        drop(taken);
        let until = tokio::time::Instant::now() + self.drain;
        loop {
            tokio::select! {
                event = events.poll() => { event?; }
                ended = &mut acks.task => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "acknowledging");
                    }
                    // The last acknowledgements are queued; the event loop needs a turn to write them.
                    tokio::time::timeout(Duration::from_millis(100), async { while events.poll().await.is_ok() {} }).await.ok();
                    return Ok(());
                }
                () = tokio::time::sleep_until(until) => {
                    tracing::warn!("stopped with messages under way: the broker delivers them again");
                    return Ok(());
                }
            }
        }
    }
}

/// Every filter that a gateway may ever have subscribed to.
fn all_filters() -> impl Iterator<Item = &'static str> {
    [UP_FILTER].into_iter().chain(sparkplug::FILTERS).chain(CHIRPSTACK_FILTERS)
}

type Taken = (String, Publish, oneshot::Receiver<Outcome>);

/// The acknowledgements of one connection; they end with it.
struct Acks<'a> {
    task: JoinHandle<()>,
    intake: &'a Intake,
}

impl Drop for Acks<'_> {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            self.intake.metrics.stale_acks.one();
            self.task.abort();
        }
    }
}

/// Acknowledges in the order of receipt (MQTT 5 §4.6), each only after its verdict.
async fn acknowledge(
    client: AsyncClient,
    mut verdicts: mpsc::Receiver<Taken>,
    receipts: mpsc::Sender<Downlink>,
    intake: Intake,
) {
    while let Some((topic, publish, verdict)) = verdicts.recv().await {
        let Ok(verdict) = verdict.await else { return };
        // Never waits: the loop that writes acknowledgements may itself be waiting for us.
        if client.try_ack(&publish).is_err() {
            tracing::error!("no room for an acknowledgement: the connection is given up");
            return;
        }
        // Without a counter there is nothing that the device could match the receipt with.
        let (Ok(topic), Some(cti)) = (topic.parse::<Topic>(), &verdict.cti) else { continue };
        let receipt = Downlink {
            topic: topic.device.receipt().to_string(),
            payload: write_receipt(cti, verdict.status),
            qos: QoS::AtLeastOnce,
        };
        if receipts.try_send(receipt).is_err() {
            intake.metrics.receipts_dropped.one();
        }
    }
}

/// Receipts leave on a connection of their own: a client that also publishes can stop acknowledging.
async fn publish_receipts(mut options: MqttOptions, mut receipts: mpsc::Receiver<Downlink>) {
    options.set_clean_start(true);
    let (client, mut events) = AsyncClient::new(options, 64);
    let pump = async {
        while let Some(Downlink { topic, payload, qos }) = receipts.recv().await {
            if client.publish(topic, qos, false, payload).await.is_err() {
                return;
            }
        }
    };
    let poll = async {
        let mut pause = PAUSE_FIRST;
        loop {
            match events.poll().await {
                Ok(_) => pause = PAUSE_FIRST,
                Err(error) => {
                    tracing::warn!(error = crate::cause(&error), "the connection for receipts ended");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    };
    tokio::select! {
        () = pump => {}
        () = poll => {}
    }
}
