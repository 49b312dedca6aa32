//! Strict JSON: what two readers could understand differently is refused.
//!
//! Signed text is read here and nowhere else. serde_json alone keeps the last of two members with one name, so that
//! a verifier that keeps the first would see another statement; and a number with more digits than a double carries
//! would be rounded by one reader and not by the other.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Digits that survive decimal → binary64 → decimal.
const SIGNIFICANT_DIGITS_MAX: usize = 15;

/// Keeps every accepted number clear of overflow and of silent underflow to zero.
const EXPONENT_ABS_MAX: u32 = 250;

/// Bounds that hold before anything is allocated for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub bytes_max: usize,
    /// Nested arrays and objects; a scalar has depth 0.
    pub depth_max: usize,
}

impl Limits {
    /// A record's claims, or all that one record discloses.
    pub const RECORD: Self = Self { bytes_max: 256 * 1024, depth_max: 32 };
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("{bytes} bytes of JSON where {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("a number with more than 15 significant digits at byte {at}")]
    TooPrecise { at: usize },
    #[error("a number out of range at byte {at}")]
    OutOfRange { at: usize },
    /// Not JSON (RFC 8259), a member twice, or nested too deep.
    #[error("{0}")]
    Malformed(String),
}

/// Parses `text` within [`Limits::RECORD`].
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    parse_within(text, Limits::RECORD)
}

/// RFC 8259 text to a value, members in the order of the text.
pub fn parse_within(text: &[u8], limits: Limits) -> Result<Value, JsonError> {
    if text.len() > limits.bytes_max {
        return Err(JsonError::TooLong { bytes: text.len(), bytes_max: limits.bytes_max });
    }
    check_numbers(text)?;
    parse_numbers_as_doubles(text, limits)
}

/// The same for what an instrument wrote: it is converted and never signed as text, so that a number may have as many
/// digits as a double prints. One that is out of a double's range is refused.
pub fn parse_measured(text: &[u8], limits: Limits) -> Result<Value, JsonError> {
    if text.len() > limits.bytes_max {
        return Err(JsonError::TooLong { bytes: text.len(), bytes_max: limits.bytes_max });
    }
    parse_numbers_as_doubles(text, limits)
}

fn parse_numbers_as_doubles(text: &[u8], limits: Limits) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let malformed = |error: serde_json::Error| JsonError::Malformed(error.to_string());
    let value = Strict { depth_left: limits.depth_max }.deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(value)
}

/// Walks the number tokens of the raw text: the parser hands numbers on already rounded.
fn check_numbers(text: &[u8]) -> Result<(), JsonError> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += match byte {
            b'"' => 1 + string_len(text.get(at + 1..).unwrap_or_default()),
            b'0'..=b'9' => {
                let rest = text.get(at..).unwrap_or_default();
                let of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let len = rest.iter().position(|byte| !of_number(byte)).unwrap_or(rest.len());
                check_number(rest.get(..len).unwrap_or_default(), at)?;
                len
            }
            _ => 1,
        };
    }
    Ok(())
}

/// Bytes up to and with the quotation mark that ends a string.
fn string_len(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(len) if rest.get(len) == Some(&b'\\') => at += len + 2,
            Some(len) => return at + len + 1,
            None => return text.len(),
        }
    }
}

fn check_number(token: &[u8], at: usize) -> Result<(), JsonError> {
    let mantissa_len = token.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(token.len());
    let (mantissa, exponent) = token.split_at_checked(mantissa_len).unwrap_or((token, &[]));
    let digits = || mantissa.iter().filter(|byte| byte.is_ascii_digit());
    let leading_zeros = digits().take_while(|&&byte| byte == b'0').count();
    let trailing_zeros = digits().rev().take_while(|&&byte| byte == b'0').count();
    if digits().count().saturating_sub(leading_zeros + trailing_zeros) > SIGNIFICANT_DIGITS_MAX {
        return Err(JsonError::TooPrecise { at });
    }
    let exponent_abs = exponent
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0_u32, |sum, byte| sum.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
    if exponent_abs > EXPONENT_ABS_MAX || mantissa.len() > 64 {
        return Err(JsonError::OutOfRange { at });
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left }),
            None => Err(E::custom("nested too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(deeper)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(deeper)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        parse(text.as_bytes()).is_err()
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth_and_in_any_spelling() {
        assert!(refused(r#"{"a":1,"a":1}"#));
        assert!(refused(r#"[{"x":{"a":1,"\u0061":2}}]"#));
        assert!(!refused(r#"{"a":1,"b":{"a":1}}"#));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!refused(&nested(32)));
        assert!(refused(&nested(33)));
        assert!(refused(&nested(10_000)));
    }

    #[test]
    fn numbers_carry_fifteen_significant_digits_and_no_more() {
        for accepted in
            ["123456789012345", "-0.000123456789012345", "1000000000000000000", "1.50e-7", "[0,-0.0,1E5]"]
        {
            assert!(!refused(accepted), "{accepted}");
        }
        for rejected in [
            "1234567890123456",
            "0.1234567890123456",
            "9007199254740993",
            "1e400",
            "1e-400",
            "1e999999999999",
        ] {
            assert!(refused(rejected), "{rejected}");
        }
        assert!(!refused(r#"{"1234567890123456789":"9007199254740993 \" 12345678901234567890"}"#));
    }

    #[test]
    fn what_is_not_one_json_text_is_refused() {
        for text in ["", "{} {}", "{'a':1}", "[1,]", "NaN", r#""\ud800""#, "01", "\u{feff}{}", "[1e]"] {
            assert!(refused(text), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse_within(b"[1,2]", Limits { bytes_max: 4, depth_max: 1 }).is_err());
    }

    #[test]
    fn members_keep_the_order_of_the_text() {
        let value = parse(br#"{"z":1,"a":[true,null,"\u6eaf"],"m":0.1}"#).unwrap();
        assert_eq!(value.to_string(), r#"{"z":1,"a":[true,null,"溯"],"m":0.1}"#);
    }
}
