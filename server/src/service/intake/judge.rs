//! What is one item: a pack to store, or a dead letter and why. No database here.

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    device::Device,
    key::Key,
    pack::{Pack, PackKey},
    reading::Reading,
};
use trace::{
    keys::PublicKey,
    pack::{
        DeviceName, Frame, Topic,
        carriage::{Body, Item, Outcome, Status},
        device::{Direction, split_base_name},
        senml::{self, Value},
    },
    uplink::{self, Format, Map, UplinkError},
};

use serde::Deserialize as _;

use super::Known;
use crate::service::devices;

/// A device's clock may be this much ahead of the gateway's.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);
/// Older packs come from an outbox: they are kept and raise no alert.
const HISTORICAL_AFTER: TimeDelta = TimeDelta::hours(24);
/// 2020-01-01: no device of this ledger measured before.
const CLOCK_EPOCH_S: i64 = 1_577_836_800;

/// Why an item is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Topic,
    Oversize,
    UnknownDevice,
    /// Its keeper says that somebody else may have it.
    DeviceLost,
    DeviceRetired,
    NotAPack,
    /// What its format's decoder says of it.
    Undecoded(&'static str),
    OtherDevice,
    RelativeTime,
    UnknownKey,
    KeyNotGood,
    WrongSigner,
    Signature,
    Equivocation,
}

impl Reason {
    /// Each that stands for itself; beside them stand those of the decoders ([`UplinkError::REASONS`]).
    pub const OWN: [Self; 13] = [
        Self::Topic,
        Self::Oversize,
        Self::UnknownDevice,
        Self::DeviceLost,
        Self::DeviceRetired,
        Self::NotAPack,
        Self::OtherDevice,
        Self::RelativeTime,
        Self::UnknownKey,
        Self::KeyNotGood,
        Self::WrongSigner,
        Self::Signature,
        Self::Equivocation,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Oversize => "oversize",
            Self::UnknownDevice => "unknown-device",
            Self::DeviceLost => "device-lost",
            Self::DeviceRetired => "device-retired",
            Self::NotAPack => "not-a-pack",
            Self::Undecoded(reason) => reason,
            Self::OtherDevice => "other-device",
            Self::RelativeTime => "relative-time",
            Self::UnknownKey => "unknown-key",
            Self::KeyNotGood => "key-not-good",
            Self::WrongSigner => "wrong-signer",
            Self::Signature => "signature",
            Self::Equivocation => "equivocation",
        }
    }
}

/// A pack that may be stored if its signature holds.
pub(super) struct Candidate<'a> {
    pub device: &'a Device,
    pub frame: Frame<'a>,
    pub public: PublicKey,
    pub by_gateway: bool,
    pub readings: Vec<Reading>,
    pub records: i32,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub mark: Option<&'static str>,
    pub received_at: DateTime<Utc>,
}

pub(super) enum Judged<'a> {
    Store(Box<Candidate<'a>>),
    Duplicate(Vec<u8>),
    Refused { reason: Reason, cti: Option<Vec<u8>> },
}

impl<'a> Judged<'a> {
    /// What is stored, or, before the database has spoken, may be.
    pub fn stored(&self) -> Option<&Candidate<'a>> {
        match self {
            Self::Store(candidate) => Some(candidate),
            _ => None,
        }
    }

    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    pub fn refuse(&mut self, reason: Reason) {
        let cti = self.outcome().cti;
        *self = Self::Refused { reason, cti };
    }

    pub fn is_duplicate(&mut self) {
        if let Self::Store(candidate) = self {
            *self = Self::Duplicate(candidate.frame.cti.to_vec());
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Store(candidate) => {
                Outcome { status: Status::Stored, cti: Some(candidate.frame.cti.to_vec()) }
            }
            Self::Duplicate(cti) => Outcome { status: Status::Duplicate, cti: Some(cti.clone()) },
            Self::Refused { cti, .. } => Outcome { status: Status::DeadLetter, cti: cti.clone() },
        }
    }
}

