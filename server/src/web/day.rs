//! "My day": the steps of the member's role, what is on hand, what is awaited and what was recorded.

use std::collections::BTreeSet;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Query, ServiceConfig, get},
};
use askama::Template;
use chrono::Utc;
use serde::Deserialize;
use trace::profile::{EventType, Step};
use uuid::Uuid;

use crate::{
    service::{desk, grid, profiles::Profiles},
    web::{
        AppState, WebError,
        caller::SignedIn,
        locale::{Moment, Words},
        page::{self, Frame},
        scan::{named_by, party_name, standing_chip, step_name},
    },
};

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/day", get().to(day)).route("/receipts/{jti}", get().to(receipt));
}

struct Tile {
    href: String,
    name: String,
    icon: &'static str,
}

struct Section {
    name: String,
    tiles: Vec<Tile>,
}

struct HeldView {
    href: String,
    product: String,
    number: String,
    quantity: String,
    place: String,
    recalled: bool,
}

struct AwaitedView {
    number: String,
    from: String,
    sent: Moment,
    lines: Vec<String>,
}

struct RecordView {
    jti: String,
    name: String,
    when: Moment,
}

#[derive(Template)]
#[template(path = "day.html")]
struct DayPage {
    f: Frame,
    today: String,
    party: String,
    sections: Vec<Section>,
    /// Of profiles that this party has had nothing to do with so far.
    others: Vec<Section>,
    held: Vec<HeldView>,
    awaited: Vec<AwaitedView>,
    records: Vec<RecordView>,
    looks: Vec<(Moment, String, String)>,
    /// (address, place) of the temperature pictures.
    grids: Vec<(String, String)>,
}

async fn day(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
) -> Result<HttpResponse, WebError> {
    let day = desk::day(&state.store, &member.party).await?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let w = &f.w;
    // A role's name may stand in several profiles: what the party works with comes first.
    let known: BTreeSet<&str> = day
        .on_hand
        .iter()
        .map(|held| held.lot.profile.as_str())
        .chain(day.awaited.iter().flat_map(|sent| sent.lines.iter().map(|(lot, _)| lot.profile.as_str())))
        .chain(day.records.iter().filter_map(|record| record.profile.split('/').next()))
        .filter(|id| state.profiles.by_id(id).is_some())
        .collect();
    let (sections, others) = sections(w, &state, &member.party.role, &known);
    let grids = grid::places(&state.store, &member).await?;
    let page = DayPage {
        today: w.day((Utc::now() + chrono::TimeDelta::hours(8)).date_naive()),
        party: party_name(w, profile_of(&state.profiles, &member.party.role, &known), &member.party),
        grids: grids
            .iter()
            .map(|place| (format!("/grid/{}/{}", member.party.slug, place.slug), place_name(w, place)))
            .collect(),
        sections,
        others,
        held: day
            .on_hand
            .iter()
            .map(|held| HeldView {
                href: lot_href(&held.lot.gtin, &held.lot.number),
                product: product_name(w, &held.lot),
                number: held.lot.number.clone(),
                quantity: w.quantity(held.holding.quantity, &held.lot.unit),
                place: held.place.as_ref().map(|place| place_name(w, place)).unwrap_or_default(),
                recalled: held.lot.recalled_by.is_some(),
            })
            .collect(),
        awaited: day
            .awaited
            .iter()
            .map(|sent| AwaitedView {
                number: short_number(&sent.consignment.number),
                from: sent.shipper.as_ref().map_or_else(String::new, |party| {
                    party_name(w, sent.lines.first().map_or("", |(lot, _)| lot.profile.as_str()), party)
                }),
                sent: w.moment(sent.consignment.shipped_time, None),
                lines: sent
                    .lines
                    .iter()
                    .map(|(lot, quantity)| {
                        format!("{} {}", product_name(w, lot), w.quantity(*quantity, &lot.unit))
                    })
                    .collect(),
            })
            .collect(),
        records: day
            .records
            .iter()
            .map(|record| RecordView {
                jti: record.jti.to_string(),
                name: step_name(
                    w,
                    record.profile.split('/').next().unwrap_or_default(),
                    record
                        .public
                        .get("event")
                        .map_or(record.step.as_deref(), |event| named_by(record.step.as_deref(), event)),
                ),
                when: w
                    .moment(record.event_time.unwrap_or(record.accepted_at), record.event_offset.as_deref()),
            })
            .collect(),
        looks: day
            .looks
            .iter()
            .map(|(at, who, what)| (w.moment(*at, None), who.clone().unwrap_or_default(), looked_at(w, what)))
            .collect(),
        f,
    };
    page::html(&page)
}

