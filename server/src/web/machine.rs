//! What a scanned address answers to machines: a linkset for resolvers, EPCIS JSON-LD for other systems.

use actix_web::{HttpRequest, HttpResponse, http::header};
use chrono::{SecondsFormat, Utc};
use trace::gs1::Key;

use crate::{
    service::{
        linkset::{Representation, epcis_document, links_of, linkset, negotiate},
        story::Story,
    },
    web::{AppState, locale::Language},
};

/// As long as the page for people may be kept.
const CACHE: &str = "public, max-age=60";

/// The answer, unless the client wants the page.
pub fn answer(request: &HttpRequest, state: &AppState, key: &Key, story: &Story) -> Option<HttpResponse> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (media, body) = match negotiate(accept, link_type(request.query_string()).as_deref()) {
        Representation::Page => return None,
        Representation::Linkset => {
            let name = story.item.as_ref().map_or(story.lot.product.as_str(), |item| item.name.as_str());
            let languages = [Language::ZhCn, Language::En].map(|language| language.tag().to_owned());
            let links = links_of(key, &state.config.http.public_base_url, name, &languages);
            ("application/linkset+json", linkset(&key.uri(), name, &links))
        }
        Representation::Epcis => {
            // Oldest first, as it happened.
            let events = story.steps.iter().rev().map(|step| &step.event).filter(|event| event.is_object());
            let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
            ("application/ld+json", epcis_document(&created, events))
        }
    };
    let response = HttpResponse::Ok()
        .content_type(media)
        .insert_header((header::CACHE_CONTROL, CACHE))
        .insert_header((header::VARY, "Accept"))
        .json(body);
    Some(response)
}

/// `linkType` of the query (GS1-conformant resolver 1.1 §4): percent-encoded or not.
fn link_type(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|part| part.strip_prefix("linkType="))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}
