//! REST of the codes: the serial numbers of a lot, for whoever prints them.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query, ServiceConfig, get},
};
use serde::Deserialize;
use serde_json::json;
use store::lot;
use trace::{gs1::LotId, profile::build::lot_uri};

use crate::{
    service::codes,
    web::{AppState, WebError, caller::SignedIn},
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/api/v1/lots/{gtin}/{lot}/serials", get().to(serials));
}

#[derive(Deserialize)]
struct Limit {
    #[serde(default = "one_sheet")]
    limit: i64,
}

const fn one_sheet() -> i64 {
    24
}

/// The first serial numbers of one's own lot, at most 1,000. To others the lot is not there.
async fn serials(
    member: SignedIn,
    state: Data<AppState>,
    path: Path<(String, String)>,
    limit: Query<Limit>,
) -> Result<HttpResponse, WebError> {
    let (gtin, number) = path.into_inner();
    let uri = lot_uri(&gtin, &number);
    if uri.parse::<LotId>().is_err() {
        return Err(WebError::NotFound);
    }
    let mut conn = state.store.connection().await?;
    let found = lot::by_uri(&mut conn, &uri).await?;
    let may = |lot: &lot::Lot| lot.made_by == member.party.id || member.party.role == "operator";
    let lot = found.filter(may).ok_or(WebError::NotFound)?;
    let serials = codes::serials_of(&mut conn, &state.serial_master, lot.id, limit.limit).await?;
    Ok(HttpResponse::Ok().json(json!({"gtin": gtin, "serials": serials})))
}
