//! What a code leads to: one URL for everybody, and the box at `/` for codes that are typed in.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Query, ServiceConfig, get},
};
use askama::Template;
use chrono::Utc;
use serde::Deserialize;
use serde_json::Value;
use store::party::TradeItem;
use trace::{
    causes::Causes,
    gs1::{DigitalLink, Key},
};

use crate::{
    service::{
        standing::Standing,
        story::{self, Answer, Story, Told},
    },
    web::{
        AppState, WebError,
        caller::{self, MaybeSignedIn},
        chart::{self, ChartView},
        day::place_name,
        label::{groups, key_of_path},
        locale::{Moment, Timed, Words},
        machine,
        page::{self, Frame},
    },
};

/// Without session or token; formats of caching in `guard`.
const PUBLIC_CACHE: &str = "public, max-age=60, stale-while-revalidate=600";
/// Longest code that is looked at.
const TYPED_BYTES_MAX: usize = 300;
/// Steps shown open; the others unfold.
const STEPS_OPEN: usize = 8;

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/", get().to(home))
        .route("/find", get().to(find))
        .route("/00/{rest:.*}", get().to(scan))
        .route("/01/{rest:.*}", get().to(scan));
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    f: Frame,
    typed: String,
    unknown: bool,
}

async fn home(request: HttpRequest, member: MaybeSignedIn) -> Result<HttpResponse, WebError> {
    let page = HomePage { f: Frame::new(&request, member.0), typed: String::new(), unknown: false };
    Ok(public(page::html(&page)?))
}

#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    code: String,
}

/// A pasted address, `(01)…(21)…`, or the digits with a slash, as they stand on the label.
async fn find(
    request: HttpRequest,
    typed: Query<Typed>,
    member: MaybeSignedIn,
) -> Result<HttpResponse, WebError> {
    match typed_key(&typed.code) {
        Some(key) => Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, key.path())).finish()),
        None => page::html_with(
            StatusCode::UNPROCESSABLE_ENTITY,
            &HomePage { f: Frame::new(&request, member.0), typed: typed.code.clone(), unknown: true },
        ),
    }
}

/// What somebody typed or pasted.
pub fn typed_key(typed: &str) -> Option<Key> {
    let typed = typed.get(..TYPED_BYTES_MAX).unwrap_or(typed).trim();
    if typed.to_ascii_lowercase().starts_with("http") {
        return typed.parse::<DigitalLink>().ok().map(|link| link.key);
    }
    // In groups, as it is printed; without the slash after the GTIN, too.
    let joined: String = typed.chars().filter(|sign| !sign.is_whitespace()).collect();
    let joined = match (joined.contains(['/', '(']), joined.split_at_checked(GTIN_DIGITS)) {
        (false, Some((gtin, rest)))
            if rest.len() == SERIAL_CHARACTERS || typed.starts_with(&format!("{gtin} ")) =>
        {
            format!("{gtin}/{rest}")
        }
        _ => joined,
    };
    let parts: Vec<&str> = joined.split(['/', '(', ')']).filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["01", gtin, ai @ ("10" | "21"), rest] => key_of_path(&format!("01/{gtin}/{ai}/{rest}")),
        ["00", sscc] => key_of_path(&format!("00/{sscc}")),
        [sscc] if sscc.len() == 18 => key_of_path(&format!("00/{sscc}")),
        [gtin, rest] if rest.len() == SERIAL_CHARACTERS => key_of_path(&format!("01/{gtin}/21/{rest}")),
        [gtin, rest] => key_of_path(&format!("01/{gtin}/10/{rest}")),
        _ => None,
    }
}

const SERIAL_CHARACTERS: usize = 17;
const GTIN_DIGITS: usize = 14;

#[derive(Template)]
#[template(path = "never.html")]
struct NeverPage {
    f: Frame,
    path: String,
    /// Each value of the key, in groups; empty where the path is no key.
    typed: Vec<Vec<String>>,
    /// Why the code was taken back, if it once was ours.
    void: Option<String>,
}

struct LoadedLot {
    href: String,
    product: String,
    number: String,
    recalled: bool,
}

/// A pallet or load with several lots.
#[derive(Template)]
#[template(path = "load.html")]
struct LoadPage {
    f: Frame,
    unit: String,
    lots: Vec<LoadedLot>,
}

