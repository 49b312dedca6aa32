//! A step's values → the EPCIS 2.0 event that its author signs, what in it is concealed, and its effect on holdings.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{Effect, Field, Kind, LotFacts, Profile, Refusal, Step, Wiring, form::Values};
use crate::{
    profile::effect::{Output, Portion},
    quantity::{Measure, Quantity},
    record::{Body, Conceal},
    rules::PermitFacts,
};

/// Host of canonical Digital Links (GS1 Digital Link URI syntax §4.12).
pub const DIGITAL_LINK_HOST: &str = "https://id.gs1.org";
/// The IRI of our extension terms, for ever.
pub const GX: &str = "https://ns.suyuan.example/gx/";
/// EPCIS 2.0 §12.1: the context of every event.
pub const EPCIS_CONTEXT: &str = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld";
/// PubChem's InChIKey page: CBV 2.0 §8.9 takes any URI of the substance.
const SUBSTANCE: &str = "https://identifiers.org/inchikey:";
/// Clocks of phones run ahead; more than this is an error of the day.
const AHEAD_MINUTES_MAX: i64 = 10;

/// Everything that the author's words refer to, looked up by whoever captures the step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub jti: Uuid,
    pub now: DateTime<FixedOffset>,
    /// Digital Link of the author's party.
    pub author: String,
    /// What the author's concealed block holds (a natural person's name); empty for organisations.
    pub author_details: Map<String, Json>,
    /// Prefix of the URIs of the parties' own documents and consignments, with a final slash.
    pub documents: String,
    /// Existing lots by URI.
    pub lots: BTreeMap<String, LotFacts>,
    /// The GTIN for each [`Values::items_needed`], by field.
    pub items: BTreeMap<String, String>,
    /// Known places by URI.
    pub places: BTreeMap<String, PlaceFacts>,
    /// Known parties: URI → role.
    pub parties: BTreeMap<String, String>,
    /// The author's permits by number.
    pub permits: BTreeMap<String, PermitFacts>,
    /// Consignments awaited by the author, by URI.
    pub consignments: BTreeMap<String, ConsignmentFacts>,
    /// The code run that a commissioning was given: private.
    pub codes: Option<Codes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceFacts {
    pub kind: String,
    /// What a concealed block of the place holds: a plot's polygon.
    pub details: Map<String, Json>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsignmentFacts {
    pub shipper: String,
    pub lines: Vec<Portion>,
    pub shipped_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// Key epoch, first index and count (`formats.md`, serial numbers).
    pub epoch: char,
    pub first: u64,
    pub count: u64,
}

/// An event ready to be signed.
#[derive(Debug, Clone)]
pub struct Built {
    pub event: Json,
    pub conceal: Vec<Conceal>,
    pub decoys: usize,
    pub effect: Effect,
    /// Rules that do not refuse: shown on the receipt.
    pub warnings: Vec<Refusal>,
}

/// The URI of a document or consignment that `party` numbered.
pub fn document_uri(documents: &str, party: &str, number: &str) -> String {
    let key = party.strip_prefix(DIGITAL_LINK_HOST).unwrap_or(party).trim_start_matches('/');
    format!("{documents}{key}/{number}")
}

/// Lot URI of a trade item and a lot number.
pub fn lot_uri(gtin: &str, number: &str) -> String {
    format!("{DIGITAL_LINK_HOST}/01/{gtin}/10/{number}")
}

/// Applies every rule; on success nothing but the signature and the transaction is missing.
pub fn build(
    profile: &Profile,
    step: &Step,
    values: &Values,
    context: &Context,
) -> Result<Built, Vec<Refusal>> {
    let at = values.at().unwrap_or(context.now);
    let maker = Maker { profile, step, values, context, at };
    let mut refusals = Vec::new();
    maker.check_references(&mut refusals);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let effect = maker.effect().map_err(|refusal| vec![refusal])?;
    let mut warnings = Vec::new();
    super::check::check(&maker, &effect, &mut refusals, &mut warnings);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let (event, conceal) = maker.event(&effect);
    Ok(Built { event, conceal, decoys: step.decoys, effect, warnings })
}

/// An event apart from its context, as a draft takes it; an event without one has ours.
pub fn event_body(mut event: Json) -> Body {
    let own = event.as_object_mut().and_then(|members| members.shift_remove("@context"));
    Body::Event { context: own.unwrap_or_else(|| json!([EPCIS_CONTEXT, {"gx": GX}])), event }
}

/// One step being built.
pub(super) struct Maker<'a> {
    pub profile: &'a Profile,
    pub step: &'a Step,
    pub values: &'a Values,
    pub context: &'a Context,
    pub at: DateTime<FixedOffset>,
}

