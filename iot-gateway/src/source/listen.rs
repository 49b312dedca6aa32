//! The gateway as MQTT endpoint, 3.1.1 and 5, QoS 0 and 1: a PUBACK means committed by the server.
//!
//! A device publishes to its own `up` topic and may subscribe to its own `receipt`; one that is a Sparkplug edge node, or
//! stands behind it, owns that node's topics too; everything else is refused.

use std::{
    cell::RefCell,
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ntex::{
    SharedCfg,
    service::{ServiceFactory, fn_factory_with_config, fn_service},
    time::{Millis, Seconds, sleep, timeout},
};
use ntex_mqtt::{Control, MqttServer, MqttServiceConfig, QoS, Reason, v3, v5};
use tokio::sync::{oneshot, watch};
use trace::{
    pack::DeviceName,
    uplink::sparkplug::{self, edge_of},
};

use super::{
    Source, SourceError,
    guests::{Full, Guests, Limits, Visit},
    stopped,
};
use crate::{
    intake::{Intake, Stopping},
    metrics::Metrics,
    register::{Device, Format},
    uplink::Command,
};

/// Room for topic and properties beside the payload.
const PACKET_BYTES_MAX: u32 = 64 * 1024 + 1024;
/// Messages and bytes that one device may have unanswered; beyond it the socket is not read.
const DEVICE_MESSAGES_MAX: u16 = 256;
const DEVICE_BYTES_MAX: usize = 512 * 1024;
/// Connections that have not shown a token yet.
const KNOCKING_MAX: usize = 4_096;
const CONNECT_PATIENCE: Seconds = Seconds(10);
/// How long an unknown device waits at the door for a fresh register.
const REGISTER_PATIENCE: Millis = Millis(1_500);

/// The listening side, with its socket bound already, so that its address is known before it runs.
#[derive(Debug)]
pub struct Listen {
    pub listener: TcpListener,
    pub threads: usize,
    pub limits: Limits,
    /// Seconds; a device that wants to be silent for longer is told so, or hung up on.
    pub keep_alive_max: u16,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What is taken is answered for within this, or left to the device.
    pub drain: Duration,
}

impl Source for Listen {
    async fn run(self, intake: Intake, stop: watch::Receiver<bool>) -> Result<(), SourceError> {
        let (ended, end) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mqtt".to_owned()).spawn(move || {
            let runner = ntex::rt::System::new("mqtt", ntex::rt::DefaultRuntime);
            if ended.send(runner.block_on(serve(self, intake, stop))).is_err() {
                tracing::debug!("nobody waits for the listener's end");
            }
        });
        thread.map_err(SourceError::Listen)?;
        match end.await {
            Ok(result) => result.map_err(SourceError::Listen),
            Err(_) => Err(SourceError::Ended),
        }
    }
}

async fn serve(listen: Listen, intake: Intake, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let limits = MqttServiceConfig::new()
        .set_max_qos(QoS::AtLeastOnce)
        .set_max_size(PACKET_BYTES_MAX)
        .set_min_chunk_size(PACKET_BYTES_MAX)
        .set_max_receive(DEVICE_MESSAGES_MAX)
        .set_max_receive_size(DEVICE_BYTES_MAX)
        .set_connect_timeout(CONNECT_PATIENCE)
        .set_handshake_timeout(CONNECT_PATIENCE)
        // What a device published before it said goodbye is still taken.
        .set_handle_qos_after_disconnect(Some(QoS::AtLeastOnce));
    let guests = Guests::new(listen.limits);
    let door = Door { intake: intake.clone(), guests, keep_alive_max: listen.keep_alive_max };
    // A thread that has as many as this takes none any more: beyond all that may be let in there is room to be refused.
    let sockets = listen.limits.connections.saturating_add(KNOCKING_MAX);
    let builder = ntex::server::build().workers(listen.threads).maxconn(sockets).disable_signals();
    let builder = match listen.tls {
        None => builder.listen("mqtt", listen.listener, async move |_| endpoint(&door))?,
        Some(tls) => builder.listen("mqtt", listen.listener, async move |_| {
            ntex::service::chain_factory(ntex::server::rustls::TlsAcceptor::new(tls.clone()))
                .map_err(|_| ntex_mqtt::MqttError::Service(Refused::Tls))
                .and_then(endpoint(&door))
        })?,
    };
    let server = builder.config("mqtt", SharedCfg::new("MQTT").add(limits)).run();
    stopped(&mut stop).await;
    intake.stop();
    let drained = async {
        while intake.metrics.in_flight.value() > 0 {
            sleep(Millis(10)).await;
        }
        // The last PUBACKs are in the sockets' buffers; give the workers a turn to write them.
        sleep(Millis(50)).await;
    };
    if timeout(Millis::from(listen.drain), drained).await.is_err() {
        tracing::warn!("stopped with messages under way: their devices send them again");
    }
    server.stop(false).await;
    Ok(())
}

