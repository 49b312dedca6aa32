//! What a profile watches: limits, rises, probes that disagree, silences, and work that is due. Each rule names its source.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde::Deserialize;

use super::file::{File, ProfileError, no_doubles, unknown};

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

/// Of what a rise is taken: measuring points and layers as LS/T 1707.2 names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiseOf {
    /// Each measuring point of a device for itself.
    Point,
    /// The mean of each layer of a store's grid.
    Layer,
}

/// What is measured rises faster than it may.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rise {
    pub id: String,
    pub metric: String,
    /// Of what is measured; the rate is in it, a day.
    pub unit: String,
    pub devices: Vec<String>,
    pub of: RiseOf,
    /// The newest hour is compared with the one at least so long before it, and at most twice as long.
    pub hours: u32,
    pub over: f64,
    pub clear: f64,
    /// The rate is past `over` for at least so long before the alert is raised.
    #[serde(default)]
    pub minutes: u32,
    pub source: String,
}

/// With what a probe is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peers {
    /// The points beside, above and below it in the grid.
    Neighbours,
    /// The other devices of these kinds at the same place.
    Devices,
}

/// A probe says something else than those that should say the same.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disagreement {
    pub id: String,
    pub metric: String,
    pub unit: String,
    pub devices: Vec<String>,
    pub with: Peers,
    pub over: f64,
    pub clear: f64,
    /// It disagrees for at least so long before the alert is raised.
    pub minutes: u32,
    pub source: String,
}

/// How often a step is due at a place where goods of its kind lie: by the temperature measured there, or after a treatment.
/// The alert is named by the step. Of several intervals the shortest holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interval {
    pub step: String,
    /// In force from this day.
    pub from: NaiveDate,
    pub until: Option<NaiveDate>,
    pub days: u32,
    /// Where the mean of what these devices measured last is above …
    pub measured: Option<Measured>,
    /// … or for some days after another step.
    pub after: Option<After>,
    pub source: String,
}

/// A metric above a value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Measured {
    pub metric: String,
    pub unit: String,
    pub devices: Vec<String>,
    pub above: f64,
}

/// A step at the same place that is at most so many days ago.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct After {
    pub step: String,
    pub within_days: u32,
}

impl Interval {
    pub fn is_in_force(&self, day: NaiveDate) -> bool {
        self.from <= day && self.until.is_none_or(|until| day <= until)
    }
}

/// An open alert is known by its place or device and its rule: no two rules of a profile may share a name.
pub(super) fn check(file: &File) -> Result<(), ProfileError> {
    let kinds =
        |rule: &str, kinds: &[String]| match kinds.iter().find(|kind| !file.device_kinds.contains(kind)) {
            Some(kind) => Err(unknown(rule, kind)),
            None => Ok(()),
        };
    let lasting = |rule: &str, lasts: u32| match lasts {
        0 => Err(ProfileError::NoTime(rule.to_owned())),
        _ => Ok(()),
    };
    let hysteresis = |rule: &str, over: f64, clear: f64| {
        if clear < over { Ok(()) } else { Err(ProfileError::NoHysteresis(rule.to_owned())) }
    };
    for silence in &file.silences {
        kinds("silence", &silence.devices)?;
        lasting(&silence.id, silence.minutes)?;
    }
    for rise in &file.rises {
        kinds("rise", &rise.devices)?;
        lasting(&rise.id, rise.hours)?;
        hysteresis(&rise.id, rise.over, rise.clear)?;
    }
    for disagreement in &file.disagreements {
        kinds("disagreement", &disagreement.devices)?;
        hysteresis(&disagreement.id, disagreement.over, disagreement.clear)?;
    }
    for interval in &file.intervals {
        lasting(&interval.step, interval.days)?;
        let after = interval.after.iter().map(|after| &after.step);
        for step in after.chain([&interval.step]) {
            if !file.steps.iter().any(|known| known.id == *step) {
                return Err(unknown("interval", step));
            }
        }
        if let Some(measured) = &interval.measured {
            kinds("interval", &measured.devices)?;
        }
    }
    let due: BTreeSet<&str> = file.intervals.iter().map(|interval| interval.step.as_str()).collect();
    let thresholds = file.thresholds.iter().map(|threshold| threshold.id.as_str());
    let silences = file.silences.iter().map(|silence| silence.id.as_str());
    let rises = file.rises.iter().map(|rise| rise.id.as_str());
    let disagreements = file.disagreements.iter().map(|disagreement| disagreement.id.as_str());
    no_doubles(thresholds.chain(silences).chain(rises).chain(disagreements).chain(due))
}
