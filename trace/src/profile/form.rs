//! Submitted text → typed values, or a refusal for every field that is wrong.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, NaiveDate};

use super::{Field, Kind, Profile, Refusal, Step};
use crate::{
    quantity::{Decimal, DecimalError},
    rules::formula::Formula,
};

/// Characters in a text; portions in a step; lines of a tally list.
pub const TEXT_CHARACTERS_MAX: usize = 500;
pub const PORTIONS_MAX: usize = 500;
pub const ROWS_MAX: usize = 500;
/// The field that every step has: when it happened. Absent means now.
pub const AT: &str = "at";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, choice, number of the author's own, or the URI of a lot, place, party or consignment.
    Text(String),
    Number(Decimal),
    Date(NaiveDate),
    Time(DateTime<FixedOffset>),
    /// Lot URI → amount, in the unit of the lot's product.
    Portions(Vec<(String, Decimal)>),
    /// One map a line: column → cell.
    Table(Vec<BTreeMap<String, String>>),
}

/// The typed values of one step. Parsing is the only way to have some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    typed: BTreeMap<String, Value>,
    at: Option<DateTime<FixedOffset>>,
    /// Field → the device that sent its value.
    devices: BTreeMap<String, String>,
}

/// A new lot whose trade item must be looked up before the event can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemNeeded {
    pub field: String,
    pub product: String,
    /// `None`: the author's own; else that of this party.
    pub owner: Option<String>,
}

impl Values {
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.typed.get(field)
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        match self.typed.get(field)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self, field: &str) -> Option<Decimal> {
        match self.typed.get(field)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn time(&self, field: &str) -> Option<DateTime<FixedOffset>> {
        match self.typed.get(field)? {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub fn portions(&self, field: &str) -> &[(String, Decimal)] {
        match self.typed.get(field) {
            Some(Value::Portions(portions)) => portions,
            _ => &[],
        }
    }

    pub const fn at(&self) -> Option<DateTime<FixedOffset>> {
        self.at
    }

    /// The device whose reading filled the field in.
    pub fn device(&self, field: &str) -> Option<&str> {
        self.devices.get(field).map(String::as_str)
    }

    fn texts_of(&self, step: &Step, kind: Kind) -> Vec<String> {
        step.fields_of(kind).filter_map(|field| self.text(&field.id)).map(str::to_owned).collect()
    }

    /// Every existing lot that the step names.
    pub fn lots(&self, step: &Step) -> Vec<String> {
        let mut lots = self.texts_of(step, Kind::Lot);
        let portions = step.fields_of(Kind::Portions).flat_map(|field| self.portions(&field.id));
        lots.extend(portions.map(|(lot, _)| lot.clone()));
        lots
    }

    pub fn places(&self, step: &Step) -> Vec<String> {
        self.texts_of(step, Kind::Place)
    }

    pub fn parties(&self, step: &Step) -> Vec<String> {
        self.texts_of(step, Kind::Party)
    }

    pub fn permits(&self, step: &Step) -> Vec<String> {
        self.texts_of(step, Kind::Permit)
    }

    pub fn consignments(&self, step: &Step) -> Vec<String> {
        self.texts_of(step, Kind::Consignment)
    }

    /// The trade items to look up: GTINs are registered, never made up.
    pub fn items_needed(&self, step: &Step) -> Vec<ItemNeeded> {
        let given = step.fields_of(Kind::NewLot).filter(|field| self.text(&field.id).is_some());
        given
            .filter_map(|field| {
                let owner = field.item_of.as_deref().and_then(|party| self.text(party)).map(str::to_owned);
                Some(ItemNeeded { field: field.id.clone(), product: field.products.first()?.clone(), owner })
            })
            .collect()
    }
}

/// What is added to a wall-clock time typed in a browser: China keeps one time zone.
const WALL_CLOCK_OFFSET: &str = "+08:00";

/// The names in a form that are not the step's: its idempotency key and an author's own signature.
const BESIDE_THE_STEP: [&str; 3] = ["jti", "signed", "salts"];

/// What a browser sends, as [`parse`] takes it: the step's own names, wall-clock times with their offset.
pub fn from_browser(step: &Step, typed: &[(String, String)]) -> Vec<(String, String)> {
    let is_time = |name: &str| name == AT || step.field(name).is_some_and(|field| field.kind == Kind::Time);
    typed
        .iter()
        .filter(|(name, _)| !BESIDE_THE_STEP.contains(&name.as_str()))
        .map(|(name, text)| {
            let text = if is_time(name) { with_offset(text.trim()) } else { text.clone() };
            (name.clone(), text)
        })
        .collect()
}

/// `2026-11-20T08:30` → `2026-11-20T08:30:00+08:00`; anything else is left as it is.
fn with_offset(text: &str) -> String {
    match text.len() {
        16 => format!("{text}:00{WALL_CLOCK_OFFSET}"),
        19 => format!("{text}{WALL_CLOCK_OFFSET}"),
        _ => text.to_owned(),
    }
}

/// Parses what was submitted for `step`: pairs as in the form or JSON, blank meaning absent.
///
/// Besides the fields' own names: `{field}:{lot}` for portions, `{field}@device` for what an instrument filled in, and
/// [`AT`]. Unknown names are refused, so that no typo is silently dropped.
pub fn parse(
    _profile: &Profile,
    step: &Step,
    submitted: &[(String, String)],
) -> Result<Values, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut values = Values::default();
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, text) in submitted {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if let Err(refusal) = sort_in(step, name, text, &mut values, &mut given) {
            refusals.push(refusal);
        }
    }
    for field in step.fields.iter().filter(|field| field.is_asked() && field.kind != Kind::Portions) {
        match given.get(field.id.as_str()).map(|text| value(field, text)) {
            Some(Ok(value)) => {
                values.typed.insert(field.id.clone(), value);
            }
            Some(Err(refusal)) => refusals.push(refusal),
            None => {}
        }
    }
    let has_refusal = |refusals: &[Refusal], id: &str| refusals.iter().any(|refusal| refusal.field == id);
    for field in step.fields.iter().filter(|field| field.required && field.is_asked()) {
        if !values.typed.contains_key(&field.id) && !has_refusal(&refusals, &field.id) {
            refusals.push(Refusal::new(&field.id, "required"));
        }
    }
    if refusals.is_empty() {
        compute(step, &mut values, &mut refusals);
    }
    if refusals.is_empty() { Ok(values) } else { Err(refusals) }
}

