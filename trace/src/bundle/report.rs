//! What became of each layer, and what each statement says.

use std::collections::BTreeMap;

use crate::{
    hash::Hash,
    keys::{Custody, Kid},
    pack::senml::Reading,
};

/// Reasons that are told of one layer; the rest is counted.
const REASONS_MAX: usize = 16;

/// The layers in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Checkpoints are signed by logs that the trust file names, or that a `new-log` of such a log names.
    Log,
    /// Witnesses cosigned them, as many as the quorum asks.
    Witnesses,
    /// Each statement is signed by the key that it names, and its disclosures open it.
    Signature,
    /// Each statement stands in its log, and was made for that log's ledger.
    Inclusion,
    /// Each signing key was enrolled, before the statement, by a registrar whom the trust file names, for that party or device.
    Enrolment,
    /// Each signing key was good in a roster stated after the statement.
    Roster,
    /// The head that an author had seen was cosigned, is older than the statement, and the log grew from it.
    Seen,
    /// Heads on chains: compared with the bundle offline, looked up online only.
    Chain,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// Something contradicts: each reason names what and where.
    Bad(Vec<String>),
    /// Nothing is wrong, but this could not be checked from the bundle.
    Unchecked(Vec<String>),
}

/// A layer, what was found, and how many statements, heads or keys were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub layer: Layer,
    pub count: usize,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    Invalid,
    CouldNotCheck,
}

/// When a statement was made, in Unix seconds, as far as others than its author can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// Not before this: the first cosignature on the head that its author had seen.
    pub after: Option<u64>,
    /// Not after this: when enough witnesses had cosigned a head that covers it, or a chain had taken one.
    pub before: Option<u64>,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// The claims, with what this bundle discloses put back.
    Record(serde_json::Value),
    Pack {
        readings: Vec<Reading>,
        /// Signed by a gateway: it says what arrived from the device, the device says nothing.
        by_gateway: bool,
    },
}

/// A statement as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What other records refer to it by.
    pub entry: Hash,
    pub kid: Kid,
    /// Who holds the signer's secret, as its enrolment says: part of the statement's grade. `None` for a registrar's.
    pub custody: Option<Custody>,
    pub content: Content,
    /// Origin of its log and its index there; `None` where that was not shown.
    pub place: Option<(String, u64)>,
    pub made: Interval,
}

/// All layers and what follows from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub layers: Vec<Checked>,
    pub verdict: Verdict,
    /// The statements in the bundle's order; `None` for one whose signature does not verify.
    pub statements: Vec<Option<Read>>,
}

#[derive(Default)]
struct Found {
    count: usize,
    bad: Reasons,
    open: Reasons,
}

#[derive(Default)]
struct Reasons {
    told: Vec<String>,
    more: usize,
}

impl Reasons {
    fn push(&mut self, why: String) {
        if self.told.len() < REASONS_MAX {
            self.told.push(why);
        } else {
            self.more += 1;
        }
    }

    fn into_told(mut self) -> Option<Vec<String>> {
        if self.more > 0 {
            self.told.push(format!("and {} more", self.more));
        }
        (!self.told.is_empty()).then_some(self.told)
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    layers: BTreeMap<Layer, Found>,
}

impl Findings {
    pub fn count(&mut self, layer: Layer) {
        self.layers.entry(layer).or_default().count += 1;
    }

    pub fn bad(&mut self, layer: Layer, why: impl Into<String>) {
        self.layers.entry(layer).or_default().bad.push(why.into());
    }

    pub fn unchecked(&mut self, layer: Layer, why: impl Into<String>) {
        self.layers.entry(layer).or_default().open.push(why.into());
    }

    pub fn into_report(self, statements: Vec<Option<Read>>) -> Report {
        let layers: Vec<Checked> = self
            .layers
            .into_iter()
            .map(|(layer, Found { count, bad, open })| {
                let unchecked = open.into_told().map(Outcome::Unchecked);
                let outcome = bad.into_told().map(Outcome::Bad).or(unchecked).unwrap_or(Outcome::Good);
                Checked { layer, count, outcome }
            })
            .collect();
        Report { verdict: verdict(&layers), layers, statements }
    }
}

/// The chain is extra: a bundle is valid without it. What contradicts it is not.
pub(super) fn verdict(layers: &[Checked]) -> Verdict {
    let is_open =
        |checked: &Checked| checked.layer != Layer::Chain && matches!(checked.outcome, Outcome::Unchecked(_));
    if layers.iter().any(|checked| matches!(checked.outcome, Outcome::Bad(_))) {
        Verdict::Invalid
    } else if layers.iter().any(is_open) {
        Verdict::CouldNotCheck
    } else {
        Verdict::Valid
    }
}
