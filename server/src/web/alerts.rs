//! Alerts of a party's places; a regulator sees everybody's, and each such look is logged.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, ServiceConfig, get, post},
};
use askama::Template;
use chrono::Utc;

use crate::{
    service::inspection,
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::{lot_href, place_name, product_name},
        locale::Moment,
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
    seen: bool,
    name: String,
    place: String,
    party: String,
    value: String,
    threshold: String,
    raised: Moment,
    cleared: Option<Moment>,
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
    let list = inspection::alerts(&state.store, &member).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let w = &f.w;
    let alerts = list
        .alerts
        .iter()
        .map(|alert| {
            let profile =
                alert.device_id.and_then(|device| list.profiles.get(&device)).map_or("", String::as_str);
            AlertView {
                id: alert.id,
                open: alert.cleared_at.is_none(),
                seen: alert.acknowledged_at.is_some(),
                name: w.or(&format!("{profile}-threshold-{}", alert.rule), &alert.rule),
                place: list.places.get(&alert.place_id).map(|place| place_name(w, place)).unwrap_or_default(),
                party: list
                    .parties
                    .get(&alert.party_id)
                    .map_or_else(String::new, |party| party_name(w, profile, party)),
                value: format!("{:.1} {}", alert.value, f.w.or(&format!("unit-{}", alert.unit), &alert.unit)),
                threshold: format!(
                    "{:.1} {}",
                    alert.threshold,
                    f.w.or(&format!("unit-{}", alert.unit), &alert.unit)
                ),
                raised: w.moment(alert.raised_at, None),
                cleared: alert.cleared_at.map(|at| w.moment(at, None)),
                lots: alert
                    .lots
                    .iter()
                    .filter_map(|id| list.lots.get(id))
                    .map(|lot| {
                        (lot_href(&lot.gtin, &lot.number), format!("{} {}", product_name(w, lot), lot.number))
                    })
                    .collect(),
            }
        })
        .collect();
    page::html(&AlertsPage { f, alerts })
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