impl Candidate<'_> {
    pub fn key(&self) -> PackKey {
        PackKey { device_id: self.device.id, cti: self.frame.cti.to_vec() }
    }

    /// Whether it speaks of now: what comes from an outbox, or from a replay of long ago, alarms nobody.
    pub fn is_news(&self, now: DateTime<Utc>) -> bool {
        self.mark.is_none() && now - self.received_at <= HISTORICAL_AFTER
    }

    pub fn pack(&self) -> Pack {
        Pack {
            device_id: self.device.id,
            cti: self.frame.cti.to_vec(),
            entry: self.frame.entry().as_bytes().to_vec(),
            kid: self.frame.kid.as_bytes().to_vec(),
            bytes: self.frame.bytes().to_vec(),
            readings: self.records,
            first_at: self.first_at,
            last_at: self.last_at,
            mark: self.mark.map(str::to_owned),
            received_at: self.received_at,
        }
    }
}

impl Known<'_> {
    /// Everything but the signature and the database's own knowledge of duplicates.
    pub(super) fn judge<'a>(&'a self, item: &Item<'a>, now: DateTime<Utc>) -> Judged<'a> {
        let frame = match item.body {
            Body::Bytes(bytes) => Frame::parse(bytes),
            Body::Oversize { .. } => return Judged::Refused { reason: Reason::Oversize, cti: None },
        };
        let cti = frame.ok().map(|frame| frame.cti.to_vec());
        // A wrong topic or device says more than a wrong payload does.
        let judged = self.device(item.topic).and_then(|named| {
            let frame = frame.map_err(|_| self.undecoded(named.1, item))?;
            self.candidate(named, frame, item, now)
        });
        match judged {
            Ok(candidate) => Judged::Store(Box::new(candidate)),
            Err(reason) => Judged::Refused { reason, cti },
        }
    }

    /// Why a payload came as its device had sent it: a gateway makes packs of what it can read.
    fn undecoded(&self, device: &Device, item: &Item<'_>) -> Reason {
        let Body::Bytes(bytes) = item.body else { return Reason::Oversize };
        let format = Format::of_word(&device.format).filter(|_| device.signing == "gateway");
        let map = devices::map_of(self.profiles, device).and_then(|map| Map::deserialize(map).ok());
        let read = format.map(|format| uplink::read(format, &map.unwrap_or_default(), bytes));
        match read {
            Some(Err(error)) => Reason::Undecoded(error.reason()),
            // Readable, but not by that gateway's register; or a pack that is none.
            Some(Ok(_)) | None => Reason::NotAPack,
        }
    }

    pub(super) fn device(&self, topic: &str) -> Result<(DeviceName, &Device), Reason> {
        if topic.starts_with("spBv1.0/") || topic.starts_with("application/") {
            // A gateway names the device that stands there, if the register has one.
            return Err(Reason::UnknownDevice);
        }
        let topic: Topic = topic.parse().map_err(|_| Reason::Topic)?;
        if topic.direction != Direction::Up {
            return Err(Reason::Topic);
        }
        let key = (topic.device.party().to_owned(), topic.device.device().to_owned());
        let device = self.devices.get(&key).ok_or(Reason::UnknownDevice)?;
        if device.retired_at.is_some() {
            return Err(Reason::DeviceRetired);
        }
        if device.lost_at.is_some() {
            return Err(Reason::DeviceLost);
        }
        Ok((topic.device, device))
    }

    fn candidate<'a>(
        &'a self,
        (name, device): (DeviceName, &'a Device),
        frame: Frame<'a>,
        item: &Item<'a>,
        now: DateTime<Utc>,
    ) -> Result<Candidate<'a>, Reason> {
        let verifier = self.keys.get(&frame.kid).ok_or(Reason::UnknownKey)?;
        let by_gateway = self.may_sign(&verifier.key, device)?;
        let public = verifier.public.ok_or(Reason::KeyNotGood)?;
        let records = senml::parse_cbor(frame.payload)
            .map_err(|error| Reason::Undecoded(UplinkError::from(error).reason()))?;
        let base_name = name.base_name(self.pen);
        if !records.iter().all(|record| record.name.starts_with(&base_name)) {
            return Err(Reason::OtherDevice);
        }
        if !by_gateway && !records.iter().all(senml::Reading::is_absolute) {
            return Err(Reason::RelativeTime);
        }
        let received_at = arrival(item.received_ms, now);
        let times = records.iter().filter_map(|record| moment(record, received_at));
        let first_at = times.clone().min().unwrap_or(received_at);
        let last_at = times.max().unwrap_or(received_at);
        let readings = rows(&records, device.id, frame.cti, received_at);
        let unreadable = records.iter().any(|record| moment(record, received_at).is_none());
        Ok(Candidate {
            device,
            frame,
            public,
            by_gateway,
            readings,
            records: i32::try_from(records.len()).unwrap_or(i32::MAX),
            first_at,
            last_at,
            mark: if unreadable { Some("clock_suspect") } else { mark(first_at, last_at, received_at) },
            received_at,
        })
    }

    /// Whether the key is the device's own or that of a gateway enrolled for its party; `true` for a gateway's.
    ///
    /// The operator's gateways carry every party's devices.
    fn may_sign(&self, key: &Key, device: &Device) -> Result<bool, Reason> {
        if key.role != "pack" || key.state != "good" {
            return Err(Reason::KeyNotGood);
        }
        match (device.signing.as_str(), key.device_id) {
            ("device", Some(of)) if of == device.id => Ok(false),
            ("gateway", None)
                if key.party_id == device.party_id || self.operators.contains(&key.party_id) =>
            {
                Ok(true)
            }
            _ => Err(Reason::WrongSigner),
        }
    }
}

