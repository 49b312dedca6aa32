//! Profiles: what a commodity's steps, fields, units, limits and forms are. One file each; no commodity has code here.

pub mod author;
pub mod build;
mod check;
pub mod derived;
mod draft;
pub mod effect;
pub mod field;
pub mod form;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use effect::Effect;
pub use field::{Field, Kind, Level, Limit, To};

use crate::{
    hash::{Hash, sha256},
    quantity::{Decimal, Measure, Unit},
    rules::formula::Formula,
    uplink::{Format, Map, MapError, Repeats},
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    Object,
    Aggregation,
    Transformation,
}

/// How the fields of a step make its effect: the names are those of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Wiring {
    Create {
        lot: String,
        quantity: String,
        place: String,
        permit: Option<String>,
    },
    Observe {
        #[serde(default)]
        lots: Vec<String>,
        place: Option<String>,
    },
    Transform {
        inputs: String,
        outputs: Vec<WiredOutput>,
        place: String,
        run: Option<String>,
    },
    Store {
        lot: String,
        quantity: String,
        place: String,
    },
    Commission {
        lot: String,
        pieces: String,
    },
    Pack {
        parent: String,
        children: String,
    },
    Unpack {
        parent: String,
    },
    Ship {
        consignment: String,
        portions: String,
        from: String,
        to_party: String,
        to_place: Option<String>,
    },
    /// `measured` is one quantity when the consignment is of one lot; without it, what was sent arrived.
    Receive {
        consignment: String,
        measured: Option<String>,
        place: String,
    },
    Refuse {
        consignment: String,
        reason: String,
    },
    Loss {
        lot: String,
        quantity: String,
        place: String,
        reason: String,
    },
    Recall {
        lot: String,
        notice: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WiredOutput {
    pub lot: String,
    pub quantity: String,
}

/// A rule of one step over its fields; each names the field that it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// 100 × `of` / `per` within bounds: outside warns, above `never-over` refuses.
    Yield {
        of: String,
        per: String,
        min: Option<Decimal>,
        max: Option<Decimal>,
        #[serde(rename = "never-over")]
        never_over: Decimal,
        source: String,
    },
    /// `field` is at most (strictly below, if `strictly`) `than`.
    NotMore {
        field: String,
        than: String,
        #[serde(default)]
        strictly: bool,
    },
    /// Percentages that make a whole.
    Sum { fields: Vec<String>, total: Decimal },
    /// The outputs weigh no more than the inputs; only outputs in the inputs' unit count.
    OutputsWithinInputs { inputs: String, outputs: Vec<String> },
    /// Dry matter is kept: out ≤ in × (100 − wet) / (100 − dry), with `tolerance` percent.
    DryMatter { input: String, output: String, wet: String, dry: String, tolerance: Decimal },
    /// Measured against sent, in percent; beyond it warns.
    Deviation { measured: String, max: Decimal },
    /// Hours from the lot's beginning to the step; beyond it warns.
    Within { hours: u32, field: String },
    /// One time field after the other.
    After { field: String, than: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    pub id: String,
    /// Roles of party that may take it.
    pub roles: Vec<String>,
    pub event: EventType,
    pub action: Option<String>,
    pub biz_step: String,
    pub disposition: Option<String>,
    /// Set for good, until unset (EPCIS 2.0 §7.3.4.3.1).
    pub persistent: Option<String>,
    /// The domain's word: `gx:step`.
    pub gx_step: String,
    /// Page section of lot and scan pages.
    pub section: String,
    /// The author is a natural person's block of this name, concealed as one.
    pub author_block: Option<String>,
    /// Digests at the event's own level in every record of this step.
    #[serde(default)]
    pub decoys: usize,
    pub effect: Wiring,
    #[serde(rename = "field", default)]
    pub fields: Vec<Field>,
    #[serde(rename = "rule", default)]
    pub rules: Vec<Rule>,
}

impl Step {
    pub fn field(&self, id: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == id)
    }

    pub fn fields_of(&self, kind: Kind) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.kind == kind)
    }
}

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

/// A sector's file, parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    digest: Hash,
    file: File,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    id: String,
    version: u32,
    roles: Vec<String>,
    sections: Vec<String>,
    place_kinds: Vec<String>,
    device_kinds: Vec<String>,
    #[serde(rename = "device-map", default)]
    device_maps: Vec<DeviceMap>,
    #[serde(rename = "product")]
    products: Vec<Product>,
    #[serde(rename = "step")]
    steps: Vec<Step>,
    #[serde(rename = "threshold", default)]
    thresholds: Vec<Threshold>,
    #[serde(rename = "silence", default)]
    silences: Vec<Silence>,
    #[serde(rename = "interval", default)]
    intervals: Vec<Interval>,
    #[serde(rename = "metric", default)]
    metrics: Vec<Metric>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("not a profile")]
    Toml(#[from] toml::de::Error),
    #[error("{0} stands twice")]
    Twice(String),
    #[error(
        "step {step} names {name}, which is no field, product, role, section, formula or unit of the profile"
    )]
    Unknown { step: String, name: String },
    #[error("{0} is not a lower-case word with hyphens")]
    Name(String),
    #[error("silence {0} lasts no minute")]
    NoTime(String),
    #[error("the map of device kind {kind}")]
    DeviceMap { kind: String, source: MapError },
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
        check(&file)?;
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

    /// The key of a rule that raises alerts, a threshold or a silence.
    pub fn threshold_key(&self, threshold: &str) -> String {
        format!("{}-threshold-{threshold}", self.id())
    }

    /// The key of a kind of place, a role or a kind of device.
    pub fn word_key(&self, word: &str) -> String {
        format!("{}-word-{word}", self.id())
    }
}