impl Maker<'_> {
    fn check_references(&self, refusals: &mut Vec<Refusal>) {
        if self.at > self.context.now + chrono::TimeDelta::minutes(AHEAD_MINUTES_MAX) {
            refusals.push(
                Refusal::new(super::form::AT, "in-the-future").with("now", self.context.now.to_rfc3339()),
            );
        }
        for field in &self.step.fields {
            if let Err(refusal) = self.check_reference(field) {
                refusals.push(refusal);
            }
        }
    }

    fn check_reference(&self, field: &Field) -> Result<(), Refusal> {
        let unknown = |rule| Refusal::new(&field.id, rule);
        let among = |word: &String| field.among.is_empty() || field.among.contains(word);
        if field.kind == Kind::Portions {
            let portions = self.values.portions(&field.id);
            return portions.iter().try_for_each(|(lot, _)| self.check_lot(field, lot));
        }
        let Some(text) = self.values.text(&field.id) else { return Ok(()) };
        match field.kind {
            Kind::Lot => self.check_lot(field, text),
            Kind::Place => match self.context.places.get(text) {
                Some(place) if among(&place.kind) => Ok(()),
                _ => Err(unknown("unknown-place")),
            },
            Kind::Party => match self.context.parties.get(text) {
                Some(role) if among(role) => Ok(()),
                _ => Err(unknown("unknown-party")),
            },
            Kind::Permit if !self.context.permits.contains_key(text) => {
                Err(unknown("unknown-permit").with("permit", text))
            }
            Kind::Consignment if !self.context.consignments.contains_key(text) => {
                Err(unknown("unknown-consignment"))
            }
            Kind::NewLot if !self.context.items.contains_key(&field.id) => Err(unknown("no-trade-item")),
            _ => Ok(()),
        }
    }

    fn check_lot(&self, field: &Field, lot: &str) -> Result<(), Refusal> {
        let facts = self
            .context
            .lots
            .get(lot)
            .ok_or_else(|| Refusal::new(&field.id, "unknown-lot").with("lot", lot))?;
        if !field.products.is_empty() && !field.products.contains(&facts.product) {
            return Err(Refusal::new(&field.id, "wrong-product")
                .with("lot", lot)
                .with("product", &facts.product));
        }
        Ok(())
    }

    fn text(&self, field: &str) -> Result<String, Refusal> {
        self.values.text(field).map(str::to_owned).ok_or_else(|| Refusal::new(field, "required"))
    }

    fn new_lot(&self, field: &str) -> Result<(String, String), Refusal> {
        let number = self.text(field)?;
        let gtin = self.context.items.get(field).ok_or_else(|| Refusal::new(field, "no-trade-item"))?;
        let product = self.step.field(field).and_then(|field| field.products.first());
        let product = product.ok_or_else(|| Refusal::new(field, "no-trade-item"))?;
        Ok((lot_uri(gtin, &number), product.clone()))
    }

    /// The measure of a quantity field: its own unit, else the product's.
    fn quantity(&self, field: &str, product: &str) -> Result<Quantity, Refusal> {
        let number = self.values.number(field).ok_or_else(|| Refusal::new(field, "required"))?;
        let own = self.step.field(field).and_then(|field| field.unit.as_deref()).and_then(Measure::from_code);
        let measure = own.or_else(|| self.profile.product(product).map(super::Product::measure));
        measured(field, number, measure)
    }

    fn product_of(&self, lot: &str) -> String {
        self.context.lots.get(lot).map(|facts| facts.product.clone()).unwrap_or_default()
    }

    fn portions(&self, field: &str) -> Result<Vec<Portion>, Refusal> {
        let portions = self.values.portions(field).iter().map(|(lot, amount)| {
            let measure = self.profile.product(&self.product_of(lot)).map(super::Product::measure);
            Ok(Portion { lot: lot.clone(), quantity: measured(field, *amount, measure)? })
        });
        let portions = portions.collect::<Result<Vec<_>, Refusal>>()?;
        if portions.is_empty() { Err(Refusal::new(field, "required")) } else { Ok(portions) }
    }

    fn effect(&self) -> Result<Effect, Refusal> {
        Ok(match &self.step.effect {
            Wiring::Create { lot, quantity, place, permit } => {
                let (lot, product) = self.new_lot(lot)?;
                let quantity = self.quantity(quantity, &product)?;
                let quota = permit.as_ref().and_then(|permit| self.values.text(permit)).map(str::to_owned);
                Effect::Create { lot, product, quantity, place: self.text(place)?, quota }
            }
            Wiring::Observe { lots, place } => Effect::Observe {
                lots: lots.iter().filter_map(|lot| self.values.text(lot)).map(str::to_owned).collect(),
                place: place.as_ref().map(|place| self.text(place)).transpose()?,
            },
            Wiring::Transform { inputs, outputs, place, run } => Effect::Transform {
                inputs: self.portions(inputs)?,
                outputs: self.outputs(outputs)?,
                place: self.text(place)?,
                run: run.as_ref().and_then(|run| self.values.text(run)).map(|run| self.own_uri(run)),
            },
            Wiring::Store { lot, quantity, place } => {
                let lot = self.text(lot)?;
                let quantity = self.quantity(quantity, &self.product_of(&lot))?;
                Effect::Store { lot, quantity, place: self.text(place)? }
            }
            Wiring::Commission { lot, pieces } => {
                let lot = self.text(lot)?;
                let number = self.values.number(pieces).ok_or_else(|| Refusal::new(pieces, "required"))?;
                let pieces = measured(pieces, number, Some(Measure::PIECE))?.amount;
                let gtin = gtin_of(&lot).ok_or_else(|| Refusal::new("lot", "not-an-identifier"))?;
                Effect::Commission { lot, pieces, gtin }
            }
            Wiring::Pack { parent, children } => {
                Effect::Pack { parent: self.text(parent)?, children: self.portions(children)? }
            }
            Wiring::Unpack { parent } => Effect::Unpack { parent: self.text(parent)? },
            Wiring::Ship { consignment, portions, from, to_party, to_place } => Effect::Ship {
                consignment: self.own_uri(&self.text(consignment)?),
                portions: self.portions(portions)?,
                from: self.text(from)?,
                to_party: self.text(to_party)?,
                to_place: to_place.as_ref().and_then(|place| self.values.text(place)).map(str::to_owned),
            },
            Wiring::Receive { consignment, measured, place } => {
                let consignment = self.text(consignment)?;
                let portions = self.received(&consignment, measured.as_deref())?;
                Effect::Receive { consignment, portions, place: self.text(place)? }
            }
            Wiring::Refuse { consignment, reason } => {
                Effect::Refuse { consignment: self.text(consignment)?, reason: self.text(reason)? }
            }
            Wiring::Loss { lot, quantity, place, reason } => {
                let lot = self.text(lot)?;
                let quantity = self.quantity(quantity, &self.product_of(&lot))?;
                Effect::Loss { lot, quantity, place: self.text(place)?, reason: self.text(reason)? }
            }
            Wiring::Recall { lot, notice } => {
                Effect::Recall { lot: self.text(lot)?, notice: self.text(notice)? }
            }
        })
    }

    fn outputs(&self, wired: &[super::WiredOutput]) -> Result<Vec<Output>, Refusal> {
        let given = wired.iter().filter(|output| self.values.text(&output.lot).is_some());
        let outputs = given.map(|output| {
            let (lot, product) = self.new_lot(&output.lot)?;
            let quantity = self.quantity(&output.quantity, &product)?;
            Ok(Output { lot, product, quantity })
        });
        let outputs = outputs.collect::<Result<Vec<_>, Refusal>>()?;
        match (outputs.is_empty(), wired.first()) {
            (true, Some(first)) => Err(Refusal::new(&first.lot, "required")),
            _ => Ok(outputs),
        }
    }

    /// What was measured, shared over the lines sent in proportion (largest remainder); else what was sent.
    fn received(&self, consignment: &str, measured: Option<&str>) -> Result<Vec<Portion>, Refusal> {
        let facts = self.context.consignments.get(consignment);
        let lines = facts.map(|facts| facts.lines.clone()).unwrap_or_default();
        let Some(field) = measured.filter(|field| self.values.number(field).is_some()) else {
            return Ok(lines);
        };
        let product = lines.first().map(|line| self.product_of(&line.lot)).unwrap_or_default();
        let total = self.quantity(field, &product)?;
        if lines.iter().any(|line| line.quantity.unit != total.unit) {
            return Err(Refusal::new(field, "other-unit"));
        }
        let weights: Vec<i64> = lines.iter().map(|line| line.quantity.amount).collect();
        let shares = crate::rules::largest_remainder(total.amount, &weights)
            .ok_or_else(|| Refusal::new(field, "not-computable"))?;
        let portions = lines
            .into_iter()
            .zip(shares)
            .map(|(line, amount)| Portion { quantity: Quantity::new(line.quantity.unit, amount), ..line });
        Ok(portions.collect())
    }

    pub(super) fn own_uri(&self, number: &str) -> String {
        if number.starts_with("https://") || number.starts_with("urn:") {
            return number.to_owned();
        }
        document_uri(&self.context.documents, &self.context.author, number)
    }

    fn event(&self, effect: &Effect) -> (Json, Vec<Conceal>) {
        let mut draft = super::draft::Draft::new(self);
        draft.lists(effect);
        for field in &self.step.fields {
            draft.field(field);
        }
        draft.blocks();
        draft.finish()
    }
}

