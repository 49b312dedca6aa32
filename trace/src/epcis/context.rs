//! JSON-LD `@context`: which prefixes stand for which namespaces. Nothing is ever fetched.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    read::{At, EpcisError, Member, Rule},
    value::Uri,
};

/// The context that EPCIS 2.0 documents name.
pub const EPCIS_CONTEXT: &str = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld";

/// Prefixes that the standard's own context declares.
const BUILT_IN: [(&str, &str); 8] = [
    ("epcis", "https://ref.gs1.org/epcis/"),
    ("cbv", "https://ref.gs1.org/cbv/"),
    ("cbvmda", "urn:epcglobal:cbv:mda:"),
    ("gs1", "https://gs1.org/voc/"),
    ("rdfs", "http://www.w3.org/2000/01/rdf-schema#"),
    ("owl", "http://www.w3.org/2002/07/owl#"),
    ("xsd", "http://www.w3.org/2001/XMLSchema#"),
    ("dcterms", "http://purl.org/dc/terms/"),
];

/// One entry of a context: another context by its URI, or definitions.
#[derive(Debug, Clone, PartialEq)]
pub enum ContextEntry {
    Reference(Uri),
    Definitions(Map<String, Value>),
}

/// A context as written: one entry, or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Context {
    One(ContextEntry),
    List(Vec<ContextEntry>),
}

impl Context {
    pub fn entries(&self) -> &[ContextEntry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::List(entries) => entries,
        }
    }
}

/// Prefix to namespace, innermost declaration first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces(BTreeMap<String, String>);

impl Default for Namespaces {
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|(prefix, iri)| ((*prefix).to_owned(), (*iri).to_owned())).collect())
    }
}

impl Namespaces {
    /// The namespace of `prefix`.
    pub fn iri(&self, prefix: &str) -> Option<&str> {
        self.0.get(prefix).map(String::as_str)
    }

    /// These namespaces and those that `context` adds.
    #[must_use]
    pub fn with(&self, context: &Context) -> Self {
        let mut namespaces = self.clone();
        for entry in context.entries() {
            if let ContextEntry::Definitions(map) = entry {
                namespaces.0.extend(map.iter().filter_map(|(prefix, definition)| {
                    let iri =
                        definition.as_str().or_else(|| definition.get("@id").and_then(Value::as_str))?;
                    Some((prefix.clone(), iri.to_owned()))
                }));
            }
        }
        namespaces
    }

    /// `prefix:name` as (namespace, name), where the prefix is declared.
    pub fn expand<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a str)> {
        let (prefix, local) = name.split_once(':')?;
        if local.starts_with("//") {
            return None;
        }
        Some((self.iri(prefix)?, local))
    }
}

impl Member for ContextEntry {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        match value {
            Value::Object(map) => Ok(Self::Definitions(map)),
            Value::String(_) => Uri::read(value, at).map(Self::Reference),
            _ => Err(at.error(Rule::Kind("a URI or an object"))),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Reference(uri) => uri.write(),
            Self::Definitions(map) => Value::Object(map.clone()),
        }
    }
}

impl Member for Context {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        if !value.is_array() {
            return ContextEntry::read(value, at).map(Self::One);
        }
        let entries: Vec<ContextEntry> = Vec::read(value, at)?;
        let repeated = entries
            .iter()
            .enumerate()
            .find(|(index, entry)| entries.iter().take(*index).any(|other| other == *entry));
        match repeated {
            Some((index, entry)) => Err(at.index(index).error(Rule::Twice(entry.write().to_string()))),
            None => Ok(Self::List(entries)),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::One(entry) => entry.write(),
            Self::List(entries) => entries.write(),
        }
    }
}
