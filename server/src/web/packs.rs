//! The gateways' door, devices, alerts and dead letters over REST.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Json, Path, PayloadConfig, ServiceConfig, get, post, resource},
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use trace::{
    b64,
    pack::carriage::{BATCH_BYTES_MAX, CONTENT_TYPE, CarriageError, Status, read_items, write_outcomes},
};

use crate::{
    service::{
        dead_letters,
        devices::{self, DeviceError, DeviceForm, KeyForm},
        inspection, intake,
        keys::KeysError,
    },
    web::{
        AppState, WebError,
        caller::{Bearer, SignedIn, asker},
        error::FieldError,
    },
};

/// Token scope of a gateway.
const GATEWAY: &str = "gateway";
/// Token scope of a program that reads what its party may.
const READ: &str = "read";
const DEAD_LETTERS_MAX: i64 = 200;
const ALERTS_MAX: i64 = 500;

pub fn routes(routes: &mut ServiceConfig) {
    let packs =
        resource("/api/v1/packs").app_data(PayloadConfig::new(BATCH_BYTES_MAX)).route(post().to(take));
    routes
        .service(packs)
        .route("/api/v1/gateway/register", get().to(register))
        .route("/api/v1/gateway/replays", get().to(replays))
        .route("/api/v1/gateway/replays/{id}", post().to(confirm_replay))
        .route("/api/v1/gateways", post().to(enrol_gateway))
        .route("/api/v1/devices", post().to(register_device))
        .route("/api/v1/alerts", get().to(list_alerts))
        .route("/api/v1/dead-letters", get().to(list_dead_letters));
}

async fn take(
    state: Data<AppState>,
    caller: Bearer,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, WebError> {
    caller.require(GATEWAY)?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type != Some(CONTENT_TYPE) {
        return Err(WebError::MediaType);
    }
    // On a thread of its own: a thousand signatures would keep this worker's other requests waiting.
    let runtime = tokio::runtime::Handle::current();
    let taken = tokio::task::spawn_blocking(move || runtime.block_on(take_body(&state, &body)));
    let outcomes = taken.await.map_err(WebError::internal)??;
    Ok(HttpResponse::Ok().content_type("application/cbor").body(outcomes))
}

async fn take_body(state: &AppState, body: &[u8]) -> Result<Vec<u8>, WebError> {
    let items = read_items(body).map_err(|error| match error {
        CarriageError::TooMany => WebError::TooLarge,
        CarriageError::Malformed => WebError::BadRequest("the body is not a CBOR sequence of items"),
    })?;
    let known = (&state.register, state.config.identifiers.pen);
    let outcomes = intake::take(&state.store, &state.profiles, known, &items, Utc::now()).await?;
    state.packs_arrived.notify_one();
    Ok(write_outcomes(&outcomes))
}

async fn register(
    state: Data<AppState>,
    caller: Bearer,
    request: HttpRequest,
) -> Result<HttpResponse, WebError> {
    let party = &caller.require(GATEWAY)?.party;
    let conn = &mut *state.store.connection().await?;
    let (register, tag) =
        devices::gateway_register(conn, &state.profiles, state.keys.ledger(), party).await?;
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known == Some(tag.as_str()) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, tag)).finish());
    }
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, tag))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .content_type("application/json")
        .body(register))
}

/// Dead letters that the party's gateways shall take in again, and the register that they were handed over with: a gateway
/// whose copy is another one fetches first.
async fn replays(state: Data<AppState>, caller: Bearer) -> Result<HttpResponse, WebError> {
    let party = &caller.require(GATEWAY)?.party;
    let conn = &mut *state.store.connection().await?;
    let letters = dead_letters::waiting(conn, party).await?;
    let register = if letters.is_empty() {
        None
    } else {
        Some(devices::gateway_register(conn, &state.profiles, state.keys.ledger(), party).await?.1)
    };
    let replays: Vec<Value> = letters
        .iter()
        .map(|letter| {
            json!({
                "id": letter.id, "topic": letter.topic, "received_ms": letter.received_at.timestamp_millis(),
                "payload": letter.payload.as_deref().map(b64::url),
            })
        })
        .collect();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "register": register, "replays": replays })))
}

