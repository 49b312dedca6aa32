//! What a profile says of instruments: how they write, when a reading is an alert, how often something is looked at, and what a
//! summary of readings is called.

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

/// A reading that raises an alert on what lies there; it clears only when back past `clear`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Threshold {
    pub id: String,
    /// Name of the SenML record, its last part.
    pub metric: String,
    pub unit: String,
    /// Kinds of device; empty means any.
    #[serde(default)]
    pub devices: Vec<String>,
    pub over: Option<f64>,
    pub under: Option<f64>,
    /// Hysteresis: cleared when below (above) this.
    pub clear: f64,
    pub source: String,
}

/// Devices of which a reading is expected at least so often: a longer silence raises an alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Silence {
    pub id: String,
    /// Kinds of device.
    pub devices: Vec<String>,
    pub minutes: u32,
    pub source: String,
}

/// How often something must be looked at, by the temperature measured there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interval {
    pub step: String,
    pub metric: String,
    /// From this value on.
    pub above: f64,
    pub days: u32,
    pub source: String,
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
