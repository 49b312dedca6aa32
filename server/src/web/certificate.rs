//! A proof as one sheet of paper: `/proof/{jti}.pdf`, `/proof/lot/….pdf`. The bundle is the proof; its address is on the sheet.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Path, ServiceConfig, get},
};
use chrono::DateTime;
use serde_json::Value;
use trace::{
    bundle::{self, Bundle, Content, Interval, Layer, Outcome, Read, Report, Verdict},
    tlog::checkpoint::Checkpoint,
};
use uuid::Uuid;

use crate::{
    service::{
        paper::{HEIGHT, Ink, PaperError, Sheet, WIDTH},
        proof::Reader,
    },
    web::{AppState, WebError, check, locale::Words, log, scan::step_name},
};

const MARGIN: f32 = 50.0;
const INNER: f32 = WIDTH - 2.0 * MARGIN;
const CODE: f32 = 118.0;
const SMALL: f32 = 8.5;
const TEXT: f32 = 10.0;
/// Statements that the sheet names; the bundle holds all.
const NAMED_MAX: usize = 7;
/// Logs that it names.
const LOGS_MAX: usize = 2;

const BLACK: Ink = [0.11, 0.15, 0.14];
const GREY: Ink = [0.34, 0.39, 0.36];

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/proof/lot/{key:.*}.pdf", get().to(of_lot)).route("/proof/{jti}.pdf", get().to(of_record));
}

/// What the sheet is about.
struct Subject {
    /// Said beneath the title.
    named: String,
    /// Where the bundle is.
    url: String,
    /// The one statement, where it is one.
    jti: Option<String>,
}

async fn of_record(
    request: HttpRequest,
    state: Data<AppState>,
    jti: Path<String>,
) -> Result<HttpResponse, WebError> {
    let jti: Uuid = jti.parse().map_err(|_| WebError::NotFound)?;
    let bundle = log::record_bundle_for(&state, jti, Reader::Public).await?;
    let words = Words::of(&request);
    let subject = Subject {
        named: words.say1("certificate-of-record", "jti", jti),
        url: proof_url(&state, &jti.to_string()),
        jti: Some(jti.to_string()),
    };
    answer(state, words, bundle, subject).await
}

async fn of_lot(
    request: HttpRequest,
    state: Data<AppState>,
    key: Path<String>,
) -> Result<HttpResponse, WebError> {
    let bundle = log::lot_bundle_for(&state, &key, Reader::Public).await?;
    let words = Words::of(&request);
    let subject = Subject {
        named: words.say1("certificate-of-lot", "key", &*key),
        url: proof_url(&state, &format!("lot/{key}")),
        jti: None,
    };
    answer(state, words, bundle, subject).await
}

fn proof_url(state: &AppState, path: &str) -> String {
    format!("{}/proof/{path}", state.config.http.public_base_url.trim_end_matches('/'))
}

async fn answer(
    state: Data<AppState>,
    words: Words,
    bundle: Bundle,
    subject: Subject,
) -> Result<HttpResponse, WebError> {
    let trust = check::own_trust(&state).await?;
    let pdf = web::block(move || {
        let report = bundle::verify(&bundle, &trust);
        draw(&state, &words, &bundle, &report, &subject)
    });
    let pdf = pdf.await.map_err(WebError::internal)?.map_err(WebError::internal)?;
    Ok(HttpResponse::Ok()
        .content_type("application/pdf")
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::VARY, "Accept-Language, Cookie"))
        .body(pdf))
}

fn draw(
    state: &AppState,
    w: &Words,
    bundle: &Bundle,
    report: &Report,
    subject: &Subject,
) -> Result<Vec<u8>, PaperError> {
    let mut sheet = Sheet::new()?;
    let beside_code = INNER - CODE - 12.0;
    sheet.code(&subject.url, WIDTH - MARGIN - CODE, HEIGHT - MARGIN - CODE + 10.0, CODE)?;
    sheet.line(&w.say("certificate-title"), MARGIN, HEIGHT - MARGIN - 14.0, 20.0, BLACK);
    let y = sheet.paragraph(&subject.named, MARGIN, HEIGHT - MARGIN - 40.0, beside_code, TEXT, BLACK);
    sheet.paragraph(&subject.url, MARGIN, y, beside_code, SMALL, GREY);

    let y = verdict(&mut sheet, w, report.verdict, HEIGHT - MARGIN - CODE - 8.0);
    let y = layers(&mut sheet, w, report, y);
    let y = heads(&mut sheet, w, bundle, y);
    let y = statements(&mut sheet, state, w, report, subject.jti.as_deref(), y);
    let y = heading(&mut sheet, &w.say("proof-proves-title"), y);
    let y = sheet.paragraph(&w.say("proof-proves"), MARGIN, y, INNER, SMALL, BLACK);
    let y = heading(&mut sheet, &w.say("proof-proves-not-title"), y);
    let y = sheet.paragraph(&w.say("proof-proves-not"), MARGIN, y, INNER, SMALL, BLACK);
    sheet.paragraph(&w.say("certificate-is-no-proof"), MARGIN, y - 8.0, INNER, SMALL, GREY);
    sheet.into_pdf(&format!("{} {}", w.say("certificate-title"), subject.named), w.tag())
}

fn heading(sheet: &mut Sheet, text: &str, y: f32) -> f32 {
    sheet.line(text, MARGIN, y - 8.0, TEXT + 1.0, BLACK);
    y - 24.0
}