/// What decides on who comes in.
#[derive(Debug, Clone)]
struct Door {
    intake: Intake,
    guests: Guests,
    keep_alive_max: u16,
}

fn endpoint<F: ntex::io::Filter>(
    door: &Door,
) -> impl ServiceFactory<
    ntex::io::Io<F>,
    SharedCfg,
    Response = (),
    Error = ntex_mqtt::MqttError<Refused>,
    InitError = (),
> + use<F> {
    let (door3, door5) = (door.clone(), door.clone());
    let (end3, end5) = (door.intake.metrics.clone(), door.intake.metrics.clone());
    let third = v3::MqttServer::new(async move |hello: v3::Handshake| welcome_v3(&door3, hello).await)
        .control(fn_factory_with_config(async move |guest: v3::Session<Guest>| {
            let metrics = end3.clone();
            Ok::<_, Refused>(fn_service(async move |control| {
                if matches!(control, Control::Stop(_)) {
                    guest.speak_will().await;
                }
                ended(&metrics, &control);
                Ok::<_, Refused>(None)
            }))
        }))
        .protocol(fn_factory_with_config(async |guest: v3::Session<Guest>| {
            Ok::<_, Refused>(fn_service(async move |message| Ok::<_, Refused>(protocol_v3(&guest, message))))
        }))
        .publish(fn_factory_with_config(async |guest: v3::Session<Guest>| {
            Ok::<_, Refused>(fn_service(async move |publish| publish_v3(&guest, publish).await))
        }));
    let fifth = v5::MqttServer::new(async move |hello: v5::Handshake| welcome_v5(&door5, hello).await)
        .control(fn_factory_with_config(async move |guest: v5::Session<Guest>| {
            let metrics = end5.clone();
            Ok::<_, Refused>(fn_service(async move |control| {
                if matches!(control, Control::Stop(_)) {
                    guest.speak_will().await;
                }
                ended(&metrics, &control);
                Ok::<_, Refused>(goodbye(control))
            }))
        }))
        .protocol(fn_factory_with_config(async |guest: v5::Session<Guest>| {
            Ok::<_, Refused>(fn_service(async move |message| Ok::<_, Refused>(protocol_v5(&guest, message))))
        }))
        .publish(fn_factory_with_config(async |guest: v5::Session<Guest>| {
            Ok::<_, Refused>(fn_service(async move |publish| publish_v5(&guest, publish).await))
        }));
    MqttServer::new().v3(third).v5(fifth)
}

/// Ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("a topic that is not the device's own")]
    Topic,
    #[error("a password that is not the device's any more")]
    Forgotten,
    #[error("a payload over the limit")]
    Oversized,
    #[error("the payload did not arrive whole")]
    Cut,
    #[error("TLS was not agreed")]
    Tls,
    #[error("the gateway is stopping")]
    Stopping,
}

impl From<Stopping> for Refused {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl TryFrom<Refused> for v5::PublishAck {
    type Error = Refused;

    fn try_from(refused: Refused) -> Result<Self, Refused> {
        match refused {
            Refused::Topic => Ok(Self::new(v5::codec::PublishAckReason::NotAuthorized)),
            other => Err(other),
        }
    }
}

/// A device that has shown its token.
#[derive(Debug, Clone)]
struct Guest(Rc<Connection>);

#[derive(Debug)]
struct Connection {
    device: Arc<Device>,
    uplink: String,
    receipt: String,
    /// `Group/Edge` of the Sparkplug edge node whose connection this is.
    edge: Option<String>,
    /// What the device asked to have said if its connection is lost: a topic of its own, and the payload.
    will: RefCell<Option<(String, Vec<u8>)>>,
    visit: Visit,
    intake: Intake,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.intake.metrics.connections.take(1);
    }
}

