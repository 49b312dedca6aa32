//! The picture of a bin's temperatures: layers and a section as a heat map, earlier scans as links, the hot spot in words.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Form, Path, Query, ServiceConfig, get, post},
};
use askama::Template;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use store::party::Place;

use crate::{
    service::grid::{self, GridError, GridForm, Look, Measured, Picture, Point, Scan},
    web::{
        AppState, WebError,
        caller::SignedIn,
        day::place_name,
        error::FieldError,
        guard,
        locale::{Moment, Words},
        page::{self, Frame},
    },
};

/// Side of a cell in the drawing's own units.
const CELL: i32 = 46;
/// Cells of wider grids carry no figures: nobody could read them.
const FIGURES_COLUMNS_MAX: i16 = 16;
/// From cold to hot: °C and the colour there. Between them colours are mixed.
const COLD: (f64, [u8; 3]) = (5.0, [69, 117, 180]);
const COLOURS: [(f64, [u8; 3]); 6] = [
    COLD,
    (15.0, [145, 191, 219]),
    (20.0, [224, 243, 219]),
    (25.0, [254, 224, 144]),
    (30.0, [252, 141, 89]),
    (38.0, [165, 15, 21]),
];
/// From here on figures are white.
const WHITE_FROM: f64 = 31.0;

pub fn routes(routes: &mut ServiceConfig) {
    routes.route("/grid/{party}/{place}", get().to(picture)).route("/grid/{place}", post().to(declare));
}

#[derive(Deserialize)]
struct At {
    at: Option<DateTime<Utc>>,
}

struct Cell {
    x: i32,
    y: i32,
    fill: String,
    ink: &'static str,
    figure: String,
    hottest: bool,
}

/// One map: a layer from above, or a section from the side.
struct MapView {
    title: String,
    sentence: String,
    width: i32,
    height: i32,
    cells: Vec<Cell>,
}

struct LayerRow {
    name: String,
    mean: String,
    min: String,
    max: String,
}

struct ScanView {
    measured: Moment,
    sentences: Vec<String>,
    maps: Vec<MapView>,
    section: Option<MapView>,
    layers: Vec<LayerRow>,
    /// (address, time).
    before: Vec<(String, Moment)>,
    after: Vec<(String, Moment)>,
}

#[derive(Template)]
#[template(path = "grid.html")]
struct GridPage {
    f: Frame,
    place: String,
    /// Where the form posts to; nothing for who only looks.
    action: Option<String>,
    typed: Typed,
    errors: Vec<(String, String)>,
    scan: Option<ScanView>,
    declared: bool,
}

/// The form as it was typed, or as it stands.
struct Typed {
    rows: String,
    columns: String,
    layers: String,
    row_m: String,
    column_m: String,
    layer_m: String,
}

async fn picture(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    path: Path<(String, String)>,
    query: Query<At>,
) -> Result<HttpResponse, WebError> {
    page_of(&request, &state, member, (&path.0, &path.1), query.at, Vec::new()).await
}

async fn page_of(
    request: &HttpRequest,
    state: &AppState,
    member: SignedIn,
    (party, slug): (&str, &str),
    at: Option<DateTime<Utc>>,
    errors: Vec<FieldError>,
) -> Result<HttpResponse, WebError> {
    let look = grid::look(&state.store, &member, (party, slug), at.unwrap_or_else(Utc::now)).await?;
    let own = (member.party.slug == party).then(|| format!("/grid/{slug}"));
    let f = Frame::new(request, Some(member.0.clone()));
    let named = |place: &Place| place_name(&f.w, place);
    let (place, scan, typed, declared) = match &look {
        Look::Undeclared(place) => (named(place), None, Typed::blank(), false),
        Look::Unread(place) => (named(place), None, Typed::blank(), true),
        Look::Seen(seen) => (named(&seen.place), Some(scan_view(&f.w, seen)), Typed::of(&seen.grid), true),
    };
    let errors: Vec<(String, String)> = errors
        .into_iter()
        .map(|error| error.worded(&f.w))
        .map(|error| {
            (format!("{}: {}", f.w.say(&format!("grid-{}", error.field)), error.message), error.field)
        })
        .map(|(message, field)| (field, message))
        .collect();
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    page::html_with(status, &GridPage { place, action: own, typed, errors, scan, declared, f })
}

/// 303 to the picture; a refusal gives the page back with the field and the rule.
async fn declare(
    request: HttpRequest,
    state: Data<AppState>,
    member: SignedIn,
    place: Path<String>,
    typed: Form<GridForm>,
) -> Result<HttpResponse, WebError> {
    let party = member.party.slug.clone();
    match grid::declare(&state.store, &member, &place, &typed, Utc::now()).await {
        Ok(()) => {
            let to = format!("/grid/{party}/{}", place.as_str());
            Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish())
        }
        Err(error) => match error.into() {
            WebError::Refused(errors) => {
                page_of(&request, &state, member, (&party, &place), None, errors).await
            }
            error => Err(error),
        },
    }
}

impl From<GridError> for WebError {
    fn from(error: GridError) -> Self {
        match error {
            GridError::Unknown => Self::NotFound,
            GridError::Store(error) => error.into(),
            GridError::Outside { field, min, max } => {
                let figures = vec![("min".to_owned(), min), ("max".to_owned(), max)];
                Self::Refused(vec![FieldError::new(field, "between", figures)])
            }
            GridError::Refused { field, rule } => {
                Self::Refused(vec![FieldError::new(field, rule, Vec::new())])
            }
        }
    }
}

impl Typed {
    fn blank() -> Self {
        let [rows, columns, layers, row_m, column_m, layer_m] =
            ["", "", "", "5", "5", "2"].map(str::to_owned);
        Self { rows, columns, layers, row_m, column_m, layer_m }
    }