fn sort_in<'a>(
    step: &Step,
    name: &'a str,
    text: &'a str,
    values: &mut Values,
    given: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), Refusal> {
    if name == AT {
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| Refusal::new(AT, "not-a-time"))?;
        values.at = Some(at);
        return Ok(());
    }
    if let Some((field, "device")) = name.split_once('@') {
        if step.field(field).is_none_or(|field| field.instrument.is_none()) {
            return Err(Refusal::new(field, "unknown-field"));
        }
        values.devices.insert(field.to_owned(), link(field, text, "/8004/")?);
        return Ok(());
    }
    if let Some((id, lot)) = name.split_once(':')
        && let Some(field) = step.field(id).filter(|field| field.kind == Kind::Portions)
    {
        return portion(field, lot, text, values);
    }
    if step.field(name).is_none_or(|field| !field.is_asked() || field.kind == Kind::Portions) {
        return Err(Refusal::new(name.chars().take(64).collect::<String>(), "unknown-field"));
    }
    if given.insert(name, text).is_some() {
        return Err(Refusal::new(name, "twice"));
    }
    Ok(())
}

fn portion(field: &Field, lot: &str, text: &str, values: &mut Values) -> Result<(), Refusal> {
    let lot = link(&field.id, lot, "/01/")?;
    let amount = number(field, text)?;
    if amount.is_negative() || amount.is_zero() {
        return Err(Refusal::new(&field.id, "not-positive"));
    }
    let entry = values.typed.entry(field.id.clone()).or_insert_with(|| Value::Portions(Vec::new()));
    let Value::Portions(portions) = entry else { return Err(Refusal::new(&field.id, "twice")) };
    if portions.iter().any(|(known, _)| *known == lot) {
        return Err(Refusal::new(&field.id, "twice"));
    }
    if portions.len() >= PORTIONS_MAX {
        return Err(Refusal::new(&field.id, "too-many").with("max", PORTIONS_MAX));
    }
    portions.push((lot, amount));
    Ok(())
}

