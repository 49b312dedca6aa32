//! The protobuf payload (Sparkplug 3.0 §6.4, `sparkplug_b.proto`), as far as readings need it, with limits.
//!
//! Unknown fields are passed over and the last of a field wins, as protobuf has it; groups are refused.

use super::UplinkError;
use crate::pack::senml::{Number, TEXT_BYTES_MAX, Value};

const METRICS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 255;

/// `Payload`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload {
    pub timestamp_ms: Option<u64>,
    pub metrics: Vec<Metric>,
    pub seq: Option<u8>,
}

/// `Payload.Metric`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metric {
    pub name: Option<String>,
    pub alias: Option<u64>,
    pub timestamp_ms: Option<u64>,
    pub datatype: Option<u32>,
    pub is_null: bool,
    pub value: Option<Raw>,
}

/// The `value` as it stands on the wire; what it means its datatype tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    Int(u64),
    Long(u64),
    Float(f32),
    Double(f64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    /// A data set, template or extension.
    Other,
}

impl Payload {
    pub fn parse(bytes: &[u8]) -> Result<Self, UplinkError> {
        let mut payload = Self::default();
        let mut reader = Reader(bytes);
        while let Some((field, wire)) = reader.field()? {
            match (field, wire) {
                (1, Wire::Varint(value)) => payload.timestamp_ms = Some(value),
                (2, Wire::Bytes(bytes)) => {
                    if payload.metrics.len() == METRICS_MAX {
                        return Err(UplinkError::Sparkplug("too many metrics"));
                    }
                    payload.metrics.push(Metric::parse(bytes)?);
                }
                (3, Wire::Varint(value)) => {
                    let seq = u8::try_from(value);
                    payload.seq =
                        Some(seq.map_err(|_| UplinkError::Sparkplug("a sequence number over 255"))?);
                }
                (1..=3, _) => return Err(UplinkError::Sparkplug("a field of another type")),
                _ => {}
            }
        }
        Ok(payload)
    }
}

impl Metric {
    fn parse(bytes: &[u8]) -> Result<Self, UplinkError> {
        let mut metric = Self::default();
        let mut reader = Reader(bytes);
        while let Some((field, wire)) = reader.field()? {
            match (field, wire) {
                (1, Wire::Bytes(name)) => {
                    metric.name =
                        Some(text(name).filter(|name| name.len() <= NAME_BYTES_MAX).ok_or(NOT_TEXT)?);
                }
                (2, Wire::Varint(value)) => metric.alias = Some(value),
                (3, Wire::Varint(value)) => metric.timestamp_ms = Some(value),
                (4, Wire::Varint(value)) => metric.datatype = Some(u32::try_from(value).unwrap_or(u32::MAX)),
                (7, Wire::Varint(value)) => metric.is_null = value != 0,
                (10, Wire::Varint(value)) => metric.value = Some(Raw::Int(value)),
                (11, Wire::Varint(value)) => metric.value = Some(Raw::Long(value)),
                (12, Wire::Fixed32(bytes)) => metric.value = Some(Raw::Float(f32::from_le_bytes(bytes))),
                (13, Wire::Fixed64(bytes)) => metric.value = Some(Raw::Double(f64::from_le_bytes(bytes))),
                (14, Wire::Varint(value)) => metric.value = Some(Raw::Bool(value != 0)),
                (15, Wire::Bytes(bytes)) => metric.value = Some(Raw::Text(text(bytes).ok_or(NOT_TEXT)?)),
                (16, Wire::Bytes(bytes)) => metric.value = Some(Raw::Bytes(bytes.to_vec())),
                (17..=19, Wire::Bytes(_)) => metric.value = Some(Raw::Other),
                (1..=4 | 7 | 10..=19, _) => return Err(UplinkError::Sparkplug("a field of another type")),
                _ => {}
            }
        }
        Ok(metric)
    }

    /// NaN or infinite: no reading can carry it.
    pub(super) fn is_no_number(&self) -> bool {
        match self.value {
            Some(Raw::Float(value)) => !value.is_finite(),
            Some(Raw::Double(value)) => !value.is_finite(),
            _ => false,
        }
    }