/// A list of pages is named in words; a lot, a device, a proof or a search as it was asked for.
fn looked_at(w: &Words, subject: &str) -> String {
    w.or(&format!("look-{}", subject.replace(' ', "-")), subject)
}

/// The profile whose word for the role is used: one that the party works with, before the first that knows the role.
fn profile_of<'a>(profiles: &'a Profiles, role: &str, known: &BTreeSet<&str>) -> &'a str {
    profiles
        .iter()
        .filter(|profile| profile.roles().iter().any(|name| name == role))
        .min_by_key(|profile| !known.contains(profile.id()))
        .map_or("", |profile| profile.id())
}

/// The steps of a role, a section for each profile: those of `known` profiles, and the others.
fn sections(w: &Words, state: &AppState, role: &str, known: &BTreeSet<&str>) -> (Vec<Section>, Vec<Section>) {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for profile in state.profiles.iter() {
        let mut steps: Vec<_> = profile.steps_of(role).collect();
        steps.sort_by_key(|step| profile.sections().iter().position(|section| *section == step.section));
        let tiles: Vec<Tile> = steps
            .into_iter()
            .map(|step| Tile {
                href: format!("/work/{}/{}", profile.id(), step.id),
                name: w.or(&profile.step_key(step), &step.id),
                icon: icon(step),
            })
            .collect();
        if tiles.is_empty() {
            continue;
        }
        let section = Section { name: w.say(profile.id()), tiles };
        if known.is_empty() || known.contains(profile.id()) {
            own.push(section);
        } else {
            others.push(section);
        }
    }
    (own, others)
}

/// A drawing for each group of CBV business steps: the path of a 24 × 24 icon.
fn icon(step: &Step) -> &'static str {
    if step.event == EventType::Transformation && step.biz_step != "repackaging" {
        return "M3 20V10l5 3v-3l5 3V5h4l1 15zM8 17h2m3 0h2";
    }
    if step.persistent.is_some() {
        return "M12 4 21 20H3zM12 10v4M12 17v.2";
    }
    match step.biz_step.as_str() {
        "commissioning" => "M4 4h7l9 9-7 7-9-9zM8 8h.2",
        "creating_class_instance" => "M12 21v-9m0 4c-5 0-7-3-7-7 5 0 7 2 7 7Zm0-4c0-5 2-8 7-8 0 5-2 8-7 8Z",
        "shipping" | "departing" | "loading" | "arriving" | "transporting" => {
            "M2 6h11v10H2zM13 9h4l4 4v3h-8M6 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4Zm11 0a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z"
        }
        "receiving" | "accepting" | "unloading" => "M4 13v6h16v-6M12 3v11m-4-4 4 4 4-4",
        "inspecting" | "sampling" => "M10 3h4M11 3v6l-6 10h14L13 9V3M8 15h8",
        "packing" | "unpacking" | "repackaging" => "M4 8l8-4 8 4v9l-8 4-8-4zM4 8l8 4 8-4M12 12v9",
        "storing" | "holding" | "cycle_counting" | "stock_taking" | "sensor_reporting" => {
            "M3 10l9-6 9 6v10H3zM8 20v-7h8v7"
        }
        "retail_selling" => "M4 9h16l-1 11H5zM8 9a4 4 0 0 1 8 0",
        _ => "M5 4h14v16H5zM9 9h6M9 13h6",
    }
}

