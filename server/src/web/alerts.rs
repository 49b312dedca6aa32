//! Alerts of a party's places; a regulator sees everybody's, and each such look is logged.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, ServiceConfig, get, post},
};
use askama::Template;
use chrono::Utc;
use store::{alert::Alert, lot::Lot};

use crate::{
    service::{account::Member, alerts::subject::Subject, inspection},
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::{lot_href, place_name, product_name},
        locale::{Moment, Words},
        page::{self, Frame},
        scan::party_name,
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/alerts", get().to(alerts)).route("/alerts/{id}/acknowledge", post().to(acknowledge));
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
    page::html(&AlertsPage { f, alerts })
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

/// What a rule is called: the profile's own, and what is wrong with a sender in every profile.
pub fn rule_name(w: &Words, profile: &str, rule: &str) -> String {
    let own = [format!("{profile}-threshold-{rule}"), format!("alert-of-{rule}")];
    w.or(own.iter().find(|own| w.has(own)).map_or("alert-signer", String::as_str), rule)
}

fn figure(w: &Words, value: f64, unit: &str) -> String {
    format!("{value:.1} {}", w.or(&format!("unit-{unit}"), unit))
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
