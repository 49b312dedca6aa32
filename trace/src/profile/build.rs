//! A step's values → the EPCIS 2.0 event that its author signs, what in it is concealed, and its effect on holdings.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    Effect, EventType, Field, Kind, LotFacts, Profile, Refusal, Step, To, Wiring, form::Value, form::Values,
};
use crate::{
    profile::effect::{Output, Portion},
    quantity::{Measure, Quantity},
    record::{Conceal, Visibility},
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
#[derive(Debug, Clone)]
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFacts {
    pub kind: String,
    /// What a concealed block of the place holds: a plot's polygon.
    pub details: Map<String, Json>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsignmentFacts {
    pub shipper: String,
    pub lines: Vec<Portion>,
    pub shipped_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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

    fn own_uri(&self, number: &str) -> String {
        if number.starts_with("https://") || number.starts_with("urn:") {
            return number.to_owned();
        }
        document_uri(&self.context.documents, &self.context.author, number)
    }

    fn event(&self, effect: &Effect) -> (Json, Vec<Conceal>) {
        let mut draft = Draft::new(self);
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

fn observed_element(lot: &str) -> Json {
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

struct Draft<'a, 'b> {
    maker: &'a Maker<'b>,
    members: Map<String, Json>,
    conceal: Vec<Conceal>,
    blocks: BTreeMap<String, (Visibility, Map<String, Json>)>,
    ilmd: Map<String, Json>,
    reports: Vec<Json>,
    /// Indices of concealed members, by list.
    hidden: Vec<(String, Visibility)>,
}

impl<'a, 'b> Draft<'a, 'b> {
    fn new(maker: &'a Maker<'b>) -> Self {
        let step = maker.step;
        let kind = match step.event {
            EventType::Object => "ObjectEvent",
            EventType::Aggregation => "AggregationEvent",
            EventType::Transformation => "TransformationEvent",
        };
        let mut members = head(maker.context.jti, kind, maker.at, &step.biz_step, &step.gx_step);
        if let Some(action) = &step.action {
            members.insert("action".to_owned(), json!(action));
        }
        if let Some(disposition) = &step.disposition {
            members.insert("disposition".to_owned(), json!(disposition));
        }
        if let Some(persistent) = &step.persistent {
            members.insert("persistentDisposition".to_owned(), json!({"set": [persistent]}));
        }
        Self {
            maker,
            members,
            conceal: Vec::new(),
            blocks: BTreeMap::new(),
            ilmd: Map::new(),
            reports: Vec::new(),
            hidden: Vec::new(),
        }
    }

    fn list(&mut self, name: &str, elements: Vec<Json>) {
        self.members.insert(name.to_owned(), Json::Array(elements));
    }

    /// Lots and quantities stand in the lists that the event's type has for them.
    fn lists(&mut self, effect: &Effect) {
        let portions = |portions: &[Portion]| -> Vec<Json> {
            portions.iter().map(|portion| quantity_element(&portion.lot, portion.quantity)).collect()
        };
        match effect {
            Effect::Create { lot, quantity, .. }
            | Effect::Store { lot, quantity, .. }
            | Effect::Loss { lot, quantity, .. } => {
                self.list("quantityList", vec![quantity_element(lot, *quantity)]);
            }
            Effect::Observe { lots, .. } if lots.is_empty() => self.list("epcList", Vec::new()),
            Effect::Observe { lots, .. } => {
                self.list("quantityList", lots.iter().map(|lot| observed_element(lot)).collect());
            }
            Effect::Transform { inputs, outputs, run, .. } => {
                self.list("inputQuantityList", portions(inputs));
                let outputs = outputs.iter().map(|output| quantity_element(&output.lot, output.quantity));
                self.list("outputQuantityList", outputs.collect());
                if let Some(run) = run {
                    self.members.insert("transformationID".to_owned(), json!(run));
                }
            }
            Effect::Commission { lot, pieces, .. } => {
                self.list("quantityList", vec![json!({"epcClass": lot, "quantity": pieces})]);
            }
            Effect::Pack { parent, children } => {
                self.members.insert("parentID".to_owned(), json!(parent));
                self.list("childQuantityList", portions(children));
            }
            Effect::Unpack { parent } => {
                self.members.insert("parentID".to_owned(), json!(parent));
            }
            Effect::Ship { portions: sent, consignment, .. } => {
                self.list("quantityList", portions(sent));
                self.push("bizTransactionList", json!({"type": "desadv", "bizTransaction": consignment}));
            }
            Effect::Receive { portions: measured, consignment, .. } => {
                self.list("quantityList", portions(measured));
                self.push("bizTransactionList", json!({"type": "desadv", "bizTransaction": consignment}));
            }
            Effect::Refuse { consignment, .. } => {
                let lines =
                    self.maker.context.consignments.get(consignment).map(|facts| portions(&facts.lines));
                self.list("quantityList", lines.unwrap_or_default());
                self.push("bizTransactionList", json!({"type": "desadv", "bizTransaction": consignment}));
            }
            Effect::Recall { lot, .. } => self.list("quantityList", vec![observed_element(lot)]),
        }
    }

    /// Appends to a list of the event; gives the element's pointer.
    fn push(&mut self, name: &str, element: Json) -> String {
        let list = self.members.entry(name.to_owned()).or_insert_with(|| Json::Array(Vec::new()));
        let index = list.as_array().map_or(0, Vec::len);
        if let Some(list) = list.as_array_mut() {
            list.push(element);
        }
        format!("/{name}/{index}")
    }

    fn hide(&mut self, pointer: String, visibility: Visibility) {
        if visibility != Visibility::Public {
            self.hidden.push((pointer, visibility));
        }
    }

    fn field(&mut self, field: &Field) {
        let Some(value) = self.maker.values.value(&field.id) else { return };
        let visibility = field.visibility;
        let text = || self.maker.values.text(&field.id).unwrap_or_default().to_owned();
        match &field.to {
            To::Nowhere | To::Run => {}
            To::ReadPoint => {
                let place = json!({"id": text()});
                self.members.insert("readPoint".to_owned(), place.clone());
                self.members.insert("bizLocation".to_owned(), place);
            }
            To::Disposition => {
                self.members.insert("disposition".to_owned(), json!(text()));
            }
            To::Ilmd => {
                let name = format!("gx:{}", field.id);
                self.ilmd.insert(name.clone(), plain(value));
                self.hide(format!("/ilmd/{name}"), visibility);
            }
            To::Sensor => self.sensor(field, value),
            To::Transaction(kind) => {
                let uri = self.document(field, &text());
                let pointer = self.push("bizTransactionList", json!({"type": kind, "bizTransaction": uri}));
                self.hide(pointer, visibility);
            }
            To::Source(kind) => {
                let pointer = self.push("sourceList", json!({"type": kind, "source": text()}));
                self.hide(pointer, visibility);
            }
            To::Destination(kind) => {
                let pointer = self.push("destinationList", json!({"type": kind, "destination": text()}));
                self.hide(pointer, visibility);
            }
            To::Extension => self.extension(field, value),
        }
    }

    /// A permit's own URI, a consignment's, or one under the author's documents.
    fn document(&self, field: &Field, number: &str) -> String {
        let permit = (field.kind == Kind::Permit).then(|| self.maker.context.permits.get(number)).flatten();
        permit.map_or_else(|| self.maker.own_uri(number), |facts| facts.uri.clone())
    }

    fn extension(&mut self, field: &Field, value: &Value) {
        let name = format!("gx:{}", field.id);
        let Some(block) = &field.block else {
            self.members.insert(name.clone(), plain(value));
            self.hide(format!("/{name}"), field.visibility);
            return;
        };
        self.block(block, field.visibility).insert(name, plain(value));
    }

    /// A block is concealed as one, by the strictest of its fields.
    fn block(&mut self, name: &str, visibility: Visibility) -> &mut Map<String, Json> {
        let strict = |visibility: Visibility| match visibility {
            Visibility::Public => 0,
            Visibility::Private => 1,
            Visibility::Personal => 2,
        };
        let (known, members) = self.blocks.entry(name.to_owned()).or_insert((visibility, Map::new()));
        if strict(visibility) > strict(*known) {
            *known = visibility;
        }
        members
    }

    /// One sensorReport; its type stays open when its value does not (`formats.md`).
    fn sensor(&mut self, field: &Field, value: &Value) {
        let measurement = field.measurement.as_deref().unwrap_or("Dimensionless");
        let mut report = Map::new();
        report.insert("type".to_owned(), json!(measurement_type(measurement)));
        if let Some(device) = self.maker.values.device(&field.id) {
            report.insert("deviceID".to_owned(), json!(device));
        }
        if let Some(substance) = &field.substance {
            report.insert("chemicalSubstance".to_owned(), json!(format!("{SUBSTANCE}{substance}")));
        }
        match value {
            Value::Number(number) => report.insert("value".to_owned(), number.to_json()),
            other => report.insert("stringValue".to_owned(), plain(other)),
        };
        if let Some(uom) = &field.unit {
            report.insert("uom".to_owned(), json!(uom));
        }
        // What of the product was looked at, where the type alone does not say it.
        report.insert("gx:field".to_owned(), json!(field.id));
        let (index, member) =
            (self.reports.len(), if report.contains_key("value") { "value" } else { "stringValue" });
        self.reports.push(Json::Object(report));
        self.hide(format!("/sensorElementList/0/sensorReport/{index}/{member}"), field.visibility);
    }

    /// The concealed blocks of the author, of a place and of a code run.
    fn blocks(&mut self) {
        let (step, context) = (self.maker.step, self.maker.context);
        if let Some(name) = step.author_block.as_ref().filter(|_| !context.author_details.is_empty()) {
            self.block(name, Visibility::Personal).extend(context.author_details.clone());
        }
        for field in step.fields_of(Kind::Place) {
            let Some(name) = &field.block else { continue };
            let place = self.maker.values.text(&field.id).and_then(|uri| context.places.get(uri));
            if let Some(place) = place.filter(|place| !place.details.is_empty()) {
                self.block(name, field.visibility_of_block()).extend(place.details.clone());
            }
        }
        if let Some(codes) = &context.codes {
            let members = self.block("gx:codes", Visibility::Private);
            members.insert("gx:run".to_owned(), json!(codes.epoch.to_string()));
            members.insert("gx:first".to_owned(), json!(codes.first));
            members.insert("gx:count".to_owned(), json!(codes.count));
        }
    }

    fn finish(mut self) -> (Json, Vec<Conceal>) {
        for (name, (visibility, members)) in std::mem::take(&mut self.blocks) {
            self.members.insert(name.clone(), Json::Object(members));
            self.hide(format!("/{name}"), visibility);
        }
        if !self.ilmd.is_empty() {
            self.members.insert("ilmd".to_owned(), Json::Object(std::mem::take(&mut self.ilmd)));
        }
        if !self.reports.is_empty() {
            let time = self.members.get("eventTime").cloned().unwrap_or_default();
            let element = json!({"sensorMetadata": {"time": time}, "sensorReport": self.reports});
            self.members.insert("sensorElementList".to_owned(), json!([element]));
        }
        self.conceal
            .extend(self.hidden.into_iter().map(|(pointer, visibility)| Conceal { pointer, visibility }));
        (Json::Object(self.members), self.conceal)
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

fn plain(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => number.to_json(),
        Value::Date(date) => json!(date.to_string()),
        Value::Time(time) => json!(time.to_rfc3339_opts(SecondsFormat::Secs, false)),
        Value::Portions(portions) => portions
            .iter()
            .map(|(lot, amount)| json!({"gx:lot": lot, "gx:amount": amount.to_json()}))
            .collect(),
        Value::Table(rows) => rows
            .iter()
            .map(|row| {
                row.iter().map(|(name, cell)| (format!("gx:{name}"), json!(cell))).collect::<Map<_, _>>()
            })
            .map(Json::Object)
            .collect(),
    }
}
