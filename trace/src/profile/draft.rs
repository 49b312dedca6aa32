//! The event itself: where each value of a step goes, and what of it is concealed.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json, json};

use super::{
    Effect, EventType, Field, Kind, To,
    build::{Maker, head, measurement_type, observed_element, quantity_element, substance_uri},
    effect::Portion,
    form::Value,
};
use crate::record::{Conceal, Visibility};

pub(super) struct Draft<'a, 'b> {
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
    pub(super) fn new(maker: &'a Maker<'b>) -> Self {
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
    pub(super) fn lists(&mut self, effect: &Effect) {
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

    pub(super) fn field(&mut self, field: &Field) {
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
            report.insert("chemicalSubstance".to_owned(), json!(substance_uri(substance)));
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
    pub(super) fn blocks(&mut self) {
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

    pub(super) fn finish(mut self) -> (Json, Vec<Conceal>) {
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
