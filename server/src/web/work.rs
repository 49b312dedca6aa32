//! A step's form, made from its profile, and what comes back from it.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Form, Path, Query, ServiceConfig, get, post},
};
use askama::Template;
use trace::{
    b64,
    profile::{Field, Kind, Profile, Refusal, Step, form},
};
use uuid::Uuid;

use crate::{
    service::{
        capture::{CaptureError, OwnSignature},
        desk::{self, Options},
        keys::own::OwnKeys,
    },
    web::{
        AppState, WebError, assets,
        caller::SignedIn,
        day::{place_name, product_name, short_number},
        guard,
        locale::{Timed, Words},
        page::{self, Frame},
        scan::party_name,
        steps,
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/work/{profile}/{step}", get().to(blank))
        .route("/work/{profile}/{step}", post().to(take))
        .route("/work/{profile}/{step}/grounds", post().to(grounds));
}

/// How a field is asked for.
pub struct Control {
    /// `text`, `decimal`, `integer`, `choice`, `select`, `portions`, `table`, `date`, `time`.
    pub kind: &'static str,
    pub id: String,
    pub label: String,
    pub hint: Option<String>,
    pub unit: Option<String>,
    pub required: bool,
    pub value: String,
    /// The instrument that sent the value, and when it measured.
    pub sent_by: Option<Timed>,
    pub options: Vec<Choice>,
    pub error: Option<String>,
    pub closed: bool,
}

/// One option: for portions `value` is the lot, `typed` the amount.
pub struct Choice {
    pub value: String,
    pub label: String,
    pub note: String,
    pub typed: String,
    pub chosen: bool,
    pub unit: String,
}

#[derive(Template)]
#[template(path = "work.html")]
struct WorkPage {
    f: Frame,
    title: String,
    section: String,
    action: String,
    jti: String,
    controls: Vec<Control>,
    /// (field, label, message); a field of the form is linked to.
    errors: Vec<(String, String, String)>,
    signing: Signing,
}

/// What the page's script signs with, where this browser has a key of the member's.
struct Signing {
    /// Thumbprints of the good ones, separated by blanks.
    keys: String,
    step: String,
    profile: String,
    module: &'static str,
    script: &'static str,
}

/// Filled in from the query, so that a list can lead to a form about one of its rows.
async fn blank(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    filled: Query<Vec<(String, String)>>,
) -> Result<HttpResponse, WebError> {
    form_page(request, &state, member, &path, &filled, &[]).await
}

/// 303 to the receipt; a refusal gives the form back with what was typed, the fields named and the rules in words.
async fn take(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    typed: Form<Vec<(String, String)>>,
) -> Result<HttpResponse, WebError> {
    let (_, step) = step_of(&state, &member.party.role, &path)?;
    let jti = jti_of(&typed);
    let taken = match own_signature(&typed) {
        Ok(own) => {
            let pairs = form::from_browser(step, &typed);
            steps::take(&state, &member, &path, jti, &pairs, own.as_ref()).await
        }
        Err(refusal) => Err(refusal.into()),
    };
    match taken {
        Ok(receipt) => Ok(HttpResponse::SeeOther()
            .insert_header((header::LOCATION, receipt_path(receipt.jti, &receipt.warnings)))
            .finish()),
        Err(CaptureError::Refused(refusals)) => {
            form_page(request, &state, member, &path, &typed, &refusals).await
        }
        Err(error) => Err(error.into()),
    }
}

/// What the author's own browser needs to sign this form: for the script of the page.
async fn grounds(
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    typed: Form<Vec<(String, String)>>,
) -> Result<HttpResponse, WebError> {
    let (_, step) = step_of(&state, &member.party.role, &path)?;
    let pairs = form::from_browser(step, &typed);
    Ok(HttpResponse::Ok().json(steps::grounds(&state, &member, &path, jti_of(&typed), &pairs).await?))
}

/// A browser that has a key says so by the field alone: without a signature in it, it is a signature that failed, and not
/// one for the platform to make.
fn own_signature(typed: &[(String, String)]) -> Result<Option<OwnSignature>, Refusal> {
    let field = |wanted: &str| typed.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str());
    let Some(signed) = field("signed") else { return Ok(None) };
    OwnSignature::parse(signed, field("salts").unwrap_or_default()).map(Some)
}

