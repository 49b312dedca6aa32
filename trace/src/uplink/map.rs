//! A device's own JSON and ChirpStack v4 events, mapped to readings as the device's profile or registration declares.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, FixedOffset, NaiveDateTime};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{Format, UplinkError, absolute_or_arrival, sparkplug};
use crate::{
    json as strict,
    pack::senml::{self, Number, Reading, Value as Datum},
};

const LIMITS: strict::Limits = strict::Limits { bytes_max: 64 * 1024, depth_max: 16 };
const KEY_BYTES_MAX: usize = 255;
/// ChirpStack's own words for what `event/status` tells, where a map names nothing of the event.
const STATUS: [(&str, &str, &str); 2] = [("/batteryLevel", "battery", "%EL"), ("/margin", "margin", "dB")];

/// What of a device's messages is a reading, and where the device stands on its own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// `json`: JSON pointers (RFC 6901); `chirpstack`: pointers into the decoded `object`; `sparkplug`: metric names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: BTreeMap<String, MapReading>,
    /// `chirpstack`: pointers into the whole event, for what the network itself measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event: BTreeMap<String, MapReading>,
    /// `json`: where the time stands, Unix seconds as a number or RFC 3339 as text. The others bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `json`: the offset of an instrument's clock that writes `2020-12-22 15:53:17.858` and no offset, as `+08:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `json`: pointers to members that must be as they stand here: the unit, that the weight is stable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, Value>,
    /// `sparkplug`: `Group/Edge` or `Group/Edge/Device`; `chirpstack`: the DevEUI, 16 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MapReading {
    /// The record's SenML name.
    pub n: String,
    /// Its SenML unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u: Option<String>,
    /// What its number is multiplied by to be in that unit, exactly: `1000` for tonnes told as kilograms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Factor>,
    /// Its value is a text that begins with the number, as `"31420 kg"`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text: bool,
}

/// A decimal number, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Factor(String);

impl FromStr for Factor {
    type Err = MapError;

    fn from_str(text: &str) -> Result<Self, MapError> {
        Number::parse(text).map(|_| Self(text.to_owned())).ok_or(MapError::Factor)
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Why a map cannot be a device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("a unit that IANA's registry does not have")]
    Unit,
    #[error("a name that no SenML record can carry")]
    Name,
    #[error("a factor that is no decimal number")]
    Factor,
    #[error("the node is missing, not of its format's form, or of a format that has none")]
    Node,
    #[error("a member that its format does not use, a key out of form, or too many")]
    Member,
}

impl Map {
    /// Whether a device of `format` can be read by it.
    pub fn check(&self, format: Format) -> Result<(), MapError> {
        if self.readings.len() + self.event.len() > senml::RECORDS_MAX {
            return Err(MapError::Member);
        }
        let are_pointers = matches!(format, Format::Json | Format::Chirpstack);
        let keys = self.readings.keys().filter(|_| are_pointers).chain(self.event.keys());
        for key in keys.chain(&self.time).chain(self.only.keys()) {
            if !key.starts_with('/') {
                return Err(MapError::Member);
            }
        }
        if (!self.event.is_empty() && format != Format::Chirpstack)
            || ((self.time.is_some() || !self.only.is_empty()) && format != Format::Json)
            || (self.zone.is_some() && (self.time.is_none() || self.offset().is_none()))
            || (!self.readings.is_empty() && !are_pointers && format != Format::Sparkplug)
        {
            return Err(MapError::Member);
        }
        for (key, reading) in self.readings.iter().chain(&self.event) {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(MapError::Member);
            }
            reading.check()?;
        }
        let is_placed = match (format, self.node.as_deref()) {
            (Format::Sparkplug, Some(node)) => sparkplug::is_node(node),
            (Format::Chirpstack, Some(node)) => is_dev_eui(node),
            // A device of ChirpStack may also publish to its own topic of ours.
            (Format::Sparkplug, None) => false,
            (_, node) => node.is_none(),
        };
        if is_placed { Ok(()) } else { Err(MapError::Node) }
    }

    fn offset(&self) -> Option<FixedOffset> {
        self.zone.as_deref()?.parse().ok()
    }
}

