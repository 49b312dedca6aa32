//! What went wrong, as the reader is told: a status, a message key, and problem+json or a page in their language.

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use store::StoreError;

use crate::web::locale::Words;

/// One refused field, for REST: the rule's words with the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub field: String,
    pub rule: String,
    #[serde(skip)]
    pub args: Vec<(String, String)>,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, rule: impl Into<String>, args: Vec<(String, String)>) -> Self {
        Self { field: field.into(), rule: rule.into(), args, message: String::new() }
    }

    /// Fills in the message in the reader's language: `rule-<rule>` with the figures.
    #[must_use]
    pub fn worded(mut self, words: &Words) -> Self {
        self.message = words.with(
            &format!("rule-{}", self.rule),
            self.args.iter().map(|(name, value)| (name.as_str(), value.clone())),
        );
        self
    }
}

/// An outcome that is not the page asked for. The cause is logged here, once, and never sent.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Nobody is signed in: pages go to the sign-in, REST answers 401.
    #[error("sign-in needed")]
    SignInNeeded,
    /// Also what one may not know exists.
    #[error("not found")]
    NotFound,
    #[error("not allowed")]
    Forbidden,
    /// An unsafe method from another origin.
    #[error("request from another origin")]
    ForeignOrigin,
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The parser's own words: which member is missing, or where it is no JSON.
    #[error("not the JSON that is expected: {0}")]
    BadJson(String),
    #[error("too large")]
    TooLarge,
    #[error("unsupported media type")]
    MediaType,
    #[error("too many attempts")]
    TooMany,
    #[error("too many reports")]
    TooManyReports,
    #[error("conflict: {0}")]
    Conflict(&'static str),
    #[error("refused by rules")]
    Refused(Vec<FieldError>),
    #[error("not ready: {0}")]
    Unavailable(&'static str),
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl WebError {
    pub fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(error))
    }

    /// The message `problem-<key>` and the last part of the problem's `type`.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::SignInNeeded => "sign-in-needed",
            Self::NotFound => "not-found",
            Self::Forbidden => "forbidden",
            Self::ForeignOrigin => "foreign-origin",
            Self::BadRequest(_) | Self::BadJson(_) => "bad-request",
            Self::TooLarge => "too-large",
            Self::MediaType => "media-type",
            Self::TooMany => "too-many",
            Self::TooManyReports => "too-many-reports",
            Self::Conflict(_) => "conflict",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::BadRequest(detail) | Self::Conflict(detail) | Self::Unavailable(detail) => Some(detail),
            Self::BadJson(detail) => Some(detail),
            _ => None,
        }
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

/// RFC 9457, for what happened; travels in the response's extensions to the middleware that knows the reader.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    pub key: &'static str,
    pub detail: Option<String>,
    pub errors: Vec<FieldError>,
}

impl ResponseError for WebError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::SignInNeeded => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::BadRequest(_) | Self::BadJson(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany | Self::TooManyReports => StatusCode::TOO_MANY_REQUESTS,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        if let Self::Internal(cause) = self {
            tracing::error!(error = %trace::causes::Causes(cause.as_ref()), "a request failed");
        }
        let mut response = HttpResponse::new(self.status_code());
        let errors = if let Self::Refused(errors) = self { errors.clone() } else { Vec::new() };
        response.extensions_mut().insert(Problem {
            status: self.status_code(),
            key: self.key(),
            detail: self.detail().map(str::to_owned),
            errors,
        });
        response
    }
}

/// The members of problem+json (RFC 9457 §3) as REST answers them.
#[derive(Serialize)]
pub struct ProblemBody<'a> {
    r#type: String,
    title: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    pub fn body(&self, words: &Words) -> ProblemBody<'_> {
        ProblemBody {
            r#type: format!("urn:suyuan:problem:{}", self.key),
            title: words.say(&format!("problem-{}", self.key)),
            status: self.status.as_u16(),
            detail: self.detail.as_deref(),
            errors: self.errors.iter().cloned().map(|error| error.worded(words)).collect(),
        }
    }
}
