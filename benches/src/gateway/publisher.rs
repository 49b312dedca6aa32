//! A device's side of MQTT 3.1.1, as bare as it can be: the publishers share the machine with what they measure.

use std::{collections::HashMap, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::{Instant, timeout},
};

use super::devices::Script;
use crate::{Failed, table::Latencies};

const PATIENCE: Duration = Duration::from_mins(1);
/// Messages that a device has unacknowledged where it sends as fast as it may.
const WINDOW: usize = 32;
const PUBACK: [u8; 2] = [0x40, 2];

/// When the messages go out.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As soon as an earlier one is acknowledged, until then.
    Closed(Instant),
    /// Each device at its own beat, whatever is acknowledged: a slow answer delays no later message and hides none.
    Open { start: Instant, beat: Duration },
}

/// What one run's publishers saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub acknowledged: usize,
    pub latencies: Latencies,
    /// Of the last acknowledgement.
    pub ended: Option<Instant>,
}

/// All devices at once, each over its own connection; returns when everything that was sent is acknowledged.
pub async fn publish(port: u16, scripts: Vec<Script>, pace: Pace) -> Result<Seen, Failed> {
    let (mut connected, count) = (JoinSet::new(), u32::try_from(scripts.len())?);
    for (number, script) in (0_u32..).zip(scripts) {
        let pace = match pace {
            Pace::Closed(until) => Pace::Closed(until),
            Pace::Open { start, beat } => Pace::Open { start: start + beat * number / count, beat },
        };
        connected.spawn(async move {
            let mut device = Connection::open(port, &script).await.map_err(|error| error.to_string())?;
            timeout(PATIENCE * 2, device.say(&script, pace))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(device.seen)
        });
    }
    let mut all = Seen::default();
    while let Some(done) = connected.join_next().await {
        let seen = done??;
        all.acknowledged += seen.acknowledged;
        all.latencies.extend(seen.latencies);
        all.ended = all.ended.max(seen.ended);
    }
    Ok(all)
}

/// `count` connections that say nothing more, dealt out to the devices in turn.
pub async fn connect(port: u16, names: &[(String, String)], count: usize) -> Result<Vec<TcpStream>, Failed> {
    let mut connected = Vec::new();
    for (number, (name, token)) in names.iter().cycle().take(count).enumerate() {
        connected.push(hello(port, &format!("silent{number}"), (name, token)).await?);
    }
    Ok(connected)
}

/// Clean session, user name and password; no keep-alive.
async fn hello(port: u16, client_id: &str, (name, token): (&str, &str)) -> Result<TcpStream, Failed> {
    let mut stream = timeout(PATIENCE, TcpStream::connect(("127.0.0.1", port))).await??;
    stream.set_nodelay(true)?;
    let mut connect = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 0];
    for text in [client_id, name, token] {
        connect.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
        connect.extend_from_slice(text.as_bytes());
    }
    let mut packet = Vec::new();
    push_packet(&mut packet, 0x10, &[&connect])?;
    stream.write_all(&packet).await?;
    let mut answer = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
    if answer != [0x20, 2, 0, 0] {
        return Err(format!("{name} was not let in: {answer:?}").into());
    }
    Ok(stream)
}

struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    received: Vec<u8>,
    waiting: HashMap<u16, Instant>,
    next: u16,
    seen: Seen,
}

impl Connection {
    async fn open(port: u16, script: &Script) -> Result<Self, Failed> {
        let stream = hello(port, &script.name.replace('/', "."), (&script.name, &script.token)).await?;
        let (read, write) = stream.into_split();
        let (received, waiting) = (Vec::new(), HashMap::new());
        Ok(Self { read, write, received, waiting, next: 0, seen: Seen::default() })
    }

    async fn say(&mut self, script: &Script, pace: Pace) -> Result<(), Failed> {
        let topic = format!("suyuan/v1/{}/up", script.name);
        let mut left = script.packs.iter();
        match pace {
            Pace::Closed(until) => loop {
                let free = if Instant::now() < until { WINDOW - self.waiting.len().min(WINDOW) } else { 0 };
                let meant = Instant::now();
                let packs: Vec<_> = left.by_ref().take(free).map(|pack| (pack.as_slice(), meant)).collect();
                self.send(&topic, &packs).await?;
                if self.waiting.is_empty() {
                    return Ok(());
                }
                self.hear().await?;
            },
            Pace::Open { start, beat } => {
                for (number, pack) in (0_u32..).zip(left) {
                    let meant = start + beat * number;
                    loop {
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep_until(meant) => break,
                            heard = self.hear() => heard?,
                        }
                    }
                    self.send(&topic, &[(pack, meant)]).await?;
                }
                while !self.waiting.is_empty() {
                    self.hear().await?;
                }
                Ok(())
            }
        }
    }

    async fn send(&mut self, topic: &str, packs: &[(&[u8], Instant)]) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        for (pack, meant) in packs {
            self.next = if self.next == u16::MAX { 1 } else { self.next + 1 };
            let head = u16::try_from(topic.len())?.to_be_bytes();
            push_packet(&mut bytes, 0x32, &[&head, topic.as_bytes(), &self.next.to_be_bytes(), pack])?;
            if self.waiting.insert(self.next, *meant).is_some() {
                return Err("65,535 messages wait on one connection".into());
            }
        }
        Ok(self.write.write_all(&bytes).await?)
    }

    /// Waits for acknowledgements; safe to be dropped while it waits.
    async fn hear(&mut self) -> Result<(), Failed> {
        if self.read.read_buf(&mut self.received).await? == 0 {
            return Err("the connection was ended".into());
        }
        let now = Instant::now();
        let mut rest = self.received.as_slice();
        while let Some((packet, after)) = rest.split_first_chunk::<4>() {
            let [kind, length, high, low] = *packet;
            let meant = self.waiting.remove(&u16::from_be_bytes([high, low]));
            let meant = meant.filter(|_| [kind, length] == PUBACK).ok_or("an acknowledgement of nothing")?;
            self.seen.latencies.push(now - meant);
            self.seen.acknowledged += 1;
            self.seen.ended = Some(now);
            rest = after;
        }
        self.received = rest.to_vec();
        Ok(())
    }
}

/// A packet of MQTT with its remaining length (MQTT 3.1.1 §2.2.3).
pub fn push_packet(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) -> Result<(), Failed> {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    loop {
        let digit = u8::try_from(length % 128)?;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}
