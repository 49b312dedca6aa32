//! A member's own keys: the browsers that sign for them, one more of them, and one less.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Form, Path, ServiceConfig, get, post},
};
use askama::Template;
use serde::Deserialize;
use serde_json::json;
use trace::{
    b64,
    hash::Hash,
    keys::{Kid, PublicKey},
};
use uuid::Uuid;

use crate::{
    service::{
        account::AccountError,
        keys::{
            KeysError,
            own::{OwnKeyError, OwnKeys},
        },
    },
    web::{
        AppState, WebError, assets,
        caller::SignedIn,
        guard,
        locale::Moment,
        page::{self, Frame},
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/me/keys", get().to(list))
        .route("/me/keys", post().to(enrol))
        .route("/me/keys/challenge", post().to(challenge))
        .route("/me/keys/{kid}/lost", post().to(lost));
}

impl From<OwnKeyError> for WebError {
    fn from(error: OwnKeyError) -> Self {
        match error {
            OwnKeyError::NotYours => Self::NotFound,
            OwnKeyError::TooMany => Self::Conflict("the account has as many good keys as it may have"),
            OwnKeyError::Stale => Self::Conflict("the challenge is too old"),
            OwnKeyError::Keys(KeysError::Known | KeysError::NotGood | KeysError::Used) => {
                Self::Conflict("the key was enrolled or given up before")
            }
            OwnKeyError::Keys(KeysError::Possession(_) | KeysError::Key(_)) => {
                Self::BadRequest("the proof of possession does not fit")
            }
            OwnKeyError::Keys(error) => Self::internal(error),
        }
    }
}

struct Listed {
    kid: String,
    good: bool,
    since: Moment,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    f: Frame,
    keys: Vec<Listed>,
    wrong_password: bool,
    module: &'static str,
    script: &'static str,
}

async fn list(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
) -> Result<HttpResponse, WebError> {
    keys_page(&request, &state, &member, StatusCode::OK).await
}

async fn keys_page(
    request: &HttpRequest,
    state: &AppState,
    member: &SignedIn,
    status: StatusCode,
) -> Result<HttpResponse, WebError> {
    let f = Frame::new(request, Some(member.0.clone()));
    let own = own_keys(state, member).list().await?;
    let listed = |key: store::key::Key| Listed {
        kid: b64::url(&key.kid),
        good: key.state == "good",
        since: f.w.moment(key.since, None),
    };
    let page = KeysPage {
        keys: own.into_iter().map(listed).collect(),
        wrong_password: status == StatusCode::UNPROCESSABLE_ENTITY,
        module: assets::MODULE.path(),
        script: assets::SIGN.path(),
        f,
    };
    let mut response = page::html_with(status, &page)?;
    guard::allow_module(&mut response);
    Ok(response)
}

fn own_keys<'a>(state: &'a AppState, member: &'a SignedIn) -> OwnKeys<'a> {
    OwnKeys { store: &state.store, keys: &state.keys, member }
}

fn public_key(key: &str) -> Result<PublicKey, WebError> {
    let bytes: Hash =
        key.parse().map_err(|_| WebError::BadRequest("the key is not 32 bytes in base64url"))?;
    PublicKey::from_bytes(bytes.as_bytes()).map_err(|_| WebError::BadRequest("not a usable Ed25519 key"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The public key's 32 bytes.
    key: String,
}

/// What the new key has to sign.
async fn challenge(
    state: Data<AppState>,
    member: SignedIn,
    wanted: Form<Wanted>,
) -> Result<HttpResponse, WebError> {
    let possession = own_keys(&state, &member).challenge(&public_key(&wanted.key)?);
    Ok(HttpResponse::Ok().json(json!({"possession": possession})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    key: String,
    /// The challenge's name.
    jti: Uuid,
    /// The challenge, signed by the new key.
    pop: String,
    password: String,
}

/// A session alone is not enough to make what outlives it.
async fn enrol(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    form: Form<Enrolment>,
) -> Result<HttpResponse, WebError> {
    let Enrolment { key, jti, pop, password } = form.into_inner();
    match state.accounts.confirm(member.account_id, &password).await {
        Ok(()) => {}
        Err(AccountError::Wrong) => {
            return keys_page(&request, &state, &member, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
        Err(error) => return Err(error.into()),
    }
    own_keys(&state, &member).enrol(jti, public_key(&key)?, pop).await?;
    Ok(back())
}

async fn lost(state: Data<AppState>, member: SignedIn, kid: Path<String>) -> Result<HttpResponse, WebError> {
    let kid: Kid = kid.parse().map_err(|_| WebError::NotFound)?;
    own_keys(&state, &member).lose(kid).await?;
    Ok(back())
}

fn back() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, "/me/keys")).finish()
}
