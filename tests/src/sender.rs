//! A sensor with an outbox, in MQTT 3.1.1 by hand, so that a test knows of every message what its sender was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use trace::{
    keys::SecretKey,
    pack::{
        DeviceName,
        carriage::{Status, read_receipt},
        gateway_cti,
        senml::{Number, Reading, Value, write_cbor},
        sign,
    },
};

/// Private enterprise number of the demo and the tests.
pub const PEN: u32 = 32_473;
/// The first message's moment; each later one is a second further.
pub const FIRST_AT: i64 = 1_790_000_000;
/// Messages that a sender keeps at most: then it measures no more.
const OUTBOX_MAX: usize = 100;
/// Sent again, on a new connection, if no answer comes within this.
const PATIENCE: Duration = Duration::from_secs(4);
const PUBLISH_QOS_1: u8 = 0x32;
const PINGREQ: [u8; 2] = [0xc0, 0];

/// Until when a sender keeps a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    UntilPuback,
    UntilReceipt,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub name: DeviceName,
    pub token: String,
    /// Of a device that signs its packs itself.
    pub key: Option<Arc<SecretKey>>,
}

impl Device {
    /// Message `number` and the counter of the pack that it becomes.
    fn message(&self, number: u32) -> (Vec<u8>, Vec<u8>) {
        let at = FIRST_AT + i64::from(number);
        let Some(key) = &self.key else {
            let payload = format!(r#"[{{"n":"temperature","u":"Cel","t":{at},"v":21.5}}]"#).into_bytes();
            let cti = gateway_cti(&self.name.up().to_string(), &payload).to_vec();
            return (payload, cti);
        };
        let base_name = self.name.base_name(PEN);
        let reading = Reading {
            name: format!("{base_name}temperature"),
            unit: Some("Cel".to_owned()),
            time_us: at * 1_000_000,
            value: Some(Value::Number(Number::integer(21))),
            sum: None,
        };
        let cti = number.to_be_bytes().to_vec();
        (sign(&cti, &write_cbor(&base_name, &[reading]).unwrap(), key).unwrap(), cti)
    }
}

/// What a sender knows when it is done.
#[derive(Debug, Default)]
pub struct Told {
    pub sent: u32,
    pub acknowledged: BTreeSet<u32>,
    pub receipted: BTreeSet<u32>,
}

pub struct Sender {
    pub device: DeviceName,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<Told>,
}

impl Sender {
    /// Sends a message each `beat` to `port` until it is stopped.
    pub fn start(device: Device, port: u16, keeps: Keeps, beat: Duration) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let name = device.name.clone();
        let outbox = Outbox {
            device,
            port,
            keeps,
            beat,
            kept: BTreeMap::new(),
            told: Told::default(),
            done: Arc::clone(&done),
        };
        let told = Arc::clone(&stop);
        Self { device: name, stop, done, thread: std::thread::spawn(move || outbox.run(&told)) }
    }

