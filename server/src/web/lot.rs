//! The lot page of those who had it in hand.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, ServiceConfig, get},
};
use askama::Template;

use crate::{
    service::inspection,
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::{lot_href, place_name},
        guard::form_component,
        label::key_of_path,
        page::{self, Frame},
        scan::{ScanView, party_name, view},
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/lots/{gtin}/{lot}", get().to(lot));
}

/// The canonical path of a lot from its two parts.
pub fn lot_path(gtin: &str, number: &str) -> String {
    format!("01/{gtin}/10/{}", form_component(number).replace('/', "%2F"))
}

#[derive(Template)]
#[template(path = "lot.html")]
struct LotPage {
    f: Frame,
    s: ScanView,
    holdings: Vec<(String, String, String)>,
    label: String,
    trace: String,
}

async fn lot(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
) -> Result<HttpResponse, WebError> {
    let key = key_of_path(&lot_path(&path.0, &path.1)).ok_or(WebError::NotFound)?;
    let file = inspection::lot_file(&state.store, &state.profiles, state.ledger.policy(), &member, &key)
        .await?
        .ok_or(WebError::NotFound)?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let lot = &file.story.lot;
    let page = LotPage {
        s: view(&f.w, &state, &key, &file.story),
        holdings: file
            .holdings
            .iter()
            .map(|(holding, party, place)| {
                (
                    party.as_ref().map_or_else(String::new, |party| party_name(&f.w, &lot.profile, party)),
                    place.as_ref().map(|place| place_name(&f.w, place)).unwrap_or_default(),
                    f.w.quantity(holding.quantity, &lot.unit),
                )
            })
            .collect(),
        label: format!("/labels{}", key.path()),
        trace: format!("{}/trace", lot_href(&lot.gtin, &lot.number)),
        f,
    };
    page::html(&page)
}