/// The gateway's clock, unless it is no moment at all.
pub(super) fn arrival(received_ms: i64, now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(received_ms).filter(is_storable).unwrap_or(now)
}

/// A moment that chrono, Postgres and RFC 3339 can all hold.
fn is_storable(at: &DateTime<Utc>) -> bool {
    const YEAR_1_S: i64 = -62_135_596_800;
    const YEAR_9999_S: i64 = 253_402_300_799;
    (YEAR_1_S..=YEAR_9999_S).contains(&at.timestamp())
}

/// A relative time counts from the arrival, which stands beside the signed bytes.
fn moment(record: &senml::Reading, received_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if record.is_absolute() {
        return DateTime::from_timestamp_micros(record.time_us).filter(is_storable);
    }
    received_at.checked_add_signed(TimeDelta::microseconds(record.time_us)).filter(is_storable)
}

fn mark(first: DateTime<Utc>, last: DateTime<Utc>, received_at: DateTime<Utc>) -> Option<&'static str> {
    if last - received_at > AHEAD_MAX || first.timestamp() < CLOCK_EPOCH_S {
        return Some("clock_suspect");
    }
    (received_at - last > HISTORICAL_AFTER).then_some("historical")
}

/// The rows of a pack that was stored.
pub(super) fn rows_of(pack: &Pack) -> Vec<Reading> {
    let frame = Frame::parse(&pack.bytes).ok();
    let records = frame.and_then(|frame| senml::parse_cbor(frame.payload).ok()).unwrap_or_default();
    rows(&records, pack.device_id, &pack.cti, pack.received_at)
}

fn rows(records: &[senml::Reading], device_id: i64, cti: &[u8], received_at: DateTime<Utc>) -> Vec<Reading> {
    records.iter().filter_map(|record| row(record, device_id, cti, received_at)).collect()
}

/// Numbers and truth values have rows; texts and data stand in the pack only.
fn row(record: &senml::Reading, device_id: i64, cti: &[u8], received_at: DateTime<Utc>) -> Option<Reading> {
    let value = match record.value.as_ref()? {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Text(_) | Value::Data(_) => return None,
    };
    Some(Reading {
        device_id,
        at: moment(record, received_at).unwrap_or(received_at),
        name: split_base_name(&record.name).1.to_owned(),
        unit: record.unit.clone().unwrap_or_default().replace('\0', ""),
        value,
        cti: cti.to_vec(),
    })
}
