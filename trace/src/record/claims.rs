//! The claims that are never concealed, and the parts of an event that are not.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{sd::DisclosureError, statement::Statement};
use crate::hash::Hash;

const REFS_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 255;

/// Members of an event that always stand in plain.
const EVENT_MEMBERS: [&str; 10] = [
    "@context",
    "type",
    "eventID",
    "eventTime",
    "eventTimeZoneOffset",
    "action",
    "parentID",
    "transformationID",
    "bizStep",
    "gx:step",
];

/// Lists of EPCs and quantities: a shortened list would read as a complete one.
const EVENT_LISTS: [&str; 8] = [
    "epcList",
    "childEPCs",
    "inputEPCList",
    "outputEPCList",
    "quantityList",
    "childQuantityList",
    "inputQuantityList",
    "outputQuantityList",
];

/// How a record stands to an earlier entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rel {
    Corrects,
    /// Receiving answers shipping.
    Answers,
    /// Follows from the server's state, caused by that entry.
    Derived,
    Evidence,
}

impl Rel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrects => "corrects",
            Self::Answers => "answers",
            Self::Derived => "derived",
            Self::Evidence => "evidence",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ref {
    pub rel: Rel,
    /// The entry (SHA-256 of the signed bytes) that is referred to.
    pub leaf: Hash,
}

/// The newest cosigned checkpoint that the author had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// What every record says in plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Digital Link of the party, `https://id.gs1.org/…`.
    pub iss: String,
    /// Unix seconds, the author's clock.
    pub iat: i64,
    /// UUIDv7 made by the client: the idempotency key.
    pub jti: Uuid,
    /// The ledger's name.
    pub aud: String,
    /// `name/major#` and 128 bits of the profile file's SHA-256 in hex.
    pub profile: String,
    pub seen: Option<Seen>,
    pub refs: Vec<Ref>,
}

/// What the record is about.
#[derive(Debug, Clone)]
pub enum Body {
    /// An EPCIS event without `@context`, and its context.
    Event {
        context: Value,
        event: Value,
    },
    /// The redacted event of another record, for a correction; see [`super::Record::corrected`].
    Redacted(Value),
    Statement(Statement),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("the claim {0} is missing or not in its format")]
    Claim(&'static str),
    #[error("{0} is not a claim of a record")]
    Unknown(String),
    #[error("the body is not exactly one event or statement")]
    Body,
}

impl Body {
    pub(super) fn into_member(self) -> Result<(&'static str, Value), ClaimsError> {
        match self {
            Self::Event { context, event: Value::Object(event) } if !event.contains_key("@context") => {
                let mut members = Map::with_capacity(event.len() + 1);
                members.insert("@context".to_owned(), context);
                members.extend(event);
                Ok(("event", Value::Object(members)))
            }
            Self::Redacted(event @ Value::Object(_)) => Ok(("event", event)),
            Self::Statement(statement) => Ok(("statement", statement.to_value())),
            Self::Event { .. } | Self::Redacted(_) => Err(ClaimsError::Body),
        }
    }
}

impl Claims {
    pub(super) fn to_members(&self) -> Result<Map<String, Value>, ClaimsError> {
        let mut members = Map::new();
        members.insert("iss".to_owned(), self.iss.clone().into());
        members.insert("iat".to_owned(), self.iat.into());
        members.insert("jti".to_owned(), self.jti.to_string().into());
        members.insert("aud".to_owned(), self.aud.clone().into());
        members.insert("profile".to_owned(), self.profile.clone().into());
        if let Some(seen) = &self.seen {
            members.insert("seen".to_owned(), plain(seen, "seen")?);
        }
        if !self.refs.is_empty() {
            members.insert("refs".to_owned(), plain(&self.refs, "refs")?);
        }
        Ok(members)
    }

    pub(super) fn parse(payload: &Value) -> Result<Self, ClaimsError> {
        const KNOWN: [&str; 11] =
            ["iss", "iat", "jti", "aud", "profile", "seen", "refs", "_sd", "_sd_alg", "event", "statement"];
        let members = payload.as_object().ok_or(ClaimsError::Body)?;
        if let Some(unknown) = members.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(ClaimsError::Unknown(unknown.clone()));
        }
        let text = |name: &'static str| {
            let text = members.get(name).and_then(Value::as_str).ok_or(ClaimsError::Claim(name))?;
            (text.len() <= TEXT_BYTES_MAX).then_some(text).ok_or(ClaimsError::Claim(name))
        };
        if members.get("_sd_alg").and_then(Value::as_str) != Some(super::sd::SD_ALG) {
            return Err(ClaimsError::Claim("_sd_alg"));
        }
        let body = members.get("event").xor(members.get("statement")).ok_or(ClaimsError::Body)?;
        if !body.is_object() {
            return Err(ClaimsError::Body);
        }
        let claims = Self {
            iss: text("iss")?.to_owned(),
            iat: members.get("iat").and_then(Value::as_i64).ok_or(ClaimsError::Claim("iat"))?,
            jti: parse_jti(text("jti")?).ok_or(ClaimsError::Claim("jti"))?,
            aud: text("aud")?.to_owned(),
            profile: text("profile")?.to_owned(),
            seen: members.get("seen").map(|seen| object(seen, "seen")).transpose()?,
            refs: parse_refs(members.get("refs"))?,
        };
        claims.check()?;
        Ok(claims)
    }

    fn check(&self) -> Result<(), ClaimsError> {
        let require = |holds: bool, claim| holds.then_some(()).ok_or(ClaimsError::Claim(claim));
        require(self.iss.starts_with("https://id.gs1.org/"), "iss")?;
        require(self.iat >= 0, "iat")?;
        require(self.jti.get_version_num() == 7, "jti")?;
        require(is_ledger_name(&self.aud), "aud")?;
        require(is_profile_reference(&self.profile), "profile")?;
        require(self.seen.as_ref().is_none_or(|seen| seen.origin.len() <= TEXT_BYTES_MAX), "seen")?;
        require(self.refs.len() <= REFS_MAX, "refs")
    }
}

