//! What devices sent and could not be accepted: why, what it was, and the button that tries again.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Query, ServiceConfig, get, post},
};
use askama::Template;
use chrono::Utc;
use serde::Deserialize;
use store::dead_letter::DeadLetter;

use crate::{
    service::dead_letters::{self, LetterError},
    web::{
        AppState, WebError,
        caller::SignedIn,
        locale::{Moment, Words},
        page::{self, Frame},
        scan::party_name,
    },
};

/// Letters on one page.
const PAGE: i64 = 50;
/// Of a payload that is shown: a preview, never a download.
const TEXT_CHARACTERS_MAX: usize = 600;
const HEX_BYTES_MAX: usize = 96;

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/dead-letters", get().to(list)).route("/dead-letters/{id}/replay", post().to(replay));
}

impl From<LetterError> for WebError {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Unknown => Self::NotFound,
            LetterError::NoPayload => Self::Conflict("the payload was too long to keep"),
            LetterError::NotStored => Self::Conflict("no pack of that number is stored"),
            LetterError::Store(error) => error.into(),
        }
    }
}

struct LetterView {
    id: i64,
    reason: String,
    what_now: String,
    topic: String,
    party: String,
    received: Moment,
    size: String,
    preview: Option<String>,
    /// (chip, words).
    state: (&'static str, String),
    replayed: Option<Moment>,
    can_replay: bool,
}

#[derive(Template)]
#[template(path = "dead-letters.html")]
struct LettersPage {
    f: Frame,
    letters: Vec<LetterView>,
    before: Option<i64>,
}

#[derive(Deserialize)]
struct Wanted {
    before: Option<i64>,
}

async fn list(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, WebError> {
    let found = dead_letters::list(&state.store, &(&*member).into(), wanted.before, PAGE).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let named = |letter: &DeadLetter| {
        let party = letter.party_id.and_then(|id| found.parties.get(&id));
        party.map_or_else(String::new, |party| party_name(&f.w, "", party))
    };
    let looks_on = member.is_regulator();
    let letters = found.letters.iter().map(|letter| view(&f.w, letter, named(letter), looks_on)).collect();
    page::html(&LettersPage { f, letters, before: found.before })
}

fn view(w: &Words, letter: &DeadLetter, party: String, looks_on: bool) -> LetterView {
    let settled = dead_letters::is_settled(letter);
    let waits = letter.replay_wanted_at.is_some();
    LetterView {
        id: letter.id,
        reason: reason(w, &letter.reason),
        what_now: w.or(&format!("letter-{}-what-now", letter.reason), ""),
        topic: letter.topic.clone(),
        party,
        received: w.moment(letter.received_at, None),
        size: w.say1("letter-bytes", "bytes", letter.size),
        preview: letter.payload.as_deref().map(preview),
        state: match letter.outcome.as_deref() {
            _ if waits => ("warn", w.say("letter-waits")),
            None => ("bad", w.say("letter-open")),
            Some(dead_letters::STORED) => ("good", w.say("letter-stored")),
            Some(dead_letters::DUPLICATE) => ("good", w.say("letter-duplicate")),
            Some(dead_letters::REFUSED) => ("bad", w.say("letter-refused")),
            Some(again) => ("bad", w.say1("letter-failed", "reason", reason(w, again))),
        },
        replayed: letter.replayed_at.map(|at| w.moment(at, None)),
        can_replay: !settled && !waits && !looks_on && letter.payload.is_some(),
    }
}

fn reason(w: &Words, reason: &str) -> String {
    w.or(&format!("letter-{reason}"), reason)
}

/// Text where it is text, else its first bytes in hexadecimal.
fn preview(payload: &[u8]) -> String {
    let readable = |text: &&str| !text.chars().any(|sign| sign.is_control() && !sign.is_whitespace());
    if let Some(text) = str::from_utf8(payload).ok().filter(readable) {
        return shortened(text.chars().take(TEXT_CHARACTERS_MAX).collect(), text.len());
    }
    let shown = payload.get(..HEX_BYTES_MAX).unwrap_or(payload);
    let pairs: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = pairs.join(" ");
    shortened(hex, payload.len().saturating_mul(3).saturating_sub(1))
}

fn shortened(mut shown: String, all: usize) -> String {
    if shown.len() < all {
        shown.push('…');
    }
    shown
}

async fn replay(state: Data<AppState>, member: SignedIn, id: Path<i64>) -> Result<HttpResponse, WebError> {
    let pen = state.config.identifiers.pen;
    dead_letters::replay(&state.store, &state.profiles, pen, &member, *id, Utc::now()).await?;
    state.packs_arrived.notify_one();
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/dead-letters")).finish())
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;

    use trace::uplink::UplinkError;

    use super::*;
    use crate::{
        service::intake::Reason,
        web::locale::{Language, Locales},
    };

    #[test]
    fn every_reason_has_words_and_says_what_to_do() {
        let locales =
            Locales::read(FilePath::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../locales"))).unwrap();
        for language in [Language::ZhCn, Language::En] {
            let w = locales.words(language);
            for reason in Reason::OWN.map(Reason::as_str).into_iter().chain(UplinkError::REASONS) {
                assert!(w.has(&format!("letter-{reason}")), "{reason}");
                assert!(w.has(&format!("letter-{reason}-what-now")), "{reason}");
            }
        }
    }

    #[test]
    fn a_preview_is_text_where_it_is_text_and_bytes_where_it_is_not_and_always_short() {
        assert_eq!(preview(b"{\"t\":\n21}"), "{\"t\":\n21}");
        assert_eq!(preview(&[0xd2, 0x84, 0x00]), "d2 84 00");
        assert_eq!(preview(b"bell\x07"), "62 65 6c 6c 07");
        let long = preview("é".repeat(1_000).as_bytes());
        assert!(long.ends_with('…') && long.chars().count() == TEXT_CHARACTERS_MAX + 1);
        assert!(preview(&vec![0xff; 70_000]).len() < 4 * HEX_BYTES_MAX);
    }
}
