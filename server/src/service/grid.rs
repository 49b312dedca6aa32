//! A store's temperature grid (LS/T 1707.2: cables, points, layers): where the points hang, and what one scan of them says.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use store::{
    Connection, Store, StoreError,
    grid::{self as rows, Grid},
    party::{self, Party, Place},
    stay,
};

use crate::service::{account::Member, capture::local_offset, inspection};

/// Cables hang at most 5 m apart, points at most 2 m above each other (`domain.md` G4).
const CABLE_CM_MAX: i32 = 500;
const LAYER_CM_MAX: i32 = 200;
const SIDE_MAX: i16 = 64;
const LAYERS_MAX: i16 = 32;
/// Of one store: ten times what the largest silos have. A page draws each of them.
const POINTS_MAX: i32 = 8_192;
/// Before this no cable was hung; and the database counts from 4713 BC only.
const EARLIEST: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// Scans that a page leads to, on either side of the one that it shows.
const NEIGHBOURS: i64 = 8;
/// The rise of a point is over about a day: to the newest scan that is at least so old …
const RISE_OVER: TimeDelta = TimeDelta::hours(20);
/// … and no older than this.
const RISE_WITHIN: TimeDelta = TimeDelta::days(4);
/// Points by which a scan is found: if all of them are dead, so is the grid.
const SOUNDINGS: usize = 8;

/// A grid as its keeper declares it; distances in metres.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct GridForm {
    /// The day from which on the cables hang so, `2026-11-20`; today if empty.
    #[serde(default)]
    pub from: String,
    pub rows: i16,
    pub columns: i16,
    pub layers: i16,
    pub row_m: f64,
    pub column_m: f64,
    pub layer_m: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum GridError {
    #[error("{field}: not from {min} to {max}")]
    Outside { field: &'static str, min: String, max: String },
    #[error("{field}: {rule}")]
    Refused { field: &'static str, rule: &'static str },
    #[error("no such place of the party")]
    Unknown,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Declares the grid of one of the member's places from now on.
pub async fn declare(
    store: &Store,
    member: &Member,
    place: &str,
    form: &GridForm,
    now: DateTime<Utc>,
) -> Result<(), GridError> {
    let mut conn = store.connection().await?;
    let place = party::place_by_slug(&mut conn, member.party.id, place).await?.ok_or(GridError::Unknown)?;
    let count = |field, value: i16, max: i16| {
        let outside = || GridError::Outside { field, min: "1".to_owned(), max: max.to_string() };
        (1..=max).contains(&value).then_some(value).ok_or_else(outside)
    };
    let distance = |field, metres: f64, max_cm: i32| {
        let max = f64::from(max_cm) / 100.0;
        let allowed = metres.is_finite() && metres >= 0.1 && metres <= max;
        let centimetres = format!("{:.0}", metres * 100.0).parse();
        let outside = || GridError::Outside { field, min: "0.1".to_owned(), max: max.to_string() };
        allowed.then(|| centimetres.ok()).flatten().ok_or_else(outside)
    };
    let valid_from = first_moment(&form.from, now)?;
    let row_count = count("rows", form.rows, SIDE_MAX)?;
    let column_count = count("columns", form.columns, SIDE_MAX)?;
    let layers_max = POINTS_MAX / (i32::from(row_count) * i32::from(column_count));
    let layers_max = i16::try_from(layers_max).unwrap_or(LAYERS_MAX).min(LAYERS_MAX);
    let new = Grid {
        place_id: place.id,
        valid_from,
        row_count,
        column_count,
        layer_count: count("layers", form.layers, layers_max)?,
        row_cm: distance("row_m", form.row_m, CABLE_CM_MAX)?,
        column_cm: distance("column_m", form.column_m, CABLE_CM_MAX)?,
        layer_cm: distance("layer_m", form.layer_m, LAYER_CM_MAX)?,
        declared_by: Some(member.account_id),
    };
    // Declaring what stands changes nothing.
    if let Some(old) = rows::at(&mut conn, place.id, valid_from).await?
        && (Grid { valid_from, declared_by: new.declared_by, ..old }) == new
    {
        return Ok(());
    }
    if !rows::insert(&mut conn, &new).await? {
        return Err(GridError::Refused { field: "from", rule: "grid-from-taken" });
    }
    Ok(())
}

/// The place's midnight of the day that was typed.
fn first_moment(day: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, GridError> {
    let refused = |rule| GridError::Refused { field: "from", rule };
    let today = now.with_timezone(&local_offset()).date_naive();
    let day: NaiveDate = match day {
        "" => today,
        typed => typed.parse().map_err(|_| refused("not-a-date"))?,
    };
    if day > today {
        return Err(refused("in-the-future"));
    }
    let midnight = day.and_time(NaiveTime::MIN).and_local_timezone(local_offset()).single();
    let midnight = midnight.map(|midnight| midnight.with_timezone(&Utc));
    midnight.filter(|midnight| *midnight >= EARLIEST).ok_or_else(|| refused("not-a-date"))
}

/// A point by row and column of its cable and its layer, all counted from 1; layer 1 is the surface. They stand in order
/// surface first, then row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub layer: i16,
    pub row: i16,
    pub column: i16,
}

impl Point {
    /// The SenML name of its readings: `c{cable}/d{layer}/temp`.
    fn name(self, grid: &Grid) -> String {
        format!("c{}/d{}/temp", (self.row - 1) * grid.column_count + self.column, self.layer)
    }

    /// The point whose readings are called so; `None` for what hangs in no cable of the grid.
    pub(super) fn named(name: &str, grid: &Grid) -> Option<Self> {
        let (cable, depth) = name.strip_suffix("/temp")?.strip_prefix('c')?.split_once("/d")?;
        let (cable, layer): (i16, i16) = (cable.parse().ok()?, depth.parse().ok()?);
        let before = cable.checked_sub(1).filter(|before| *before >= 0)?;
        let point =
            Self { row: before / grid.column_count + 1, column: before % grid.column_count + 1, layer };
        let hangs = point.row <= grid.row_count && (1..=grid.layer_count).contains(&layer);
        (hangs && point.name(grid) == name).then_some(point)
    }

    /// Beside, above and below; some of them may not be there.
    pub(super) fn neighbours(self) -> impl Iterator<Item = Self> {
        let steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)];
        steps.into_iter().map(move |(row, column, layer)| Self {
            row: self.row + row,
            column: self.column + column,
            layer: self.layer + layer,
        })
    }

    const fn is_at_wall(self, grid: &Grid) -> bool {
        self.row == 1 || self.row == grid.row_count || self.column == 1 || self.column == grid.column_count
    }
}