fn plain<T: serde::Serialize>(value: &T, claim: &'static str) -> Result<Value, ClaimsError> {
    serde_json::to_value(value).map_err(|_| ClaimsError::Claim(claim))
}

/// An object of texts and numbers: a list in its place, or an object for a word, would be a second spelling.
fn object<T: serde::de::DeserializeOwned>(value: &Value, claim: &'static str) -> Result<T, ClaimsError> {
    let is_flat = value.as_object().is_some_and(|members| members.values().all(is_text_or_number));
    let parsed = T::deserialize(value).ok().filter(|_| is_flat);
    parsed.ok_or(ClaimsError::Claim(claim))
}

pub(super) const fn is_text_or_number(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_))
}

fn parse_refs(refs: Option<&Value>) -> Result<Vec<Ref>, ClaimsError> {
    let Some(refs) = refs else { return Ok(Vec::new()) };
    let refs = refs.as_array().ok_or(ClaimsError::Claim("refs"))?;
    refs.iter().map(|reference| object(reference, "refs")).collect()
}

/// One spelling only: two spellings of one `jti` would be two records to a text comparison.
fn parse_jti(text: &str) -> Option<Uuid> {
    let jti = Uuid::try_parse(text).ok()?;
    (jti.to_string() == text).then_some(jti)
}

/// `[a-z0-9][a-z0-9-]*` starting with a letter.
pub fn is_ledger_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_profile_reference(text: &str) -> bool {
    let Some((name, rest)) = text.split_once('/') else { return false };
    let Some((major, digest)) = rest.split_once('#') else { return false };
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    is_ledger_name(name)
        && major.parse::<u16>().is_ok_and(|number| number.to_string() == major)
        && digest.len() == 32
        && digest.bytes().all(is_hex)
}

/// `tokens` of a pointer from the event's root.
pub(super) fn is_never_concealed(tokens: &[&str]) -> bool {
    match tokens {
        [] => true,
        [member] => EVENT_MEMBERS.contains(member) || EVENT_LISTS.contains(member),
        [member, rest @ ..] => {
            let is_amount = matches!(rest, [_, "quantity" | "uom"]);
            EVENT_MEMBERS.contains(member) || (EVENT_LISTS.contains(member) && !is_amount)
        }
    }
}

/// No element of an EPC or quantity list is a digest, and within one only `quantity` and `uom` are, together.
pub(super) fn check_lists_are_whole(event: &Value) -> Result<(), ClaimsError> {
    for list in EVENT_LISTS {
        let Some(elements) = event.get(list) else { continue };
        for element in elements.as_array().ok_or(ClaimsError::Body)? {
            let digests = element.get("_sd").and_then(Value::as_array).map_or(0, Vec::len);
            let amount_in_plain = element.get("quantity").is_some() || element.get("uom").is_some();
            if element.get("...").is_some() || digests > 2 || (digests > 0 && amount_in_plain) {
                return Err(ClaimsError::Body);
            }
        }
    }
    Ok(())
}

/// What disclosures put back are not the parts that must always stand in plain.
pub(super) fn check_nothing_open_was_hidden(
    signed: &Value,
    processed: &Value,
) -> Result<(), DisclosureError> {
    let appeared = |path: &str| {
        let (Some(before), Some(after)) = (object_at(signed, path), object_at(processed, path)) else {
            return Vec::new();
        };
        after.keys().filter(|name| !before.contains_key(*name)).cloned().collect()
    };
    let refuse = |name: String| Err(DisclosureError::NeverConcealed { name });
    if let Some(name) = appeared("").into_iter().find(|name| !matches!(name.as_str(), "act" | "event_hash")) {
        return refuse(name);
    }
    if let Some(name) = appeared("/event").into_iter().find(|name| is_never_concealed(&[name])) {
        return refuse(name);
    }
    if let Some(name) = appeared("/statement").into_iter().next() {
        return refuse(name);
    }
    for list in EVENT_LISTS {
        let count =
            processed.pointer(&format!("/event/{list}")).and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..count {
            let mut names = appeared(&format!("/event/{list}/{index}")).into_iter();
            if let Some(name) = names.find(|name| !matches!(name.as_str(), "quantity" | "uom")) {
                return refuse(name);
            }
        }
    }
    Ok(())
}

fn object_at<'value>(value: &'value Value, path: &str) -> Option<&'value Map<String, Value>> {
    value.pointer(path)?.as_object()
}