fn measured(
    field: &str,
    number: crate::quantity::Decimal,
    measure: Option<Measure>,
) -> Result<Quantity, Refusal> {
    let measure = measure.ok_or_else(|| Refusal::new(field, "other-unit"))?;
    let quantity =
        Quantity::of(number, measure).map_err(|_| Refusal::new(field, "too-fine").with("places", 3))?;
    if quantity.amount <= 0 {
        return Err(Refusal::new(field, "not-positive"));
    }
    Ok(quantity)
}

fn gtin_of(lot: &str) -> Option<String> {
    let rest = lot.strip_prefix(DIGITAL_LINK_HOST)?.strip_prefix("/01/")?;
    rest.get(..14).map(str::to_owned)
}

/// An element of a quantity list (EPCIS 2.0 §7.3.3.3).
pub fn quantity_element(lot: &str, quantity: Quantity) -> Json {
    let measure = quantity.unit.measure();
    let mut element = json!({"epcClass": lot});
    if let (Some(members), Ok(number)) = (element.as_object_mut(), quantity.to_decimal(measure)) {
        members.insert("quantity".to_owned(), number.to_json());
        if let Some(uom) = measure.uom() {
            members.insert("uom".to_owned(), json!(uom));
        }
    }
    element
}

pub(super) fn observed_element(lot: &str) -> Json {
    json!({"epcClass": lot})
}

/// The head that every event of ours has.
pub(super) fn head(
    jti: Uuid,
    kind: &str,
    at: DateTime<FixedOffset>,
    biz_step: &str,
    gx_step: &str,
) -> Map<String, Json> {
    let offset = at.format("%:z").to_string();
    let head = json!({
        "@context": [EPCIS_CONTEXT, {"gx": GX}],
        "type": kind,
        "eventID": format!("urn:uuid:{jti}"),
        "eventTime": at.to_rfc3339_opts(SecondsFormat::Millis, false),
        "eventTimeZoneOffset": offset,
        "bizStep": biz_step,
        "gx:step": gx_step,
    });
    match head {
        Json::Object(members) => members,
        _ => Map::new(),
    }
}

/// GS1's own measurement types stand bare; ours are full URIs (GS1's list has none for mass fraction, Brix or colour).
pub(super) fn measurement_type(name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_uppercase()) {
        name.to_owned()
    } else {
        format!("{GX}{name}")
    }
}

/// The URI of a substance by its InChIKey.
pub(super) fn substance_uri(key: &str) -> String {
    format!("{SUBSTANCE}{key}")
}