fn value(field: &Field, text: &str) -> Result<Value, Refusal> {
    let id = &field.id;
    let text_value = |text: &str| Value::Text(text.to_owned());
    match field.kind {
        Kind::Decimal | Kind::Integer => number(field, text).map(Value::Number),
        Kind::NewLot | Kind::NewConsignment | Kind::Permit => own_number(id, text).map(Value::Text),
        Kind::Lot => link(id, text, "/01/").map(Value::Text),
        Kind::Place => link(id, text, "/414/").map(Value::Text),
        Kind::Party => party(id, text).map(Value::Text),
        Kind::LogisticUnit => logistic_unit(id, text).map(Value::Text),
        Kind::Consignment | Kind::Document => document(id, text).map(Value::Text),
        Kind::Choice if field.choices.iter().any(|choice| choice == text) => Ok(text_value(text)),
        Kind::Choice => Err(Refusal::new(id, "not-a-choice")),
        Kind::Text if text.chars().count() > TEXT_CHARACTERS_MAX => {
            Err(Refusal::new(id, "too-long").with("max", TEXT_CHARACTERS_MAX))
        }
        Kind::Text
            if text
                .chars()
                .any(|character| character.is_control() && character != '\n' && character != '\r') =>
        {
            Err(Refusal::new(id, "control-character"))
        }
        Kind::Text => Ok(text_value(text)),
        Kind::Date => text.parse().map(Value::Date).map_err(|_| Refusal::new(id, "not-a-date")),
        Kind::Time => {
            DateTime::parse_from_rfc3339(text).map(Value::Time).map_err(|_| Refusal::new(id, "not-a-time"))
        }
        Kind::Table => table(field, text).map(Value::Table),
        Kind::Portions => Err(Refusal::new(id, "unknown-field")),
    }
}

fn number(field: &Field, text: &str) -> Result<Decimal, Refusal> {
    let number: Decimal = text.parse().map_err(|error| match error {
        DecimalError::Malformed => Refusal::new(&field.id, "not-a-number"),
        DecimalError::TooLong => Refusal::new(&field.id, "too-long").with("max", Decimal::DIGITS_MAX),
    })?;
    if field.kind == Kind::Integer && !number.is_integer() {
        return Err(Refusal::new(&field.id, "not-whole"));
    }
    if let Some(places) = field.places.filter(|places| number.rounded(*places) != number) {
        return Err(Refusal::new(&field.id, "too-fine").with("places", places));
    }
    bounds(&field.id, number, field.min, field.max)?;
    Ok(number)
}

fn bounds(field: &str, number: Decimal, min: Option<Decimal>, max: Option<Decimal>) -> Result<(), Refusal> {
    if let Some(min) = min.filter(|min| number < *min) {
        return Err(Refusal::new(field, "below").with("value", number).with("min", min));
    }
    if let Some(max) = max.filter(|max| number > *max) {
        return Err(Refusal::new(field, "above").with("value", number).with("max", max));
    }
    Ok(())
}

/// A number that its author chose: what fits a lot number (GS1 AI 10: 20 characters), of letters, digits, `-`, `.`, `_`.
fn own_number(field: &str, text: &str) -> Result<String, Refusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.len() > 20 || !text.bytes().all(good) {
        return Err(Refusal::new(field, "not-a-lot-number"));
    }
    Ok(text.to_owned())
}

