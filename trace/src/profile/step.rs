//! Steps as a profile's file writes them: fields, how these make an effect, and rules over them.

use serde::Deserialize;

use super::{Field, Kind};
use crate::quantity::Decimal;

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
