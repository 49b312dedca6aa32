//! What a profile says of instruments: how they write, and what a summary of readings is called.

use serde::Deserialize;

use crate::uplink::{Format, Map, Repeats};

/// How the devices of a kind write their readings, where a registration does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceMap {
    pub kind: String,
    pub format: Format,
    /// What two equal messages mean; a format without time or counter says it here.
    pub repeats: Option<Repeats>,
    pub map: Map,
}

/// A kind of sensor and what a window of its readings is called in an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metric {
    pub id: String,
    #[serde(rename = "type")]
    pub measurement: String,
    pub unit: String,
    /// The unit that SenML writes (RFC 8428 §12.1).
    pub senml: String,
    pub substance: Option<String>,
}
