//! One record's row against its signed bytes: every column that the bytes decide.

mod public;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::Value;
use store::fsck::{RecordRow, Said};
use trace::{
    epcis::import_profile_reference,
    hash::Hash,
    keys::KeyRole,
    profile::{Profile, Step, Wiring},
    record::{Record, Rel},
};

/// Which steps the profiles know: profile reference → steps.
#[derive(Debug, Default)]
pub struct StepNames(BTreeMap<String, Vec<StepName>>);

#[derive(Debug)]
struct StepName {
    id: String,
    /// As the signed event says it.
    gx_step: String,
    /// Its record stands at the author's first place, wherever the goods are.
    at_first_place: bool,
}

impl StepNames {
    /// A record names the digest of its profile's file: only that very file says what its steps are called.
    pub fn of<'a>(profiles: impl IntoIterator<Item = &'a Profile>) -> Self {
        let name = |step: &Step| StepName {
            id: step.id.clone(),
            gx_step: step.gx_step.clone(),
            at_first_place: matches!(
                step.effect,
                Wiring::Store { .. }
                    | Wiring::Commission { .. }
                    | Wiring::Pack { .. }
                    | Wiring::Unpack { .. }
                    | Wiring::Refuse { .. }
                    | Wiring::Recall { .. }
            ),
        };
        let steps = |profile: &Profile| profile.steps().iter().map(name).collect();
        Self(profiles.into_iter().map(|profile| (profile.reference(), steps(profile))).collect())
    }

    /// Whether somebody gave the profile's file.
    fn knows(&self, row: &RecordRow<'_>) -> bool {
        self.0.contains_key(row.profile)
    }

    fn find(&self, row: &RecordRow<'_>, gx_step: &str) -> Option<&StepName> {
        let steps = self.0.get(row.profile)?;
        steps.iter().find(|name| name.gx_step == gx_step && Some(name.id.as_str()) == row.step)
    }
}

/// What is asked of no row.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub steps: &'a StepNames,
    /// Each party's first place.
    pub first_places: HashMap<String, String>,
}

/// What the signed bytes say, for the tables that hang on the record.
pub(super) struct Signed<'a> {
    pub record: &'a Record,
    /// Digests of what is concealed, as they stand in the text.
    pub digests: Vec<&'a str>,
    /// An event of one of our own steps, and not one that was imported.
    pub is_ours: bool,
}

/// The columns that say something else than the bytes.
pub(super) fn misfits<'a>(
    row: &RecordRow<'_>,
    record: &'a Record,
    role: Option<KeyRole>,
    known: &Known<'_>,
    ledger: &str,
) -> (Vec<&'static str>, Signed<'a>) {
    let claims = record.claims();
    let payload = record.payload();
    let event = payload.get("event");
    let text = |name: &str| event?.get(name)?.as_str();
    let is_import = claims.profile == import_profile_reference();
    let mut digests = Vec::new();
    let public_fits = public::says_the_same(payload, row.public, &mut digests);
    let time = text("eventTime").and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    let kind = match (event.is_some(), role) {
        (false, _) => "statement",
        (true, Some(KeyRole::Derivation)) => "derived",
        (true, _) => "event",
    };
    let own_id = format!("urn:uuid:{}", claims.jti);
    let corrects = claims.refs.iter().find(|one| one.rel == Rel::Corrects);
    let micros = |at: DateTime<Utc>| at.timestamp_micros();
    let columns = [
        ("jti", row.jti == claims.jti),
        ("kind", row.kind == kind),
        ("party_id", row.party == Some(&claims.iss)),
        ("iss", row.iss == claims.iss),
        ("kid", row.kid == record.kid().as_bytes()),
        ("profile", row.profile == claims.profile),
        ("step", step_fits(row, payload, is_import, known.steps)),
        ("grade", grade_fits(row.grade, record)),
        ("event_type", row.event_type == text("type")),
        ("event_id", row.event_id == Some(text("eventID").unwrap_or(&own_id))),
        ("event_time", row.event_time.map(micros) == time.map(|time| micros(time.to_utc()))),
        ("event_offset", row.event_offset == text("eventTimeZoneOffset")),
        ("event_hash", event_hash_fits(row, is_import && corrects.is_none())),
        ("place_id", place_fits(row, event, is_import, known)),
        ("corrects", row.corrects == corrects.map(|one| one.leaf.as_bytes().as_slice())),
        ("iat", micros(row.iat) == claims.iat.saturating_mul(1_000_000)),
        ("public", public_fits),
        ("aud", claims.aud == ledger),
    ];
    let wrong = columns.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect();
    (wrong, Signed { record, digests, is_ours: event.is_some() && !is_import })
}

fn step_fits(row: &RecordRow<'_>, payload: &Value, is_import: bool, steps: &StepNames) -> bool {
    let Some(event) = payload.get("event") else {
        return row.step == payload.pointer("/statement/type").and_then(Value::as_str);
    };
    if is_import {
        return row.step.is_none();
    }
    let (Some(step), Some(gx_step)) = (row.step, event.get("gx:step").and_then(Value::as_str)) else {
        return false;
    };
    match row.kind {
        "derived" => gx_step.strip_prefix("gx:") == Some(step),
        _ => !steps.knows(row) || steps.find(row, gx_step).is_some(),
    }
}

/// A device's word needs evidence, a documented one evidence or a document. Whether every figure was the instrument's own
/// is known to the form only, so that a lower grade than could be is possible.
fn grade_fits(grade: &str, record: &Record) -> bool {
    let evidence = record.claims().refs.iter().any(|one| one.rel == Rel::Evidence);
    let documents = record.payload().pointer("/event/bizTransactionList").and_then(Value::as_array);
    let documents = documents.is_some_and(|documents| !documents.is_empty());
    let is_import = record.claims().profile.starts_with("epcis/");
    match grade {
        "device" => evidence,
        "documented" => evidence || documents,
        "self" => !documents || is_import,
        _ => false,
    }
}

/// Keyed by a secret, so that only its being there can be seen.
fn event_hash_fits(row: &RecordRow<'_>, is_wanted: bool) -> bool {
    match row.event_hash {
        Some(hash) => is_wanted && hash.len() == Hash::LEN,
        None => !is_wanted,
    }
}

/// The event's read point or location, where it stands in plain; the author's first place, where the step has none.
fn place_fits(row: &RecordRow<'_>, event: Option<&Value>, is_import: bool, known: &Known<'_>) -> bool {
    let Some(event) = event else { return row.place == Said::Nothing };
    let place = match row.place {
        // The place of an import may be none of ours.
        Said::Nothing => return is_import,
        Said::Nowhere => return false,
        Said::Place(uri) => uri,
    };
    let said = |name: &str| event.get(name)?.get("id")?.as_str();
    let said = said("readPoint").or_else(|| said("bizLocation"));
    let is_first = || known.first_places.get(row.iss).is_some_and(|first| first == place);
    let gx_step = event.get("gx:step").and_then(Value::as_str).unwrap_or_default();
    match known.steps.find(row, gx_step) {
        Some(step) if step.at_first_place => is_first(),
        _ => match said {
            Some(said) => said == place || (!is_import && is_first()),
            None => !is_import,
        },
    }
}
