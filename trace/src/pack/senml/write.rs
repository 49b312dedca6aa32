//! Readings as SenML CBOR: base name and base time once, exact numbers as integers or decimal fractions.

use minicbor::{Encoder, data::Tag};

use super::{Number, RECORDS_MAX, Reading, SenmlError, Value};

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// A pack of `readings`, all of whose names start with `base_name`.
///
/// A base time is written if the first reading's time is absolute; times that are relative stay so.
pub fn write_cbor(base_name: &str, readings: &[Reading]) -> Result<Vec<u8>, SenmlError> {
    if readings.is_empty() || readings.len() > RECORDS_MAX {
        return Err(SenmlError::Count);
    }
    let base_time_s =
        readings.first().filter(|first| first.is_absolute()).map_or(0, |first| first.time_us / 1_000_000);
    let mut out = Vec::with_capacity(readings.len() * 16 + 64);
    let mut encoder = Encoder::new(&mut out);
    // A Vec takes every write.
    encoder.array(length(readings.len())).map(|_| ()).unwrap_or_default();
    for (at, reading) in readings.iter().enumerate() {
        let name = reading.name.strip_prefix(base_name).ok_or(SenmlError::Name { record: at })?;
        let base = (at == 0).then_some((base_name, base_time_s));
        write_record(&mut encoder, base, name, base_time_s, reading).unwrap_or_default();
    }
    Ok(out)
}

fn write_record(
    encoder: &mut Encoder<&mut Vec<u8>>,
    base: Option<(&str, i64)>,
    name: &str,
    base_time_s: i64,
    reading: &Reading,
) -> Written {
    let offset_us = reading.time_us.saturating_sub(base_time_s.saturating_mul(1_000_000));
    let has_base_time = base.is_some_and(|(_, time_s)| time_s != 0);
    let fields = [
        base.is_some(),
        has_base_time,
        !name.is_empty(),
        reading.unit.is_some(),
        reading.value.is_some(),
        reading.sum.is_some(),
        offset_us != 0,
    ];
    encoder.map(length(fields.into_iter().filter(|stands| *stands).count()))?;
    if let Some((base_name, time_s)) = base {
        encoder.i8(-2)?.str(base_name)?;
        if has_base_time {
            encoder.i8(-3)?.i64(time_s)?;
        }
    }
    if !name.is_empty() {
        encoder.u8(0)?.str(name)?;
    }
    if let Some(unit) = &reading.unit {
        encoder.u8(1)?.str(unit)?;
    }
    match &reading.value {
        Some(Value::Number(number)) => write_number(encoder.u8(2)?, *number)?,
        Some(Value::Text(text)) => drop(encoder.u8(3)?.str(text)?),
        Some(Value::Bool(bool)) => drop(encoder.u8(4)?.bool(*bool)?),
        Some(Value::Data(data)) => drop(encoder.u8(8)?.bytes(data)?),
        None => {}
    }
    if let Some(sum) = reading.sum {
        write_number(encoder.u8(5)?, sum)?;
    }
    if offset_us != 0 {
        write_number(encoder.u8(6)?, shortest(offset_us))?;
    }
    Ok(())
}

fn write_number(encoder: &mut Encoder<&mut Vec<u8>>, number: Number) -> Written {
    match number {
        Number::Decimal { mantissa, exponent: 0 } => encoder.i64(mantissa)?,
        Number::Decimal { mantissa, exponent } => {
            encoder.tag(Tag::new(4))?.array(2)?.i8(exponent)?.i64(mantissa)?
        }
        Number::Float(value) => encoder.f64(value)?,
    };
    Ok(())
}

/// Microseconds as seconds without trailing zeros.
fn shortest(microseconds: i64) -> Number {
    let (mut mantissa, mut exponent) = (microseconds, -6);
    while exponent < 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    Number::Decimal { mantissa, exponent }
}

/// At most [`RECORDS_MAX`].
fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
