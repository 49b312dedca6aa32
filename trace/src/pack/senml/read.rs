//! Both representations into one raw record, then one resolution (RFC 8428 §4).

use std::borrow::Cow;

use minicbor::{Decoder, data::Type};

use super::{
    NAME_BYTES_MAX, Number, RECORDS_MAX, Reading, Said, SenmlError, TEXT_BYTES_MAX, Value,
    unit::is_registered,
};
use crate::{b64, json};

const VERSION_MAX: i64 = 10;
/// RFC 9100 §3: version 10 with the one feature that has a number, secondary units.
const VERSION_SECONDARY_UNITS: i64 = 26;
const JSON_LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 4 };

/// A record as sent, before resolution.
#[derive(Default)]
struct Raw<'pack> {
    base_name: Option<&'pack str>,
    base_time: Option<Number>,
    base_unit: Option<&'pack str>,
    base_value: Option<Number>,
    base_sum: Option<Number>,
    version: Option<i64>,
    name: Option<&'pack str>,
    unit: Option<&'pack str>,
    time: Option<Number>,
    value: Option<Number>,
    text: Option<&'pack str>,
    bool: Option<bool>,
    data: Option<Cow<'pack, [u8]>>,
    sum: Option<Number>,
}

/// A pack in JSON (RFC 8428 §5).
pub fn parse_json(text: &[u8]) -> Result<Vec<Reading>, SenmlError> {
    let serde_json::Value::Array(records) = json::parse_measured(text, JSON_LIMITS)? else {
        return Err(SenmlError::NotAPack);
    };
    check_count(records.len())?;
    let (mut resolution, mut readings) = (Resolution::default(), Vec::with_capacity(records.len()));
    for (at, record) in records.iter().enumerate() {
        readings.push(resolution.resolve(raw_of_json(record, at)?, at)?.into());
    }
    Ok(readings)
}

/// A pack in CBOR (RFC 8428 §6), of definite lengths.
pub fn parse_cbor(bytes: &[u8]) -> Result<Vec<Reading>, SenmlError> {
    let mut readings = Vec::new();
    each_of_cbor(bytes, |said| readings.push(said.into()))?;
    Ok(readings)
}

/// Calls `each` with what every record of a pack in CBOR says, without a copy of it. That `each` was called says nothing of
/// the pack: only the returned number of records does.
pub fn each_of_cbor(bytes: &[u8], mut each: impl FnMut(Said<'_>)) -> Result<usize, SenmlError> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.array().map_err(|_| SenmlError::NotAPack)?.ok_or(SenmlError::Cbor)?;
    let count = usize::try_from(count).map_err(|_| SenmlError::Count)?;
    check_count(count)?;
    let mut resolution = Resolution::default();
    for at in 0..count {
        each(resolution.resolve(raw_of_cbor(&mut decoder, at)?, at)?);
    }
    if decoder.position() != bytes.len() {
        return Err(SenmlError::Cbor);
    }
    Ok(count)
}

fn check_count(count: usize) -> Result<(), SenmlError> {
    if (1..=RECORDS_MAX).contains(&count) { Ok(()) } else { Err(SenmlError::Count) }
}

fn raw_of_json(record: &serde_json::Value, at: usize) -> Result<Raw<'_>, SenmlError> {
    let wrong = |field| SenmlError::Field { record: at, field };
    let members = record.as_object().ok_or(SenmlError::NotAPack)?;
    let mut raw = Raw::default();
    for (label, member) in members {
        let text = |field| member.as_str().ok_or(wrong(field));
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
            "vd" => {
                raw.data = Some(b64::from_url(text("vd")?).map_err(|_| wrong("vd"))?.into());
            }
            "s" => raw.sum = Some(number("s")?),
            // RFC 8428 §4.4: a label that ends so must be understood, any other may be passed over.
            other if other.ends_with('_') => return Err(SenmlError::MustUnderstand { record: at }),
            _ => {}
        }
    }
    Ok(raw)
}

fn raw_of_cbor<'pack>(decoder: &mut Decoder<'pack>, at: usize) -> Result<Raw<'pack>, SenmlError> {
    let count = decoder.map().map_err(|_| SenmlError::Cbor)?.ok_or(SenmlError::Cbor)?;
    let mut raw = Raw::default();
    let mut seen = Labels::default();
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
        if !seen.insert(label) {
            return Err(SenmlError::Twice { record: at });
        }
        read_labelled(decoder, label, &mut raw, at)?;
    }
    Ok(raw)
}

/// Labels of one record: those that RFC 8428 §6 numbers take no memory of their own.
#[derive(Default)]
struct Labels {
    numbered: u64,
    others: Vec<i64>,
}

