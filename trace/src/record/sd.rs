//! RFC 9901: what is said openly and what only by digest, in any JSON payload.
//!
//! Knows nothing of records: [`conceal`] takes members and elements out of a value, [`process`] puts disclosed ones back.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    b64,
    hash::{Hash, sha256},
    json,
};

/// The only hash algorithm of this ledger's records (RFC 9901 §4.1.1).
pub const SD_ALG: &str = "sha-256";
/// Disclosures of one record.
pub const DISCLOSURES_MAX: usize = 2_000;

const SD: &str = "_sd";
const SD_ALG_CLAIM: &str = "_sd_alg";
const ELLIPSIS: &str = "...";

/// Why disclosures do not open a payload (RFC 9901 §7.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisclosureError {
    #[error("more than {DISCLOSURES_MAX} disclosures")]
    TooMany,
    #[error("a disclosure is not canonical base64url of a JSON array of salt, name and value")]
    Malformed,
    #[error("a disclosure uses a reserved name")]
    ReservedName,
    #[error("no digest in the signed part refers to the disclosure {digest}")]
    Unreferenced { digest: Hash },
    #[error("the digest {digest} stands twice")]
    DuplicateDigest { digest: Hash },
    #[error("a disclosure would replace the member {name}")]
    NameTaken { name: String },
    #[error("a disclosure of an element stands for a member, or the reverse")]
    WrongKind,
    #[error("_sd, _sd_alg or ... where it may not stand")]
    Misused,
    #[error("a disclosure reveals {name}, which is never concealed")]
    NeverConcealed { name: String },
}

/// A disclosure as its text says it (RFC 9901 §4.2); the digest is over the text, never over the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    pub digest: Hash,
    /// `None` for an array element.
    pub name: Option<String>,
    pub value: Value,
}

impl Opened {
    pub fn parse(text: &str) -> Result<Self, DisclosureError> {
        let bytes = b64::from_url(text).map_err(|_| DisclosureError::Malformed)?;
        let Ok(Value::Array(parts)) = json::parse(&bytes) else { return Err(DisclosureError::Malformed) };
        let digest = sha256(text.as_bytes());
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Value::String(_)), Some(value), None, None) => Ok(Self { digest, name: None, value }),
            (Some(Value::String(_)), Some(Value::String(name)), Some(value), None) => {
                if is_reserved(&name) {
                    return Err(DisclosureError::ReservedName);
                }
                Ok(Self { digest, name: Some(name), value })
            }
            _ => Err(DisclosureError::Malformed),
        }
    }
}

/// A text that opens one concealed member or element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub text: String,
    pub digest: Hash,
    pub name: Option<String>,
}

impl Closed {
    /// RFC 9901 §4.2.1 (a member) and §4.2.2 (an element).
    pub fn new(salt: [u8; 16], name: Option<&str>, value: &Value) -> Self {
        let salt = b64::url(&salt);
        let json = match name {
            Some(name) => serde_json::json!([salt, name, value]).to_string(),
            None => serde_json::json!([salt, value]).to_string(),
        };
        let text = b64::url(json.as_bytes());
        let digest = sha256(text.as_bytes());
        Self { text, digest, name: name.map(str::to_owned) }
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, SD | SD_ALG_CLAIM | ELLIPSIS)
}

/// Whether a reserved name stands anywhere in `value`: an author's own content must not look like digests.
pub fn has_reserved_name(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, member)| is_reserved(name) || has_reserved_name(member))
        }
        Value::Array(elements) => elements.iter().any(has_reserved_name),
        _ => false,
    }
}

/// Takes the member or element at the JSON pointer (RFC 6901) out of `payload` and leaves its digest.
///
/// Deeper pointers first: what is concealed within a concealed block is then disclosed with two keys (RFC 9901 §4.2.6).
/// `None` if nothing stands there.
pub fn conceal(payload: &mut Value, pointer: &str, salt: [u8; 16]) -> Option<Closed> {
    let (parent, token) = pointer.rsplit_once('/')?;
    let name = token.replace("~1", "/").replace("~0", "~");
    match payload.pointer_mut(parent)? {
        Value::Object(members) => {
            let value = members.shift_remove(&name)?;
            let closed = Closed::new(salt, Some(&name), &value);
            insert_digests(members, [closed.digest]);
            Some(closed)
        }
        Value::Array(elements) => {
            let element = elements.get_mut(token.parse::<usize>().ok()?)?;
            let closed = Closed::new(salt, None, element);
            let mut placeholder = Map::new();
            placeholder.insert(ELLIPSIS.to_owned(), Value::String(closed.digest.to_string()));
            *element = Value::Object(placeholder);
            Some(closed)
        }
        _ => None,
    }
}

