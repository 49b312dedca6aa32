//! How JSON becomes the types of this module: each member is taken once, what is left over is an extension or an error,
//! and every error knows its path.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

use super::context::Namespaces;

/// Where in a document something is wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}")]
pub struct EpcisError {
    /// `$.epcisBody.eventList[3].bizStep`
    pub path: String,
    pub rule: Rule,
}

/// The rules of EPCIS 2.0 and CBV 2.0 that a document can break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    #[error("must be {0}")]
    Kind(&'static str),
    #[error("is missing")]
    Missing,
    #[error("is not a member of this object")]
    UnknownMember,
    #[error("is an extension whose prefix `{0}` no @context declares")]
    UndeclaredPrefix(String),
    #[error("is not a URI: {0:?}")]
    Uri(String),
    #[error("is not a date and time with its offset (RFC 3339): {0:?}")]
    Time(String),
    #[error("is not an offset from -14:00 to +14:00: {0:?}")]
    Offset(String),
    #[error("is not a version number: {0:?}")]
    Version(String),
    #[error("is not a unit of two or three capitals and digits (UN/ECE Rec 20): {0:?}")]
    Unit(String),
    #[error("is not hexadecimal: {0:?}")]
    Hexadecimal(String),
    #[error("is no {list} of CBV 2.0 and no URI: {found:?}")]
    Word { list: &'static str, found: String },
    #[error("is no type of EPCIS document or event: {0:?}")]
    Type(String),
    #[error("must be OBSERVE, ADD or DELETE")]
    Action,
    #[error("holds {0:?} twice")]
    Twice(String),
    #[error("must not be empty")]
    Empty,
    #[error("must not be negative")]
    Negative,
    #[error("has a unit but no quantity")]
    UnitWithoutQuantity,
    #[error("an ObjectEvent needs epcList, quantityList, or sensorElementList with readPoint")]
    NothingObserved,
    #[error("ilmd is for action ADD only")]
    IlmdNotAdded,
    #[error("needs childEPCs or childQuantityList unless the action is DELETE")]
    NoChildren,
    #[error("needs parentID when the action is ADD or DELETE")]
    NoParent,
    #[error("needs epcList or quantityList unless the action is DELETE")]
    NothingInTransaction,
    #[error("needs inputs and outputs, or transformationID and either")]
    NothingTransformed,
    #[error("needs set or unset")]
    NeitherSetNorUnset,
    #[error("is no identifier of GS1 that has a Digital Link: {reason}")]
    NoDigitalLink { reason: String },
    #[error("names a class where one thing must be named")]
    NotAnInstance,
    #[error("names one thing where a class must be named")]
    NotAClass,
    #[error("is neither a GS1 key, an https URI, a UUID nor a urn:epcglobal:cbv:bt: identifier")]
    TransactionIdentifier,
    #[error("lists more than {0} events")]
    TooManyEvents(usize),
}

/// A place in the document, with the namespaces that hold there.
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
    pub namespaces: &'a Namespaces,
}

enum Segment<'a> {
    Root,
    Member(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub const fn root(namespaces: &'a Namespaces) -> Self {
        Self { parent: None, segment: Segment::Root, namespaces }
    }

    pub const fn member(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Member(name), namespaces: self.namespaces }
    }

    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index), namespaces: self.namespaces }
    }

    /// The same place, where other namespaces hold from here on.
    pub const fn within(&'a self, namespaces: &'a Namespaces) -> At<'a> {
        At { parent: self.parent, segment: self.segment.again(), namespaces }
    }

    pub fn error(&self, rule: Rule) -> EpcisError {
        EpcisError { path: self.to_string(), rule }
    }
}