impl Labels {
    /// `false` for one that was there already.
    fn insert(&mut self, label: i64) -> bool {
        const LEAST: i64 = -6;
        let bit = u32::try_from(label.saturating_sub(LEAST)).ok().and_then(|place| 1_u64.checked_shl(place));
        let Some(bit) = bit else {
            let is_new = !self.others.contains(&label);
            self.others.push(label);
            return is_new;
        };
        let is_new = self.numbered & bit == 0;
        self.numbered |= bit;
        is_new
    }
}

fn read_labelled<'pack>(
    decoder: &mut Decoder<'pack>,
    label: i64,
    raw: &mut Raw<'pack>,
    at: usize,
) -> Result<(), SenmlError> {
    let wrong = |field| move |_| SenmlError::Field { record: at, field };
    let text = |decoder: &mut Decoder<'pack>, field| decoder.str().map_err(wrong(field));
    let number = |decoder: &mut Decoder<'pack>, field| {
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
        8 => raw.data = Some(decoder.bytes().map_err(wrong("vd"))?.into()),
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
struct Resolution<'pack> {
    base_name: &'pack str,
    base_time: Option<Number>,
    base_unit: Option<&'pack str>,
    base_value: Option<Number>,
    base_sum: Option<Number>,
    /// The last record's name, and what it was put together from: most packs name one thing over and over.
    name: String,
    name_of: Option<(&'pack str, &'pack str)>,
    /// The last unit that the registry had.
    unit: Option<&'pack str>,
}

impl<'pack> Resolution<'pack> {
    fn resolve(&mut self, raw: Raw<'pack>, at: usize) -> Result<Said<'_>, SenmlError> {
        let is_known = |version| (1..=VERSION_MAX).contains(&version) || version == VERSION_SECONDARY_UNITS;
        if raw.version.is_some_and(|version| !is_known(version)) {
            return Err(SenmlError::Field { record: at, field: "bver" });
        }
        self.base_name = raw.base_name.unwrap_or(self.base_name);
        self.base_time = raw.base_time.or(self.base_time);
        self.base_unit = raw.base_unit.or(self.base_unit);
        self.base_value = raw.base_value.or(self.base_value);
        self.base_sum = raw.base_sum.or(self.base_sum);

        let is_number = raw.text.is_none() && raw.bool.is_none() && raw.data.is_none();
        let value = sum_of(self.base_value.filter(|_| is_number), raw.value, at)?;
        let sum = sum_of(self.base_sum, raw.sum, at)?;
        let time = sum_of(self.base_time, raw.time, at)?;
        let time_us = time.map_or(Some(0), Number::microseconds).ok_or(SenmlError::Range { record: at })?;

        let values = [value.is_some(), raw.text.is_some(), raw.bool.is_some(), raw.data.is_some()];
        let values = values.into_iter().filter(|there| *there).count();
        if values > 1 || (values == 0 && sum.is_none()) {
            return Err(SenmlError::Value { record: at });
        }
        if raw.text.is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(SenmlError::Value { record: at });
        }
        self.name(raw.name.unwrap_or_default(), at)?;
        let unit = raw.unit.or(self.base_unit);
        self.check_unit(unit, at)?;
        let Raw { text, bool, data, .. } = raw;
        Ok(Said { name: &self.name, unit, time_us, number: value, text, bool, data, sum })
    }

    fn name(&mut self, name: &'pack str, at: usize) -> Result<(), SenmlError> {
        if self.name_of == Some((self.base_name, name)) {
            return Ok(());
        }
        self.name.clear();
        self.name.push_str(self.base_name);
        self.name.push_str(name);
        self.name_of = Some((self.base_name, name));
        if is_name(&self.name) { Ok(()) } else { Err(SenmlError::Name { record: at }) }
    }

    fn check_unit(&mut self, unit: Option<&'pack str>, at: usize) -> Result<(), SenmlError> {
        if unit != self.unit && unit.is_some_and(|unit| !is_registered(unit)) {
            return Err(SenmlError::Unit { record: at });
        }
        self.unit = unit;
        Ok(())
    }
}

impl From<Said<'_>> for Reading {
    fn from(said: Said<'_>) -> Self {
        let text = said.text.map(|text| Value::Text(text.to_owned()));
        let data = said.data.map(|data| Value::Data(data.into_owned()));
        let number = said.number.map(Value::Number);
        Self {
            name: said.name.to_owned(),
            unit: said.unit.map(str::to_owned),
            time_us: said.time_us,
            value: number.or(text).or(said.bool.map(Value::Bool)).or(data),
            sum: said.sum,
        }
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
