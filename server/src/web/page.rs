//! What every page shares: the layout's facts, the inlined style and the problem page.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use askama::Template;
use base64::Engine as _;
use trace::hash::sha256;

use crate::{
    service::account::Member,
    web::{
        AppState,
        error::{Problem, WebError},
        locale::Words,
    },
};

/// Inlined into every page: one round trip fewer for who scans.
pub const CSS: &str = include_str!("../../../static/page.css");

/// Inlined into the pages that are printed as labels.
pub const LABEL_CSS: &str = include_str!("../../../static/label.css");

/// The CSP sources that allow exactly these styles and no other.
pub fn style_sources() -> &'static str {
    static SOURCES: LazyLock<String> = LazyLock::new(|| {
        let source = |css: &str| {
            let hash = base64::engine::general_purpose::STANDARD.encode(sha256(css.as_bytes()).as_bytes());
            format!("'sha256-{hash}'")
        };
        [CSS, LABEL_CSS].map(source).join(" ")
    });
    &SOURCES
}

/// What the layout needs to know about the reader.
pub struct Frame {
    pub w: Words,
    pub member: Option<Member>,
    /// Path and query of this page: where a change of language comes back to.
    pub here: String,
    /// Who can be asked.
    pub help_phone: Option<String>,
}

impl Frame {
    pub fn new(request: &HttpRequest, member: Option<Member>) -> Self {
        let here = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let state = request.app_data::<Data<AppState>>();
        let help_phone = state.and_then(|state| state.config.http.help_phone.clone());
        Self { w: Words::of(request), member, here, help_phone }
    }

    /// The number as a telephone dials it (RFC 3966 §3: without what only parts it for the eye).
    pub fn dialled(&self, phone: &str) -> String {
        phone.chars().filter(|sign| sign.is_ascii_digit() || *sign == '+').collect()
    }

    /// `here`, percent-encoded for a query.
    pub fn here_encoded(&self) -> String {
        super::guard::form_component(&self.here)
    }
}

/// Renders a page; `status` 200.
pub fn html(page: &impl Template) -> Result<HttpResponse, WebError> {
    html_with(actix_web::http::StatusCode::OK, page)
}

pub fn html_with(
    status: actix_web::http::StatusCode,
    page: &impl Template,
) -> Result<HttpResponse, WebError> {
    let body = page.render().map_err(WebError::internal)?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header(("vary", "Accept, Accept-Language"))
        .body(body))
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    f: Frame,
    title: String,
    what_now: String,
    errors: Vec<String>,
}

/// The page of an error.
pub fn problem_page(request: &HttpRequest, words: Words, problem: &Problem) -> HttpResponse {
    let page = ProblemPage {
        title: words.say(&format!("problem-{}", problem.key)),
        what_now: words.say(&format!("problem-{}-what-now", problem.key)),
        errors: problem.errors.iter().cloned().map(|error| error.worded(&words).message).collect(),
        f: Frame { w: words, here: request.path().to_owned(), ..Frame::new(request, None) },
    };
    match page.render() {
        Ok(body) => HttpResponse::build(problem.status)
            .content_type("text/html; charset=utf-8")
            .insert_header(("vary", "Accept, Accept-Language"))
            .body(body),
        Err(_) => HttpResponse::new(problem.status),
    }
}
