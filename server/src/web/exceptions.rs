//! Records that their signers' keys do not vouch for: a party's own; everybody's for regulator and operator.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig, get},
};
use askama::Template;

use crate::{
    service::inspection::{self, Exception},
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::{lot_href, product_name},
        locale::{Moment, Words},
        page::{self, Frame},
        scan::{named_by, party_name, standing_chip, step_name},
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/exceptions", get().to(exceptions));
}

struct ExceptionView {
    name: String,
    chip: (&'static str, &'static str),
    party: String,
    happened: Moment,
    received: Moment,
    leaf: Option<i64>,
    jti: String,
    /// (address, name).
    lots: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "exceptions.html")]
struct ExceptionsPage {
    f: Frame,
    exceptions: Vec<ExceptionView>,
}

async fn exceptions(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
) -> Result<HttpResponse, WebError> {
    let found = inspection::exceptions(&state.store, &member).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let exceptions = found.iter().filter_map(|found| view(&f.w, found)).collect();
    page::html(&ExceptionsPage { f, exceptions })
}

fn view(w: &Words, found: &Exception) -> Option<ExceptionView> {
    let record = &found.record;
    let profile = record.profile.split('/').next().unwrap_or_default();
    let event = record.public.get("event").unwrap_or(&serde_json::Value::Null);
    let lot = |lot: &store::lot::Lot| {
        (lot_href(&lot.gtin, &lot.number), format!("{} {}", product_name(w, lot), lot.number))
    };
    Some(ExceptionView {
        name: step_name(w, profile, named_by(record.step.as_deref(), event)),
        chip: standing_chip(found.standing)?,
        party: found.party.as_ref().map_or_else(String::new, |party| party_name(w, profile, party)),
        happened: w.moment(record.event_time.unwrap_or(record.iat), record.event_offset.as_deref()),
        received: w.moment(record.accepted_at, None),
        leaf: found.leaf.map(|leaf| leaf.index),
        jti: record.jti.to_string(),
        lots: found.lots.iter().map(lot).collect(),
    })
}
