//! `POST /api/v1/events`: EPCIS 2.0 documents of registered parties.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, PayloadConfig, ServiceConfig, resource},
};
use serde::Serialize;

use crate::{
    service::{
        capture_epcis::{CaptureError, DOCUMENT_LIMITS, EVENTS_MAX, Outcome, Reason, capture},
        keys::KeysError,
    },
    web::{AppState, WebError, caller::Bearer, error::FieldError, locale::Words},
};

/// What a token needs to hand in events.
const SCOPE: &str = "capture";

pub fn routes(routes: &mut ServiceConfig) {
    routes.service(
        resource("/api/v1/events").app_data(PayloadConfig::new(DOCUMENT_LIMITS.bytes_max)).post(hand_in),
    );
}

/// One event's answer; the order is that of the document.
#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "status")]
enum Answer {
    Accepted { jti: uuid::Uuid, entry: trace::hash::Hash },
    Duplicate { jti: uuid::Uuid },
    Refused { errors: [FieldError; 1] },
}

#[derive(Serialize)]
struct Answers {
    accepted: usize,
    duplicate: usize,
    refused: usize,
    events: Vec<Answer>,
}

async fn hand_in(
    request: HttpRequest,
    state: Data<AppState>,
    caller: Bearer,
    body: Bytes,
) -> Result<HttpResponse, WebError> {
    let party = &caller.require(SCOPE)?.party;
    is_json(&request)?;
    let seen = {
        let mut conn = state.store.connection().await?;
        state.ledger.seen(&mut conn).await.map_err(WebError::internal)?
    };
    let outcomes = capture(&state.store, &state.keys, party, seen, &body).await?;
    let words = Words::of(&request);
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    Ok(HttpResponse::Ok().json(Answers {
        accepted: count(|outcome| matches!(outcome, Outcome::Accepted { .. })),
        duplicate: count(|outcome| matches!(outcome, Outcome::Duplicate { .. })),
        refused: count(|outcome| matches!(outcome, Outcome::Refused(_))),
        events: outcomes.into_iter().map(|outcome| answer(outcome, &words)).collect(),
    }))
}

fn is_json(request: &HttpRequest) -> Result<(), WebError> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if matches!(media, "application/json" | "application/ld+json") {
        Ok(())
    } else {
        Err(WebError::MediaType)
    }
}

fn answer(outcome: Outcome, words: &Words) -> Answer {
    match outcome {
        Outcome::Accepted { jti, entry } => Answer::Accepted { jti, entry },
        Outcome::Duplicate { jti } => Answer::Duplicate { jti },
        Outcome::Refused(reason) => Answer::Refused { errors: [refused(&reason).worded(words)] },
    }
}

fn refused(reason: &Reason) -> FieldError {
    let says = match reason {
        Reason::Event(error) => error.rule.to_string(),
        other => other.to_string(),
    };
    FieldError::new(reason.path(), reason.rule(), vec![("reason".to_owned(), says)])
}

impl From<CaptureError> for WebError {
    fn from(error: CaptureError) -> Self {
        let one = |path: &str, rule: &str, name: &str, value: String| {
            Self::Refused(vec![FieldError::new(path, rule, vec![(name.to_owned(), value)])])
        };
        match error {
            CaptureError::Json(error) => one("$", "json", "reason", error.to_string()),
            CaptureError::Document(error) => one(&error.path, "epcis", "reason", error.rule.to_string()),
            CaptureError::TooMany { .. } => {
                one("$.epcisBody.eventList", "too-many-events", "most", EVENTS_MAX.to_string())
            }
            CaptureError::Keys(KeysError::NoKey) => {
                Self::Conflict("the platform holds no good key to sign with for this party")
            }
            error => Self::internal(error),
        }
    }
}
