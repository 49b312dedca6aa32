//! `GET /api/v1/trace`: where a lot came from or where it went, as JSON.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query, ServiceConfig, get},
};
use serde::Deserialize;
use serde_json::{Value, json};
use trace::{
    graph::Direction,
    gs1::{Key, key_from_urn},
};

use crate::{
    service::tracing::{Handover, Trace, TracingError, ask},
    web::{AppState, WebError, caller::asker},
};

/// What a token needs to ask.
const SCOPE: &str = "trace";

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/api/v1/trace", get().to(trace));
}

#[derive(Deserialize)]
struct Question {
    /// Digital Link of any host, or EPC URN.
    id: String,
    #[serde(default)]
    direction: Way,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Up,
    Down,
}

async fn trace(
    request: HttpRequest,
    state: Data<AppState>,
    question: Query<Question>,
) -> Result<HttpResponse, WebError> {
    let asker = asker(&request, SCOPE).await?;
    let named = if question.id.starts_with("urn:") {
        key_from_urn(&question.id).ok()
    } else {
        question.id.parse::<Key>().ok()
    };
    let key = named.ok_or(WebError::BadRequest("id is neither a GS1 Digital Link nor an EPC URN"))?;
    let direction = match question.direction {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down,
    };
    let answer = ask(&state.store, &asker, &key, direction).await?;
    Ok(HttpResponse::Ok().json(body(&answer)))
}

impl From<TracingError> for WebError {
    fn from(error: TracingError) -> Self {
        match error {
            TracingError::Unknown => Self::NotFound,
            TracingError::Store(error) => error.into(),
        }
    }
}

fn body(found: &Trace) -> Value {
    let uri = |id: &i64| found.lots.get(id).map(|lot| lot.uri.as_str());
    let records: BTreeMap<&[u8], Value> = found
        .records
        .iter()
        .map(|(entry, made)| {
            (
                entry.as_slice(),
                json!({
                    "jti": made.jti,
                    "event_id": made.event_id,
                    "entry": trace::b64::url(entry),
                    "log_index": made.log_index,
                    "signer_key": made.standing.word(),
                    "proof": format!("/proof/{}", made.jti),
                }),
            )
        })
        .collect();
    let lots: Vec<Value> = found.answer.lots.iter().filter_map(|reached| {
        let lot = found.lots.get(&reached.lot)?;
        Some(json!({
            "id": lot.uri,
            "product": lot.product,
            "profile": lot.profile,
            "steps": reached.steps,
            "share": reached.share,
            "stays": reached.stays,
            "made_time": lot.made_time,
            "made_by": found.parties.get(&lot.made_by).map(|party| party.iss.as_str()),
            "made_at": lot.made_at_place.and_then(|place| found.places.get(&place)).map(|place| place.uri.as_str()),
            "recalled": lot.recalled_by.is_some(),
            "record": records.get(lot.entry.as_slice()),
        }))
    }).collect();
    let told = |edge, quantity: i64| found.tells_quantities(edge).then_some(quantity);
    let edges: Vec<Value> = found
        .answer
        .edges
        .iter()
        .map(|edge| {
            json!({
                "from": uri(&edge.parent),
                "to": uri(&edge.child),
                "from_quantity": told(edge, edge.parent_quantity),
                "to_quantity": told(edge, edge.child_quantity),
                "entry": edge.entry,
            })
        })
        .collect();
    let named = |ids: &[i64]| ids.iter().filter_map(uri).map(Value::from).collect::<Vec<_>>();
    json!({
        "id": found.root.uri,
        "direction": if found.answer.direction == Direction::Up { "up" } else { "down" },
        "unit": found.root.unit,
        "quantity": found.answer.quantity,
        "lots": lots,
        "edges": edges,
        "missing_links": named(&found.answer.missing),
        "cut_at": named(&found.answer.cut),
        "circular": named(&found.answer.circular),
        "custody": found.custody.iter().map(|handover| custody(found, handover)).collect::<Vec<_>>(),
    })
}

fn custody(found: &Trace, Handover { consignment, line }: &Handover) -> Value {
    let party = |id: i64| found.parties.get(&id).map(|party| party.iss.as_str());
    let place = |id: i64| found.places.get(&id).map(|place| place.uri.as_str());
    json!({
        "lot": found.lots.get(&line.lot_id).map(|lot| lot.uri.as_str()),
        "number": consignment.number,
        "from": party(consignment.shipper_id),
        "to": party(consignment.receiver_id),
        "from_place": place(consignment.from_place),
        "to_place": consignment.to_place.and_then(place),
        "shipped_time": consignment.shipped_time,
        "shipped": line.quantity,
        "received": line.received,
        "refused": consignment.refused_by.is_some(),
    })
}
