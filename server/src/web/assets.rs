//! Files of ours that a page's script loads. Each is named by its content, so it may be kept for ever.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig, get},
};
use trace::{
    hash::{Hash, sha256},
    profile::Profile,
};

use crate::web::{AppState, WebError};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/static/{file}", get().to(asset)).route("/profiles/{file}", get().to(profile));
}

/// A file that is part of the program.
pub struct Asset {
    media_type: &'static str,
    body: &'static [u8],
    path: String,
}

/// What turns a form into the record that is signed: `trace`, built by `make wasm`.
pub static MODULE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("trace", "wasm", "application/wasm", include_bytes!("../../../static/trace.wasm"))
});
/// Makes, keeps and uses a person's own key.
pub static SIGN: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("sign", "js", "text/javascript; charset=utf-8", include_bytes!("../../../static/sign.js"))
});
/// Keeps the list of alerts as it is now.
pub static ALERTS: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("alerts", "js", "text/javascript; charset=utf-8", include_bytes!("../../../static/alerts.js"))
});

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, body: &'static [u8]) -> Self {
        Self { media_type, body, path: format!("/static/{name}.{}.{extension}", short(&sha256(body))) }
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Where the text of a profile is, whose digest its records name.
pub fn profile_path(profile: &Profile) -> String {
    format!("/profiles/{}.{}.toml", profile.id(), short(&profile.digest()))
}

/// 96 bits of a digest: names a file among those that this server has.
fn short(digest: &Hash) -> String {
    digest.to_string().chars().take(16).collect()
}

async fn asset(file: Path<String>) -> Result<HttpResponse, WebError> {
    let path = format!("/static/{file}");
    let found = [&*MODULE, &*SIGN, &*ALERTS]
        .into_iter()
        .find(|asset| asset.path == path)
        .ok_or(WebError::NotFound)?;
    Ok(kept(found.media_type).body(found.body))
}

async fn profile(state: Data<AppState>, file: Path<String>) -> Result<HttpResponse, WebError> {
    let path = format!("/profiles/{file}");
    let found = state.profiles.iter().find(|profile| profile_path(profile) == path);
    let text = found.and_then(|profile| state.profiles.text(profile.id())).ok_or(WebError::NotFound)?;
    Ok(kept("application/toml; charset=utf-8").body(text.to_owned()))
}

fn kept(media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type(media_type).insert_header(("cache-control", "public, max-age=31536000, immutable"));
    response
}
