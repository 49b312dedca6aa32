//! The CBV 2.0 event hash (§8.9.2): a fingerprint of what an event says, the same however it was written down.
//!
//! JSON only. The published vectors decide where the text of the algorithm leaves a choice.
//! Not covered: fields that a document asks to ignore must be given by the caller.

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound as _};
use serde_json::{Map, Value};

use super::context::Namespaces;
use crate::{
    gs1::{Key, key_from_urn},
    hash::{Hash, sha256},
};

/// How a standard member is written into the pre-hash string.
#[derive(Clone, Copy)]
enum Form {
    /// The value, identifiers canonical.
    Plain,
    /// UTC with milliseconds.
    Time,
    /// A word of a list with this IRI before it.
    Word(&'static str),
    /// An array of plain values, each under this name.
    Each(&'static str),
    /// An array of objects, each under this name (or none) with these members.
    Objects(&'static str, &'static [(&'static str, Form)]),
    /// An object with these members.
    Object(&'static [(&'static str, Form)]),
    /// An array of words, each under the member's name.
    Words(&'static str),
}

use Form::{Each, Object, Objects, Plain, Time, Word, Words};

const BIZ_STEP: &str = "https://ref.gs1.org/cbv/BizStep-";
const DISPOSITION: &str = "https://ref.gs1.org/cbv/Disp-";
const TRANSACTION_TYPE: &str = "https://ref.gs1.org/cbv/BTT-";
const SOURCE_DESTINATION: &str = "https://ref.gs1.org/cbv/SDT-";
const COMPONENT: &str = "https://ref.gs1.org/cbv/Comp-";
const WEB_VOCABULARY: &str = "https://gs1.org/voc/";

const QUANTITY: Form =
    Objects("quantityElement", &[("epcClass", Plain), ("quantity", Plain), ("uom", Plain)]);
const PLACE: Form = Object(&[("id", Plain)]);

/// §8.9.2, step 2: the order of the members.
const EVENT: &[(&str, Form)] = &[
    ("eventTime", Time),
    ("eventTimeZoneOffset", Plain),
    ("certificationInfo", Plain),
    ("epcList", Each("epc")),
    ("parentID", Plain),
    ("inputEPCList", Each("epc")),
    ("childEPCs", Each("epc")),
    ("quantityList", QUANTITY),
    ("childQuantityList", QUANTITY),
    ("inputQuantityList", QUANTITY),
    ("outputEPCList", Each("epc")),
    ("outputQuantityList", QUANTITY),
    ("action", Plain),
    ("transformationID", Plain),
    ("bizStep", Word(BIZ_STEP)),
    ("disposition", Word(DISPOSITION)),
    ("persistentDisposition", Object(&[("set", Words(DISPOSITION)), ("unset", Words(DISPOSITION))])),
    ("readPoint", PLACE),
    ("bizLocation", PLACE),
    ("bizTransactionList", Objects("", &[("type", Word(TRANSACTION_TYPE)), ("bizTransaction", Plain)])),
    ("destinationList", Objects("", &[("type", Word(SOURCE_DESTINATION)), ("destination", Plain)])),
    ("sourceList", Objects("", &[("type", Word(SOURCE_DESTINATION)), ("source", Plain)])),
    ("sensorElementList", Objects("sensorElement", SENSOR_ELEMENT)),
    ("ilmd", Object(&[])),
];

const SENSOR_ELEMENT: &[(&str, Form)] = &[
    (
        "sensorMetadata",
        Object(&[
            ("time", Time),
            ("startTime", Time),
            ("endTime", Time),
            ("deviceID", Plain),
            ("deviceMetadata", Plain),
            ("rawData", Plain),
            ("dataProcessingMethod", Plain),
            ("bizRules", Plain),
        ]),
    ),
    ("sensorReport", Objects("sensorReport", SENSOR_REPORT)),
];

const SENSOR_REPORT: &[(&str, Form)] = &[
    ("type", Word(WEB_VOCABULARY)),
    ("exception", Word(WEB_VOCABULARY)),
    ("deviceID", Plain),
    ("deviceMetadata", Plain),
    ("rawData", Plain),
    ("dataProcessingMethod", Plain),
    ("bizRules", Plain),
    ("time", Time),
    ("microorganism", Plain),
    ("chemicalSubstance", Plain),
    ("value", Plain),
    ("component", Word(COMPONENT)),
    ("stringValue", Plain),
    ("booleanValue", Plain),
    ("hexBinaryValue", Plain),
    ("uriValue", Plain),
    ("minValue", Plain),
    ("maxValue", Plain),
    ("meanValue", Plain),
    ("sDev", Plain),
    ("percRank", Plain),
    ("percValue", Plain),
    ("uom", Plain),
    ("coordinateReferenceSystem", Plain),
];

/// Members that say nothing about what happened.
const LEFT_OUT: [&str; 6] = ["@context", "type", "eventID", "recordTime", "errorDeclaration", "rdfs:comment"];

/// The event hash: SHA-256 of the pre-hash string.
pub fn event_hash(event: &Value, namespaces: &Namespaces) -> Hash {
    sha256(prehash(event, namespaces, &BTreeSet::new()).as_bytes())
}

/// `ni:///sha-256;…?ver=CBV2.0` (RFC 6920, hexadecimal as the CBV has it).
pub fn event_hash_uri(hash: &Hash) -> String {
    use std::fmt::Write as _;
    let hex = hash.as_bytes().iter().fold(String::new(), |mut hex, byte| {
        // Writing into a String never fails.
        write!(hex, "{byte:02x}").ok();
        hex
    });
    format!("ni:///sha-256;{hex}?ver=CBV2.0")
}

/// The string that is hashed. `ignored` names extensions to leave out, as they are written in the event.
pub fn prehash(event: &Value, namespaces: &Namespaces, ignored: &BTreeSet<String>) -> String {
    let Some(map) = event.as_object() else { return String::new() };
    let writer = Writer { namespaces, ignored };
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    format!("eventType={kind}{}", writer.members(map, EVENT, &LEFT_OUT))
}

struct Writer<'a> {
    namespaces: &'a Namespaces,
    ignored: &'a BTreeSet<String>,
}

impl Writer<'_> {
    /// Standard members in their order, then everything else sorted.
    fn members(&self, map: &Map<String, Value>, order: &[(&str, Form)], left_out: &[&str]) -> String {
        let known = order.iter().filter_map(|(name, form)| Some(self.standard(name, map.get(*name)?, *form)));
        let standard: String = known.collect();
        let is_extension = |name: &str| {
            !order.iter().any(|(known, _)| *known == name)
                && !left_out.contains(&name)
                && !self.ignored.contains(name)
        };
        let mut extensions: Vec<String> = map
            .iter()
            .filter(|(name, _)| is_extension(name))
            .map(|(name, value)| self.extension(name, value))
            .collect();
        extensions.sort();
        standard + &extensions.concat()
    }

    fn standard(&self, name: &str, value: &Value, form: Form) -> String {
        match form {
            Plain => sorted(items(value).iter().map(|item| format!("{name}={}", self.scalar(item)))),
            Time => format!("{name}={}", utc(value.as_str().unwrap_or_default())),
            Word(iri) => format!("{name}={}", self.word(value, iri)),
            Words(iri) => sorted(items(value).iter().map(|item| format!("{name}={}", self.word(item, iri)))),
            Each(element) => {
                list(name, sorted(items(value).iter().map(|item| format!("{element}={}", self.scalar(item)))))
            }
            Objects(element, order) => {
                let objects = items(value).iter().filter_map(Value::as_object);
                let text = sorted(
                    objects.map(|map| format!("{element}{}", self.members(map, order, &["rdfs:comment"]))),
                );
                if element == name { text } else { list(name, text) }
            }
            Object(order) => match value.as_object() {
                Some(map) => list(name, self.members(map, order, &["rdfs:comment"])),
                None => String::new(),
            },
        }
    }

    /// `{namespace}name=value`, or its children in their sorted order.
    fn extension(&self, name: &str, value: &Value) -> String {
        let name = match self.namespaces.expand(name) {
            Some((namespace, local)) => format!("{{{namespace}}}{local}"),
            None => name.to_owned(),
        };
        sorted(items(value).iter().map(|item| match item {
            Value::Object(map) => format!("{name}{}", self.members(map, &[], &["rdfs:comment"])),
            scalar => format!("{name}={}", self.scalar(scalar)),
        }))
    }

    fn word(&self, value: &Value, iri: &str) -> String {
        let text = value.as_str().unwrap_or_default();
        if text.contains(':') { self.scalar(value) } else { format!("{iri}{text}") }
    }

    fn scalar(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => plain_number(&number.to_string()),
            Value::String(text) => self.text(text),
            other => other.to_string(),
        }
    }

    fn text(&self, text: &str) -> String {
        if text.starts_with("urn:epc:") {
            return key_from_urn(text).map_or_else(|_| text.to_owned(), |key| key_uri(&key));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return numeric_names(text).parse().map_or_else(|_| text.to_owned(), |key| key_uri(&key));
        }
        match self.namespaces.expand(text) {
            Some((namespace, local)) => format!("{namespace}{local}"),
            None => text.to_owned(),
        }
    }
}

/// The vectors leave the apostrophe plain, as RFC 3986 §3.3 allows in a path.
fn key_uri(key: &Key) -> String {
    key.uri().replace("%27", "'")
}

/// Early Digital Links (URI Syntax 1.1 §3.6) could name their identifiers by words.
fn numeric_names(uri: &str) -> String {
    const NAMES: [(&str, &str); 5] =
        [("/gtin/", "/01/"), ("/sscc/", "/00/"), ("/cpv/", "/22/"), ("/lot/", "/10/"), ("/ser/", "/21/")];
    NAMES.iter().fold(uri.to_owned(), |uri, (name, ai)| uri.replace(name, ai))
}

fn list(name: &str, text: String) -> String {
    if text.is_empty() { text } else { format!("{name}{text}") }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice)
}

fn sorted(texts: impl Iterator<Item = String>) -> String {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts.concat()
}

/// No trailing zeros and no exponent.
fn plain_number(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if !fraction.contains(['e', 'E']) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        _ => text.to_owned(),
    }
}

fn utc(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc().round_subsecs(3).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => text.to_owned(),
    }
}