pub fn product_name(w: &Words, lot: &store::lot::Lot) -> String {
    w.or(&format!("{}-product-{}", lot.profile, lot.product), &lot.product)
}

/// A place's public name; a plot's is sealed, so its own number stands for it.
pub fn place_name(w: &Words, place: &store::party::Place) -> String {
    place
        .name
        .clone()
        .unwrap_or_else(|| format!("{} {}", w.or(&format!("place-{}", place.kind), &place.kind), place.slug))
}

/// The shipper's own number of a consignment, which its address ends in.
pub fn short_number(number: &str) -> String {
    number.rsplit('/').next().unwrap_or(number).to_owned()
}

pub fn lot_href(gtin: &str, number: &str) -> String {
    format!("/lots/{gtin}/{}", super::guard::form_component(number).replace('/', "%2F"))
}

/// Rules that warned when the step was taken; only words of ours are shown.
#[derive(Deserialize)]
struct Warned {
    #[serde(default)]
    warned: String,
}

struct ReceiptLot {
    href: String,
    label: String,
    product: String,
    number: String,
}

#[derive(Template)]
#[template(path = "receipt.html")]
struct ReceiptPage {
    f: Frame,
    name: String,
    jti: String,
    when: Moment,
    accepted: Moment,
    grade: String,
    custody: String,
    leaf: Option<String>,
    standing: Option<(&'static str, &'static str)>,
    lots: Vec<ReceiptLot>,
    again: String,
    warnings: Vec<String>,
}

/// `low-yield~percent:8.1~min:9` in words.
fn warning(w: &Words, told: &str) -> Option<String> {
    let mut parts = told.split('~');
    let key = format!("warned-{}", parts.next()?);
    let figures = parts.filter_map(|part| part.split_once(':'));
    let figures = figures.filter(|(_, value)| super::work::is_figure(value));
    w.has(&key).then(|| w.with(&key, figures.map(|(name, value)| (name, value.to_owned()))))
}

async fn receipt(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    jti: Path<Uuid>,
    warned: Query<Warned>,
) -> Result<HttpResponse, WebError> {
    let found = desk::receipt(&state.store, &member.party, *jti).await?;
    let desk::Receipt { record, lots, leaf, standing, custody } = found.ok_or(WebError::NotFound)?;
    let f = Frame::new(&request, Some(member.0.clone()));
    let profile = record.profile.split('/').next().unwrap_or_default();
    let page = ReceiptPage {
        name: step_name(&f.w, profile, record.step.as_deref()),
        jti: record.jti.to_string(),
        when: f.w.moment(record.event_time.unwrap_or(record.iat), record.event_offset.as_deref()),
        accepted: f.w.moment(record.accepted_at, None),
        grade: f.w.say(&format!("grade-{}", record.grade)),
        custody: f.w.custody(custody),
        leaf: leaf.map(|leaf| leaf.index.to_string()),
        standing: standing_chip(standing),
        lots: lots
            .iter()
            .map(|lot| ReceiptLot {
                href: lot_href(&lot.gtin, &lot.number),
                label: format!("/labels/01/{}/10/{}", lot.gtin, super::guard::form_component(&lot.number)),
                product: product_name(&f.w, lot),
                number: lot.number.clone(),
            })
            .collect(),
        warnings: warned.warned.split(',').filter_map(|told| warning(&f.w, told)).collect(),
        again: format!("/work/{profile}/{}", record.step.as_deref().unwrap_or_default()),
        f,
    };
    page::html(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_grows_cane_is_named_by_the_sugars_word() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
        let profiles = Profiles::read(std::path::Path::new(directory)).unwrap();
        assert_eq!(profile_of(&profiles, "farmer", &BTreeSet::from(["sugar"])), "sugar");
        assert_eq!(profile_of(&profiles, "farmer", &BTreeSet::from(["grain", "timber"])), "grain");
        assert_eq!(profile_of(&profiles, "farmer", &BTreeSet::new()), "grain", "the first that knows it");
        assert_eq!(profile_of(&profiles, "nobody", &BTreeSet::from(["sugar"])), "");
    }
}
