//! A keeper of the depot, with a bin, and a gateway that signs for what hangs in it.

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use trace::keys::SecretKey;

use crate::{farm::Farm, registered::place_of, silo};

/// The depot has two bins, and a gateway whose key is returned.
pub async fn fitted_out(farm: &Farm) -> SecretKey {
    let (state, depot) = (&farm.state, farm.party("depot").await);
    silo::build(&state.store, &depot).await;
    place_of(&mut state.store.connection().await.unwrap(), &depot, "bin", "bin2").await;
    silo::gateway(&state.store, &state.keys, &depot).await
}

/// Registers a device at the bin by the form; the answer's page.
pub async fn register(
    farm: &Farm,
    cookie: &str,
    name: &str,
    format: &str,
    map: &str,
) -> (StatusCode, String) {
    let fields =
        [("device", name), ("kind", "grain/probe"), ("format", format), ("place", "bin1"), ("map", map)];
    post(farm, cookie, "/devices", &fields).await
}

/// A form of the keeper's, in Chinese.
pub async fn post(farm: &Farm, cookie: &str, path: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let request = TestRequest::post()
        .uri(path)
        .insert_header((header::COOKIE, cookie))
        .insert_header((header::ACCEPT, "text/html"))
        .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"))
        .set_form(fields);
    farm.request(request).await
}

/// The token or password that a page shows once, under `label`.
pub fn shown<'a>(page: &'a str, label: &str) -> &'a str {
    let after = page.split(&format!("{label}</dt><dd class=\"mono\">")).nth(1).unwrap_or_default();
    after.split('<').next().unwrap_or_default()
}
