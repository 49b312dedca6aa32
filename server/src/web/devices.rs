//! A keeper's devices: the list, the file of one, and the form that registers one.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Form, Path, Query, ServiceConfig, get, post},
};
use askama::Template;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use store::{reading::Reading, stay::Stay};
use trace::{b64, uplink::Format};

use crate::{
    service::devices::{
        self, DeviceForm, Signing,
        file::{self, DeviceFile, Listed, PLACES_MAX},
        place::{self, Move},
    },
    web::{
        AppState, WebError,
        alerts::rule_name,
        caller::SignedIn,
        chart::unit_name,
        day::place_name,
        error::FieldError,
        locale::{Moment, Words},
        page::{self, Frame},
        provision::token_page,
        scan::party_name,
    },
};

/// What a gateway can sign for, and last what signs itself: that gets its key by a one-time token.
const FORMATS: [Format; 6] =
    [Format::SenmlJson, Format::SenmlCbor, Format::Json, Format::Chirpstack, Format::Sparkplug, Format::Cose];

pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/devices", get().to(list))
        .route("/devices", post().to(register))
        .route("/devices/{party}/{device}", get().to(one))
        .route("/devices/{party}/{device}/place", post().to(bring));
}

struct DeviceView {
    href: String,
    name: String,
    kind: String,
    party: String,
    place: String,
    measured: Option<Moment>,
    battery: Option<String>,
    alerts: usize,
    lost: bool,
}

/// (value, words) of a choice.
type Choice = (String, String);

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    f: Frame,
    devices: Vec<DeviceView>,
    after: Option<i64>,
    kinds: Vec<Choice>,
    formats: Vec<&'static str>,
    places: Vec<Choice>,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    after: i64,
}

async fn list(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, WebError> {
    let found = file::list(&state.store, &member, wanted.after, Utc::now()).await?;
    let mut conn = state.store.connection().await?;
    let places = store::party::places_of(&mut conn, member.party.id, PLACES_MAX).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let w = &f.w;
    let view = |listed: &Listed| DeviceView {
        href: format!("/devices/{}/{}", listed.party, listed.device.name),
        name: listed.device.name.clone(),
        kind: kind_name(w, &listed.device.profile, &listed.device.kind),
        party: found
            .parties
            .get(&listed.device.party_id)
            .map_or_else(String::new, |party| party_name(w, "", party)),
        place: found.places.get(&listed.device.place_id).map_or_else(String::new, |at| place_name(w, at)),
        measured: listed.measured_at.map(|at| w.moment(at, None)),
        battery: listed.battery.as_ref().map(|reading| value(w, reading)),
        alerts: listed.alerts_open,
        lost: listed.device.lost_at.is_some(),
    };
    let devices = found.devices.iter().map(view).collect();
    let kinds = state.profiles.iter().flat_map(|profile| {
        let kinds = profile.device_kinds().iter();
        kinds.map(|kind| (format!("{}/{kind}", profile.id()), kind_name(w, profile.id(), kind)))
    });
    page::html(&DevicesPage {
        devices,
        after: found.after,
        kinds: kinds.collect(),
        formats: FORMATS.map(Format::as_str).to_vec(),
        places: places.iter().map(|place| (place.slug.clone(), place_name(w, place))).collect(),
        f,
    })
}

fn kind_name(w: &Words, profile: &str, kind: &str) -> String {
    w.or(&format!("{profile}-word-{kind}"), kind)
}

fn value(w: &Words, reading: &Reading) -> String {
    format!("{} {}", reading.value, unit_name(w, &reading.unit)).trim_end().to_owned()
}

struct ReadingView {
    name: String,
    value: String,
    at: Moment,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    f: Frame,
    name: String,
    topic: String,
    kind: String,
    party: String,
    place: String,
    format: String,
    signed_by_gateway: bool,
    retired: Option<Moment>,
    measured: Option<Moment>,
    readings: Vec<ReadingView>,
    /// (name, since).
    alerts: Vec<(String, Moment)>,
    silent: Vec<Moment>,
    clock_suspect: i64,
    historical: i64,
    missing_numbers: i64,
    lost: Option<Moment>,
    position: Option<String>,
    /// More than one, or none.
    stays: Vec<StayView>,
    /// Where it can be brought.
    places: Vec<Choice>,
    keys: Vec<KeyView>,
    token_waits: Option<Moment>,
    token_redeemed: Option<Moment>,
    /// Where tokens are given and access is ended; for its keeper, while it is not out of use.
    acts_at: Option<String>,
}

struct StayView {
    place: String,
    position: Option<String>,
    from: Moment,
    /// None: it lasts.
    to: Option<Moment>,
}

struct KeyView {
    kid: String,
    /// `good`, `rotated` or `revoked`.
    state: String,
    since: Moment,
}

async fn one(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
) -> Result<HttpResponse, WebError> {
    let (party, name) = path.into_inner();
    let now = Utc::now();
    let found = file::one(&state.store, &member, (&party, &name), now).await?;
    let file = found.ok_or(WebError::NotFound)?;
    let f = Frame::new(&request, Some(member.0.clone()));
    page::html(&device_page(f, &party, &file, now))
}

fn device_page(f: Frame, slug: &str, file: &DeviceFile, now: DateTime<Utc>) -> DevicePage {
    let w = &f.w;
    let device = &file.device;
    let reading = |reading: &Reading| ReadingView {
        name: w.or(&format!("{}-metric-{}", device.profile, reading.name), &reading.name),
        value: value(w, reading),
        at: w.moment(reading.at, None),
    };
    let alert = |alert: &store::alert::Alert| {
        (rule_name(w, &alert.profile, &alert.rule), w.moment(alert.raised_at, None))
    };
    let key = |key: &store::key::Key| KeyView {
        kid: b64::url(&key.kid),
        state: key.state.clone(),
        since: w.moment(key.since, None),
    };
    let stood = |id: i64| file.places.get(&id).map_or_else(String::new, |place| place_name(w, place));
    let stay = |stay: &Stay| StayView {
        place: stood(stay.place_id),
        position: stay.position.clone(),
        // It stood there from its registration on, as far as anybody can tell.
        from: w.moment(stay.from.max(device.created_at.min(stay.to.unwrap_or(now))), None),
        to: stay.to.map(|to| w.moment(to, None)),
    };
    let token = file.token.as_ref();
    let marked = |mark: &str| file.marks.get(mark).copied().unwrap_or_default();
    DevicePage {
        name: device.name.clone(),
        topic: format!("suyuan/v1/{slug}/{}/up", device.name),
        kind: kind_name(w, &device.profile, &device.kind),
        party: file.party.as_ref().map_or_else(String::new, |party| party_name(w, "", party)),
        place: stood(device.place_id),
        position: device.position.clone(),
        stays: file.stays.iter().filter(|_| file.stays.len() > 1).map(stay).collect(),
        places: file
            .places
            .values()
            .filter(|place| place.party_id == device.party_id)
            .map(|place| (place.slug.clone(), place_name(w, place)))
            .collect(),
        format: device.format.clone(),
        signed_by_gateway: device.signing == Signing::Gateway.as_str(),
        retired: device.retired_at.map(|at| w.moment(at, None)),
        measured: file.latest.iter().map(|reading| reading.at).max().map(|at| w.moment(at, None)),
        readings: file.latest.iter().map(reading).collect(),
        alerts: file.alerts.iter().map(alert).collect(),
        silent: file.silent_hours.iter().map(|hour| w.moment(*hour, None)).collect(),
        clock_suspect: marked("clock_suspect"),
        historical: marked("historical"),
        missing_numbers: file.missing_numbers,
        lost: device.lost_at.map(|at| w.moment(at, None)),
        keys: file.keys.iter().map(key).collect(),
        token_waits: token.filter(|token| token.is_open(now)).map(|token| w.moment(token.expires_at, None)),
        token_redeemed: token.and_then(|token| token.redeemed_at).map(|at| w.moment(at, None)),
        acts_at: (file.is_keepers && device.retired_at.is_none())
            .then(|| format!("/devices/{slug}/{}", device.name)),
        f,
    }
}

#[derive(Deserialize)]
struct Brought {
    place: String,
    #[serde(default)]
    position: String,
    #[serde(default)]
    at: String,
}

async fn bring(
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    form: Form<Brought>,
) -> Result<HttpResponse, WebError> {
    let (party, device) = path.into_inner();
    let wanted = Move { place: &form.place, position: &form.position, at: &form.at };
    place::move_device(&state.store, &member, (&party, &device), &wanted, Utc::now()).await?;
    state.register.forget().await;
    let location = format!("/devices/{party}/{device}");
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, location)).finish())
}

