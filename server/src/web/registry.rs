//! REST of the registry: parties, places, trade items, permits, accounts and tokens. The operator's alone.

use actix_web::{
    HttpResponse,
    web::{Data, Json, Path, ServiceConfig, post},
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use store::party;
use uuid::Uuid;

use crate::{
    service::{
        account::{Member, NewAccount},
        registry::{PartyForm, PermitForm, PlaceForm, Registry, RegistryError, TradeItemForm},
    },
    web::{AppState, WebError, caller::SignedIn, error::FieldError, log::SIGNED_SCOPE},
};

/// What a token may be for.
const SCOPES: [&str; 4] = ["capture", "gateway", "read", SIGNED_SCOPE];

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/api/v1/parties", post().to(party))
        .route("/api/v1/places", post().to(place))
        .route("/api/v1/trade-items", post().to(trade_item))
        .route("/api/v1/permits", post().to(permit))
        .route("/api/v1/accounts", post().to(account))
        .route("/api/v1/tokens", post().to(token))
        .route("/api/v1/parties/{slug}/erase", post().to(erase));
}

impl From<RegistryError> for WebError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Refused(refusals) => {
                Self::Refused(refusals.into_iter().map(FieldError::from).collect())
            }
            other => Self::internal(other),
        }
    }
}

impl From<trace::profile::Refusal> for FieldError {
    fn from(refusal: trace::profile::Refusal) -> Self {
        Self::new(refusal.field, refusal.rule, refusal.args.into_iter().collect())
    }
}

/// 404 for everybody else: they may not know that this exists.
fn operator(member: &Member) -> Result<(), WebError> {
    if member.party.role == "operator" { Ok(()) } else { Err(WebError::NotFound) }
}

fn registry(state: &AppState) -> Registry<'_> {
    Registry {
        store: &state.store,
        keys: &state.keys,
        profiles: &state.profiles,
        gsrn_prefix: &state.config.identifiers.gsrn_prefix,
        documents: &state.documents,
    }
}

async fn party(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<PartyForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    let made = registry(&state).party(&form).await?;
    Ok(HttpResponse::Created().json(json!({"slug": made.slug, "iss": made.iss, "role": made.role})))
}

async fn place(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<PlaceForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    let made = registry(&state).place(&form).await?;
    Ok(HttpResponse::Created().json(json!({"slug": made.slug, "uri": made.uri, "kind": made.kind})))
}

async fn trade_item(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<TradeItemForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    let made = registry(&state).trade_item(&form).await?;
    Ok(HttpResponse::Created().json(json!({"gtin": made.gtin, "product": made.product})))
}

async fn permit(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<PermitForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    registry(&state).permit(&form).await?;
    Ok(HttpResponse::Created().json(json!({"number": form.number})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountForm {
    party: String,
    login: String,
    password: String,
    #[serde(default)]
    roles: Vec<String>,
    locale: Option<String>,
}

async fn account(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<AccountForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    let mut conn = state.store.connection().await?;
    let party = party::by_slug(&mut conn, &form.party).await?.ok_or_else(|| unknown_party(&form.party))?;
    drop(conn);
    let new = NewAccount {
        party_id: party.id,
        person_id: party.person_id,
        login: &form.login,
        password: &form.password,
        roles: form.roles.clone(),
        locale: form.locale.as_deref().unwrap_or("zh-CN"),
    };
    let id = state.accounts.create(new).await?;
    Ok(HttpResponse::Created().json(json!({"account": id})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    party: String,
    label: String,
    scopes: Vec<String>,
}

/// The token is in this answer and nowhere else: only its hash is kept.
async fn token(
    member: SignedIn,
    state: Data<AppState>,
    form: Json<TokenForm>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    if let Some(scope) = form.scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        let args = vec![("scope".to_owned(), scope.clone())];
        return Err(WebError::Refused(vec![FieldError::new("scopes", "unknown-scope", args)]));
    }
    let mut conn = state.store.connection().await?;
    let party = party::by_slug(&mut conn, &form.party).await?.ok_or_else(|| unknown_party(&form.party))?;
    drop(conn);
    let token = state.accounts.issue_token(party.id, &form.label, &form.scopes, None).await?;
    Ok(HttpResponse::Created().json(json!({"token": token})))
}

/// Destroys a natural person's data key. Every proof stays whole; what was sealed is gone.
async fn erase(
    member: SignedIn,
    state: Data<AppState>,
    slug: Path<String>,
) -> Result<HttpResponse, WebError> {
    operator(&member)?;
    let mut conn = state.store.connection().await?;
    let party = party::by_slug(&mut conn, &slug).await?.ok_or(WebError::NotFound)?;
    let person: Uuid = party.person_id.ok_or(WebError::Conflict("not a natural person"))?;
    let erased = state.keys.erase_person(&mut conn, person).await.map_err(WebError::internal)?;
    Ok(HttpResponse::Ok().json(json!({"erased": erased, "at": Utc::now()})))
}

fn unknown_party(slug: &str) -> WebError {
    let args = vec![("party".to_owned(), slug.to_owned())];
    WebError::Refused(vec![FieldError::new("party", "unknown-party", args)])
}