fn verdict(sheet: &mut Sheet, w: &Words, verdict: Verdict, y: f32) -> f32 {
    let (word, paper, ink) = match verdict {
        Verdict::Valid => ("valid", [0.90, 0.94, 0.92], [0.07, 0.25, 0.19]),
        Verdict::Invalid => ("invalid", [0.99, 0.92, 0.91], [0.49, 0.10, 0.07]),
        Verdict::CouldNotCheck => ("could-not-check", [0.99, 0.95, 0.86], [0.38, 0.23, 0.0]),
    };
    sheet.rectangle(MARGIN, y - 46.0, INNER, 46.0, paper);
    sheet.line(&w.say(&format!("check-verdict-{word}")), MARGIN + 12.0, y - 19.0, 14.0, ink);
    sheet.line(&w.say(&format!("check-verdict-{word}-means")), MARGIN + 12.0, y - 36.0, TEXT, ink);
    y - 62.0
}

fn layers(sheet: &mut Sheet, w: &Words, report: &Report, y: f32) -> f32 {
    let mut y = y;
    for checked in &report.layers {
        let name = name(checked.layer);
        let outcome = match checked.outcome {
            Outcome::Good => "good",
            Outcome::Bad(_) => "bad",
            Outcome::Unchecked(_) => "unchecked",
        };
        let told = format!("{} · {}", w.say(&format!("check-outcome-{outcome}")), checked.count);
        let means = match outcome {
            "good" => w.say(&format!("check-layer-{name}-means")),
            _ => w.say("certificate-see-bundle"),
        };
        sheet.line(&w.say(&format!("check-layer-{name}")), MARGIN, y, SMALL, BLACK);
        sheet.line(&told, MARGIN + 86.0, y, SMALL, BLACK);
        y = sheet.paragraph(&means, MARGIN + 160.0, y, INNER - 160.0, SMALL, GREY);
    }
    y
}

const fn name(layer: Layer) -> &'static str {
    match layer {
        Layer::Log => "log",
        Layer::Witnesses => "witnesses",
        Layer::Signature => "signature",
        Layer::Inclusion => "inclusion",
        Layer::Enrolment => "enrolment",
        Layer::Roster => "roster",
        Layer::Seen => "seen",
        Layer::Chain => "chain",
    }
}

/// Origin, size and root of the newest logs' heads: enough to find them again.
fn heads(sheet: &mut Sheet, w: &Words, bundle: &Bundle, y: f32) -> f32 {
    let mut y = heading(sheet, &w.say("proof-log"), y);
    for note in bundle.checkpoints.iter().rev().take(LOGS_MAX) {
        let Ok(Checkpoint { origin, size, root }) = note.text.parse() else { continue };
        let values = [("origin", origin), ("size", size.to_string()), ("root", root.to_string())];
        y = sheet.paragraph(&w.with("certificate-head", values), MARGIN, y, INNER, SMALL, BLACK);
    }
    y
}

fn statements(
    sheet: &mut Sheet,
    state: &AppState,
    w: &Words,
    report: &Report,
    jti: Option<&str>,
    y: f32,
) -> f32 {
    let mut y = heading(sheet, &w.say("certificate-statements"), y);
    let goods: Vec<(&Read, &Value)> = report
        .statements
        .iter()
        .flatten()
        .filter_map(|read| match &read.content {
            Content::Record(claims) if claims.get("event").is_some() => Some((read, claims)),
            _ => None,
        })
        .filter(|(_, claims)| match jti {
            Some(jti) => claims.get("jti").and_then(Value::as_str) == Some(jti),
            // What was measured in store follows from what was done, and there is much of it.
            None => step_of(claims) != "conditions",
        })
        .collect();
    for (read, claims) in goods.iter().rev().take(NAMED_MAX) {
        y = sheet.paragraph(&statement(state, w, read, claims), MARGIN, y, INNER, SMALL, BLACK);
    }
    let more = goods.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        y = sheet.paragraph(&w.say1("check-more", "count", more), MARGIN, y, INNER, SMALL, GREY);
    }
    y
}

/// What, by whom, whose key, where in the log, between which moments.
fn statement(state: &AppState, w: &Words, read: &Read, claims: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let profile = text(claims.get("profile"));
    let profile = profile.split('/').next().unwrap_or_default();
    // The profile's own step has a word of its own; an imported event is called by what it says itself.
    let said = step_of(claims);
    let steps = state.profiles.by_id(profile).map(|profile| profile.steps()).unwrap_or_default();
    let step = steps.iter().find(|step| step.gx_step.rsplit(':').next() == Some(said));
    let step = step.map_or(said, |step| step.id.as_str());
    let custody = read.custody.map_or_else(|| w.say("certificate-no-custody"), |custody| w.custody(custody));
    let index = read.place.as_ref().map_or_else(String::new, |(_, index)| index.to_string());
    let values = [
        ("step", step_name(w, profile, Some(step))),
        ("iss", text(claims.get("iss"))),
        ("custody", custody),
        ("index", index),
        ("made", made(w, read.made)),
    ];
    w.with("certificate-statement", values)
}

/// The event's step of our own, or its business step, without what stands before the name.
fn step_of(claims: &Value) -> &str {
    let named = |name: &str| claims.get("event")?.get(name)?.as_str();
    let step = named("gx:step").or_else(|| named("bizStep")).unwrap_or_default();
    step.rsplit([':', '/']).next().unwrap_or_default()
}

fn made(w: &Words, made: Interval) -> String {
    let moment = |seconds: u64| {
        let at = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        at.map_or_else(|| seconds.to_string(), |at| w.moment(at, None).text)
    };
    match (made.after.map(moment), made.before.map(moment)) {
        (Some(after), Some(before)) => {
            w.with("certificate-made-between", [("after", after), ("before", before)])
        }
        (Some(after), None) => w.say1("certificate-made-after", "after", after),
        (None, Some(before)) => w.say1("certificate-made-before", "before", before),
        (None, None) => w.say("certificate-made-unknown"),
    }
}
