//! Alerts of a party's places; a regulator sees everybody's, and each such look is logged. Whoever has the page open is told when
//! something changed (HTML §9.2, server-sent events).

use std::{convert::Infallible, future::ready, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ContentEncoding},
    web::{Bytes, Data, Path, ServiceConfig, get, post},
};
use askama::Template;
use chrono::Utc;
use futures_util::{StreamExt as _, stream};
use store::{alert::Alert, lot::Lot};
use tokio::time::{Instant, timeout};

use crate::{
    service::{
        account::Member,
        alerts::{scope_of, subject::Subject},
        deliveries::{Letter, Told},
        inspection,
    },
    web::{
        AppState, WebError, assets,
        caller::SignedIn,
        day::{lot_href, place_name, product_name},
        locale::{Language, Moment, Words},
        page::{self, Frame},
        scan::party_name,
    },
};

/// Keeps a stream open through proxies that close what is silent.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Then the page asks anew, and whoever was signed out meanwhile is not answered.
const STREAM_LASTS: Duration = Duration::from_mins(10);

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/alerts", get().to(alerts))
        .route("/alerts/live", get().to(live))
        .route("/alerts/{id}/acknowledge", post().to(acknowledge));
}

struct AlertView {
    id: i64,
    open: bool,
    /// That the reader may say so.
    to_see: bool,
    /// By whom, if that is the reader's business, and when.
    seen: Option<(Option<String>, Moment)>,
    name: String,
    subject: String,
    place: String,
    party: String,
    /// The word for the figure.
    measured: &'static str,
    value: String,
    threshold: String,
    source: String,
    raised: Moment,
    /// When, and at which figure.
    cleared: Option<(Moment, String)>,
    /// (address, name).
    lots: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    f: Frame,
    script: &'static str,
    alerts: Vec<AlertView>,
}

async fn alerts(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
) -> Result<HttpResponse, WebError> {
    let list = inspection::alerts(&state.store, &state.keys, &member).await.map_err(WebError::internal)?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let alerts = list.alerts.iter().map(|alert| view(&f.w, &member, &list, alert)).collect();
    page::html(&AlertsPage { f, script: assets::ALERTS.path(), alerts })
}

fn view(w: &Words, member: &Member, list: &inspection::Alerts, alert: &Alert) -> AlertView {
    let party = list.parties.get(&alert.party_id);
    let seen_by = || alert.acknowledged_by.and_then(|account| list.seen_by.get(&account).cloned());
    let lot =
        |lot: &Lot| (lot_href(&lot.gtin, &lot.number), format!("{} {}", product_name(w, lot), lot.number));
    // A signer's packs that do not hold are no figure.
    let figure =
        |value: f64| if alert.unit.is_empty() { String::new() } else { figure(w, value, &alert.unit) };
    AlertView {
        id: alert.id,
        open: alert.cleared_at.is_none(),
        to_see: alert.acknowledged_at.is_none() && alert.party_id == member.party.id,
        seen: alert.acknowledged_at.map(|at| (seen_by(), w.moment(at, None))),
        name: rule_name(w, &alert.profile, &alert.rule),
        subject: subject_name(w, &alert.subject),
        place: list.places.get(&alert.place_id).map(|place| place_name(w, place)).unwrap_or_default(),
        party: party.map_or_else(String::new, |party| party_name(w, &alert.profile, party)),
        measured: measured(&alert.unit),
        value: figure(alert.value),
        threshold: figure(alert.threshold),
        source: alert.source.clone(),
        raised: w.moment(alert.raised_at, None),
        cleared: alert
            .cleared_at
            .map(|at| (w.moment(at, None), alert.cleared_value.map(figure).unwrap_or_default())),
        lots: alert.lots.iter().filter_map(|id| list.lots.get(id)).map(lot).collect(),
    }
}