impl Guest {
    fn new(device: Arc<Device>, visit: Visit, intake: &Intake) -> Self {
        intake.metrics.connections.one();
        if visit.took_over {
            intake.metrics.taken_over.one();
        }
        let (uplink, receipt) = (device.name.up().to_string(), device.name.receipt().to_string());
        let node = device.map.node.as_deref().filter(|_| device.format == Format::Sparkplug);
        let edge = node.map(|node| edge_of(node).to_owned());
        let will = RefCell::default();
        Self(Rc::new(Connection { device, uplink, receipt, edge, will, visit, intake: intake.clone() }))
    }

    /// Keeps the will, if it is to a topic that the device may publish to; another's is not spoken.
    fn keep_will(&self, topic: &str, message: &[u8]) {
        if self.may_publish(topic).is_ok() {
            *self.0.will.borrow_mut() = Some((topic.to_owned(), message.to_vec()));
        }
    }

    /// The device took its leave: there is nothing to be said.
    fn forget_will(&self) {
        self.0.will.borrow_mut().take();
    }

    /// The connection is lost.
    async fn speak_will(&self) {
        let will = self.0.will.borrow_mut().take();
        if let Some((topic, payload)) = will
            && self.is_still_known().is_ok()
            && self.0.intake.take(&topic, &payload).await.is_err()
        {
            tracing::debug!(device = %self.0.device.name, "a will came while the gateway was stopping");
        }
    }

    fn owns_node(&self, topic: &str) -> bool {
        let Some(edge) = &self.0.edge else { return false };
        topic.parse::<sparkplug::Topic>().is_ok_and(|topic| topic.edge() == *edge)
    }

    /// Its receipts, and the commands to its edge node.
    fn may_hear(&self, topic: &str) -> bool {
        let commands = self.0.edge.as_deref().and_then(sparkplug::command_topic);
        let own = topic == self.0.receipt || commands.is_some_and(|commands| topic == commands);
        if !own {
            self.0.intake.metrics.forbidden_topic.one();
        }
        own
    }

    fn may_publish(&self, topic: &str) -> Result<(), Refused> {
        if topic == self.0.uplink || self.owns_node(topic) {
            return Ok(());
        }
        self.0.intake.metrics.forbidden_topic.one();
        tracing::warn!(device = %self.0.device.name, "publish to a topic that is not the device's own");
        Err(Refused::Topic)
    }

    fn fits(&self, bytes: usize) -> Result<(), Refused> {
        let limit = self.0.intake.registry.current.borrow().payload_bytes_max;
        if bytes <= limit {
            return Ok(());
        }
        self.0.intake.metrics.oversized.one();
        Err(Refused::Oversized)
    }

    /// Whether the register still has the device as it was when it came in. A password that was given anew, or a device that is
    /// lost or gone, ends what the old password had opened.
    fn is_still_known(&self) -> Result<(), Refused> {
        let Connection { device, intake, .. } = &*self.0;
        let known = intake.registry.device(&device.name).is_some_and(|now| now.token == device.token);
        if known {
            return Ok(());
        }
        intake.metrics.unauthenticated.one();
        tracing::info!(device = %device.name, "its password is not the one any more that let it in");
        Err(Refused::Forgotten)
    }

    /// Waits until the device may say so much. Its socket is not read on while as much waits as one device may.
    async fn keep_pace(&self, bytes: usize) {
        let wait = self.0.visit.wait(bytes, Instant::now());
        if !wait.is_zero() {
            self.0.intake.metrics.paced.one();
            sleep(wait).await;
        }
    }

    /// Hangs up when another connection comes for this one's session.
    fn until_over(&self, hang_up: impl FnOnce() + 'static) {
        let over = self.0.visit.over.clone();
        ntex::rt::spawn(async move {
            over.notified().await;
            hang_up();
        });
    }

