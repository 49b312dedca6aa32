//! The regulator's search and trace. Every look is logged, and those looked at see it.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query, ServiceConfig, get},
};
use askama::Template;
use serde::Deserialize;
use trace::graph::Direction;

use crate::{
    service::inspection,
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::{lot_href, place_name, product_name, short_number},
        label::key_of_path,
        locale::Moment,
        lot::lot_path,
        page::{self, Frame},
        scan::{party_name, standing_chip},
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/search", get().to(search)).route("/lots/{gtin}/{lot}/trace", get().to(trace));
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    q: String,
}

struct FoundLot {
    href: String,
    trace: String,
    product: String,
    number: String,
    made: Moment,
    recalled: bool,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    f: Frame,
    q: String,
    found: Vec<FoundLot>,
}

async fn search(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, WebError> {
    if !member.is_regulator() {
        return Err(WebError::NotFound);
    }
    if let Some(key) = super::scan::typed_key(&wanted.q) {
        return Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, key.path())).finish());
    }
    let lots = inspection::search(&state.store, &member, &wanted.q).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let found = lots
        .iter()
        .map(|lot| FoundLot {
            href: lot_href(&lot.gtin, &lot.number),
            trace: format!("{}/trace", lot_href(&lot.gtin, &lot.number)),
            product: product_name(&f.w, lot),
            number: lot.number.clone(),
            made: f.w.moment(lot.made_time, None),
            recalled: lot.recalled_by.is_some(),
        })
        .collect();
    page::html(&SearchPage { q: wanted.q.clone(), found, f })
}

#[derive(Deserialize)]
struct Way {
    #[serde(default)]
    direction: String,
}

struct ReachedView {
    href: String,
    steps: usize,
    product: String,
    number: String,
    maker: String,
    place: String,
    share: String,
    percent: String,
    missing: bool,
    standing: Option<(&'static str, &'static str)>,
}

struct HandoverView {
    number: String,
    from: String,
    to: String,
    when: Moment,
    quantity: String,
    received: Option<String>,
}

#[derive(Template)]
#[template(path = "trace.html")]
struct TracePage {
    f: Frame,
    product: String,
    number: String,
    lot: String,
    here: String,
    up: bool,
    reached: Vec<ReachedView>,
    handovers: Vec<HandoverView>,
    missing: usize,
    cut: usize,
}

async fn trace(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    way: Query<Way>,
) -> Result<HttpResponse, WebError> {
    let key = key_of_path(&lot_path(&path.0, &path.1)).ok_or(WebError::NotFound)?;
    let direction = if way.direction == "down" { Direction::Down } else { Direction::Up };
    let trace =
        inspection::follow(&state.store, &member, &key, direction).await?.ok_or(WebError::NotFound)?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let w = &f.w;
    let named = |id: i64, profile: &str| {
        trace.parties.get(&id).map_or_else(String::new, |party| party_name(w, profile, party))
    };
    let reached = trace
        .answer
        .lots
        .iter()
        .filter_map(|reached| {
            let lot = trace.lots.get(&reached.lot)?;
            Some(ReachedView {
                href: lot_href(&lot.gtin, &lot.number),
                steps: reached.steps,
                product: product_name(w, lot),
                number: lot.number.clone(),
                maker: named(lot.made_by, &lot.profile),
                place: lot
                    .made_at_place
                    .and_then(|place| trace.places.get(&place))
                    .map(|place| place_name(w, place))
                    .unwrap_or_default(),
                share: w.quantity(reached.share, &trace.root.unit),
                percent: percent(reached.share, trace.answer.quantity),
                missing: trace.answer.missing.contains(&reached.lot),
                standing: trace.records.get(&lot.entry).and_then(|made| standing_chip(made.standing)),
            })
        })
        .collect();
    let handovers = trace
        .custody
        .iter()
        .filter_map(|handover| {
            let lot = trace.lots.get(&handover.line.lot_id)?;
            Some(HandoverView {
                number: short_number(&handover.consignment.number),
                from: named(handover.consignment.shipper_id, &lot.profile),
                to: named(handover.consignment.receiver_id, &lot.profile),
                when: w.moment(handover.consignment.shipped_time, None),
                quantity: w.quantity(handover.line.quantity, &lot.unit),
                received: handover.line.received.map(|received| w.quantity(received, &lot.unit)),
            })
        })
        .collect();
    let page = TracePage {
        product: product_name(w, &trace.root),
        number: trace.root.number.clone(),
        lot: lot_href(&trace.root.gtin, &trace.root.number),
        here: format!("{}/trace", lot_href(&trace.root.gtin, &trace.root.number)),
        up: direction == Direction::Up,
        reached,
        handovers,
        missing: trace.answer.missing.len(),
        cut: trace.answer.cut.len(),
        f,
    };
    page::html(&page)
}

/// `12.3 %`, by integers.
fn percent(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return String::new();
    }
    let tenths = i128::from(part) * 1_000 / i128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