/// The receipt, with the rules that only warn.
fn receipt_path(jti: Uuid, warnings: &[Refusal]) -> String {
    let told = |warning: &Refusal| {
        let figures = warning.args.iter().filter(|(_, value)| is_figure(value));
        figures.fold(warning.rule.to_owned(), |told, (name, value)| format!("{told}~{name}:{value}"))
    };
    let rules: Vec<String> = warnings.iter().take(8).map(told).collect();
    if rules.is_empty() {
        format!("/receipts/{jti}")
    } else {
        format!("/receipts/{jti}?warned={}", rules.join(","))
    }
}

/// What a receipt repeats from its address: plain figures and nothing that could be words.
pub fn is_figure(text: &str) -> bool {
    text.len() <= 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-'))
}

/// The form's own idempotency key: sent twice, it is one record.
fn jti_of(typed: &[(String, String)]) -> Uuid {
    typed
        .iter()
        .find(|(name, _)| name == "jti")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(Uuid::now_v7)
}

/// The step, if the member's role takes it.
pub fn step_of<'a>(
    state: &'a AppState,
    role: &str,
    path: &(String, String),
) -> Result<(&'a Profile, &'a Step), WebError> {
    let profile = state.profiles.by_id(&path.0).ok_or(WebError::NotFound)?;
    let step = profile.step(&path.1).ok_or(WebError::NotFound)?;
    if step.roles.iter().any(|allowed| allowed == role) {
        Ok((profile, step))
    } else {
        Err(WebError::NotFound)
    }
}

/// The form with what was typed and why it was refused.
pub async fn form_page(
    request: HttpRequest,
    state: &AppState,
    member: SignedIn,
    path: &(String, String),
    typed: &[(String, String)],
    refusals: &[Refusal],
) -> Result<HttpResponse, WebError> {
    let (profile, step) = step_of(state, &member.party.role, path)?;
    let options = desk::options(&state.store, &member.party, step).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let jti = jti_of(typed);
    // What an instrument just sent is filled in; what was typed stays.
    let sent = desk::instruments(&state.store, &member.party, step, chrono::Utc::now()).await?;
    let mut typed = typed.to_vec();
    let mut measured: BTreeMap<String, Timed> = BTreeMap::new();
    for (field, sent) in sent.into_iter().filter_map(|(field, sent)| Some((field, sent.into_iter().next()?)))
    {
        let given = typed.iter().find(|(name, _)| *name == field).map(|(_, value)| value.trim().to_owned());
        if given.is_none() {
            typed.push((field.clone(), sent.value.clone()));
        }
        if given.is_none_or(|given| given == sent.value) {
            let at = f.w.moment(sent.at, None);
            measured
                .insert(field, f.w.timed("work-sent-by", "at", at, [("device", device_name(&sent.device))]));
        }
    }
    let controls = step
        .fields
        .iter()
        .filter(|field| field.is_asked())
        .map(|field| Control {
            sent_by: measured.remove(&field.id),
            ..control(&f.w, profile, step, field, &options, &typed, refusals)
        })
        .collect();
    let errors = refusals
        .iter()
        .map(|refusal| {
            let label = step
                .field(&refusal.field)
                .map_or_else(String::new, |field| f.w.or(&profile.field_key(step, field), &field.id));
            (refusal.field.clone(), label, message(&f.w, refusal))
        })
        .collect();
    let own = OwnKeys { store: &state.store, keys: &state.keys, member: &member };
    let own = own.list().await.map_err(WebError::internal)?;
    let good = own.iter().filter(|key| key.state == "good");
    let page = WorkPage {
        signing: Signing {
            keys: good.map(|key| b64::url(&key.kid)).collect::<Vec<_>>().join(" "),
            step: step.id.clone(),
            profile: assets::profile_path(profile),
            module: assets::MODULE.path(),
            script: assets::SIGN.path(),
        },
        title: f.w.or(&profile.step_key(step), &step.id),
        section: f.w.say(&profile.section_key(&step.section)),
        action: format!("/work/{}/{}", profile.id(), step.id),
        jti: jti.to_string(),
        controls,
        errors,
        f,
    };
    let status = if refusals.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let mut response = page::html_with(status, &page)?;
    if !page.signing.keys.is_empty() {
        guard::allow_module(&mut response);
    }
    Ok(response)
}

/// The individual asset's own part of its Digital Link (8004): what stands on the instrument.
fn device_name(link: &str) -> String {
    link.rsplit('/').next().unwrap_or(link).to_owned()
}

