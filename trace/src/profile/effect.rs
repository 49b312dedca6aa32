//! What a step does to holdings. Whoever captures a record applies its effect in the same transaction.
//!
//! Lots, places, parties, consignments and logistic units are named by their canonical Digital Link or document URI, as
//! in the event itself.

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// A quantity of a lot that is already held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    pub lot: String,
    pub quantity: Quantity,
}

/// A lot that comes into being.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub lot: String,
    /// The profile's product.
    pub product: String,
    pub quantity: Quantity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "lowercase")]
pub enum Effect {
    /// A lot begins: harvested, felled. `quota` is the permit that the quantity uses up.
    Create {
        lot: String,
        product: String,
        quantity: Quantity,
        place: String,
        quota: Option<String>,
    },
    /// Nothing moves.
    Observe {
        lots: Vec<String>,
        place: Option<String>,
    },
    /// `run` is the transformationID: one physical run in several events, never used for two.
    Transform {
        inputs: Vec<Portion>,
        outputs: Vec<Output>,
        place: String,
        run: Option<String>,
    },
    /// Into a bin: a non-empty bin opens a derived epoch, an empty one takes the lot as it is.
    Store {
        lot: String,
        quantity: Quantity,
        place: String,
    },
    /// Codes for single packs of a lot; the run is the server's.
    Commission {
        lot: String,
        pieces: i64,
        gtin: String,
    },
    Pack {
        parent: String,
        children: Vec<Portion>,
    },
    Unpack {
        parent: String,
    },
    /// Out of the holding `from`, into a consignment.
    Ship {
        consignment: String,
        portions: Vec<Portion>,
        from: String,
        to_party: String,
        to_place: Option<String>,
    },
    /// Out of the consignment, by what was measured here; the difference is recorded, not argued away.
    Receive {
        consignment: String,
        portions: Vec<Portion>,
        place: String,
    },
    /// The consignment goes back whole.
    Refuse {
        consignment: String,
        reason: String,
    },
    Loss {
        lot: String,
        quantity: Quantity,
        place: String,
        reason: String,
    },
    Recall {
        lot: String,
        notice: String,
    },
}

impl Effect {
    /// Lots that must exist before the step, in the order stated.
    pub fn lots(&self) -> Vec<&str> {
        match self {
            Self::Create { .. } | Self::Unpack { .. } | Self::Refuse { .. } => Vec::new(),
            Self::Observe { lots, .. } => lots.iter().map(String::as_str).collect(),
            Self::Transform { inputs: portions, .. }
            | Self::Pack { children: portions, .. }
            | Self::Ship { portions, .. }
            | Self::Receive { portions, .. } => portions.iter().map(|portion| portion.lot.as_str()).collect(),
            Self::Store { lot, .. }
            | Self::Commission { lot, .. }
            | Self::Loss { lot, .. }
            | Self::Recall { lot, .. } => vec![lot],
        }
    }
}