    /// The value as its datatype means it (§6.4.16); `None` where the metric is null.
    pub(super) fn value(&self, datatype: u32) -> Result<Option<Value>, UplinkError> {
        let Some(raw) = self.value.as_ref().filter(|_| !self.is_null) else { return Ok(None) };
        let value = match (datatype, raw) {
            (1..=3, Raw::Int(value)) => signed(datatype, *value).map(Number::integer).map(Value::Number),
            (4, Raw::Long(value)) => Some(Value::Number(Number::integer(value.cast_signed()))),
            (5..=7, Raw::Int(value)) => unsigned(datatype, *value).map(Number::integer).map(Value::Number),
            // UInt32 is sent as a long by the Java and Python implementations of Tahu.
            (7 | 8, Raw::Long(value)) => i64::try_from(*value).ok().map(Number::integer).map(Value::Number),
            (9, Raw::Float(value)) => Number::float(f64::from(*value)).map(Value::Number),
            (10, Raw::Double(value)) => Number::float(*value).map(Value::Number),
            (11, Raw::Bool(value)) => Some(Value::Bool(*value)),
            (12 | 14 | 15, Raw::Text(text)) => {
                (text.len() <= TEXT_BYTES_MAX).then(|| Value::Text(text.clone()))
            }
            // DateTime: milliseconds, told as seconds.
            (13, Raw::Long(value)) => {
                i64::try_from(*value).ok().and_then(|ms| Number::decimal(ms, -3)).map(Value::Number)
            }
            (17 | 18, Raw::Bytes(bytes)) => {
                (bytes.len() <= TEXT_BYTES_MAX).then(|| Value::Data(bytes.clone()))
            }
            _ => None,
        };
        value.map(Some).ok_or(UplinkError::Value)
    }
}

const NOT_TEXT: UplinkError = UplinkError::Sparkplug("a name or text that is not UTF-8, or too long");

/// Int8, Int16 and Int32 stand as two's complement: of their own width, of 32 bits, or (protobuf's int32) of 64.
fn signed(datatype: u32, value: u64) -> Option<i64> {
    let as_sent = match value {
        0..=0xffff_ffff => i64::from(u32::try_from(value).ok()?.cast_signed()),
        _ => value.cast_signed(),
    };
    match (datatype, value) {
        (1, 0x80..=0xff) => Some(as_sent - 0x100),
        (2, 0x8000..=0xffff) => Some(as_sent - 0x1_0000),
        (1, _) => i8::try_from(as_sent).ok().map(i64::from),
        (2, _) => i16::try_from(as_sent).ok().map(i64::from),
        _ => i32::try_from(as_sent).ok().map(i64::from),
    }
}

fn unsigned(datatype: u32, value: u64) -> Option<i64> {
    match datatype {
        5 => u8::try_from(value).ok().map(i64::from),
        6 => u16::try_from(value).ok().map(i64::from),
        _ => u32::try_from(value).ok().map(i64::from),
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The command that asks an edge node for its births again (§6.4.17).
pub fn rebirth(now_ms: u64) -> Vec<u8> {
    const NAME: &[u8] = b"\x0a\x14Node Control/Rebirth";
    // Datatype Boolean (4: 11), value true (14: 1).
    const BOOLEAN_TRUE: [u8; 4] = [0x20, 11, 0x70, 1];
    let mut time = Vec::new();
    varint(&mut time, now_ms);
    let metric = [NAME, &[0x18], &time, &BOOLEAN_TRUE].concat();
    let mut payload = [&[0x08], time.as_slice(), &[0x12]].concat();
    varint(&mut payload, u64::try_from(metric.len()).unwrap_or(u64::MAX));
    payload.extend_from_slice(&metric);
    payload
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

enum Wire<'bytes> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'bytes [u8]),
    Fixed32([u8; 4]),
}

/// Protobuf's fields, one by one.
struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn field(&mut self) -> Result<Option<(u64, Wire<'bytes>)>, UplinkError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(self.fixed()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(self.fixed()?),
            _ => return Err(UplinkError::Sparkplug("a group or an unknown wire type")),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], UplinkError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u64, UplinkError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(CUT)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(UplinkError::Sparkplug("a number of more than 64 bits"))
    }
}

const CUT: UplinkError = UplinkError::Sparkplug("a field that ends behind the payload");