/// A canonical Digital Link under `https://id.gs1.org` whose primary key is `key`.
fn link(field: &str, text: &str, key: &str) -> Result<String, Refusal> {
    let path = text.strip_prefix(super::build::DIGITAL_LINK_HOST).filter(|path| path.starts_with(key));
    let good = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if path.is_none_or(|path| path.len() > 120 || !path.bytes().all(good)) {
        return Err(Refusal::new(field, "not-an-identifier"));
    }
    Ok(text.to_owned())
}

fn party(field: &str, text: &str) -> Result<String, Refusal> {
    link(field, text, "/417/").or_else(|_| link(field, text, "/8017/"))
}

/// 18 digits with their check digit (GS1 General Specifications §7.9.1), typed bare or as a link.
fn logistic_unit(field: &str, text: &str) -> Result<String, Refusal> {
    let prefix = format!("{}/00/", super::build::DIGITAL_LINK_HOST);
    let digits = text.strip_prefix(&prefix).unwrap_or(text);
    if digits.len() != 18 || !crate::rules::has_check_digit(digits) {
        return Err(Refusal::new(field, "not-an-identifier"));
    }
    Ok(format!("{prefix}{digits}"))
}

/// A number of the author's own, or an address or URN as its issuer wrote it.
fn document(field: &str, text: &str) -> Result<String, Refusal> {
    let is_uri = ["https://", "http://", "urn:"].iter().any(|scheme| text.starts_with(scheme));
    let good = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !is_uri {
        return own_number(field, text);
    }
    if text.len() > 200 || !text.bytes().all(good) {
        return Err(Refusal::new(field, "not-an-identifier"));
    }
    Ok(text.to_owned())
}

/// One line per piece, cells separated by blanks, commas or tabs.
fn table(field: &Field, text: &str) -> Result<Vec<BTreeMap<String, String>>, Refusal> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > ROWS_MAX {
        return Err(Refusal::new(&field.id, "too-many").with("max", ROWS_MAX));
    }
    let mut rows = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let at_line = |refusal: Refusal| refusal.with("line", index + 1);
        let cells: Vec<&str> = line.split([' ', ',', '\t', '，']).filter(|cell| !cell.is_empty()).collect();
        if cells.len() != field.columns.len() {
            return Err(at_line(
                Refusal::new(&field.id, "wrong-columns").with("columns", field.columns.len()),
            ));
        }
        let mut row = BTreeMap::new();
        for (column, cell) in field.columns.iter().zip(cells) {
            if column.kind == Kind::Decimal {
                let number: Decimal =
                    cell.parse().map_err(|_| at_line(Refusal::new(&field.id, "not-a-number")))?;
                bounds(&field.id, number, column.min, column.max).map_err(at_line)?;
            } else {
                own_number(&field.id, cell).map_err(at_line)?;
            }
            row.insert(column.id.clone(), cell.to_owned());
        }
        rows.push(row);
    }
    let tags: std::collections::BTreeSet<_> = rows.iter().map(|row| row.get("tag")).collect();
    if field.columns.iter().any(|column| column.id == "tag") && tags.len() != rows.len() {
        return Err(Refusal::new(&field.id, "twice"));
    }
    Ok(rows)
}

/// Formulas, in the order of the fields: a later one may read an earlier one.
fn compute(step: &Step, values: &mut Values, refusals: &mut Vec<Refusal>) {
    for field in &step.fields {
        let Some(formula) = field.computed.as_deref().and_then(|name| name.parse::<Formula>().ok()) else {
            continue;
        };
        let inputs: Option<Vec<&Value>> = field.from.iter().map(|id| values.typed.get(id)).collect();
        let Some(inputs) = inputs else {
            if field.required {
                refusals.push(Refusal::new(&field.id, "required"));
            }
            continue;
        };
        match formula.of(&inputs) {
            Some(number) => match bounds(&field.id, number, field.min, field.max) {
                Ok(()) => {
                    values.typed.insert(field.id.clone(), Value::Number(number));
                }
                Err(refusal) => refusals.push(refusal),
            },
            None => refusals.push(Refusal::new(&field.id, "not-computable")),
        }
    }
}
