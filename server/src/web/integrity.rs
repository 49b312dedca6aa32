//! What the server's own sampled checks of the ledger found, and how anybody checks for themselves.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, ServiceConfig, get},
};
use askama::Template;
use store::integrity::{self, Check};

use crate::{
    metrics,
    web::{
        AppState, WebError,
        caller::MaybeSignedIn,
        locale::Moment,
        page::{self, Frame},
    },
};

const BRIEF: &str = "private, max-age=60";

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/integrity", get().to(newest));
}

#[derive(Template)]
#[template(path = "integrity.html")]
struct IntegrityPage {
    f: Frame,
    /// Whether this server checks at all.
    is_watched: bool,
    check: Option<(Moment, Check)>,
    /// How many entries of how many.
    looked_at: String,
    /// What stands before this server's paths, and the open log's own.
    base: String,
    log: String,
}

async fn newest(
    request: HttpRequest,
    state: Data<AppState>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    let mut conn = state.store.connection().await.map_err(WebError::internal)?;
    let newest = integrity::newest(&mut conn).await.map_err(WebError::internal)?;
    let f = Frame::new(&request, member.0);
    let log = state.ledger.open_log();
    let looked_at = newest.as_ref().map(|check| {
        let counts = [("entries", check.entries.to_string()), ("logged", check.logged.to_string())];
        f.w.with("integrity-of", counts)
    });
    let page = IntegrityPage {
        looked_at: looked_at.unwrap_or_default(),
        is_watched: state.config.database.auditor_database_url.is_some(),
        check: newest.map(|check| (f.w.moment(check.at, None), check)),
        base: state.config.http.public_base_url.trim_end_matches('/').to_owned(),
        log: format!("{}/{}", state.ledger.name(), log.shard()),
        f,
    };
    let mut answer = page::html(&page)?;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static(BRIEF));
    Ok(answer)
}

/// The newest check for a scraper: nothing where none was made yet.
pub(super) fn gauges(newest: Option<&Check>) -> String {
    let Some(check) = newest else { return String::new() };
    let age = chrono::Utc::now().signed_duration_since(check.at).num_seconds();
    [
        ("suyuan_integrity_age_seconds", age),
        ("suyuan_integrity_entries", check.entries),
        ("suyuan_integrity_misfits", check.misfits),
    ]
    .map(|(name, value)| metrics::gauge(name, [(String::new(), u64::try_from(value).unwrap_or(0))]))
    .concat()
}