    /// Returns when the server has answered for it.
    async fn give(&self, topic: &str, payload: &[u8], tell: impl FnOnce(Command)) -> Result<(), Refused> {
        let taken = self.0.intake.take(topic, payload).await?;
        if let Some(command) = taken.command {
            tell(command);
        }
        let verdict = taken.verdict.await.map_err(|_| Refused::Stopping)?;
        tracing::trace!(device = %self.0.device.name, status = ?verdict.status, "acknowledged");
        Ok(())
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denied {
    /// No device of the register, or not its token.
    Stranger,
    Full(Full),
}

impl Door {
    async fn admit(
        &self,
        client_id: &str,
        username: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Guest, Denied> {
        let metrics = &self.intake.metrics;
        let Some(device) = self.recognise(username, password).await else {
            metrics.unauthenticated.one();
            return Err(Denied::Stranger);
        };
        match self.guests.enter(&device.name, client_id) {
            Ok(visit) => Ok(Guest::new(device, visit, &self.intake)),
            Err(full) => {
                metrics.too_many_connections.one();
                tracing::warn!(device = %device.name, "{full}");
                Err(Denied::Full(full))
            }
        }
    }

    /// User name `{party}/{device}`, password its token. A device that the register does not know yet gets one fresh look.
    async fn recognise(&self, username: Option<&str>, password: Option<&[u8]>) -> Option<Arc<Device>> {
        let (name, token) = (username?.parse::<DeviceName>().ok()?, password?);
        let registry = &self.intake.registry;
        let known = |device: &Arc<Device>| device.token_is(token);
        if let Some(device) = registry.device(&name).filter(known) {
            return Some(device);
        }
        let mut register = registry.current.clone();
        register.mark_unchanged();
        registry.want_fresh();
        if timeout(REGISTER_PATIENCE, register.changed()).await.is_err() {
            tracing::debug!(device = %name, "no fresh register within the device's patience");
        }
        registry.device(&name).filter(known)
    }

    /// The keep-alive that holds: the device's own, or the longest that is granted. Zero asks for none (MQTT 3.1.1 §3.1.2.10).
    fn keep_alive(&self, asked: u16) -> u16 {
        if asked == 0 { self.keep_alive_max } else { asked.min(self.keep_alive_max) }
    }
}

/// A connection ends after one and a half times its keep-alive without a packet.
const fn silence_after(keep_alive: u16) -> u16 {
    keep_alive.saturating_add(keep_alive / 2)
}

async fn welcome_v3(door: &Door, hello: v3::Handshake) -> Result<v3::HandshakeAck<Guest>, Refused> {
    let packet = hello.packet();
    let admitted = door.admit(&packet.client_id, packet.username.as_deref(), packet.password.as_deref());
    let guest = match admitted.await {
        Ok(guest) => guest,
        Err(Denied::Stranger) => return Ok(hello.bad_username_or_pwd()),
        Err(Denied::Full(_)) => return Ok(hello.service_unavailable()),
    };
    if let Some(will) = &hello.packet().last_will {
        guest.keep_will(&will.topic, &will.message);
    }
    let sink = hello.sink();
    guest.until_over(move || sink.close());
    let silence = silence_after(door.keep_alive(hello.packet().keep_alive));
    Ok(hello.ack(guest, false).idle_timeout(Seconds(silence)))
}

async fn welcome_v5(door: &Door, hello: v5::Handshake) -> Result<v5::HandshakeAck<Guest>, Refused> {
    use v5::codec::{ConnectAckReason, Disconnect, DisconnectReasonCode};
    let packet = hello.packet();
    let admitted = door.admit(&packet.client_id, packet.username.as_deref(), packet.password.as_deref());
    let guest = match admitted.await {
        Ok(guest) => guest,
        Err(Denied::Stranger) => return Ok(hello.failed(ConnectAckReason::BadUserNameOrPassword)),
        Err(Denied::Full(Full::Device)) => return Ok(hello.failed(ConnectAckReason::QuotaExceeded)),
        Err(Denied::Full(Full::Gateway)) => return Ok(hello.failed(ConnectAckReason::ServerBusy)),
    };
    if let Some(will) = &hello.packet().last_will {
        guest.keep_will(&will.topic, &will.message);
    }
    let sink = hello.sink();
    guest.until_over(move || {
        sink.close_with_reason(Disconnect::new(DisconnectReasonCode::SessionTakenOver));
    });
    let asked = hello.packet().keep_alive;
    let granted = door.keep_alive(asked);
    let ack = hello.ack(guest).keep_alive(silence_after(granted));
    Ok(ack.with(|ack| {
        ack.retain_available = false;
        ack.wildcard_subscription_available = false;
        ack.shared_subscription_available = false;
        ack.server_keepalive_sec = (granted != asked).then_some(granted);
    }))
}

async fn publish_v3(guest: &v3::Session<Guest>, publish: v3::Publish) -> Result<(), Refused> {
    guest.is_still_known()?;
    guest.may_publish(publish.publish_topic())?;
    guest.fits(publish.payload_size())?;
    let payload = publish.read_all().await.map_err(|_| Refused::Cut)?;
    guest.keep_pace(payload.len()).await;
    let tell = |Command { topic, payload }| {
        let sent = guest.sink().publish(topic).send_at_most_once(payload.into());
        unheard(sent.is_err());
    };
    guest.give(publish.publish_topic(), &payload, tell).await
}

fn unheard(is_gone: bool) {
    if is_gone {
        tracing::debug!("a command found its edge node gone");
    }
}

async fn publish_v5(guest: &v5::Session<Guest>, publish: v5::Publish) -> Result<v5::PublishAck, Refused> {
    guest.is_still_known()?;
    guest.may_publish(publish.publish_topic())?;
    guest.fits(publish.payload_size())?;
    let payload = publish.read_all().await.map_err(|_| Refused::Cut)?;
    guest.keep_pace(payload.len()).await;
    let tell = |Command { topic, payload }| {
        let sent = guest.sink().publish(topic).send_at_most_once(payload.into());
        unheard(sent.is_err());
    };
    guest.give(publish.publish_topic(), &payload, tell).await?;
    Ok(publish.ack())
}

fn protocol_v3(guest: &Guest, message: v3::ProtocolMessage) -> v3::ProtocolMessageAck {
    match message {
        v3::ProtocolMessage::Subscribe(mut subscribe) => {
            for mut topic in &mut subscribe {
                if guest.may_hear(topic.topic()) { topic.confirm(QoS::AtLeastOnce) } else { topic.fail() }
            }
            subscribe.ack()
        }
        v3::ProtocolMessage::Unsubscribe(unsubscribe) => unsubscribe.ack(),
        v3::ProtocolMessage::Disconnect(goodbye) => {
            guest.forget_will();
            goodbye.ack()
        }
        other => other.ack(),
    }
}

fn protocol_v5(guest: &Guest, message: v5::ProtocolMessage) -> v5::ProtocolMessageAck {
    match message {
        v5::ProtocolMessage::Subscribe(mut subscribe) => {
            for mut topic in &mut subscribe {
                if guest.may_hear(topic.topic()) {
                    topic.confirm(QoS::AtLeastOnce);
                } else {
                    topic.fail(v5::codec::SubscribeAckReason::NotAuthorized);
                }
            }
            subscribe.ack()
        }
        v5::ProtocolMessage::Unsubscribe(unsubscribe) => unsubscribe.ack(),
        v5::ProtocolMessage::Disconnect(goodbye) => {
            if goodbye.packet().reason_code != v5::codec::DisconnectReasonCode::DisconnectWithWillMessage {
                guest.forget_will();
            }
            goodbye.ack()
        }
        other => other.ack(),
    }
}

fn ended(metrics: &Metrics, control: &Control<Refused>) {
    if let Control::Stop(Reason::Protocol(error)) = control {
        metrics.protocol_errors.one();
        if is_oversized(error.get_ref()) {
            metrics.oversized.one();
        }
        tracing::info!(error = %error.get_ref(), "MQTT connection ended");
    }
}

fn is_oversized(error: &ntex_mqtt::ProtocolError) -> bool {
    use ntex_mqtt::error::DecodeError;
    matches!(error, ntex_mqtt::ProtocolError::Decode(DecodeError::MaxSizeExceeded { .. }))
}

/// The reason that a v5 device hears when its connection ends: 0x95 for too large.
fn goodbye(control: Control<Refused>) -> Option<v5::codec::Encoded> {
    use v5::codec::{Disconnect, DisconnectReasonCode, Packet};
    let disconnect = match control {
        Control::Stop(Reason::Error(error)) => Disconnect::new(match error.get_ref() {
            Refused::Oversized => DisconnectReasonCode::PacketTooLarge,
            Refused::Topic | Refused::Forgotten => DisconnectReasonCode::NotAuthorized,
            Refused::Stopping => DisconnectReasonCode::ServerShuttingDown,
            Refused::Cut | Refused::Tls => DisconnectReasonCode::UnspecifiedError,
        }),
        Control::Stop(Reason::Protocol(error)) => Disconnect::from_proto_error(error.get_ref()),
        Control::Stop(Reason::PeerGone(_)) | Control::WrBackpressure(_) => return None,
    };
    Some(Packet::from(disconnect).into())
}
