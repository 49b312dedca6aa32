//! Is it alive, is it ready, and its counters.

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig, get},
};
use chrono::{DateTime, Utc};
use serde_json::json;

use trace::causes::Causes;

use crate::{
    metrics::{self, gauge},
    service::{
        chains::{self, Tally},
        ledger::LedgerError,
    },
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
    let mut gauges = gauge("suyuan_log_entries", [(String::new(), size)]);
    let behind = |has: u64| size.saturating_sub(has);
    let witnesses = outside
        .witnesses
        .iter()
        .map(|witness| (format!("witness=\"{}\"", witness.name), behind(witness.size.unwrap_or_default())));
    gauges.push_str(&gauge("suyuan_witness_behind_entries", witnesses));
    let tallies = chains::tallies(&mut conn, &state.ledger, &state.chains).await?;
    gauges.push_str(&chain_gauges(&tallies, Utc::now()));
    gauges.push_str(&integrity::gauges(store::integrity::newest(&mut conn).await?.as_ref()));
    Ok(gauges)
}

/// A chain on which nothing is final yet has no age.
fn chain_gauges(tallies: &[Tally], now: DateTime<Utc>) -> String {
    let of = |tally: &Tally| format!("chain=\"{}\"", tally.chain);
    let age = |at: DateTime<Utc>| (now - at).num_seconds().max(0);
    let ages = tallies.iter().filter_map(|tally| Some((of(tally), age(tally.final_at?))));
    [
        gauge("suyuan_anchor_behind_entries", tallies.iter().map(|tally| (of(tally), tally.behind))),
        gauge("suyuan_anchor_gas", tallies.iter().map(|tally| (of(tally), tally.gas))),
        gauge("suyuan_anchor_wei", tallies.iter().map(|tally| (of(tally), tally.wei))),
        gauge("suyuan_anchor_final_age_seconds", ages),
    ]
    .concat()
}

async fn icon() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/svg+xml")
        .insert_header(("cache-control", "public, max-age=86400"))
        .body(include_str!("../../../static/icon.svg"))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn each_chain_tells_its_cost_and_lag_and_its_age_once_something_is_final() {
        let now = Utc::now();
        let tally = |chain: &str, final_at| Tally {
            chain: chain.to_owned(),
            behind: 7,
            gas: 21,
            wei: u128::from(u64::MAX) + 1,
            final_at,
        };
        let page = chain_gauges(&[tally("old", Some(now - TimeDelta::seconds(90))), tally("new", None)], now);
        let values: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"suyuan_anchor_behind_entries{chain="old"} 7"#,
            r#"suyuan_anchor_behind_entries{chain="new"} 7"#,
            r#"suyuan_anchor_gas{chain="old"} 21"#,
            r#"suyuan_anchor_gas{chain="new"} 21"#,
            r#"suyuan_anchor_wei{chain="old"} 18446744073709551616"#,
            r#"suyuan_anchor_wei{chain="new"} 18446744073709551616"#,
            r#"suyuan_anchor_final_age_seconds{chain="old"} 90"#,
        ];
        assert_eq!(values, expected);
    }
}