/// Says that something changed, and nothing else: the page is read again, by whoever is signed in then.
async fn live(state: Data<AppState>, member: SignedIn) -> Result<HttpResponse, WebError> {
    let watch = state.live.watch(member.account_id, scope_of(&member.party)).ok_or(WebError::TooMany)?;
    let ends = Instant::now() + STREAM_LASTS;
    // What is sent first opens the stream at once, through every proxy.
    let opened = stream::once(ready(Bytes::from_static(b"retry: 5000\n\n")));
    let told = stream::unfold(watch, move |mut watch| async move {
        let bytes: &[u8] = match timeout(HEARTBEAT, watch.changed()).await {
            _ if Instant::now() >= ends => return None,
            Ok(false) => return None,
            Ok(true) => b"event: change\ndata:\n\n",
            Err(_) => b":\n\n",
        };
        Some((Bytes::from_static(bytes), watch))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(ContentEncoding::Identity)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(opened.chain(told).map(Ok::<Bytes, Infallible>)))
}

/// What a rule is called: the profile's own, and what is wrong with a sender in every profile.
pub fn rule_name(w: &Words, profile: &str, rule: &str) -> String {
    let own = [format!("{profile}-threshold-{rule}"), format!("alert-of-{rule}")];
    w.or(own.iter().find(|own| w.has(own)).map_or("alert-signer", String::as_str), rule)
}

/// What has not come has not been measured: the time that passed is told (Rec 20: minutes, days).
fn measured(unit: &str) -> &'static str {
    if matches!(unit, "MIN" | "DAY") { "alert-passed" } else { "alert-measured" }
}

fn figure(w: &Words, value: f64, unit: &str) -> String {
    format!("{value:.1} {}", w.or(&format!("unit-{unit}"), unit))
}

/// The change as a mail tells it, in its reader's language.
pub fn letter(state: &AppState, told: &Told) -> Letter {
    let w = state.locales.words(Language::from_tag(&told.due.language).unwrap_or(Language::ZhCn));
    let alert = &told.alert;
    let what = if told.is_cleared() { "mail-alert-cleared" } else { "mail-alert-raised" };
    let name = rule_name(&w, &alert.profile, &alert.rule);
    let place = place_name(&w, &told.place);
    let fact = |key: &str, value: String| format!("{}: {value}", w.say(key));
    let mut lines = vec![fact("alert-where", format!("{place} {}", subject_name(&w, &alert.subject)))];
    if !alert.unit.is_empty() {
        lines.push(fact(measured(&alert.unit), figure(&w, alert.value, &alert.unit)));
        lines.push(fact("alert-limit", figure(&w, alert.threshold, &alert.unit)));
        lines.push(format!("{} {}", w.say("alert-source"), alert.source));
    }
    lines.push(fact("alert-raised", w.moment(alert.raised_at, None).text));
    if let Some(at) = alert.cleared_at.filter(|_| told.is_cleared()) {
        lines.push(fact("alert-cleared", w.moment(at, None).text));
    }
    lines.extend(told.lots.iter().map(|lot| format!("{} {}", product_name(&w, lot), lot.number)));
    lines.push(format!("{}/alerts", state.config.http.public_base_url.trim_end_matches('/')));
    let subject = w.with(what, [("name", name), ("place", place)]);
    Letter { subject, text: lines.join("\r\n") }
}

/// A point by its row, column and layer, as on the page of its grid.
fn subject_name(w: &Words, subject: &str) -> String {
    let layer = |layer: i16| match layer {
        1 => w.say("grid-top-layer"),
        layer => w.say1("grid-layer", "layer", layer),
    };
    match subject.parse() {
        Ok(Subject::Whole) => String::new(),
        Ok(Subject::Name(name)) => name,
        Ok(Subject::Layer(of)) => layer(of),
        Ok(Subject::Point(point)) => w.with(
            "alert-point",
            [
                ("layer", layer(point.layer)),
                ("row", point.row.to_string()),
                ("column", point.column.to_string()),
            ],
        ),
        Ok(Subject::Devices(one, other)) => w.with("alert-devices", [("one", one), ("other", other)]),
        Err(never) => match never {},
    }
}

async fn acknowledge(
    state: Data<AppState>,
    member: SignedIn,
    id: Path<i64>,
) -> Result<HttpResponse, WebError> {
    if !inspection::acknowledge(&state.store, &member, *id, Utc::now()).await? {
        return Err(WebError::NotFound);
    }
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/alerts")).finish())
}