    fn of(grid: &store::grid::Grid) -> Self {
        let metres = |centimetres: i32| (f64::from(centimetres) / 100.0).to_string();
        Self {
            rows: grid.row_count.to_string(),
            columns: grid.column_count.to_string(),
            layers: grid.layer_count.to_string(),
            row_m: metres(grid.row_cm),
            column_m: metres(grid.column_cm),
            layer_m: metres(grid.layer_cm),
        }
    }
}

fn scan_view(w: &Words, seen: &Picture) -> ScanView {
    let Picture { grid, scan, .. } = seen;
    let here = format!("/grid/{}/{}", seen.party.slug, seen.place.slug);
    let link = |at: &DateTime<Utc>| {
        let moment = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        (format!("{here}?at={}", guard::form_component(&moment)), w.moment(*at, None))
    };
    let hottest = seen.hot_spot.map(|(point, _)| point);
    let from_above = |layer: i16| {
        let spots = (1..=grid.row_count)
            .flat_map(|row| (1..=grid.column_count).map(move |column| Point { layer, row, column }));
        map(w, scan, spots.map(|point| (point, point.column, point.row)), hottest, layer_name(w, layer))
    };
    let section = hottest.map(|Point { row, .. }| {
        let spots = (1..=grid.layer_count)
            .flat_map(|layer| (1..=grid.column_count).map(move |column| Point { layer, row, column }));
        let title = w.say1("grid-section", "row", row.to_string());
        map(w, scan, spots.map(|point| (point, point.column, point.layer)), hottest, title)
    });
    ScanView {
        measured: w.moment(scan.at, None),
        sentences: sentences(w, seen),
        maps: (1..=grid.layer_count).map(from_above).collect(),
        section,
        layers: scan
            .layers()
            .iter()
            .map(|layer| LayerRow {
                name: layer_name(w, layer.layer),
                mean: degrees(w, layer.mean),
                min: degrees(w, layer.min),
                max: degrees(w, layer.max),
            })
            .collect(),
        before: seen.before.iter().map(link).collect(),
        after: seen.after.iter().map(link).collect(),
    }
}

/// What the picture shows, for who listens.
fn sentences(w: &Words, seen: &Picture) -> Vec<String> {
    let said = |key: &str, measured: Option<Measured>| {
        let (point, value) = measured?;
        Some(w.with(
            key,
            [
                ("row", point.row.to_string()),
                ("column", point.column.to_string()),
                ("layer", layer_name(w, point.layer)),
                ("value", degrees(w, value)),
            ],
        ))
    };
    let silent = (seen.scan.silent > 0).then(|| w.say1("grid-silent", "count", seen.scan.silent.to_string()));
    let rising = seen.rising.filter(|(_, rise)| *rise > 0.0);
    [
        said("grid-hot-spot", seen.hot_spot),
        said("grid-surface", seen.surface),
        said("grid-wall", seen.wall),
        said("grid-rising", rising),
        silent,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn map(
    w: &Words,
    scan: &Scan,
    spots: impl Iterator<Item = (Point, i16, i16)>,
    hottest: Option<Point>,
    title: String,
) -> MapView {
    let (mut cells, mut columns, mut rows) = (Vec::new(), 0, 0);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (point, column, row) in spots {
        (columns, rows) = (columns.max(column), rows.max(row));
        let value = scan.at_point(point);
        if let Some(value) = value {
            (least, most) = (least.min(value), most.max(value));
        }
        cells.push(Cell {
            x: i32::from(column - 1) * CELL,
            y: i32::from(row - 1) * CELL,
            fill: value.map_or_else(|| "#fff".to_owned(), colour),
            ink: if value.is_some_and(|value| value >= WHITE_FROM) { "#fff" } else { "#1c2723" },
            figure: value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}")),
            hottest: hottest == Some(point),
        });
    }
    if columns > FIGURES_COLUMNS_MAX {
        for cell in &mut cells {
            cell.figure.clear();
        }
    }
    let sentence = if least.is_finite() {
        w.with("grid-map", [("title", title.clone()), ("min", degrees(w, least)), ("max", degrees(w, most))])
    } else {
        title.clone()
    };
    MapView { title, sentence, width: i32::from(columns) * CELL, height: i32::from(rows) * CELL, cells }
}

fn layer_name(w: &Words, layer: i16) -> String {
    if layer == 1 { w.say("grid-top-layer") } else { w.say1("grid-layer", "layer", layer.to_string()) }
}

fn degrees(w: &Words, value: f64) -> String {
    format!("{value:.1} {}", w.say("unit-celsius"))
}

/// Mixed between the two nearest of [`COLOURS`].
fn colour(value: f64) -> String {
    let mut below = COLD;
    for above in COLOURS {
        if value <= above.0 {
            return mixed(below, above, value);
        }
        below = above;
    }
    mixed(below, below, value)
}

fn mixed((low, cold): (f64, [u8; 3]), (high, hot): (f64, [u8; 3]), value: f64) -> String {
    let share = if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
    let parts = cold
        .iter()
        .zip(hot)
        .map(|(cold, hot)| f64::from(*cold) + (f64::from(hot) - f64::from(*cold)) * share);
    format!("rgb({})", parts.map(|part| format!("{part:.0}")).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_run_from_cold_to_hot_and_stop_at_both_ends() {
        assert_eq!(colour(-20.0), "rgb(69,117,180)");
        assert_eq!(colour(20.0), "rgb(224,243,219)");
        assert_eq!(colour(22.5), "rgb(239,234,182)");
        assert_eq!(colour(60.0), "rgb(165,15,21)");
    }
}