/// Adds digests (of disclosures or decoys) to an object's `_sd`, sorted so that the order tells nothing (§4.2.4.1).
pub fn insert_digests(members: &mut Map<String, Value>, digests: impl IntoIterator<Item = Hash>) {
    let mut all: Vec<Value> = match members.shift_remove(SD) {
        Some(Value::Array(present)) => present,
        _ => Vec::new(),
    };
    all.extend(digests.into_iter().map(|digest| Value::String(digest.to_string())));
    all.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    if !all.is_empty() {
        members.insert(SD.to_owned(), Value::Array(all));
    }
}

/// How many digests stand in the `_sd` of this object itself.
pub fn digest_count(members: &Map<String, Value>) -> usize {
    members.get(SD).and_then(Value::as_array).map_or(0, Vec::len)
}

/// RFC 9901 §7.1 step 3: puts what the disclosures open back and drops every digest that stays closed.
///
/// Stricter than other verifiers on purpose: an unreferenced disclosure, a reserved name in another place, and stray
/// base64 bits are errors.
pub fn process(payload: &Value, disclosures: &[&str]) -> Result<Value, DisclosureError> {
    if disclosures.len() > DISCLOSURES_MAX {
        return Err(DisclosureError::TooMany);
    }
    let mut open = HashMap::with_capacity(disclosures.len());
    for text in disclosures {
        let opened = Opened::parse(text)?;
        let digest = opened.digest;
        if open.insert(digest, opened).is_some() {
            return Err(DisclosureError::DuplicateDigest { digest });
        }
    }
    let mut processing =
        Processing { open, seen: HashSet::new(), depth_left: json::Limits::RECORD.depth_max };
    let processed = processing.value(payload, true)?;
    match processing.open.into_values().next() {
        Some(unreferenced) => Err(DisclosureError::Unreferenced { digest: unreferenced.digest }),
        None => Ok(processed),
    }
}

struct Processing {
    open: HashMap<Hash, Opened>,
    seen: HashSet<Hash>,
    /// Disclosures nest, so that the depth of the result is bounded here and not only in each text.
    depth_left: usize,
}

impl Processing {
    fn value(&mut self, value: &Value, top: bool) -> Result<Value, DisclosureError> {
        if !value.is_object() && !value.is_array() {
            return Ok(value.clone());
        }
        self.depth_left = self.depth_left.checked_sub(1).ok_or(DisclosureError::Malformed)?;
        let processed = match value {
            Value::Object(members) => self.object(members, top).map(Value::Object),
            Value::Array(elements) => self.array(elements).map(Value::Array),
            scalar => Ok(scalar.clone()),
        };
        self.depth_left += 1;
        processed
    }

    fn object(
        &mut self,
        members: &Map<String, Value>,
        top: bool,
    ) -> Result<Map<String, Value>, DisclosureError> {
        let mut processed = Map::with_capacity(members.len());
        for (name, member) in members {
            match name.as_str() {
                SD => {}
                SD_ALG_CLAIM if top && member == SD_ALG => {}
                SD_ALG_CLAIM | ELLIPSIS => return Err(DisclosureError::Misused),
                _ => {
                    processed.insert(name.clone(), self.value(member, false)?);
                }
            }
        }
        let digests = match members.get(SD) {
            None => return Ok(processed),
            Some(Value::Array(digests)) => digests,
            Some(_) => return Err(DisclosureError::Misused),
        };
        for digest in digests {
            let Some(opened) = self.take(digest)? else { continue };
            let name = opened.name.ok_or(DisclosureError::WrongKind)?;
            if processed.contains_key(&name) {
                return Err(DisclosureError::NameTaken { name });
            }
            let value = self.value(&opened.value, false)?;
            processed.insert(name, value);
        }
        Ok(processed)
    }

    fn array(&mut self, elements: &[Value]) -> Result<Vec<Value>, DisclosureError> {
        let mut processed = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(digest) = element.get(ELLIPSIS) else {
                processed.push(self.value(element, false)?);
                continue;
            };
            if element.as_object().is_some_and(|members| members.len() != 1) {
                return Err(DisclosureError::Misused);
            }
            let Some(opened) = self.take(digest)? else { continue };
            if opened.name.is_some() {
                return Err(DisclosureError::WrongKind);
            }
            processed.push(self.value(&opened.value, false)?);
        }
        Ok(processed)
    }

    /// The disclosure that a digest refers to, if it was handed out; each digest may stand once.
    fn take(&mut self, digest: &Value) -> Result<Option<Opened>, DisclosureError> {
        let digest: Hash =
            digest.as_str().and_then(|text| text.parse().ok()).ok_or(DisclosureError::Misused)?;
        if !self.seen.insert(digest) {
            return Err(DisclosureError::DuplicateDigest { digest });
        }
        Ok(self.open.remove(&digest))
    }
}