impl Segment<'_> {
    const fn again(&self) -> Self {
        match self {
            Self::Root => Self::Root,
            Self::Member(name) => Self::Member(name),
            Self::Index(index) => Self::Index(*index),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => f.write_str("$"),
            Segment::Member(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value that a JSON member holds.
pub trait Member: Sized {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError>;
    fn write(&self) -> Value;
}

/// An object whose members are being taken.
pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn of(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(at.error(Rule::Kind("an object"))),
        }
    }

    pub fn empty() -> Self {
        Self(Map::new())
    }

    /// What has not been taken yet.
    pub fn rest(self) -> Map<String, Value> {
        self.0
    }

    pub fn optional<T: Member>(&mut self, name: &str, at: &At<'_>) -> Result<Option<T>, EpcisError> {
        self.0.shift_remove(name).map(|value| T::read(value, &at.member(name))).transpose()
    }

    pub fn required<T: Member>(&mut self, name: &str, at: &At<'_>) -> Result<T, EpcisError> {
        self.optional(name, at)?.ok_or_else(|| at.member(name).error(Rule::Missing))
    }

    /// What is left must be extensions under a declared prefix, or under a full URI (EPCIS 2.0 §10.3).
    pub fn extensions(self, at: &At<'_>) -> Result<Extensions, EpcisError> {
        for name in self.0.keys() {
            let at = at.member(name);
            let (prefix, local) = name.split_once(':').ok_or_else(|| at.error(Rule::UnknownMember))?;
            if !local.starts_with("//") && prefix != "urn" && at.namespaces.iri(prefix).is_none() {
                return Err(at.error(Rule::UndeclaredPrefix(prefix.to_owned())));
            }
        }
        Ok(Extensions(self.0))
    }

    pub fn nothing_else(self, at: &At<'_>) -> Result<(), EpcisError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(at.member(name).error(Rule::UnknownMember)),
        }
    }
}

/// User extensions: members named `prefix:name`, their values as sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extensions(pub Map<String, Value>);

impl<T: Member> Member for Vec<T> {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        let Value::Array(items) = value else { return Err(at.error(Rule::Kind("an array"))) };
        items.into_iter().enumerate().map(|(index, item)| T::read(item, &at.index(index))).collect()
    }

    fn write(&self) -> Value {
        self.iter().map(Member::write).collect()
    }
}

impl Member for String {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        match value {
            Value::String(text) => Ok(text),
            _ => Err(at.error(Rule::Kind("a string"))),
        }
    }

    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Member for bool {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        value.as_bool().ok_or_else(|| at.error(Rule::Kind("true or false")))
    }

    fn write(&self) -> Value {
        Value::from(*self)
    }
}

impl Member for Extensions {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        Fields::of(value, at)?.extensions(at)
    }

    fn write(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// Refuses a list that holds the same text twice.
pub fn unique<'a>(texts: impl Iterator<Item = &'a str>, at: &At<'_>) -> Result<(), EpcisError> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if !seen.insert(text) {
            return Err(at.error(Rule::Twice(text.to_owned())));
        }
    }
    Ok(())
}

/// Declares a type together with the members that it is read from and written to.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident $(+ $extensions:ident)? {
        $(must { $($(#[$must_doc:meta])* $must:ident: $must_type:ty = $must_name:literal,)* })?
        $(may { $($(#[$may_doc:meta])* $may:ident: $may_type:ty = $may_name:literal,)* })?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($($(#[$must_doc])* pub $must: $must_type,)*)?
            $($($(#[$may_doc])* pub $may: Option<$may_type>,)*)?
            $(pub $extensions: $crate::epcis::read::Extensions,)?
        }

        impl $crate::epcis::read::Member for $name {
            fn read(
                value: serde_json::Value,
                at: &$crate::epcis::read::At<'_>,
            ) -> Result<Self, $crate::epcis::read::EpcisError> {
                let mut fields = $crate::epcis::read::Fields::of(value, at)?;
                let object = Self {
                    $($($must: fields.required($must_name, at)?,)*)?
                    $($($may: fields.optional($may_name, at)?,)*)?
                    $($extensions: std::mem::replace(&mut fields, $crate::epcis::read::Fields::empty()).extensions(at)?,)?
                };
                fields.nothing_else(at)?;
                object.check(at)?;
                Ok(object)
            }

            fn write(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $($(map.insert($must_name.to_owned(), self.$must.write());)*)?
                $($(if let Some(value) = &self.$may {
                    map.insert($may_name.to_owned(), value.write());
                })*)?
                $(map.extend(self.$extensions.0.clone());)?
                serde_json::Value::Object(map)
            }
        }
    };
}
pub(super) use object;

/// Objects without a rule between their members.
macro_rules! no_further_rule {
    ($($name:ident),+) => {$(
        impl $name {
            const fn check(&self, _at: &$crate::epcis::read::At<'_>) -> Result<(), $crate::epcis::read::EpcisError> {
                Ok(())
            }
        }
    )+};
}
pub(super) use no_further_rule;