/// Surface first, then row by row.
fn points(grid: &Grid) -> impl Iterator<Item = Point> + use<> {
    let (rows, columns, layers) = (grid.row_count, grid.column_count, grid.layer_count);
    (1..=layers).flat_map(move |layer| {
        (1..=rows).flat_map(move |row| (1..=columns).map(move |column| Point { layer, row, column }))
    })
}

/// A point and what it read, °C.
pub type Measured = (Point, f64);

/// One reading of the whole grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub at: DateTime<Utc>,
    pub measured: BTreeMap<Point, f64>,
    /// Points that said nothing.
    pub silent: usize,
}

/// Mean and extremes of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    pub layer: i16,
    pub mean: f64,
    pub min: f64,
    pub max: f64,
}

impl Scan {
    fn of(grid: &Grid, at: DateTime<Utc>, readings: &[store::reading::Reading]) -> Self {
        // The first device that read a point decides.
        let by_name: HashMap<&str, f64> =
            readings.iter().rev().map(|reading| (reading.name.as_str(), reading.value)).collect();
        let value_of = |point: Point| by_name.get(point.name(grid).as_str()).copied();
        let measured: BTreeMap<Point, f64> =
            points(grid).filter_map(|point| Some((point, value_of(point)?))).collect();
        let silent = points(grid).count() - measured.len();
        Self { at, measured, silent }
    }

    pub fn at_point(&self, point: Point) -> Option<f64> {
        self.measured.get(&point).copied()
    }