#[derive(Template)]
#[template(path = "scan.html")]
struct ScanPage {
    f: Frame,
    s: ScanView,
}

/// A story in the reader's words.
pub struct ScanView {
    pub verdict: &'static str,
    pub product: String,
    pub maker: String,
    pub place: String,
    pub lot: String,
    pub made: Moment,
    pub net: Option<String>,
    pub open: Vec<StepView>,
    pub folded: Vec<StepView>,
    pub cut: bool,
    pub missing: usize,
    pub unlogged: usize,
    pub unsound: usize,
    pub charts: Vec<ChartView>,
    /// (jti, index in the log) of the summaries of what was measured.
    pub measured: Vec<(String, i64)>,
    pub proof: Option<ProofView>,
    pub path: String,
    pub scans: Option<Timed>,
}

pub struct StepView {
    pub name: String,
    pub who: String,
    pub county: Option<String>,
    pub when: Moment,
    pub quantities: Vec<(&'static str, String)>,
    pub facts: Vec<(String, String)>,
    pub grade: String,
    pub grade_class: &'static str,
    pub custody: String,
    pub closed: usize,
    pub late: bool,
    pub standing: Option<(&'static str, &'static str)>,
    pub leaf: Option<i64>,
    pub jti: String,
}

pub struct ProofView {
    pub origin: String,
    pub size: Timed,
    pub witnesses: Vec<String>,
    pub missing: Vec<String>,
    pub anchors: Vec<Timed>,
    pub bundle: String,
}

async fn scan(request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, WebError> {
    let member = caller::member(&request).await?;
    let key = key_of_path(request.path());
    let answer = match &key {
        Some(key) => {
            story::tell(&state.store, &state.profiles, state.ledger.policy(), &state.serial_master, key)
                .await?
        }
        None => Answer::NeverIssued,
    };
    let (key, told) = match (key, answer) {
        (Some(key), Answer::Story(told)) => (key, told),
        (Some(key), Answer::Several(lots)) => {
            let f = Frame::new(&request, member);
            let lots = lots.iter().map(|lot| LoadedLot {
                href: format!("/01/{}/10/{}", lot.gtin, super::guard::form_component(&lot.number)),
                product: super::day::product_name(&f.w, lot),
                number: lot.number.clone(),
                recalled: lot.recalled_by.is_some(),
            });
            let page =
                LoadPage { unit: key.path().trim_start_matches('/').to_owned(), lots: lots.collect(), f };
            return Ok(public(page::html(&page)?));
        }
        (key, other) => {
            let elements = key.iter().flat_map(Key::elements);
            let page = NeverPage {
                f: Frame::new(&request, member),
                path: request.path().trim_start_matches('/').to_owned(),
                typed: elements.map(|(_, value)| groups(&value)).collect(),
                void: match other {
                    Answer::Void(reason) => Some(reason),
                    Answer::Story(_) | Answer::Several(_) | Answer::NeverIssued => None,
                },
            };
            return page::html_with(StatusCode::NOT_FOUND, &page);
        }
    };
    if let Some(answer) = machine::answer(&request, &state, &key, &told) {
        return Ok(answer);
    }
    let frame = Frame::new(&request, member);
    if frame.member.is_none() {
        // A scan that could not be counted is still a scan.
        if let Err(error) = story::count(&state.store, &key.uri(), Utc::now().date_naive()).await {
            tracing::warn!(error = %Causes(&error), "a scan was not counted");
        }
    }
    let s = view(&frame.w, &state, &key, &told);
    Ok(public(page::html(&ScanPage { f: frame, s })?))
}

fn public(mut response: HttpResponse) -> HttpResponse {
    let value = header::HeaderValue::from_static(PUBLIC_CACHE);
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
        .headers_mut()
        .insert(header::VARY, header::HeaderValue::from_static("Accept, Accept-Language, Cookie"));
    response
}

pub fn view(w: &Words, state: &AppState, key: &Key, story: &Story) -> ScanView {
    let lot = &story.lot;
    // What was measured in store stands in the charts, not between the steps.
    let (measured, acted): (Vec<&Told>, Vec<&Told>) =
        story.steps.iter().partition(|step| step.step.as_deref() == Some("conditions"));
    let mut steps: Vec<StepView> = acted.into_iter().map(|step| step_view(w, state, step)).collect();
    let folded = if steps.len() > STEPS_OPEN { steps.split_off(STEPS_OPEN) } else { Vec::new() };
    let product_key = format!("{}-product-{}", lot.profile, lot.product);
    let word = w.or(&product_key, &lot.product);
    ScanView {
        verdict: story.verdict.word(),
        product: story.item.as_ref().map_or(word, |item| item.name.clone()),
        maker: story.maker.as_ref().map_or_else(String::new, |maker| party_name(w, &lot.profile, maker)),
        place: story
            .place
            .as_ref()
            .map(|place| {
                [place.county.clone(), place.name.clone()]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" · ")
            })
            .unwrap_or_default(),
        lot: lot.number.clone(),
        made: w.moment(lot.made_time, None),
        net: story.item.as_ref().and_then(|item| net_content(w, item, &lot.unit)),
        open: steps,
        folded,
        cut: story.steps_cut,
        missing: story.missing,
        unlogged: story.unlogged,
        unsound: story.unsound,
        charts: story
            .charts
            .iter()
            .filter_map(|chart| {
                let place = story
                    .chart_places
                    .get(&chart.place)
                    .map(|place| place_name(w, place))
                    .unwrap_or_default();
                chart::view(w, chart, &place)
            })
            .collect(),
        measured: measured
            .into_iter()
            .filter_map(|step| Some((step.jti.to_string(), step.leaf?.index)))
            .collect(),
        proof: story.head.as_ref().map(|head| ProofView {
            origin: head.origin.clone(),
            size: w.timed(
                "proof-checkpoint-size",
                "at",
                w.moment(head.signed_at, None),
                [("size", head.size.to_string())],
            ),
            witnesses: head.witnesses.clone(),
            missing: head.missing.clone(),
            anchors: head.anchors.iter().map(|anchor| anchored(w, anchor)).collect(),
            bundle: format!("/proof/lot/01/{}/10/{}", lot.gtin, lot.number),
        }),
        path: key.path(),
        scans: story.scans.map(|(month, times)| {
            w.timed("scans", "month", w.month_of_year(month), [("times", times.to_string())])
        }),
    }
}

fn anchored(w: &Words, anchor: &store::anchor::Anchor) -> Timed {
    let block = anchor.block_number.unwrap_or_default().to_string();
    let at = w.moment(anchor.anchored_at.unwrap_or(anchor.created_at), None);
    let values = [("chain", anchor.chain.clone()), ("size", anchor.size.to_string()), ("block", block)];
    w.timed("proof-anchor", "at", at, values)
}

/// What one pack holds: as its label states it, else what one piece of the product does.
fn net_content(w: &Words, item: &TradeItem, lot_unit: &str) -> Option<String> {
    match (item.net_amount, &item.net_unit) {
        (Some(amount), Some(unit)) => Some(w.quantity(amount, unit)),
        _ => item.piece_amount.filter(|_| lot_unit != "piece").map(|amount| w.quantity(amount, lot_unit)),
    }
}

/// A party as the public may know it: a natural person by role and the end of the pseudonym.
pub fn party_name(w: &Words, profile: &str, party: &store::party::Party) -> String {
    if let Some(name) = &party.name {
        return name.clone();
    }
    let role =
        w.or(&format!("{profile}-word-{}", party.role), &w.or(&format!("role-{}", party.role), &party.role));
    let end: String = party.iss.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    format!("{role} ····{end}")
}

/// The name of a step: the profile's word, else a word of ours, else the step itself.
pub fn step_name(w: &Words, profile: &str, step: Option<&str>) -> String {
    let step = step.unwrap_or_default();
    let own = format!("{profile}-{step}");
    if w.has(&own) { w.say(&own) } else { w.or(&format!("step-{step}"), step) }
}

/// What a step without a form of ours is called by: an imported event's business step (CBV 2.0 §7.1), in its short form.
pub fn named_by<'a>(step: Option<&'a str>, event: &'a Value) -> Option<&'a str> {
    step.or_else(|| event.get("bizStep")?.as_str()?.rsplit(['/', ':', '-']).next())
}

fn step_view(w: &Words, state: &AppState, step: &Told) -> StepView {
    let mut quantities = Vec::new();
    for (label, sums) in
        [("quantity-in", &step.input), ("quantity-out", &step.output), ("quantity-of", &step.moved)]
    {
        // One figure for what was only looked at would repeat the lot's own quantity.
        let sums: Vec<String> = sums
            .iter()
            .filter(|(_, amount)| **amount != 0)
            .map(|(unit, amount)| w.quantity(*amount, unit))
            .collect();
        if !sums.is_empty() {
            quantities.push((label, sums.join(" + ")));
        }
    }
    StepView {
        name: step_name(w, &step.profile, named_by(step.step.as_deref(), &step.event)),
        who: step.party.as_ref().map_or_else(String::new, |party| party_name(w, &step.profile, party)),
        county: step.county.clone(),
        when: w.moment(step.time.unwrap_or(step.accepted_at), step.offset.as_deref()),
        quantities,
        facts: facts(w, state, step),
        grade: w.say(&format!("grade-{}", step.grade)),
        grade_class: if step.grade == "self" { "" } else { "good" },
        custody: if step.kind == "derived" { w.say("custody-derived") } else { w.custody(step.custody) },
        closed: step.closed_fields,
        late: step.late,
        // What waits for the log waits for the roster, too, and one of the two is said.
        standing: standing_chip(step.standing).filter(|_| step.leaf.is_some() || step.standing.is_bad()),
        leaf: step.leaf.map(|leaf| leaf.index),
        jti: step.jti.to_string(),
    }
}

/// What a page shows of a signer's key unless it is good: (class, message).
pub const fn standing_chip(standing: Standing) -> Option<(&'static str, &'static str)> {
    match standing {
        Standing::Good => None,
        Standing::Unconfirmed => Some(("", "key-unconfirmed")),
        Standing::Replaced => Some(("bad", "key-replaced")),
        Standing::Revoked => Some(("bad", "key-revoked")),
        Standing::Lost => Some(("bad", "key-lost")),
    }
}

/// The public fields of the step's form, by their labels, from the event as it was signed.
fn facts(w: &Words, state: &AppState, step: &Told) -> Vec<(String, String)> {
    use trace::profile::To;
    let Some(profile) = state.profiles.by_id(&step.profile) else { return Vec::new() };
    let Some(form) = step.step.as_deref().and_then(|id| profile.step(id)) else { return Vec::new() };
    form.fields
        .iter()
        .filter_map(|field| {
            let name = format!("gx:{}", field.id);
            let value = match &field.to {
                To::Ilmd => step.event.get("ilmd")?.get(&name)?,
                To::Extension => {
                    let block = field.block.as_ref().map(|block| format!("gx:{block}"));
                    match block {
                        Some(block) => step.event.get(&block)?.get(&name)?,
                        None => step.event.get(&name)?,
                    }
                }
                _ => return None,
            };
            let value = match value {
                Value::String(text) => {
                    let choice = profile.choice_key(form, field, text);
                    w.or(&choice, &w.day_or_moment(text))
                }
                Value::Number(number) => match &field.unit {
                    Some(unit) => format!("{number} {}", w.or(&format!("unit-{unit}"), unit)),
                    None => number.to_string(),
                },
                _ => return None,
            };
            Some((w.or(&profile.field_key(form, field), &field.id), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let serial = "/01/09521234000013/21/0ABCDEFGHJKMNPQRS";
        for typed in [
            "https://example.org/01/09521234000013/21/0ABCDEFGHJKMNPQRS",
            "(01)09521234000013(21)0ABCDEFGHJKMNPQRS",
            " 09521234000013 / 0ABCDEFGHJKMNPQRS ",
            "0952 1234 0000 13 0ABC DEFG HJKM NPQR S",
            "09521234000013 0ABCDEFGHJKMNPQRS",
        ] {
            assert_eq!(typed_key(typed).map(|key| key.path()).as_deref(), Some(serial), "{typed}");
        }
        assert_eq!(
            typed_key("09521234000013/L1").map(|key| key.path()).as_deref(),
            Some("/01/09521234000013/10/L1")
        );
        assert_eq!(
            typed_key("09521234000013 L1").map(|key| key.path()).as_deref(),
            Some("/01/09521234000013/10/L1")
        );
        assert_eq!(typed_key("0952 1234 0000 00000 8"), typed_key("095212340000000008"));
        assert!(typed_key("hello").is_none());
    }
}
