//! REST of the working day: the same steps and field names as the forms.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, ServiceConfig, post},
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use trace::profile::{Profile, Step, author::Grounds, form::AT};
use uuid::Uuid;

use crate::{
    service::{
        account::Member,
        capture::{Capture, CaptureError, Evidence, OwnSignature, Receipt, Request},
        desk::{self, Sent},
    },
    web::{AppState, WebError, caller::SignedIn, error::FieldError},
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/api/v1/steps/{profile}/{step}", post().to(step));
}

impl From<CaptureError> for WebError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::NoSuchStep => Self::NotFound,
            CaptureError::JtiUsed => Self::Conflict("the jti was used by somebody else"),
            CaptureError::Refused(refusals) => {
                Self::Refused(refusals.into_iter().map(FieldError::from).collect())
            }
            other => Self::internal(other),
        }
    }
}

/// `{"jti"?: UUID, field: value, …}`; an array or object where the form repeats a name. 201 with the receipt, 200 with the
/// same receipt for a repeated jti.
async fn step(
    member: SignedIn,
    state: Data<AppState>,
    path: Path<(String, String)>,
    body: Json<Map<String, Value>>,
) -> Result<HttpResponse, WebError> {
    let path = path.into_inner();
    let mut body = body.into_inner();
    let jti = match body.remove("jti") {
        None => Uuid::now_v7(),
        Some(jti) => jti
            .as_str()
            .and_then(|jti| Uuid::try_parse(jti).ok())
            .ok_or(WebError::BadRequest("jti is not a UUID"))?,
    };
    let receipt = take(&state, &member, &path, jti, &pairs(body)?, None).await?;
    let warnings: Vec<Value> = receipt
        .warnings
        .iter()
        .map(|warning| json!({"field": warning.field, "rule": warning.rule, "args": warning.args}))
        .collect();
    let answer = json!({"jti": receipt.jti, "entry": receipt.entry, "warnings": warnings});
    let mut response = if receipt.fresh { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(answer))
}

/// One step of a member, whether it came by form or by REST.
pub async fn take(
    state: &AppState,
    member: &Member,
    path: &(String, String),
    jti: Uuid,
    submitted: &[(String, String)],
    own: Option<&OwnSignature>,
) -> Result<Receipt, CaptureError> {
    let asked = Asked::read(state, member, path, submitted).await?;
    capture(state).await?.take(asked.request(member, jti, own), &asked.submitted).await
}

/// What a member's own browser needs to sign the step that [`take`] would take.
pub async fn grounds(
    state: &AppState,
    member: &Member,
    path: &(String, String),
    jti: Uuid,
    submitted: &[(String, String)],
) -> Result<Grounds, CaptureError> {
    let asked = Asked::read(state, member, path, submitted).await?;
    capture(state).await?.grounds(asked.request(member, jti, None), &asked.submitted).await
}

/// A step with what was typed and what instruments sent for it.
struct Asked<'a> {
    profile: &'a Profile,
    step: &'a Step,
    submitted: Vec<(String, String)>,
    evidence: Vec<Evidence>,
}

impl<'a> Asked<'a> {
    async fn read(
        state: &'a AppState,
        member: &Member,
        path: &(String, String),
        submitted: &[(String, String)],
    ) -> Result<Self, CaptureError> {
        let (profile, step) = named(state, path)?;
        let (submitted, evidence) = with_instruments(state, member, step, submitted).await?;
        Ok(Self { profile, step, submitted, evidence })
    }

    fn request<'r>(&'r self, member: &'r Member, jti: Uuid, own: Option<&'r OwnSignature>) -> Request<'r> {
        let Self { profile, step, evidence, .. } = self;
        Request { party: &member.party, account: Some(member.account_id), profile, step, jti, evidence, own }
    }
}

fn named<'a>(
    state: &'a AppState,
    (profile, step): &(String, String),
) -> Result<(&'a Profile, &'a Step), CaptureError> {
    let profile = state.profiles.by_id(profile).ok_or(CaptureError::NoSuchStep)?;
    Ok((profile, profile.step(step).ok_or(CaptureError::NoSuchStep)?))
}

async fn capture(state: &AppState) -> Result<Capture<'_>, CaptureError> {
    let seen = state.ledger.seen(&mut *state.store.connection().await?).await?;
    Ok(Capture {
        store: &state.store,
        keys: &state.keys,
        documents: &state.documents,
        serial_master: &state.serial_master,
        seen,
    })
}

/// Says of a value that an instrument sent it exactly where one did, and in which packs; what a client claims of itself is
/// dropped, because the grade of the statement follows from it.
async fn with_instruments(
    state: &AppState,
    member: &Member,
    step: &Step,
    submitted: &[(String, String)],
) -> Result<(Vec<(String, String)>, Vec<Evidence>), CaptureError> {
    let at = submitted.iter().find(|(name, _)| name == AT).map(|(_, text)| text.as_str());
    // Where the form has no such time it will be refused; until then it is now.
    let at = at.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let at = at.map_or_else(Utc::now, |at| at.with_timezone(&Utc));
    let sent = desk::instruments(&state.store, &member.party, step, at).await?;
    let mut pairs: Vec<(String, String)> =
        submitted.iter().filter(|(name, _)| !name.ends_with("@device")).cloned().collect();
    let from_instruments: BTreeMap<&String, &Sent> = submitted
        .iter()
        .filter_map(|(name, value)| {
            Some((name, sent.get(name)?.iter().find(|sent| sent.value == value.trim())?))
        })
        .collect();
    let evidence: BTreeSet<Evidence> = from_instruments.values().map(|sent| sent.evidence).collect();
    pairs.extend(from_instruments.iter().map(|(name, sent)| (format!("{name}@device"), sent.device.clone())));
    Ok((pairs, evidence.into_iter().collect()))
}

/// A JSON object as the pairs of a form: `{"portions": {"<lot>": 5}}` is `portions:<lot>=5`.
fn pairs(body: Map<String, Value>) -> Result<Vec<(String, String)>, WebError> {
    let mut pairs = Vec::with_capacity(body.len());
    for (name, value) in body {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    pairs.push((format!("{name}:{key}"), scalar(value)?));
                }
            }
            Value::Array(values) => {
                for value in values {
                    pairs.push((name.clone(), scalar(value)?));
                }
            }
            other => pairs.push((name, scalar(other)?)),
        }
    }
    Ok(pairs)
}

fn scalar(value: Value) -> Result<String, WebError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Array(_) | Value::Object(_) => Err(WebError::BadRequest("a value is nested too deeply")),
    }
}