    pub fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<(Layer, f64)> = Vec::new();
        for (point, value) in &self.measured {
            let last = layers.last_mut().filter(|(layer, _)| layer.layer == point.layer);
            let Some((layer, count)) = last else {
                layers.push((Layer { layer: point.layer, mean: *value, min: *value, max: *value }, 1.0));
                continue;
            };
            *count += 1.0;
            layer.mean += (value - layer.mean) / *count;
            layer.min = layer.min.min(*value);
            layer.max = layer.max.max(*value);
        }
        layers.into_iter().map(|(layer, _)| layer).collect()
    }

    fn hottest(&self, among: impl Fn(Point) -> bool) -> Option<Measured> {
        let candidates = self.measured.iter().map(|(point, value)| (*point, *value));
        candidates.filter(|(point, _)| among(*point)).max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// What a keeper looks for in a scan.
#[derive(Debug, Clone)]
pub struct Picture {
    pub party: Party,
    pub place: Place,
    pub grid: Grid,
    pub scan: Scan,
    pub hot_spot: Option<Measured>,
    /// The hottest of the uppermost layer, and of the cables along the walls.
    pub surface: Option<Measured>,
    pub wall: Option<Measured>,
    /// The point that warmed most, by how many kelvin a day.
    pub rising: Option<Measured>,
    /// Scans before, newest first, and after, oldest first.
    pub before: Vec<DateTime<Utc>>,
    pub after: Vec<DateTime<Utc>>,
}

/// A place whose grid may be looked at, with or without a scan.
#[derive(Debug)]
pub enum Look {
    /// Nobody has declared where its cables hang.
    Undeclared(Place),
    /// Declared, and not read yet.
    Unread(Place),
    Seen(Box<Picture>),
}

/// The newest scan at or before `at`. A keeper sees the own places, a regulator all, and that is logged.
pub async fn look(
    store: &Store,
    member: &Member,
    (party, place): (&str, &str),
    at: DateTime<Utc>,
) -> Result<Look, GridError> {
    let mut conn = store.connection().await?;
    let party = party::by_slug(&mut conn, party).await?.ok_or(GridError::Unknown)?;
    if party.id != member.party.id && !member.is_regulator() {
        return Err(GridError::Unknown);
    }
    let place = party::place_by_slug(&mut conn, party.id, place).await?.ok_or(GridError::Unknown)?;
    inspection::look(&mut conn, &member.into(), &[party.id].into(), &place.uri).await?;
    let at = at.max(EARLIEST);
    let Some(grid) = rows::at(&mut conn, place.id, at).await? else { return Ok(Look::Undeclared(place)) };
    let mut stays = stay::at_places(&mut conn, &[place.id], (EARLIEST, at.max(Utc::now()))).await?;
    stays.retain(|stay| stay.covers(at));
    let stood_then = |moment: &DateTime<Utc>| stays.iter().any(|stay| stay.covers(*moment));
    let devices: Vec<i64> = stays.iter().map(|stay| stay.device_id).collect();
    let names: Vec<String> = points(&grid).map(|point| point.name(&grid)).collect();
    let soundings: Vec<String> =
        names.iter().step_by(names.len().div_ceil(SOUNDINGS).max(1)).cloned().collect();
    let mut before = rows::moments(&mut conn, &devices, &soundings, at, NEIGHBOURS + 1)
        .await?
        .into_iter()
        .filter(stood_then);
    let Some(shown) = before.next() else { return Ok(Look::Unread(place)) };
    let before: Vec<DateTime<Utc>> = before.collect();
    let mut after = rows::moments_after(&mut conn, &devices, &soundings, shown, NEIGHBOURS).await?;
    after.retain(stood_then);
    let scan = scan_at(&mut conn, &grid, &devices, &names, shown).await?;
    let rising = rising(&mut conn, &grid, &devices, (&names, &soundings), &scan).await?;
    Ok(Look::Seen(Box::new(Picture {
        hot_spot: scan.hottest(|_| true),
        surface: scan.hottest(|point| point.layer == 1),
        wall: scan.hottest(|point| point.is_at_wall(&grid)),
        rising,
        scan,
        grid,
        party,
        place,
        before,
        after,
    })))
}

async fn scan_at(
    conn: &mut Connection,
    grid: &Grid,
    devices: &[i64],
    names: &[String],
    at: DateTime<Utc>,
) -> Result<Scan, StoreError> {
    Ok(Scan::of(grid, at, &rows::scan(conn, devices, names, at).await?))
}

/// Against the newest scan of about a day before.
async fn rising(
    conn: &mut Connection,
    grid: &Grid,
    devices: &[i64],
    (names, soundings): (&[String], &[String]),
    scan: &Scan,
) -> Result<Option<Measured>, StoreError> {
    let earlier = rows::moments(conn, devices, soundings, scan.at - RISE_OVER, 1).await?.into_iter().next();
    let Some(earlier) = earlier.filter(|earlier| scan.at - *earlier <= RISE_WITHIN) else { return Ok(None) };
    let days = f64::from(i32::try_from((scan.at - earlier).num_seconds()).unwrap_or(i32::MAX)) / 86_400.0;
    let earlier = scan_at(conn, grid, devices, names, earlier).await?;
    let rise = |(point, value): (&Point, &f64)| Some((*point, (value - earlier.at_point(*point)?) / days));
    Ok(scan.measured.iter().filter_map(rise).max_by(|one, other| one.1.total_cmp(&other.1)))
}

/// The member's places whose cables are declared.
pub async fn places(store: &Store, member: &Member) -> Result<Vec<Place>, StoreError> {
    const PLACES_MAX: i64 = 200;
    let mut conn = store.connection().await?;
    let places = party::places_of(&mut conn, member.party.id, PLACES_MAX).await?;
    let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
    let declared = rows::declared(&mut conn, &ids).await?;
    Ok(places.into_iter().filter(|place| declared.contains(&place.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::reading::Reading;

    fn grid() -> Grid {
        let valid_from = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (row_cm, column_cm, layer_cm) = (450, 450, 150);
        Grid {
            place_id: 1,
            valid_from,
            row_count: 3,
            column_count: 3,
            layer_count: 3,
            row_cm,
            column_cm,
            layer_cm,
            declared_by: None,
        }
    }

    fn reading(cable: i16, layer: i16, value: f64) -> Reading {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let name = format!("c{cable}/d{layer}/temp");
        Reading { device_id: 1, at, name, unit: "Cel".to_owned(), value, cti: Vec::new() }
    }

    #[test]
    fn a_point_is_found_by_the_name_of_its_readings_and_nothing_else_is_a_point() {
        let grid = grid();
        for point in points(&grid) {
            assert_eq!(Point::named(&point.name(&grid), &grid), Some(point));
        }
        for name in [
            "temp",
            "c0/d1/temp",
            "c10/d1/temp",
            "c1/d0/temp",
            "c1/d4/temp",
            "c01/d1/temp",
            "c1/d1/rh",
            "c-1/d1/temp",
        ] {
            assert_eq!(Point::named(name, &grid), None, "{name}");
        }
    }

    #[test]
    fn a_scan_tells_means_hot_spots_of_heap_surface_and_wall_and_what_was_silent() {
        let grid = grid();
        let mut readings: Vec<Reading> =
            (1..=9).flat_map(|cable| (1..=3).map(move |layer| reading(cable, layer, 20.0))).collect();
        for (name, value) in [("c5/d2/temp", 32.0), ("c1/d3/temp", 25.0), ("c8/d1/temp", 24.0)] {
            readings.iter_mut().find(|reading| reading.name == name).unwrap().value = value;
        }
        readings.retain(|reading| reading.name != "c9/d3/temp");
        let scan = Scan::of(&grid, readings[0].at, &readings);
        assert_eq!((scan.measured.len(), scan.silent), (26, 1));
        let point = |row, column, layer| Point { layer, row, column };
        assert_eq!(scan.hottest(|_| true), Some((point(2, 2, 2), 32.0)));
        assert_eq!(scan.hottest(|at| at.layer == 1), Some((point(3, 2, 1), 24.0)));
        assert_eq!(scan.hottest(|at| at.is_at_wall(&grid)), Some((point(1, 1, 3), 25.0)));
        let layers = scan.layers();
        assert_eq!(layers.len(), 3);
        assert!((layers[1].mean - (8.0 * 20.0 + 32.0) / 9.0).abs() < 1e-9);
        assert!((layers[2].max - 25.0).abs() < 1e-9 && (layers[2].min - 20.0).abs() < 1e-9);
    }
}