/// The rule with its figures in the reader's language.
pub fn message(w: &Words, refusal: &Refusal) -> String {
    w.with(&refusal.message_key(), refusal.args.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn control(
    w: &Words,
    profile: &Profile,
    step: &Step,
    field: &Field,
    options: &Options,
    typed: &[(String, String)],
    refusals: &[Refusal],
) -> Control {
    let typed_as = |name: &str| typed.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let value = typed_as(&field.id).unwrap_or_default();
    let choices = choices(w, profile, step, field, options, &value, &typed_as);
    let kind = match field.kind {
        Kind::Decimal => "decimal",
        Kind::Integer => "integer",
        Kind::Portions => "portions",
        Kind::Table => "table",
        Kind::Date => "date",
        Kind::Time => "time",
        Kind::Choice | Kind::Lot | Kind::Consignment => "choice",
        Kind::Place | Kind::Party | Kind::Permit if !choices.is_empty() => "select",
        _ => "text",
    };
    let hint_key = format!("{}-hint", profile.field_key(step, field));
    let columns: Vec<String> = field
        .columns
        .iter()
        .map(|column| w.or(&format!("{}-{}", profile.field_key(step, field), column.id), &column.id))
        .collect();
    let hint = if w.has(&hint_key) {
        Some(w.say(&hint_key))
    } else if columns.is_empty() {
        None
    } else {
        Some(w.say1("table-hint", "columns", columns.join(" · ")))
    };
    Control {
        // A single possibility is not a question.
        value: match (value.is_empty(), kind, choices.as_slice()) {
            (true, "select", [only]) if field.required => only.value.clone(),
            _ => value,
        },
        kind,
        label: w.or(&profile.field_key(step, field), &field.id),
        hint,
        unit: field.unit.as_ref().map(|unit| w.or(&format!("unit-{unit}"), unit)),
        required: field.required,
        sent_by: None,
        error: refusals.iter().find(|refusal| refusal.field == field.id).map(|refusal| message(w, refusal)),
        closed: field.visibility != trace::record::Visibility::Public,
        options: choices,
        id: field.id.clone(),
    }
}

fn choices(
    w: &Words,
    profile: &Profile,
    step: &Step,
    field: &Field,
    options: &Options,
    value: &str,
    typed_as: &impl Fn(&str) -> Option<String>,
) -> Vec<Choice> {
    let plain = |choice: &str, label: String, note: String| Choice {
        chosen: choice == value,
        value: choice.to_owned(),
        label,
        note,
        typed: String::new(),
        unit: String::new(),
    };
    match field.kind {
        Kind::Choice => field
            .choices
            .iter()
            .map(|choice| {
                plain(choice, w.or(&profile.choice_key(step, field, choice), choice), String::new())
            })
            .collect(),
        Kind::Lot | Kind::Portions => options
            .lots(profile, field)
            .map(|held| {
                let place = held.place.as_ref().map(|place| place_name(w, place)).unwrap_or_default();
                let note = format!("{} · {place}", w.quantity(held.holding.quantity, &held.lot.unit));
                let label = format!("{} {}", product_name(w, &held.lot), held.lot.number);
                let unit = profile.product(&held.lot.product).map_or("H87", |product| product.unit.as_str());
                Choice {
                    typed: typed_as(&format!("{}:{}", field.id, held.lot.uri)).unwrap_or_default(),
                    unit: w.or(&format!("unit-{unit}"), unit),
                    ..plain(&held.lot.uri, label, note)
                }
            })
            .collect(),
        Kind::Consignment => options
            .awaited
            .iter()
            .filter(|sent| sent.lines.iter().all(|(lot, _)| lot.profile == profile.id()))
            .map(|sent| {
                let from = sent
                    .shipper
                    .as_ref()
                    .map_or_else(String::new, |party| party_name(w, profile.id(), party));
                let lines: Vec<String> =
                    sent.lines.iter().map(|(lot, quantity)| w.quantity(*quantity, &lot.unit)).collect();
                let note = format!("{from} · {}", lines.join(" + "));
                plain(&sent.consignment.number, short_number(&sent.consignment.number), note)
            })
            .collect(),
        Kind::Place => options
            .places(field)
            .map(|place| plain(&place.uri, place_name(w, place), String::new()))
            .collect(),
        Kind::Party => options
            .parties
            .get(&field.id)
            .into_iter()
            .flatten()
            .map(|party| plain(&party.iss, party_name(w, profile.id(), party), String::new()))
            .collect(),
        Kind::Permit => options
            .permits
            .iter()
            .filter(|permit| permit.profile == profile.id())
            .map(|permit| {
                let left = w.quantity(permit.allowed - permit.used, &permit.unit);
                plain(&permit.number, format!("{} ({left})", permit.number), String::new())
            })
            .collect(),
        _ => Vec::new(),
    }
}
