//! Both representations into one raw record, then one resolution (RFC 8428 §4).

use minicbor::{Decoder, data::Type};

use super::{
    NAME_BYTES_MAX, Number, RECORDS_MAX, Reading, SenmlError, TEXT_BYTES_MAX, Value, unit::is_registered,
};
use crate::{b64, json};

const VERSION_MAX: i64 = 10;
/// RFC 9100 §3: version 10 with the one feature that has a number, secondary units.
const VERSION_SECONDARY_UNITS: i64 = 26;
const JSON_LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 4 };

/// A record as sent, before resolution.
#[derive(Default)]
struct Raw {
    base_name: Option<String>,
    base_time: Option<Number>,
    base_unit: Option<String>,
    base_value: Option<Number>,
    base_sum: Option<Number>,
    version: Option<i64>,
    name: Option<String>,
    unit: Option<String>,
    time: Option<Number>,
    value: Option<Number>,
    text: Option<String>,
    bool: Option<bool>,
    data: Option<Vec<u8>>,
    sum: Option<Number>,
}

/// A pack in JSON (RFC 8428 §5).
pub fn parse_json(text: &[u8]) -> Result<Vec<Reading>, SenmlError> {
    let serde_json::Value::Array(records) = json::parse_measured(text, JSON_LIMITS)? else {
        return Err(SenmlError::NotAPack);
    };
    check_count(records.len())?;
    let mut resolution = Resolution::default();
    for (at, record) in records.iter().enumerate() {
        resolution.push(raw_of_json(record, at)?, at)?;
    }
    Ok(resolution.readings)
}

/// A pack in CBOR (RFC 8428 §6), of definite lengths.
pub fn parse_cbor(bytes: &[u8]) -> Result<Vec<Reading>, SenmlError> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.array().map_err(|_| SenmlError::NotAPack)?.ok_or(SenmlError::Cbor)?;
    let count = usize::try_from(count).map_err(|_| SenmlError::Count)?;
    check_count(count)?;
    let mut resolution = Resolution::default();
    for at in 0..count {
        resolution.push(raw_of_cbor(&mut decoder, at)?, at)?;
    }
    if decoder.position() != bytes.len() {
        return Err(SenmlError::Cbor);
    }
    Ok(resolution.readings)
}

fn check_count(count: usize) -> Result<(), SenmlError> {
    if (1..=RECORDS_MAX).contains(&count) { Ok(()) } else { Err(SenmlError::Count) }
}

fn raw_of_json(record: &serde_json::Value, at: usize) -> Result<Raw, SenmlError> {
    let wrong = |field| SenmlError::Field { record: at, field };
    let members = record.as_object().ok_or(SenmlError::NotAPack)?;
    let mut raw = Raw::default();
    for (label, member) in members {
        let text = |field| member.as_str().map(str::to_owned).ok_or(wrong(field));
        let number = |field| member.as_number().and_then(Number::from_json).ok_or(wrong(field));
        match label.as_str() {
            "bn" => raw.base_name = Some(text("bn")?),
            "bt" => raw.base_time = Some(number("bt")?),
            "bu" => raw.base_unit = Some(text("bu")?),
            "bv" => raw.base_value = Some(number("bv")?),
            "bs" => raw.base_sum = Some(number("bs")?),
            "bver" => raw.version = Some(member.as_i64().ok_or(wrong("bver"))?),
            "n" => raw.name = Some(text("n")?),
            "u" => raw.unit = Some(text("u")?),
            "t" => raw.time = Some(number("t")?),
            "ut" => drop(number("ut")?),
            "v" => raw.value = Some(number("v")?),
            "vs" => raw.text = Some(text("vs")?),
            "vb" => raw.bool = Some(member.as_bool().ok_or(wrong("vb"))?),
            "vd" => raw.data = Some(b64::from_url(&text("vd")?).map_err(|_| wrong("vd"))?),
            "s" => raw.sum = Some(number("s")?),
            // RFC 8428 §4.4: a label that ends so must be understood, any other may be passed over.
            other if other.ends_with('_') => return Err(SenmlError::MustUnderstand { record: at }),
            _ => {}
        }
    }
    Ok(raw)
}

fn raw_of_cbor(decoder: &mut Decoder<'_>, at: usize) -> Result<Raw, SenmlError> {
    let count = decoder.map().map_err(|_| SenmlError::Cbor)?.ok_or(SenmlError::Cbor)?;
    let mut raw = Raw::default();
    let mut seen = Vec::new();
    for _ in 0..count {
        if decoder.datatype().map_err(|_| SenmlError::Cbor)? == Type::String {
            let label = decoder.str().map_err(|_| SenmlError::Cbor)?;
            if label.ends_with('_') {
                return Err(SenmlError::MustUnderstand { record: at });
            }
            skip_scalar(decoder)?;
            continue;
        }
        let label = decoder.i64().map_err(|_| SenmlError::Cbor)?;
        if seen.contains(&label) {
            return Err(SenmlError::Twice { record: at });
        }
        seen.push(label);
        read_labelled(decoder, label, &mut raw, at)?;
    }
    Ok(raw)
}

