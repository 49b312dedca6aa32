//! What holds for every request: an id, the same-origin rule, security and caching headers, errors in the reader's form.

use std::{sync::LazyLock, time::Instant};

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode, Uri, Version,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Bytes,
};
use uuid::Uuid;

use crate::{
    metrics,
    web::{
        account::SESSION_COOKIE,
        error::{Problem, WebError},
        locale::{LOCALE_COOKIE, Words},
        page,
    },
};

/// Forms are far below, imports of documents above.
const SHORT_BODY_BYTES_MAX: usize = 64 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names one request in the logs.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

static CSP: LazyLock<HeaderValue> = LazyLock::new(|| policy("'self'"));
static CSP_WITH_MODULE: LazyLock<HeaderValue> = LazyLock::new(|| policy("'self' 'wasm-unsafe-eval'"));

/// Lets a page compile our WebAssembly module (CSP 3 §6.2.1.1: `wasm-unsafe-eval` is not `unsafe-eval`).
pub fn allow_module(response: &mut HttpResponse) {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CSP_WITH_MODULE.clone());
}

fn policy(scripts: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {scripts}; connect-src 'self'; img-src 'self' data:; \
         manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        page::style_sources()
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// The outermost middleware of every route.
pub async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = Uuid::now_v7().simple().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let private = is_private(request.request());
    read_short_body(&mut request).await;
    let refused = if !same_origin(request.request()) {
        Some(WebError::ForeignOrigin)
    } else if names_nul(request.uri()) {
        Some(WebError::NotFound)
    } else {
        None
    };
    let mut response = match refused {
        None => next.call(request).await?.map_into_boxed_body(),
        Some(refused) => {
            let (request, _) = request.into_parts();
            ServiceResponse::new(request, HttpResponse::from_error(refused))
        }
    };
    let problem = response.response().extensions().get::<Problem>().cloned();
    if let Some(problem) = problem {
        let page = told(response.request(), &problem);
        response = ServiceResponse::new(response.request().clone(), page);
    } else if response.status() == StatusCode::NOT_FOUND
        && !response.headers().contains_key(header::CONTENT_TYPE)
    {
        let problem =
            Problem { status: StatusCode::NOT_FOUND, key: "not-found", detail: None, errors: Vec::new() };
        let page = told(response.request(), &problem);
        response = ServiceResponse::new(response.request().clone(), page);
    }
    dress(response.headers_mut(), &id, private);
    count(response.status(), started);
    tracing::info!(
        request = %id,
        method = %response.request().method(),
        route = response.request().match_pattern().unwrap_or_default(),
        status = response.status().as_u16(),
        microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    Ok(response)
}

/// A NUL is the one character that Postgres keeps in no text: nothing here is called so.
fn names_nul(uri: &Uri) -> bool {
    uri.path_and_query().is_some_and(|asked| asked.as_str().contains("%00"))
}

/// An answer that is ready before the body was read resets an HTTP/2 stream, and its reader may never see it (RFC 9113
/// §8.1). So what is as short as a form is read first; whoever sends more than that waits for the answer as it comes.
async fn read_short_body(request: &mut ServiceRequest) {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let short = length.is_some_and(|length| (1..=SHORT_BODY_BYTES_MAX).contains(&length));
    if request.version() != Version::HTTP_2 || !short {
        return;
    }
    // What breaks off here is missing there, and refused as a form that lacks its fields.
    let body = request.extract::<Bytes>().await.unwrap_or_default();
    request.set_payload(Payload::from(body));
}

/// A request that names somebody, or that chose a language by a cookie (no cache looks there): its answer belongs to no
/// cache.
fn is_private(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::AUTHORIZATION)
        || request.cookie(SESSION_COOKIE).is_some()
        || request.cookie(LOCALE_COOKIE).is_some()
}

/// Unsafe methods come from our own pages or from a program with a token (which no browser adds by itself).
fn same_origin(request: &HttpRequest) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return true;
    }
    let headers = request.headers();
    if headers.contains_key(header::AUTHORIZATION) && request.cookie(SESSION_COOKIE).is_none() {
        return true;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // HTTP/2 says the authority instead of a Host header (RFC 9113 §8.3.1).
    let authority = request.uri().authority().map(actix_web::http::uri::Authority::as_str);
    let host = authority.or_else(|| headers.get(header::HOST)?.to_str().ok());
    match (headers.get(header::ORIGIN).map(HeaderValue::to_str), host) {
        (Some(Ok(origin)), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (Some(_), _) => false,
        // No browser of the last ten years sends neither: this is a program that holds the cookie itself.
        (None, _) => true,
    }
}

/// The problem as a page for people and as problem+json (RFC 9457) for programs.
fn told(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let words = Words::of(request);
    let wants_page = !request.path().starts_with("/api/")
        && request
            .headers()
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
    if wants_page && problem.status == StatusCode::UNAUTHORIZED {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let next: String = form_component(path);
        return HttpResponse::SeeOther()
            .insert_header((header::LOCATION, format!("/sign-in?next={next}")))
            .finish();
    }
    if wants_page {
        return page::problem_page(request, words, problem);
    }
    HttpResponse::build(problem.status).content_type("application/problem+json").json(problem.body(&words))
}

/// Percent-encodes everything but unreserved characters and `/`.
pub fn form_component(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

fn dress(headers: &mut HeaderMap, id: &str, private: bool) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, CSP.clone());
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("geolocation=(), microphone=(), payment=()"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    // One URL answers by role and by Accept: what was made for somebody is never kept for others.
    if private {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    } else if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn count(status: StatusCode, started: Instant) {
    let counter = match status.as_u16() {
        200..=299 => &metrics::REQUESTS_OK,
        300..=399 => &metrics::REQUESTS_MOVED,
        400..=499 => &metrics::REQUESTS_REFUSED,
        _ => &metrics::REQUESTS_FAILED,
    };
    counter.add(1);
    metrics::REQUEST_MICROSECONDS.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
}
