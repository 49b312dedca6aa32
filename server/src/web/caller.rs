//! Who asks: extractors of a member's session and of a program's token.

use std::{future::Future, net::IpAddr, ops::Deref, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web::Data};
use chrono::Utc;

use crate::{
    service::account::{AccountError, Asker, Member, Program},
    web::{AppState, WebError, account::SESSION_COOKIE},
};

type Found<T> = Pin<Box<dyn Future<Output = Result<T, WebError>>>>;

/// A member; a page without one goes to the sign-in.
pub struct SignedIn(pub Member);

/// A member, or anybody.
pub struct MaybeSignedIn(pub Option<Member>);

/// A program with a token that holds.
pub struct Bearer(pub Program);

impl Bearer {
    /// 403 without `scope`.
    pub fn require(&self, scope: &str) -> Result<&Program, WebError> {
        if self.0.scopes.iter().any(|held| held == scope) { Ok(&self.0) } else { Err(WebError::Forbidden) }
    }
}

impl Deref for SignedIn {
    type Target = Member;
    fn deref(&self) -> &Member {
        &self.0
    }
}

impl From<AccountError> for WebError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::TooMany(_) => Self::TooMany,
            AccountError::LoginTaken => Self::Conflict("the login is taken"),
            AccountError::LoginLength => Self::BadRequest("a login has 1 to 64 bytes"),
            AccountError::PasswordLength => Self::BadRequest("the password is too short or too long"),
            AccountError::Wrong => Self::SignInNeeded,
            error => Self::internal(error),
        }
    }
}

/// The member of the request's session, if it holds.
pub async fn member(request: &HttpRequest) -> Result<Option<Member>, WebError> {
    let Some(cookie) = request.cookie(SESSION_COOKIE) else { return Ok(None) };
    let state = state(request)?;
    Ok(state.accounts.member(cookie.value(), Utc::now()).await?)
}

/// Who asks: a program with a token that has the scope, or somebody signed in.
pub async fn asker(request: &HttpRequest, scope: &str) -> Result<Asker, WebError> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let caller = Bearer::extract(request).await?;
        return Ok(Asker { account_id: None, party: caller.require(scope)?.party.clone() });
    }
    Ok((&member(request).await?.ok_or(WebError::SignInNeeded)?).into())
}

fn state(request: &HttpRequest) -> Result<Data<AppState>, WebError> {
    request.app_data::<Data<AppState>>().cloned().ok_or(WebError::Unavailable("the server is starting"))
}

impl FromRequest for SignedIn {
    type Error = WebError;
    type Future = Found<Self>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { member(&request).await?.map(Self).ok_or(WebError::SignInNeeded) })
    }
}

impl FromRequest for MaybeSignedIn {
    type Error = WebError;
    type Future = Found<Self>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(member(&request).await?)) })
    }
}

impl FromRequest for Bearer {
    type Error = WebError;
    type Future = Found<Self>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let token = request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Bearer "))
                .ok_or(WebError::SignInNeeded)?;
            let program = state(&request)?.accounts.program(token, Utc::now()).await?;
            program.map(Self).ok_or(WebError::SignInNeeded)
        })
    }
}

/// Whom the request came from. A proxy on this machine says it in the last element of its header; nobody else is believed.
pub fn address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let forwarded = request.headers().get_all("x-forwarded-for").last();
    let told = forwarded.and_then(|told| told.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    if peer.is_loopback() { told.or(Some(peer)) } else { Some(peer) }
}
