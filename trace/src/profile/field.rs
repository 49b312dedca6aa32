//! One field of a step: what may be typed, who may see it, and where in the event it goes.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer};

use crate::{quantity::Decimal, record::Visibility};

/// A field as its profile declares it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Field {
    pub id: String,
    pub kind: Kind,
    #[serde(default)]
    pub required: bool,
    #[serde(default = "public")]
    pub visibility: Visibility,
    #[serde(default = "nowhere")]
    pub to: To,
    /// The `gx:` block that the value stands in, concealed as one.
    pub block: Option<String>,
    /// UN/ECE Rec 20 code: what is printed beside the field, and the `uom` of a sensor report.
    pub unit: Option<String>,
    /// `type` of a sensor report: a GS1 measurement type, or the last part of one of ours.
    #[serde(rename = "type")]
    pub measurement: Option<String>,
    /// InChIKey of what was measured.
    pub substance: Option<String>,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    /// Digits after the point.
    pub places: Option<u8>,
    #[serde(default, rename = "limit")]
    pub limits: Vec<Limit>,
    #[serde(default)]
    pub choices: Vec<String>,
    #[serde(default)]
    pub columns: Vec<Column>,
    /// The product of a new lot; of the lots that may be chosen, where not any.
    #[serde(default)]
    pub products: Vec<String>,
    /// Kinds of place, or roles of party, that may be chosen; empty means any.
    #[serde(default)]
    pub among: Vec<String>,
    /// The party field whose trade item a new lot carries (the first buyer's).
    pub item_of: Option<String>,
    /// `weighbridge.gross`: the kind of device and the reading that fill the field in.
    pub instrument: Option<String>,
    /// A formula of [`crate::rules::formula`] over `from`: never typed.
    pub computed: Option<String>,
    #[serde(default)]
    pub from: Vec<String>,
}

impl Field {
    /// What a person is asked for, as opposed to what follows from it.
    pub const fn is_asked(&self) -> bool {
        self.computed.is_none()
    }

    /// A place's block holds what its owner is known by, unless the profile calls the field public or private.
    pub const fn visibility_of_block(&self) -> Visibility {
        match self.visibility {
            Visibility::Public => Visibility::Personal,
            other => other,
        }
    }

    /// Limits in force on `day` for the choices made.
    pub fn limits_on<'a>(
        &'a self,
        day: NaiveDate,
        choice: impl Fn(&str) -> Option<&'a str> + 'a,
    ) -> impl Iterator<Item = &'a Limit> {
        self.limits.iter().filter(move |limit| {
            limit.from <= day
                && limit.until.is_none_or(|until| day < until)
                && limit.when.iter().all(|(field, wanted)| choice(field) == Some(wanted))
        })
    }
}

const fn nowhere() -> To {
    To::Nowhere
}

/// What is typed in a field, and therefore its control on the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A number for a lot that this step makes; its trade item is the maker's, or that of the party in `item-of`.
    NewLot,
    Lot,
    /// Quantities of any number of lots: submitted as `{field}:{lot}`.
    Portions,
    /// One line per piece (a tally list); columns of [`Field::columns`].
    Table,
    Place,
    Party,
    /// SSCC of a logistic unit.
    LogisticUnit,
    /// A number of the author's own for what is sent.
    NewConsignment,
    /// One that is on its way here.
    Consignment,
    /// The number of a permit that the operator registered.
    Permit,
    /// A number on a paper of the author's, or the HTTPS address or URN of somebody else's.
    Document,
    Decimal,
    Integer,
    Choice,
    Text,
    Date,
    Time,
}

/// Where in the EPCIS event a value goes. Lots and quantities go into the event's lists by way of the step's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Only a rule, a formula or the effect reads it.
    Nowhere,
    /// `readPoint` and `bizLocation`.
    ReadPoint,
    /// `ilmd.gx:{id}` (EPCIS 2.0 §7.3.7: only where a lot begins).
    Ilmd,
    /// One sensorReport, with `type`, `uom` and `substance`.
    Sensor,
    /// `bizTransactionList`, of this CBV type.
    Transaction(String),
    /// `sourceList` or `destinationList`, of this CBV type.
    Source(String),
    Destination(String),
    /// A member of the event, or of the block that [`Field::block`] names.
    Extension,
    /// The event's disposition (a choice of CBV words).
    Disposition,
    /// `transformationID`.
    Run,
}

/// Where the value is not one of a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no place in an event has this name")]
pub struct UnknownDestination;

impl std::str::FromStr for To {
    type Err = UnknownDestination;

    fn from_str(text: &str) -> Result<Self, UnknownDestination> {
        let (place, of) = text.split_once(':').unwrap_or((text, ""));
        match (place, of) {
            ("nowhere", "") => Ok(Self::Nowhere),
            ("read-point", "") => Ok(Self::ReadPoint),
            ("ilmd", "") => Ok(Self::Ilmd),
            ("sensor", "") => Ok(Self::Sensor),
            ("extension", "") => Ok(Self::Extension),
            ("disposition", "") => Ok(Self::Disposition),
            ("run", "") => Ok(Self::Run),
            ("transaction", of) if !of.is_empty() => Ok(Self::Transaction(of.to_owned())),
            ("source", of) if !of.is_empty() => Ok(Self::Source(of.to_owned())),
            ("destination", of) if !of.is_empty() => Ok(Self::Destination(of.to_owned())),
            _ => Err(UnknownDestination),
        }
    }
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A limit of a law or standard, in force from a date, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limit {
    pub from: NaiveDate,
    pub until: Option<NaiveDate>,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    /// Only where these choices were made: the grade that the result claims, the variety of grain.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    #[serde(default)]
    pub level: Level,
    pub source: String,
}

/// What a broken rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Refuse,
    /// Accepted, and said on the receipt.
    Warn,
}

/// A column of a tally list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub id: String,
    /// `text` or `decimal`.
    pub kind: Kind,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    pub unit: Option<String>,
}

const fn public() -> Visibility {
    Visibility::Public
}
