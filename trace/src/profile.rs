//! Profiles: what a commodity's steps, fields, units, limits and forms are. One file each; no commodity has code here.

pub mod author;
pub mod build;
mod check;
pub mod derived;
mod draft;
pub mod effect;
pub mod field;
mod file;
pub mod form;
mod instrument;
mod step;
pub mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use effect::Effect;
pub use field::{Field, Kind, Level, Limit, To};
pub use file::ProfileError;
pub use instrument::{DeviceMap, Metric};
pub use step::{EventType, Rule, Step, WiredOutput, Wiring};
pub use watch::{Disagreement, Interval, Rise, Silence, Threshold};

use file::File;

use crate::{
    hash::{Hash, sha256},
    quantity::{Measure, Unit},
    uplink::Format,
};

/// Why a step is refused, or what is said beside it: a field, a rule, and the figures for the reader's own language.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    pub field: String,
    /// Key in the locales: `rule-<rule>`.
    pub rule: &'static str,
    pub args: BTreeMap<String, String>,
}

impl Refusal {
    pub fn new(field: impl Into<String>, rule: &'static str) -> Self {
        Self { field: field.into(), rule, args: BTreeMap::new() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.args.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn message_key(&self) -> String {
        format!("rule-{}", self.rule)
    }
}

/// A product of the profile, and what its lots are counted in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Product {
    pub id: String,
    /// UN/ECE Rec 20 code in which people state it.
    pub unit: String,
    /// Shown to shoppers when scanned.
    #[serde(default)]
    pub consumer: bool,
}

impl Product {
    pub fn measure(&self) -> Measure {
        Measure::from_code(&self.unit).unwrap_or(Measure::PIECE)
    }
}

/// A sector's file, parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    digest: Hash,
    file: File,
}

impl Profile {
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        Self::checked(text, toml::from_str(text)?)
    }

    /// [`Profile::parse`] by way of JSON: a third of the code, and errors that name no line. For where code is carried over
    /// a phone's connection, and somebody else wrote the profile.
    pub fn parse_in_little_code(text: &str) -> Result<Self, ProfileError> {
        let value: serde_json::Value = toml::from_str(text)?;
        let file = File::deserialize(value).map_err(<toml::de::Error as serde::de::Error>::custom)?;
        Self::checked(text, file)
    }

    fn checked(text: &str, file: File) -> Result<Self, ProfileError> {
        file::check(&file)?;
        Ok(Self { digest: sha256(text.as_bytes()), file })
    }

    pub fn id(&self) -> &str {
        &self.file.id
    }

    pub const fn version(&self) -> u32 {
        self.file.version
    }

    /// SHA-256 of the file.
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// The claim `profile`: `id/version#` and the first 128 bits of the file's SHA-256 in hex.
    pub fn reference(&self) -> String {
        use std::fmt::Write as _;
        let mut reference = format!("{}/{}#", self.file.id, self.file.version);
        for byte in self.digest.as_bytes().iter().take(16) {
            // Writing to a String does not fail.
            write!(reference, "{byte:02x}").unwrap_or_default();
        }
        reference
    }

    pub fn roles(&self) -> &[String] {
        &self.file.roles
    }

    pub fn sections(&self) -> &[String] {
        &self.file.sections
    }

    pub fn place_kinds(&self) -> &[String] {
        &self.file.place_kinds
    }

    pub fn device_kinds(&self) -> &[String] {
        &self.file.device_kinds
    }

    /// How devices of this kind and format write, unless their registration says otherwise.
    pub fn device_map(&self, kind: &str, format: Format) -> Option<&DeviceMap> {
        self.file.device_maps.iter().find(|usual| usual.kind == kind && usual.format == format)
    }

    pub fn products(&self) -> &[Product] {
        &self.file.products
    }

    pub fn product(&self, id: &str) -> Option<&Product> {
        self.file.products.iter().find(|product| product.id == id)
    }

    pub fn steps(&self) -> &[Step] {
        &self.file.steps
    }

    pub fn step(&self, id: &str) -> Option<&Step> {
        self.file.steps.iter().find(|step| step.id == id)
    }

    /// In the order of the forms.
    pub fn steps_of<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Step> {
        self.file.steps.iter().filter(move |step| step.roles.iter().any(|allowed| allowed == role))
    }

    pub fn thresholds(&self) -> &[Threshold] {
        &self.file.thresholds
    }

    pub fn silences(&self) -> &[Silence] {
        &self.file.silences
    }

    pub fn rises(&self) -> &[Rise] {
        &self.file.rises
    }

    pub fn disagreements(&self) -> &[Disagreement] {
        &self.file.disagreements
    }

    pub fn intervals(&self) -> &[Interval] {
        &self.file.intervals
    }

    pub fn metrics(&self) -> &[Metric] {
        &self.file.metrics
    }

    pub fn metric(&self, id: &str) -> Option<&Metric> {
        self.file.metrics.iter().find(|metric| metric.id == id)
    }

    /// Locale keys: `{profile}-{step}`, `{profile}-{step}-{field}`, `{profile}-product-{id}`, …
    pub fn step_key(&self, step: &Step) -> String {
        format!("{}-{}", self.id(), step.id)
    }

    pub fn field_key(&self, step: &Step, field: &Field) -> String {
        format!("{}-{}-{}", self.id(), step.id, field.id)
    }

    pub fn choice_key(&self, step: &Step, field: &Field, choice: &str) -> String {
        format!("{}-{}-{}-{}", self.id(), step.id, field.id, choice.replace('_', "-"))
    }

    pub fn product_key(&self, product: &str) -> String {
        format!("{}-product-{product}", self.id())
    }

    pub fn section_key(&self, section: &str) -> String {
        format!("{}-section-{section}", self.id())
    }

    pub fn metric_key(&self, metric: &str) -> String {
        format!("{}-metric-{metric}", self.id())
    }

    /// The key of a rule that raises alerts: of an interval, its step.
    pub fn threshold_key(&self, threshold: &str) -> String {
        format!("{}-threshold-{threshold}", self.id())
    }

    /// The key of a kind of place, a role or a kind of device.
    pub fn word_key(&self, word: &str) -> String {
        format!("{}-word-{word}", self.id())
    }
}

/// What of a lot the rules need: whoever captures a step looks it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LotFacts {
    pub product: String,
    pub unit: Unit,
    /// What the author holds of it where the step takes it from.
    pub on_hand: i64,
    pub made_at: chrono::DateTime<chrono::Utc>,
    pub recalled: bool,
}

#[cfg(test)]
mod tests;