impl MapReading {
    fn check(&self) -> Result<(), MapError> {
        const NAME_BYTES_MAX: usize = 64;
        let is_first = self.n.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_name = self.n.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte));
        if !is_first || !is_name || self.n.len() > NAME_BYTES_MAX {
            return Err(MapError::Name);
        }
        match self.u.as_deref() {
            Some(unit) if !senml::is_registered(unit) => Err(MapError::Unit),
            _ => Ok(()),
        }
    }

    /// The record of a value that this entry maps.
    pub(super) fn reading(&self, time_us: i64, value: Datum) -> Result<Reading, UplinkError> {
        let value = match (value, &self.times) {
            (Datum::Number(number), Some(Factor(factor))) => {
                let product = Number::parse(factor).and_then(|factor| number.times(factor));
                Datum::Number(product.ok_or(UplinkError::Value)?)
            }
            (value, _) => value,
        };
        Ok(Reading { name: self.n.clone(), unit: self.u.clone(), time_us, value: Some(value), sum: None })
    }

    fn datum(&self, value: &Value) -> Result<Datum, UplinkError> {
        match value {
            Value::Number(number) => Number::from_json(number).map(Datum::Number),
            Value::String(text) if self.text => leading_number(text).map(Datum::Number),
            Value::String(text) => (text.len() <= senml::TEXT_BYTES_MAX).then(|| Datum::Text(text.clone())),
            Value::Bool(flag) => Some(Datum::Bool(*flag)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
        .ok_or(UplinkError::Value)
    }
}

fn leading_number(text: &str) -> Option<Number> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && !".+-".contains(letter));
    Number::parse(text.get(..end.unwrap_or(text.len()))?)
}

fn is_dev_eui(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The device's own JSON: a weighbridge, a lab instrument.
pub fn json(payload: &[u8], map: &Map) -> Result<Vec<Reading>, UplinkError> {
    let document = strict::parse_measured(payload, LIMITS)?;
    if map.only.iter().any(|(pointer, only)| document.pointer(pointer) != Some(only)) {
        return Err(UplinkError::Only);
    }
    let time_us = match &map.time {
        None => 0,
        Some(pointer) => time(document.pointer(pointer).ok_or(UplinkError::Time)?, map.offset())?,
    };
    let readings = mapped(&document, time_us, &map.readings)?;
    if readings.is_empty() { Err(UplinkError::Unmapped) } else { Ok(readings) }
}

/// ChirpStack v4 `event/up` and `event/status`, JSON encoding: `object` as its codec decoded it, and the event around it.
pub fn chirpstack(payload: &[u8], map: &Map) -> Result<Vec<Reading>, UplinkError> {
    let event = strict::parse_measured(payload, LIMITS)?;
    let time_us = event.get("time").map(|value| time(value, None)).transpose()?.unwrap_or(0);
    let object = event.get("object");
    let mut readings = match object {
        Some(object) => mapped(object, time_us, &map.readings)?,
        None => Vec::new(),
    };
    readings.extend(mapped(&event, time_us, &map.event)?);
    if map.event.is_empty() && object.is_none() {
        readings.extend(status(&event, time_us)?);
    }
    match object {
        _ if !readings.is_empty() => Ok(readings),
        None if event.get("data").is_some() => Err(UplinkError::NoCodec),
        _ => Err(UplinkError::Unmapped),
    }
}

/// A battery that the network says it cannot tell is no battery at 0 %.
fn status(event: &Value, time_us: i64) -> Result<Vec<Reading>, UplinkError> {
    let says = |member: &str| event.get(member).and_then(Value::as_bool).unwrap_or(false);
    let is_untold = says("batteryLevelUnavailable") || says("externalPowerSource");
    let told = STATUS.iter().filter(|(pointer, ..)| !(is_untold && *pointer == "/batteryLevel"));
    let map = told.map(|(pointer, n, u)| {
        let reading = MapReading { n: (*n).to_owned(), u: Some((*u).to_owned()), times: None, text: false };
        ((*pointer).to_owned(), reading)
    });
    mapped(event, time_us, &map.collect())
}

fn mapped(
    document: &Value,
    time_us: i64,
    map: &BTreeMap<String, MapReading>,
) -> Result<Vec<Reading>, UplinkError> {
    let found = map.iter().filter_map(|(pointer, to)| Some((document.pointer(pointer)?, to)));
    found.map(|(value, to)| to.reading(time_us, to.datum(value)?)).collect()
}

/// Microseconds, as readings carry them; finer digits are cut.
fn time(value: &Value, offset: Option<FixedOffset>) -> Result<i64, UplinkError> {
    /// `Number::in_units_of` counts in powers of ten: microseconds.
    const MICRO: i8 = -6;
    let time_us = match value {
        Value::Number(number) => {
            Number::parse(&number.to_string()).and_then(|seconds| seconds.in_units_of(MICRO))
        }
        Value::String(text) => moment(text, offset).map(|moment| moment.timestamp_micros()),
        _ => None,
    };
    time_us.map(absolute_or_arrival).ok_or(UplinkError::Time)
}

fn moment(text: &str, offset: Option<FixedOffset>) -> Option<DateTime<FixedOffset>> {
    let Some(offset) = offset else { return DateTime::parse_from_rfc3339(text).ok() };
    let local = NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f").ok()?;
    local.and_local_timezone(offset).single()
}
