//! A site's own broker, with the limits of `deploy/mosquitto.conf`, and what it carries where nobody stores anything.

use std::{path::Path, process::Command, time::Duration};

use demo::process::Running;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions, mqttbytes::QoS};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

use super::{devices::Script, publisher};
use crate::Failed;

const PATIENCE: Duration = Duration::from_mins(1);

/// Messages that the broker keeps for a subscriber; it drops what comes beyond, acknowledged or not.
pub const QUEUED_MAX: usize = 200_000;

pub struct Broker {
    _running: Running,
    pub port: u16,
}

impl Broker {
    pub async fn start(home: &Path) -> Result<Self, Failed> {
        let home = home.join("broker");
        std::fs::create_dir_all(&home)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
            persistence_location {}/\nautosave_interval 10\nmax_queued_messages {QUEUED_MAX}\n\
            max_queued_bytes 1073741824\nmax_inflight_messages 2000\nmax_packet_size 1048576\nlog_type error\n",
            home.display()
        );
        let file = home.join("mosquitto.conf");
        std::fs::write(&file, settings)?;
        let running =
            Running::start("mosquitto", Command::new("mosquitto").arg("-c").arg(&file), &home.join("log"))?;
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > until {
                return Err("mosquitto did not start".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { _running: running, port })
    }

    /// Messages a second from the publishers to one subscriber who acknowledges each and does nothing else.
    pub async fn alone(&self, scripts: Vec<Script>, length: Duration) -> Result<f64, Failed> {
        let (count, counted) = watch::channel(0_u32);
        let (ready, is_ready) = oneshot::channel();
        let subscriber = tokio::spawn(subscribe(self.port, count, ready));
        timeout(PATIENCE, is_ready).await??;
        let began = Instant::now();
        let seen = publisher::publish(self.port, scripts, publisher::Pace::Closed(began + length)).await?;
        let sent = u32::try_from(seen.acknowledged)?;
        let mut counted = counted;
        timeout(PATIENCE, counted.wait_for(|count| *count >= sent)).await??;
        let rate = f64::from(sent) / began.elapsed().as_secs_f64();
        subscriber.abort();
        Ok(rate)
    }
}

async fn subscribe(port: u16, count: watch::Sender<u32>, ready: oneshot::Sender<()>) -> Result<(), String> {
    let mut options = MqttOptions::new("bench", "127.0.0.1", port);
    options.set_receive_maximum(Some(2_000));
    let (client, mut events) = AsyncClient::new(options, 1_000);
    client.try_subscribe("suyuan/v1/+/+/up", QoS::AtLeastOnce).map_err(|error| error.to_string())?;
    let mut ready = Some(ready);
    loop {
        match events.poll().await.map_err(|error| error.to_string())? {
            Event::Incoming(Incoming::SubAck(_)) => {
                if let Some(ready) = ready.take() {
                    ready.send(()).map_err(|()| "nobody waits")?;
                }
            }
            Event::Incoming(Incoming::Publish(_)) => count.send_modify(|count| *count += 1),
            _ => {}
        }
    }
}
