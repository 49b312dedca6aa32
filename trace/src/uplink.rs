//! What devices that cannot sign send, read into readings: SenML, a device's own JSON, ChirpStack, Sparkplug B.
//!
//! A gateway reads it to sign a pack; the server reads it again only to say why a payload came unsigned.

mod map;
pub mod sparkplug;
#[cfg(test)]
mod tests;

pub use map::{Factor, Map, MapError, MapReading, chirpstack, json};
use serde::{Deserialize, Serialize};

use crate::{
    json::JsonError,
    pack::senml::{self, Reading, SenmlError},
};

/// How a device writes its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Format {
    #[serde(rename = "cose")]
    Cose,
    #[serde(rename = "senml+json")]
    SenmlJson,
    #[serde(rename = "senml+cbor")]
    SenmlCbor,
    #[serde(rename = "chirpstack")]
    Chirpstack,
    #[serde(rename = "sparkplug")]
    Sparkplug,
    #[serde(rename = "json")]
    Json,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cose => "cose",
            Self::SenmlJson => "senml+json",
            Self::SenmlCbor => "senml+cbor",
            Self::Chirpstack => "chirpstack",
            Self::Sparkplug => "sparkplug",
            Self::Json => "json",
        }
    }

    pub fn of_word(word: &str) -> Option<Self> {
        const ALL: [Format; 6] = [
            Format::Cose,
            Format::SenmlJson,
            Format::SenmlCbor,
            Format::Chirpstack,
            Format::Sparkplug,
            Format::Json,
        ];
        ALL.into_iter().find(|format| format.as_str() == word)
    }

    /// Whether its devices stand on a network of their own and are found by [`Map::node`].
    pub const fn has_node(self) -> bool {
        matches!(self, Self::Chirpstack | Self::Sparkplug)
    }
}

/// What two equal payloads without time or counter mean: one pack, or two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeats {
    /// The pack's number is a hash of topic and payload: a redelivery is recognised.
    #[default]
    Merge,
    /// The pack's number is random: no measurement is lost, and a redelivery may make a second pack.
    Keep,
}

impl Repeats {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Keep => "keep",
        }
    }
}

/// Why a payload cannot become a pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UplinkError {
    #[error("not JSON within its limits")]
    Json(#[from] JsonError),
    #[error("not SenML")]
    Senml(#[from] SenmlError),
    #[error("not a Sparkplug B payload: {0}")]
    Sparkplug(&'static str),
    #[error("a mapped value is no finite number, text or truth value in range")]
    Value,
    #[error("a time that is neither Unix seconds nor RFC 3339")]
    Time,
    #[error("nothing that the device's map names")]
    Unmapped,
    #[error("a message that is not as the device's map wants it: another unit, or an unstable weight")]
    Only,
    #[error("an uplink that no codec decoded")]
    NoCodec,
    #[error("data before the birth that explains it")]
    NoBirth,
    #[error("a death of another session than the one that was born")]
    StaleDeath,
}

impl UplinkError {
    /// Each [`reason`](Self::reason), for whoever counts them.
    pub const REASONS: [&'static str; 11] = [
        "not-json",
        "not-senml",
        "unknown-unit",
        "not-sparkplug",
        "value",
        "time",
        "unmapped",
        "not-as-mapped",
        "no-codec",
        "no-birth",
        "stale-death",
    ];

    /// The word that stands beside the dead letter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::Senml(SenmlError::Json(_)) => "not-json",
            Self::Senml(SenmlError::Unit { .. }) => "unknown-unit",
            Self::Senml(_) => "not-senml",
            Self::Sparkplug(_) => "not-sparkplug",
            Self::Value => "value",
            Self::Time => "time",
            Self::Unmapped => "unmapped",
            Self::Only => "not-as-mapped",
            Self::NoCodec => "no-codec",
            Self::NoBirth => "no-birth",
            Self::StaleDeath => "stale-death",
        }
    }
}

/// The readings of a payload that explains itself: all formats but signed packs and Sparkplug.
pub fn read(format: Format, map: &Map, payload: &[u8]) -> Result<Vec<Reading>, UplinkError> {
    match format {
        Format::SenmlJson => Ok(senml::parse_json(payload)?),
        Format::SenmlCbor | Format::Cose => Ok(senml::parse_cbor(payload)?),
        Format::Chirpstack => chirpstack(payload, map),
        Format::Json => json(payload, map),
        Format::Sparkplug => Err(sparkplug::refusal(payload)),
    }
}

/// Times before it are relative in SenML: a clock that shows 1970 is no clock, and its reading counts from its arrival.
const fn absolute_or_arrival(time_us: i64) -> i64 {
    if time_us >= senml::ABSOLUTE_US_MIN { time_us } else { 0 }
}
