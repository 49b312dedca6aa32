//! A device's own JSON and ChirpStack v4 uplinks, mapped to readings as the device's profile declares.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use trace::{
    json,
    pack::senml::{Number, Reading, Value as Datum},
};

use super::UplinkError;

const LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 16 };

/// Which members of a device's JSON are readings, by JSON pointer (RFC 6901).
/// For ChirpStack the pointers start in the decoded `object`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    #[serde(default)]
    pub readings: BTreeMap<String, MapReading>,
    /// Where the time stands: Unix seconds as a number, or RFC 3339 as text. ChirpStack brings its own.
    #[serde(default)]
    pub time: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapReading {
    /// The record's SenML name.
    pub n: String,
    /// Its SenML unit.
    #[serde(default)]
    pub u: Option<String>,
}

/// The profile's own JSON: a weighbridge, a lab instrument.
pub fn from_json(payload: &[u8], map: &Map) -> Result<Vec<Reading>, UplinkError> {
    let document = json::parse_within(payload, LIMITS)?;
    let time = match &map.time {
        None => None,
        Some(pointer) => {
            let value = document.pointer(pointer).ok_or(UplinkError::Shape("the time is missing"))?;
            Some(time(value)?)
        }
    };
    mapped(&document, time, map)
}

/// ChirpStack v4 `event/up`, JSON encoding: `time` (RFC 3339) and `object` as its codec decoded it.
pub fn from_chirpstack(payload: &[u8], map: &Map) -> Result<Vec<Reading>, UplinkError> {
    let event = json::parse_within(payload, LIMITS)?;
    let object = event.get("object").ok_or(UplinkError::Shape("an uplink that no codec decoded"))?;
    let time = event.get("time").map(time).transpose()?;
    mapped(object, time, map)
}

fn mapped(object: &Value, time_us: Option<i64>, map: &Map) -> Result<Vec<Reading>, UplinkError> {
    let mut readings = Vec::new();
    for (pointer, to) in &map.readings {
        let Some(value) = object.pointer(pointer) else { continue };
        let datum = datum(value)?;
        readings.push(Reading {
            name: to.n.clone(),
            unit: to.u.clone(),
            time_us: time_us.unwrap_or(0),
            value: Some(datum),
            sum: None,
        });
    }
    if readings.is_empty() {
        Err(UplinkError::Shape("no member that the profile maps"))
    } else {
        Ok(readings)
    }
}

fn datum(value: &Value) -> Result<Datum, UplinkError> {
    match value {
        Value::Number(number) => Number::parse(&number.to_string())
            .map(Datum::Number)
            .ok_or(UplinkError::Shape("a number out of range")),
        Value::String(text) => Ok(Datum::Text(text.clone())),
        Value::Bool(flag) => Ok(Datum::Bool(*flag)),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(UplinkError::Shape("a mapped member is a number, text or truth value"))
        }
    }
}

/// Microseconds, as readings carry them; finer digits are cut.
fn time(value: &Value) -> Result<i64, UplinkError> {
    /// Number::in_units_of counts in powers of ten: microseconds.
    const MICRO: i8 = -6;
    match value {
        Value::Number(number) => Number::parse(&number.to_string())
            .and_then(|seconds| seconds.in_units_of(MICRO))
            .ok_or(UplinkError::Shape("a time out of range, or finer than microseconds")),
        Value::String(text) => {
            let moment = DateTime::parse_from_rfc3339(text);
            Ok(moment.map_err(|_| UplinkError::Shape("not RFC 3339"))?.timestamp_micros())
        }
        _ => Err(UplinkError::Shape("a time is Unix seconds or RFC 3339")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        serde_json::from_str(
            r#"{"readings":{"/weight/net":{"n":"net","u":"kg"},"/temperature":{"n":"t","u":"Cel"}},"time":"/at"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_weighbridge_ticket_becomes_the_readings_that_its_map_names() {
        let readings =
            from_json(br#"{"at":"2025-12-03T08:00:00.5+08:00","weight":{"net":23560.5,"gross":1}}"#, &map())
                .unwrap();
        assert_eq!(readings.len(), 1);
        assert_eq!(readings[0].name, "net");
        assert_eq!(readings[0].time_us, 1_764_720_000_500_000);
        assert_eq!(readings[0].value, Number::parse("23560.5").map(Datum::Number));
    }

    /// The members of the uplink event in ChirpStack v4's documentation (Integrations, Events, `up`).
    #[test]
    fn a_chirpstack_uplink_is_read_from_its_decoded_object() {
        let event = br#"{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d","time":"2022-07-18T09:34:15.775023242+00:00",
            "deviceInfo":{"devEui":"0101010101010101"},"devAddr":"00189440","dr":1,"fPort":1,"data":"qg==",
            "object":{"temperature":24.25}}"#;
        let readings = from_chirpstack(event, &map()).unwrap();
        assert_eq!(readings[0].name, "t");
        assert_eq!(readings[0].time_us, 1_658_136_855_775_023);
    }

    #[test]
    fn a_document_without_a_mapped_member_or_with_a_wrong_time_is_refused() {
        assert!(from_json(br#"{"at":1700000000}"#, &map()).is_err());
        assert!(from_json(br#"{"at":"yesterday","temperature":1}"#, &map()).is_err());
        assert!(from_json(br#"{"temperature":1}"#, &map()).is_err());
        assert!(from_json(br#"{"at":1700000000,"temperature":[1]}"#, &map()).is_err());
    }
}