fn check(file: &File) -> Result<(), ProfileError> {
    let names = [&file.id].into_iter().chain(file.steps.iter().map(|step| &step.id));
    let names = names.chain(file.products.iter().map(|product| &product.id));
    for name in names.chain(file.steps.iter().flat_map(|step| step.fields.iter().map(|field| &field.id))) {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(good) {
            return Err(ProfileError::Name(name.clone()));
        }
    }
    no_doubles(file.steps.iter().map(|step| step.id.as_str()))?;
    no_doubles(file.products.iter().map(|product| product.id.as_str()))?;
    for product in &file.products {
        if Measure::from_code(&product.unit).is_none() {
            return Err(unknown("products", &product.unit));
        }
    }
    check_device_maps(file)?;
    check_silences(file)?;
    file.steps.iter().try_for_each(|step| check_step(file, step))
}

fn check_device_maps(file: &File) -> Result<(), ProfileError> {
    for usual in &file.device_maps {
        if !file.device_kinds.contains(&usual.kind) {
            return Err(unknown("device-map", &usual.kind));
        }
        let checked = usual.map.check(usual.format);
        checked.map_err(|source| ProfileError::DeviceMap { kind: usual.kind.clone(), source })?;
    }
    let names = file.device_maps.iter().map(|usual| format!("{}/{}", usual.kind, usual.format.as_str()));
    no_doubles(names.collect::<Vec<_>>().iter().map(String::as_str))
}

/// An open alert is known by its device and rule: no two rules of a profile may share a name.
fn check_silences(file: &File) -> Result<(), ProfileError> {
    for silence in &file.silences {
        if let Some(kind) = silence.devices.iter().find(|kind| !file.device_kinds.contains(kind)) {
            return Err(unknown("silence", kind));
        }
        if silence.minutes == 0 {
            return Err(ProfileError::NoTime(silence.id.clone()));
        }
    }
    let thresholds = file.thresholds.iter().map(|threshold| threshold.id.as_str());
    no_doubles(thresholds.chain(file.silences.iter().map(|silence| silence.id.as_str())))
}

fn no_doubles<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ProfileError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ProfileError::Twice(name.to_owned()));
        }
    }
    Ok(())
}

fn unknown(step: &str, name: &str) -> ProfileError {
    ProfileError::Unknown { step: step.to_owned(), name: name.to_owned() }
}

fn check_step(file: &File, step: &Step) -> Result<(), ProfileError> {
    no_doubles(step.fields.iter().map(|field| field.id.as_str()))?;
    let known = |list: &[String], name: &String| list.contains(name);
    if let Some(role) = step.roles.iter().find(|role| !known(&file.roles, role)) {
        return Err(unknown(&step.id, role));
    }
    if !known(&file.sections, &step.section) {
        return Err(unknown(&step.id, &step.section));
    }
    for field in &step.fields {
        if let Some(product) =
            field.products.iter().find(|id| !file.products.iter().any(|known| known.id == **id))
        {
            return Err(unknown(&step.id, product));
        }
        if let Some(name) = &field.computed {
            let formula: Formula = name.parse().map_err(|_| unknown(&step.id, name))?;
            if formula.arguments() != field.from.len() {
                return Err(unknown(&step.id, name));
            }
        }
    }
    let named = step.effect.fields().into_iter().chain(step.rules.iter().flat_map(Rule::fields));
    let named = named.chain(
        step.fields.iter().flat_map(|field| field.from.iter().chain(&field.item_of).map(String::as_str)),
    );
    for name in named {
        if step.field(name).is_none() {
            return Err(unknown(&step.id, name));
        }
    }
    Ok(())
}

impl Wiring {
    /// Every field that the effect reads.
    pub fn fields(&self) -> Vec<&str> {
        let (fixed, optional): (Vec<&String>, Vec<&Option<String>>) = match self {
            Self::Create { lot, quantity, place, permit } => (vec![lot, quantity, place], vec![permit]),
            Self::Observe { lots, place } => (lots.iter().collect(), vec![place]),
            Self::Transform { inputs, outputs, place, run } => {
                let outputs = outputs.iter().flat_map(|output| [&output.lot, &output.quantity]);
                ([inputs, place].into_iter().chain(outputs).collect(), vec![run])
            }
            Self::Store { lot, quantity, place } => (vec![lot, quantity, place], vec![]),
            Self::Commission { lot, pieces } => (vec![lot, pieces], vec![]),
            Self::Pack { parent, children } => (vec![parent, children], vec![]),
            Self::Unpack { parent } => (vec![parent], vec![]),
            Self::Ship { consignment, portions, from, to_party, to_place } => {
                (vec![consignment, portions, from, to_party], vec![to_place])
            }
            Self::Receive { consignment, measured, place } => (vec![consignment, place], vec![measured]),
            Self::Refuse { consignment, reason } => (vec![consignment, reason], vec![]),
            Self::Loss { lot, quantity, place, reason } => (vec![lot, quantity, place, reason], vec![]),
            Self::Recall { lot, notice } => (vec![lot, notice], vec![]),
        };
        fixed.into_iter().chain(optional.into_iter().flatten()).map(String::as_str).collect()
    }
}

impl Rule {
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Yield { of, per, .. } => vec![of, per],
            Self::NotMore { field, than, .. } | Self::After { field, than } => vec![field, than],
            Self::Sum { fields, .. } => fields.iter().map(String::as_str).collect(),
            Self::OutputsWithinInputs { inputs, outputs } => {
                std::iter::once(inputs).chain(outputs).map(String::as_str).collect()
            }
            Self::DryMatter { input, output, wet, dry, .. } => vec![input, output, wet, dry],
            Self::Deviation { measured, .. } => vec![measured],
            Self::Within { field, .. } => vec![field],
        }
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
