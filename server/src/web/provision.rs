//! Credentials of devices: the keeper gives a one-time token or takes a device out of use; the device redeems and rotates.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Form, Json, Path, ServiceConfig, post},
};
use askama::Template;
use chrono::Utc;
use qrcode::{EcLevel, QrCode};
use serde::Deserialize;
use serde_json::{Value, json};
use trace::{
    b64,
    hash::Hash,
    keys::{Kid, PublicKey},
};
use uuid::Uuid;

use crate::{
    service::{
        attempts::network,
        devices::provision::{Challenge, Provisioning, ShownKey},
    },
    web::{
        AppState, WebError,
        caller::{SignedIn, address},
        label::svg_of,
        locale::Moment,
        page::{self, Frame},
    },
};

/// Side of the code on the page; a telephone reads it from the screen.
const CODE_MM: u32 = 60;
const REDEEM: &str = "/api/v1/devices/provision";

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/devices/{party}/{device}/token", post().to(give_token))
        .route("/devices/{party}/{device}/end", post().to(end))
        .route("/api/v1/devices/provision/challenge", post().to(challenge))
        .route(REDEEM, post().to(redeem))
        .route("/api/v1/devices/rotate/challenge", post().to(rotation_challenge))
        .route("/api/v1/devices/rotate", post().to(rotate));
}

fn provisioning(state: &AppState) -> Provisioning<'_> {
    Provisioning { store: &state.store, keys: &state.keys, pen: state.config.identifiers.pen }
}

#[derive(Template)]
#[template(path = "device-token.html")]
struct TokenPage {
    f: Frame,
    name: String,
    token: String,
    /// Where it is redeemed.
    address: String,
    svg: String,
    expires: Moment,
    href: String,
}

/// 201 with the token: shown now and never again.
async fn give_token(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
) -> Result<HttpResponse, WebError> {
    token_page(&request, &state, &member, &path).await
}

/// A new token, and the page that shows it.
pub async fn token_page(
    request: &HttpRequest,
    state: &AppState,
    member: &SignedIn,
    (party, device): &(String, String),
) -> Result<HttpResponse, WebError> {
    let issued = provisioning(state).issue(member, (party, device), Utc::now()).await?;
    let address = format!("{}{REDEEM}", state.config.http.public_base_url.trim_end_matches('/'));
    // What stands after the # never leaves the device that scanned it, unless in the body that redeems it.
    let code = QrCode::with_error_correction_level(format!("{address}#{}", issued.token), EcLevel::M)
        .map_err(WebError::internal)?;
    let f = Frame::new(request, Some(member.0.clone()));
    let page = TokenPage {
        name: format!("{party}/{device}"),
        svg: svg_of(&code, CODE_MM),
        expires: f.w.moment(issued.expires_at, None),
        href: format!("/devices/{party}/{device}"),
        token: issued.token,
        address,
        f,
    };
    let mut answer = page::html_with(StatusCode::CREATED, &page)?;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Lost,
    Retired,
}

#[derive(Deserialize)]
struct Ended {
    why: End,
}

async fn end(
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    form: Form<Ended>,
) -> Result<HttpResponse, WebError> {
    let (party, device) = path.into_inner();
    let (name, now) = ((party.as_str(), device.as_str()), Utc::now());
    match form.why {
        End::Lost => provisioning(&state).lose(&member, name, now).await?,
        End::Retired => provisioning(&state).retire(&member, name, now).await?,
    }
    state.register.forget().await;
    let location = format!("/devices/{party}/{device}");
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, location)).finish())
}

/// Counts who asks before anything is looked up.
fn count(request: &HttpRequest, state: &AppState) -> Result<(), WebError> {
    let Some(address) = address(request) else { return Ok(()) };
    state.provisionings.count(network(address)).map_err(|_| WebError::TooMany)
}

/// Refuses keys of small order and such as are not encoded canonically.
fn usable(key: &Hash) -> Result<PublicKey, WebError> {
    PublicKey::from_bytes(key.as_bytes()).map_err(|_| WebError::BadRequest("not a usable Ed25519 key"))
}

fn signature(text: &str) -> Result<[u8; 64], WebError> {
    let bytes = b64::from_url(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(WebError::BadRequest("a signature is 64 bytes in base64url"))
}

fn put(challenge: &Challenge) -> HttpResponse {
    let mut body = json!({ "jti": challenge.jti, "sign": challenge.sign });
    if let (Some(sign), Some(members)) = (&challenge.sign_with_replaced, body.as_object_mut()) {
        members.insert("sign_with_replaced".to_owned(), Value::from(sign.as_str()));
    }
    HttpResponse::Ok().json(body)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    token: String,
    /// The new public key: 32 bytes, base64url.
    key: Hash,
}

async fn challenge(
    request: HttpRequest,
    state: Data<AppState>,
    asked: Json<Asked>,
) -> Result<HttpResponse, WebError> {
    count(&request, &state)?;
    let key = usable(&asked.key)?;
    Ok(put(&provisioning(&state).challenge(&asked.token, &key, Utc::now()).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeemed {
    token: String,
    /// These three of a device that signs itself; none of them of one that a gateway signs for.
    key: Option<Hash>,
    jti: Option<Uuid>,
    /// Over the challenge's `sign`, with the new key.
    signature: Option<String>,
}

impl Redeemed {
    fn shown(&self) -> Result<Option<ShownKey>, WebError> {
        match (&self.key, self.jti, &self.signature) {
            (None, None, None) => Ok(None),
            (Some(key), Some(jti), Some(by_new)) => {
                Ok(Some(ShownKey { public: usable(key)?, jti, signature: signature(by_new)? }))
            }
            _ => Err(WebError::BadRequest("key, jti and signature come together")),
        }
    }
}

/// 201 with the password: told now and never again.
async fn redeem(
    request: HttpRequest,
    state: Data<AppState>,
    redeemed: Json<Redeemed>,
) -> Result<HttpResponse, WebError> {
    count(&request, &state)?;
    let shown = redeemed.shown()?;
    let told = provisioning(&state).redeem(&redeemed.token, shown.as_ref(), Utc::now()).await?;
    state.register.forget().await;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(told))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationAsked {
    replaces: Kid,
    key: Hash,
}

async fn rotation_challenge(
    request: HttpRequest,
    state: Data<AppState>,
    asked: Json<RotationAsked>,
) -> Result<HttpResponse, WebError> {
    count(&request, &state)?;
    let key = usable(&asked.key)?;
    Ok(put(&provisioning(&state).rotation_challenge(asked.replaces, &key).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotated {
    replaces: Kid,
    key: Hash,
    jti: Uuid,
    /// Over `sign`, with the new key.
    signature: String,
    /// Over `sign_with_replaced`, with the key that it replaces.
    replaced_signature: String,
}

async fn rotate(
    request: HttpRequest,
    state: Data<AppState>,
    rotated: Json<Rotated>,
) -> Result<HttpResponse, WebError> {
    count(&request, &state)?;
    let Rotated { replaces, key, jti, signature: by_new, replaced_signature } = rotated.into_inner();
    let shown = ShownKey { public: usable(&key)?, jti, signature: signature(&by_new)? };
    let by_replaced = signature(&replaced_signature)?;
    let kid = provisioning(&state).rotate(replaces, &by_replaced, &shown, Utc::now()).await?;
    state.register.forget().await;
    Ok(HttpResponse::Created().json(json!({ "kid": kid })))
}
