//! Is it alive, is it ready, and its counters.

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig, get},
};
use serde_json::json;

use trace::causes::Causes;

use crate::{
    metrics,
    service::ledger::LedgerError,
    web::{AppState, integrity},
};

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/health/live", get().to(live))
        .route("/health/ready", get().to(ready))
        .route("/metrics", get().to(counters))
        .route("/static/icon.svg", get().to(icon));
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "alive"}))
}

/// Ready when everything it stands on answers; else 503 that says what does not.
async fn ready(state: Data<AppState>) -> HttpResponse {
    let reasons = state.not_ready().await;
    if reasons.is_empty() {
        return HttpResponse::Ok().json(json!({"status": "ready"}));
    }
    HttpResponse::ServiceUnavailable().json(json!({"status": "not ready", "reasons": reasons}))
}

/// The process's counters, and how far witnesses and chains are behind the log.
async fn counters(state: Data<AppState>) -> HttpResponse {
    let mut page = metrics::page();
    match log_gauges(&state).await {
        Ok(gauges) => page.push_str(&gauges),
        Err(error) => {
            tracing::warn!(error = %Causes(&error), "the log's gauges are missing");
        }
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(page)
}

async fn log_gauges(state: &AppState) -> Result<String, LedgerError> {
    let mut conn = state.store.connection().await?;
    let (size, ..) = state.ledger.head(&mut conn, state.ledger.open_log().id).await?;
    let outside = state.ledger.outside(&mut conn).await?;
    let mut gauges = metrics::gauge("suyuan_log_entries", [(String::new(), size)]);
    let behind = |has: u64| size.saturating_sub(has);
    let witnesses = outside
        .witnesses
        .iter()
        .map(|witness| (format!("witness=\"{}\"", witness.name), behind(witness.size.unwrap_or_default())));
    gauges.push_str(&metrics::gauge("suyuan_witness_behind_entries", witnesses));
    let chains = outside.anchors.iter().map(|anchor| {
        (format!("chain=\"{}\"", anchor.chain), behind(u64::try_from(anchor.size).unwrap_or_default()))
    });
    gauges.push_str(&metrics::gauge("suyuan_anchor_behind_entries", chains));
    let spent = outside.gas.iter().map(|(chain, gas)| (format!("chain=\"{chain}\""), *gas));
    gauges.push_str(&metrics::gauge("suyuan_anchor_gas", spent));
    gauges.push_str(&integrity::gauges(store::integrity::newest(&mut conn).await?.as_ref()));
    Ok(gauges)
}

async fn icon() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/svg+xml")
        .insert_header(("cache-control", "public, max-age=86400"))
        .body(include_str!("../../../static/icon.svg"))
}