fn read_labelled(decoder: &mut Decoder<'_>, label: i64, raw: &mut Raw, at: usize) -> Result<(), SenmlError> {
    let wrong = |field| move |_| SenmlError::Field { record: at, field };
    let text = |decoder: &mut Decoder<'_>, field| decoder.str().map(str::to_owned).map_err(wrong(field));
    let number = |decoder: &mut Decoder<'_>, field| {
        number_of_cbor(decoder).ok_or(SenmlError::Field { record: at, field })
    };
    match label {
        -2 => raw.base_name = Some(text(decoder, "bn")?),
        -3 => raw.base_time = Some(number(decoder, "bt")?),
        -4 => raw.base_unit = Some(text(decoder, "bu")?),
        -5 => raw.base_value = Some(number(decoder, "bv")?),
        -6 => raw.base_sum = Some(number(decoder, "bs")?),
        -1 => raw.version = Some(decoder.i64().map_err(wrong("bver"))?),
        0 => raw.name = Some(text(decoder, "n")?),
        1 => raw.unit = Some(text(decoder, "u")?),
        2 => raw.value = Some(number(decoder, "v")?),
        3 => raw.text = Some(text(decoder, "vs")?),
        4 => raw.bool = Some(decoder.bool().map_err(wrong("vb"))?),
        5 => raw.sum = Some(number(decoder, "s")?),
        6 => raw.time = Some(number(decoder, "t")?),
        7 => drop(number(decoder, "ut")?),
        8 => raw.data = Some(decoder.bytes().map_err(wrong("vd"))?.to_vec()),
        _ => skip_scalar(decoder)?,
    }
    Ok(())
}

/// An unknown field of one scalar; nested ones would need a stack that the sender chooses.
fn skip_scalar(decoder: &mut Decoder<'_>) -> Result<(), SenmlError> {
    match decoder.datatype().map_err(|_| SenmlError::Cbor)? {
        Type::Array | Type::ArrayIndef | Type::Map | Type::MapIndef | Type::Tag => Err(SenmlError::Cbor),
        _ => decoder.skip().map_err(|_| SenmlError::Cbor),
    }
}

fn number_of_cbor(decoder: &mut Decoder<'_>) -> Option<Number> {
    match decoder.datatype().ok()? {
        Type::F16 => half(decoder).and_then(Number::float),
        Type::F32 => Number::float(f64::from(decoder.f32().ok()?)),
        Type::F64 => Number::float(decoder.f64().ok()?),
        // RFC 8949 §3.4.4: [exponent, mantissa].
        Type::Tag if decoder.tag().ok()?.as_u64() == 4 => {
            if decoder.array().ok()? != Some(2) {
                return None;
            }
            let exponent = decoder.i64().ok()?;
            Number::decimal(decoder.i64().ok()?, exponent)
        }
        Type::Tag => None,
        _ => Some(Number::integer(decoder.i64().ok()?)),
    }
}

/// IEEE 754 binary16 (RFC 8949 appendix D); infinities and NaN are `None`.
fn half(decoder: &mut Decoder<'_>) -> Option<f64> {
    let bits = *decoder.input().get(decoder.position()..)?.get(1..)?.first_chunk::<2>()?;
    decoder.skip().ok()?;
    let bits = u16::from_be_bytes(bits);
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 => return None,
        _ => (fraction + 1024.0) * 2_f64.powi(i32::from(exponent) - 25),
    };
    Some(if bits >> 15 == 0 { magnitude } else { -magnitude })
}

/// Base fields stand until the next record that sets them (RFC 8428 §4.1).
#[derive(Default)]
struct Resolution {
    base_name: String,
    base_time: Option<Number>,
    base_unit: Option<String>,
    base_value: Option<Number>,
    base_sum: Option<Number>,
    readings: Vec<Reading>,
}

impl Resolution {
    fn push(&mut self, raw: Raw, at: usize) -> Result<(), SenmlError> {
        let is_known = |version| (1..=VERSION_MAX).contains(&version) || version == VERSION_SECONDARY_UNITS;
        if raw.version.is_some_and(|version| !is_known(version)) {
            return Err(SenmlError::Field { record: at, field: "bver" });
        }
        self.base_name = raw.base_name.unwrap_or(std::mem::take(&mut self.base_name));
        self.base_time = raw.base_time.or(self.base_time);
        self.base_unit = raw.base_unit.or(self.base_unit.take());
        self.base_value = raw.base_value.or(self.base_value);
        self.base_sum = raw.base_sum.or(self.base_sum);

        let is_number = raw.text.is_none() && raw.bool.is_none() && raw.data.is_none();
        let value = sum_of(self.base_value.filter(|_| is_number), raw.value, at)?.map(Value::Number);
        let sum = sum_of(self.base_sum, raw.sum, at)?;
        let time = sum_of(self.base_time, raw.time, at)?;
        let time_us = time.map_or(Some(0), Number::microseconds).ok_or(SenmlError::Range { record: at })?;

        let values = [value, raw.text.map(Value::Text), raw.bool.map(Value::Bool), raw.data.map(Value::Data)];
        let mut values = values.into_iter().flatten();
        let value = values.next();
        if values.next().is_some() || (value.is_none() && sum.is_none()) {
            return Err(SenmlError::Value { record: at });
        }
        if matches!(&value, Some(Value::Text(text)) if text.len() > TEXT_BYTES_MAX) {
            return Err(SenmlError::Value { record: at });
        }
        let name = format!("{}{}", self.base_name, raw.name.unwrap_or_default());
        if !is_name(&name) {
            return Err(SenmlError::Name { record: at });
        }
        let unit = raw.unit.or_else(|| self.base_unit.clone());
        if unit.as_deref().is_some_and(|unit| !is_registered(unit)) {
            return Err(SenmlError::Unit { record: at });
        }
        self.readings.push(Reading { name, unit, time_us, value, sum });
        Ok(())
    }
}

/// Base field plus field; absent where neither stands.
fn sum_of(base: Option<Number>, own: Option<Number>, at: usize) -> Result<Option<Number>, SenmlError> {
    match (base, own) {
        (Some(base), Some(own)) => base.plus(own).map(Some).ok_or(SenmlError::Range { record: at }),
        (base, own) => Ok(own.or(base)),
    }
}

/// RFC 8428 §4.5.1.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte))
}
