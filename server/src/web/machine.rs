//! What a scanned address answers to machines: a linkset for resolvers, EPCIS JSON-LD for other systems.

use actix_web::{HttpRequest, HttpResponse, http::header};
use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use trace::gs1::Key;

use crate::{
    service::{
        linkset::{Representation, epcis_document, links_of, linkset, negotiate},
        standing::Standing,
        story::{Story, Told},
    },
    web::{AppState, locale::Language},
};

/// What an EPCIS event says of its signer's key, unless that is good.
const SIGNER_KEY: &str = "gx:signerKey";
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
            let worst =
                story.steps.iter().map(|step| step.standing).filter(|standing| standing.is_bad()).max();
            let links = links_of(
                key,
                &state.config.http.public_base_url,
                name,
                &languages,
                worst.map(Standing::word),
            );
            ("application/linkset+json", linkset(&key.uri(), name, &links))
        }
        Representation::Epcis => {
            // Oldest first, as it happened.
            let events: Vec<Value> = story.steps.iter().rev().filter_map(flagged).collect();
            let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
            ("application/ld+json", epcis_document(&created, &events))
        }
    };
    let response = HttpResponse::Ok()
        .content_type(media)
        .insert_header((header::CACHE_CONTROL, CACHE))
        .insert_header((header::VARY, "Accept"))
        .json(body);
    Some(response)
}

/// The event as everybody may see it; with a member of ours that was never signed where its signer's key does not vouch
/// for it.
fn flagged(step: &Told) -> Option<Value> {
    let mut event = step.event.clone();
    let members = event.as_object_mut()?;
    if step.standing.is_bad() {
        members.insert(SIGNER_KEY.to_owned(), step.standing.word().into());
    }
    Some(event)
}

/// `linkType` of the query (GS1-conformant resolver 1.1 §4): percent-encoded or not.
fn link_type(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|part| part.strip_prefix("linkType="))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}
