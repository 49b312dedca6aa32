//! SenML (RFC 8428): JSON and CBOR packs read into resolved readings, and written as CBOR.

mod number;
mod read;
mod unit;
mod write;

use std::borrow::Cow;

pub use number::Number;
pub use read::{each_of_cbor, parse_cbor, parse_json};
pub use unit::is_registered;
pub use write::write_cbor;

/// Records of one pack.
pub const RECORDS_MAX: usize = 1_000;
/// Times below are relative to "now", others absolute (RFC 8428 §4.5.3), here in microseconds.
pub const ABSOLUTE_US_MIN: i64 = (1 << 28) * 1_000_000;
const NAME_BYTES_MAX: usize = 255;
pub(crate) const TEXT_BYTES_MAX: usize = 4_096;

/// What a record says of its name at its time.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(Number),
    Text(String),
    Bool(bool),
    Data(Vec<u8>),
}

/// A resolved record (RFC 8428 §4.6): every base field applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Base name and name.
    pub name: String,
    pub unit: Option<String>,
    /// Absolute or relative, see [`ABSOLUTE_US_MIN`].
    pub time_us: i64,
    /// `None` where only a sum is told.
    pub value: Option<Value>,
    pub sum: Option<Number>,
}

impl Reading {
    pub const fn is_absolute(&self) -> bool {
        self.time_us >= ABSOLUTE_US_MIN
    }
}

/// A resolved record as it stands in the pack: [`Reading`] without a copy. At most one of number, text, bool and data.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<'pack> {
    /// Base name and name.
    pub name: &'pack str,
    pub unit: Option<&'pack str>,
    /// Absolute or relative, see [`ABSOLUTE_US_MIN`].
    pub time_us: i64,
    pub number: Option<Number>,
    pub text: Option<&'pack str>,
    pub bool: Option<bool>,
    pub data: Option<Cow<'pack, [u8]>>,
    pub sum: Option<Number>,
}

impl Said<'_> {
    pub const fn is_absolute(&self) -> bool {
        self.time_us >= ABSOLUTE_US_MIN
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenmlError {
    #[error("not JSON, or not within its limits")]
    Json(#[from] crate::json::JsonError),
    #[error("not CBOR of definite lengths")]
    Cbor,
    #[error("not an array of records")]
    NotAPack,
    #[error("no records, or more than {RECORDS_MAX}")]
    Count,
    #[error("record {record}: {field} is not in its format")]
    Field { record: usize, field: &'static str },
    #[error("record {record}: a field stands twice")]
    Twice { record: usize },
    #[error("record {record}: a field must be understood and is not")]
    MustUnderstand { record: usize },
    #[error("record {record}: the name is empty or not of RFC 8428's characters")]
    Name { record: usize },
    #[error("record {record}: not exactly one value, or none and no sum")]
    Value { record: usize },
    #[error("record {record}: a unit that IANA's registry does not have")]
    Unit { record: usize },
    #[error("record {record}: a number out of range")]
    Range { record: usize },
}

/// UN/ECE Recommendation 20 code of a SenML unit, where there is one that EPCIS readers know.
pub fn rec20(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "kg" => "KGM",
        "g" => "GRM",
        "m" => "MTR",
        "m3" => "MTQ",
        "l" => "LTR",
        "Cel" => "CEL",
        "K" => "KEL",
        "%" | "%RH" | "/" => "P1",
        "ppm" => "59",
        "Pa" => "PAL",
        "lx" => "LUX",
        "V" => "VLT",
        "A" => "AMP",
        "s" => "SEC",
        "W" => "WTT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
