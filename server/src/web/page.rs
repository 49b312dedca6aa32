//! What every page shares: the layout's facts, the inlined style and the problem page.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use base64::Engine as _;
use trace::hash::sha256;

use crate::{
    service::account::Member,
    web::{
        error::{Problem, WebError},
        locale::Words,
    },
};

/// Inlined into every page: one round trip fewer for who scans.
pub const CSS: &str = include_str!("../../../static/page.css");

/// The CSP source that allows exactly this style and no other.
pub fn style_source() -> &'static str {
    static SOURCE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "sha256-{}",
            base64::engine::general_purpose::STANDARD.encode(sha256(CSS.as_bytes()).as_bytes())
        )
    });
    &SOURCE
}

/// What the layout needs to know about the reader.
pub struct Frame {
    pub w: Words,
    pub member: Option<Member>,
    /// Path and query of this page: where a change of language comes back to.
    pub here: String,
}

impl Frame {
    pub fn new(request: &HttpRequest, member: Option<Member>) -> Self {
        let here = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Self { w: Words::of(request), member, here }
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
}

/// The page of an error.
pub fn problem_page(request: &HttpRequest, words: Words, problem: &Problem) -> HttpResponse {
    let page = ProblemPage {
        title: words.say(&format!("problem-{}", problem.key)),
        what_now: words.say(&format!("problem-{}-what-now", problem.key)),
        f: Frame { w: words, member: None, here: request.path().to_owned() },
    };
    match page.render() {
        Ok(body) => HttpResponse::build(problem.status)
            .content_type("text/html; charset=utf-8")
            .insert_header(("vary", "Accept, Accept-Language"))
            .body(body),
        Err(_) => HttpResponse::new(problem.status),
    }
}
