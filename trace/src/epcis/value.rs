//! The scalar values of EPCIS JSON. Each keeps the text it was read from, so that printing gives the same value.

use std::fmt;

use chrono::{DateTime, FixedOffset, Utc};
use serde_json::{Number, Value};

use super::read::{At, EpcisError, Member, Rule};

/// An absolute or compact URI (RFC 3986 §3, CURIE): a scheme and something after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri(Box<str>);

impl Uri {
    pub fn new(text: &str) -> Option<Self> {
        is_uri(text).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_uri(text: &str) -> bool {
    const BYTES_MAX: usize = 2_048;
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    let forbidden = |letter: char| {
        letter.is_control()
            || letter.is_whitespace()
            || matches!(letter, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    };
    text.len() <= BYTES_MAX
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(in_scheme)
        && !rest.is_empty()
        && !rest.contains(forbidden)
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Member for Uri {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        let text = String::read(value, at)?;
        if is_uri(&text) { Ok(Self(text.into())) } else { Err(at.error(Rule::Uri(text))) }
    }

    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A date and time with its offset, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    text: Box<str>,
    instant: DateTime<FixedOffset>,
}

impl Time {
    pub fn new(text: &str) -> Option<Self> {
        let instant = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self { text: text.into(), instant })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn instant(&self) -> DateTime<Utc> {
        self.instant.to_utc()
    }
}

impl Member for Time {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        let text = String::read(value, at)?;
        Self::new(&text).ok_or_else(|| at.error(Rule::Time(text)))
    }

    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A decimal as sent. Not for sums: quantities that count are parsed exactly by their own type.
#[derive(Debug, Clone, PartialEq)]
pub struct Decimal(pub Number);

impl Member for Decimal {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        match value {
            Value::Number(number) => Ok(Self(number)),
            _ => Err(at.error(Rule::Kind("a number"))),
        }
    }

    fn write(&self) -> Value {
        Value::Number(self.0.clone())
    }
}

/// Texts of a fixed shape.
macro_rules! shaped {
    ($($(#[$doc:meta])* $name:ident, $rule:ident, $test:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            pub fn new(text: &str) -> Option<Self> {
                let test: fn(&str) -> bool = $test;
                test(text).then(|| Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Member for $name {
            fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
                let text = String::read(value, at)?;
                Self::new(&text).ok_or_else(|| at.error(Rule::$rule(text)))
            }

            fn write(&self) -> Value {
                Value::from(self.as_str())
            }
        }
    )+};
}

shaped! {
    /// `+08:00`: the offset in force where and when the event happened.
    Offset, Offset, is_offset;
    /// `2.0`
    Version, Version, |text| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    /// A unit code of UN/ECE Recommendation 20.
    Unit, Unit, |text| {
        matches!(text.len(), 2 | 3) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    /// Bytes in hexadecimal.
    Hexadecimal, Hexadecimal, |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
}

fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    let Some((hours, minutes)) = rest.split_once(':') else { return false };
    let number = |part: &str| match part.as_bytes() {
        [tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit() => {
            Some((tens - b'0') * 10 + (ones - b'0'))
        }
        _ => None,
    };
    match (number(hours), number(minutes)) {
        (Some(14), Some(0)) => true,
        (Some(hours), Some(minutes)) => hours < 14 && minutes < 60,
        _ => false,
    }
}

/// What an event says happened to the objects' relation (EPCIS 2.0 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Observe,
    Add,
    Delete,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "OBSERVE",
            Self::Add => "ADD",
            Self::Delete => "DELETE",
        }
    }
}

impl Member for Action {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        match value.as_str() {
            Some("OBSERVE") => Ok(Self::Observe),
            Some("ADD") => Ok(Self::Add),
            Some("DELETE") => Ok(Self::Delete),
            _ => Err(at.error(Rule::Action)),
        }
    }

    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// One value, or a list of them: JSON-LD allows both.
#[derive(Debug, Clone, PartialEq)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }
}

impl<T: Member> Member for OneOrMany<T> {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        if value.is_array() {
            Vec::read(value, at).map(Self::Many)
        } else {
            T::read(value, at).map(Self::One)
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::One(one) => one.write(),
            Self::Many(many) => many.write(),
        }
    }
}