#[derive(Deserialize)]
struct Stated {
    device: String,
    /// `profile/kind`.
    kind: String,
    format: Format,
    place: String,
    /// JSON; empty for what the profile says of the kind.
    #[serde(default)]
    map: String,
}

#[derive(Template)]
#[template(path = "device-registered.html")]
struct RegisteredPage {
    f: Frame,
    user: String,
    token: String,
    topic: String,
    href: String,
}

/// 201 with the password, or with the token of a device that signs itself: shown now and never again.
async fn register(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    stated: Form<Stated>,
) -> Result<HttpResponse, WebError> {
    let refused = |field: &str, rule: &str| WebError::Refused(vec![FieldError::new(field, rule, Vec::new())]);
    let (profile, kind) = stated.kind.split_once('/').ok_or_else(|| refused("kind", "unknown"))?;
    let map = match stated.map.trim() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|_| refused("map", "format"))?),
    };
    let signs_itself = stated.format == Format::Cose;
    let form = DeviceForm {
        party: member.party.slug.clone(),
        device: stated.device.trim().to_owned(),
        kind: kind.to_owned(),
        profile: profile.to_owned(),
        format: stated.format,
        signing: if signs_itself { Signing::Device } else { Signing::Gateway },
        repeats: None,
        place: stated.place.clone(),
        map,
        key: None,
    };
    let pen = state.config.identifiers.pen;
    let told =
        devices::register(&state.store, &state.keys, &state.profiles, pen, &member.party, &form).await?;
    if signs_itself {
        return token_page(&request, &state, &member, &(told.party, told.device)).await;
    }
    let page = RegisteredPage {
        f: Frame::new(&request, Some(member.0.clone())),
        user: format!("{}/{}", told.party, told.device),
        topic: format!("suyuan/v1/{}/{}/up", told.party, told.device),
        href: format!("/devices/{}/{}", told.party, told.device),
        token: told.token,
    };
    let mut answer = page::html_with(actix_web::http::StatusCode::CREATED, &page)?;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(answer)
}
