//! Sign-in, sign-out, the choice of language, and the door `/`.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite, time::Duration},
    http::{StatusCode, header},
    web::{Data, Form, Query, ServiceConfig, get, post},
};
use askama::Template;
use chrono::Utc;
use serde::Deserialize;

use crate::{
    metrics,
    service::account::AccountError,
    web::{
        AppState, WebError,
        caller::MaybeSignedIn,
        locale::{LOCALE_COOKIE, Language},
        page::{self, Frame},
    },
};

/// `__Host-`: only over a secure connection (or localhost), from this host alone, for every path.
pub const SESSION_COOKIE: &str = "__Host-session";

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/sign-in", get().to(form))
        .route("/sign-in", post().to(sign_in))
        .route("/sign-out", post().to(sign_out))
        .route("/locale", get().to(choose_locale));
}

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignInPage {
    f: Frame,
    next: String,
    login: String,
    error: Option<&'static str>,
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

async fn form(
    request: HttpRequest,
    query: Query<Next>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    page::html(&SignInPage {
        f: Frame::new(&request, member.0),
        next: local_path(&query.next).to_owned(),
        login: String::new(),
        error: None,
    })
}

#[derive(Deserialize)]
struct Credentials {
    login: String,
    password: String,
    #[serde(default)]
    next: String,
}

async fn sign_in(
    request: HttpRequest,
    state: Data<AppState>,
    form: Form<Credentials>,
) -> Result<HttpResponse, WebError> {
    let form = form.into_inner();
    let next = local_path(&form.next).to_owned();
    let error = match state.accounts.sign_in(&form.login, &form.password, Utc::now()).await {
        Ok(token) => {
            return Ok(HttpResponse::SeeOther()
                .insert_header((header::LOCATION, next))
                .cookie(session_cookie(token))
                .finish());
        }
        Err(AccountError::Wrong) => "sign-in-wrong",
        Err(AccountError::TooMany(_)) => "sign-in-too-many",
        Err(error) => return Err(error.into()),
    };
    metrics::SIGN_INS_REFUSED.add(1);
    let status =
        if error == "sign-in-too-many" { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNAUTHORIZED };
    let page = SignInPage { f: Frame::new(&request, None), next, login: form.login, error: Some(error) };
    page::html_with(status, &page)
}

async fn sign_out(request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, WebError> {
    if let Some(cookie) = request.cookie(SESSION_COOKIE) {
        state.accounts.sign_out(cookie.value(), Utc::now()).await?;
    }
    let mut gone = session_cookie(String::new());
    gone.make_removal();
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/")).cookie(gone).finish())
}

fn session_cookie(token: String) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, token)
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .finish()
}

#[derive(Deserialize)]
struct Choice {
    to: String,
    #[serde(default)]
    next: String,
}

/// The only cookie of a public page, and only after somebody chose.
async fn choose_locale(query: Query<Choice>) -> Result<HttpResponse, WebError> {
    let language = Language::from_tag(&query.to).ok_or(WebError::BadRequest("no such language"))?;
    let cookie = Cookie::build(LOCALE_COOKIE, language.tag())
        .path("/")
        .same_site(SameSite::Lax)
        .max_age(Duration::days(365))
        .finish();
    let next = if query.next.is_empty() { "/" } else { local_path(&query.next) };
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, next.to_owned())).cookie(cookie).finish())
}

/// A path of ours, so that no link sends somebody elsewhere through us; else the day's page.
fn local_path(next: &str) -> &str {
    let local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(|letter: char| letter == '\\' || letter.is_control());
    if local { next } else { "/day" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_nowhere_but_to_our_own_pages() {
        for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nX: y"] {
            assert_eq!(local_path(elsewhere), "/day");
        }
        assert_eq!(local_path("/lots/1?a=b"), "/lots/1?a=b");
    }
}