/// What became of a replay, as the gateway was told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replayed {
    /// As in the answer to a batch.
    status: u8,
    /// The pack's number, base64url.
    cti: Option<String>,
}

async fn confirm_replay(
    state: Data<AppState>,
    caller: Bearer,
    id: Path<i64>,
    told: Json<Replayed>,
) -> Result<HttpResponse, WebError> {
    let party = &caller.require(GATEWAY)?.party;
    let status = Status::from_code(told.status).ok_or(WebError::BadRequest("there is no such status"))?;
    let cti = told.cti.as_deref().map(b64::from_url).transpose();
    let cti = cti.map_err(|_| WebError::BadRequest("the cti is not base64url"))?;
    dead_letters::confirm(&state.store, party, *id, status, cti.as_deref(), Utc::now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn enrol_gateway(
    state: Data<AppState>,
    caller: Bearer,
    form: Json<KeyForm>,
) -> Result<HttpResponse, WebError> {
    let program = caller.require(GATEWAY)?;
    let pen = state.config.identifiers.pen;
    let kid = devices::enrol_gateway(&state.store, &state.keys, pen, &program.party, &form).await?;
    Ok(HttpResponse::Created().json(json!({ "kid": kid })))
}

async fn register_device(
    state: Data<AppState>,
    member: SignedIn,
    form: Json<DeviceForm>,
) -> Result<HttpResponse, WebError> {
    let pen = state.config.identifiers.pen;
    let registered =
        devices::register(&state.store, &state.keys, &state.profiles, pen, &member.party, &form).await?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(registered))
}

async fn list_alerts(state: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, WebError> {
    let asker = asker(&request, READ).await?;
    let conn = &mut *state.store.connection().await?;
    let alerts = inspection::visible_alerts(conn, &asker, ALERTS_MAX).await?;
    let rows: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            json!({
                "id": alert.id, "rule": alert.rule, "subject": alert.subject, "metric": alert.metric,
                "unit": alert.unit, "threshold": alert.threshold, "source": alert.source,
                "value": alert.value, "raised_at": alert.raised_at,
                "acknowledged_at": alert.acknowledged_at, "cleared_at": alert.cleared_at,
                "cleared_value": alert.cleared_value, "lots": alert.lots,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "alerts": rows })))
}

async fn list_dead_letters(state: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, WebError> {
    let asker = asker(&request, READ).await?;
    let found = dead_letters::list(&state.store, &asker, None, DEAD_LETTERS_MAX).await?;
    let rows: Vec<Value> = found
        .letters
        .iter()
        .map(|letter| {
            json!({
                "id": letter.id, "topic": letter.topic, "received_at": letter.received_at,
                "reason": letter.reason, "size": letter.size, "sha256": b64::url(&letter.sha256),
                "payload": letter.payload.as_deref().map(b64::url),
                "replay_wanted_at": letter.replay_wanted_at, "replayed_at": letter.replayed_at,
                "outcome": letter.outcome,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "dead_letters": rows })))
}

impl From<DeviceError> for WebError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Refused { field, rule } => {
                Self::Refused(vec![FieldError::new(field, rule, Vec::new())])
            }
            DeviceError::NotYours => Self::NotFound,
            DeviceError::Token => Self::Conflict("the token is not known, has expired, or was used"),
            DeviceError::Stale => Self::Conflict("the challenge is too old"),
            DeviceError::Retired => Self::Conflict("the device is out of use"),
            DeviceError::Keys(KeysError::Known) => Self::Conflict("the key is enrolled already"),
            DeviceError::Keys(KeysError::Used) => Self::Conflict("the challenge was answered already"),
            DeviceError::Keys(KeysError::NotGood) => Self::Conflict("the key is not good any more"),
            DeviceError::Keys(KeysError::Possession(_) | KeysError::Key(_)) => {
                Self::BadRequest("the proof of possession does not hold")
            }
            DeviceError::Keys(error) => Self::internal(error),
            DeviceError::Store(error) => error.into(),
        }
    }
}