    /// Messages that need not be kept any more.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Measures no more; returns when its outbox is empty.
    pub fn finish(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

struct Kept {
    cti: Vec<u8>,
    payload: Vec<u8>,
    /// On this connection.
    sent_at: Option<Instant>,
}

struct Outbox {
    device: Device,
    port: u16,
    keeps: Keeps,
    beat: Duration,
    kept: BTreeMap<u32, Kept>,
    told: Told,
    done: Arc<AtomicUsize>,
}

impl Outbox {
    fn run(mut self, stop: &AtomicBool) -> Told {
        let mut next_at = Instant::now();
        while !stop.load(Ordering::Relaxed) || !self.kept.is_empty() {
            for kept in self.kept.values_mut() {
                kept.sent_at = None;
            }
            if self.connection(stop, &mut next_at).is_err() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.told
    }

    fn connection(&mut self, stop: &AtomicBool, next_at: &mut Instant) -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = self.device.name.to_string();
        let hello = [
            &text("MQTT")[..],
            &[4, 0xc2, 0, 10],
            &text(&name.replace('/', ".")),
            &text(&name),
            &text(&self.device.token),
        ];
        stream.write_all(&packet(0x10, &hello.concat()))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        if connack != [0x20, 2, 0, 0] {
            return Err(io::Error::other("refused"));
        }
        if self.keeps == Keeps::UntilReceipt {
            let filter = [&[0, 1][..], &text(&self.device.name.receipt().to_string()), &[0]].concat();
            stream.write_all(&packet(0x82, &filter))?;
        }
        stream.set_read_timeout(Some(Duration::from_millis(2)))?;
        let (mut heard, mut pinged) = (Vec::new(), Instant::now());
        while !stop.load(Ordering::Relaxed) || !self.kept.is_empty() {
            if !stop.load(Ordering::Relaxed) && Instant::now() >= *next_at && self.kept.len() < OUTBOX_MAX {
                *next_at = Instant::now() + self.beat;
                let (payload, cti) = self.device.message(self.told.sent);
                self.kept.insert(self.told.sent, Kept { cti, payload, sent_at: None });
                self.told.sent += 1;
            }
            self.send_unsent(&mut stream)?;
            if pinged.elapsed() > Duration::from_secs(4) {
                stream.write_all(&PINGREQ)?;
                pinged = Instant::now();
            }
            hear(&mut stream, &mut heard)?;
            while let Some((first, body)) = take_packet(&mut heard) {
                self.told_by(first, &body);
            }
        }
        stream.write_all(&[0xe0, 0])
    }

    fn send_unsent(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let topic = self.device.name.up().to_string();
        for (number, kept) in &mut self.kept {
            match kept.sent_at {
                Some(at) if at.elapsed() < PATIENCE => continue,
                // A receipt that does not come is waited for; a PUBACK that does not come is a broken connection.
                Some(_) if self.keeps == Keeps::UntilPuback => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
            let publish = [&text(&topic)[..], &identifier(*number).to_be_bytes(), &kept.payload].concat();
            stream.write_all(&packet(PUBLISH_QOS_1, &publish))?;
            kept.sent_at = Some(Instant::now());
        }
        Ok(())
    }

    fn told_by(&mut self, first: u8, body: &[u8]) {
        match (first >> 4, body) {
            (4, &[high, low]) => {
                let is_meant = |number: &&u32| identifier(**number) == u16::from_be_bytes([high, low]);
                let Some(number) = self.kept.keys().find(is_meant).copied() else { return };
                self.told.acknowledged.insert(number);
                if self.keeps == Keeps::UntilPuback {
                    self.forget(number);
                }
            }
            (3, &[high, low, ref rest @ ..]) => {
                let payload = &rest[usize::from(u16::from_be_bytes([high, low]))..];
                let (cti, status) = read_receipt(payload).unwrap();
                assert_ne!(status, Status::DeadLetter, "{}", self.device.name);
                let Some((number, _)) = self.kept.iter().find(|(_, kept)| kept.cti == cti) else { return };
                let number = *number;
                self.told.receipted.insert(number);
                self.forget(number);
            }
            _ => {}
        }
    }

    fn forget(&mut self, number: u32) {
        self.kept.remove(&number);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Unique among the messages that one sender keeps; never 0.
fn identifier(number: u32) -> u16 {
    u16::try_from(1 + number % 60_000).unwrap()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![first], body.len());
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        packet.push(u8::try_from(length % 128).unwrap() | more);
        length /= 128;
        if length == 0 {
            packet.extend_from_slice(body);
            return packet;
        }
    }
}

fn hear(stream: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => {
            heard.extend_from_slice(&buffer[..bytes]);
            Ok(())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The first whole packet: its first byte and its body, of fewer than 128 bytes as all answers here are.
fn take_packet(heard: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&[first, length], rest) = heard.split_first_chunk::<2>()?;
    assert!(length < 128, "an answer longer than any that was asked for");
    let body = rest.get(..usize::from(length))?.to_vec();
    heard.drain(..2 + body.len());
    Some((first, body))
}
