//! Grain that heats is warm before it is hot: how fast each point, or the mean of each layer, rises.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use store::{Connection, StoreError, grid::Grid, trend::Trend};
use trace::profile::{Profile, Rise, watch::RiseOf};

use super::{
    rule::{Found, Rule, Spot, settle},
    subject::Subject,
    trends::{Metric, Seen},
};
use crate::service::grid::Point;

pub(super) async fn look(conn: &mut Connection, profile: &Profile, seen: &Seen) -> Result<(), StoreError> {
    for rise in profile.rises() {
        let of = Metric { name: &rise.metric, unit: &rise.unit, devices: &rise.devices };
        let trends = seen.trends(conn, profile, &of, TimeDelta::hours(rise.hours.into())).await?;
        let unit = a_day(&rise.unit);
        let rule = rule(profile, rise, &unit);
        let spot = |device| Spot { party: seen.place.party_id, place: seen.place.id, device };
        match (rise.of, &seen.grid) {
            (RiseOf::Point, grid) => {
                for of_device in trends.chunk_by(|one, other| one.device_id == other.device_id) {
                    let device_id = of_device.first().map(|trend| trend.device_id);
                    if let Some(found) = steepest_point(of_device, grid.as_ref()) {
                        settle(conn, &rule, spot(device_id), &found, &seen.open, seen.now).await?;
                    }
                }
            }
            (RiseOf::Layer, Some(grid)) => {
                if let Some(found) = steepest_layer(&trends, grid) {
                    settle(conn, &rule, spot(None), &found, &seen.open, seen.now).await?;
                }
            }
            // Nobody has said where its points hang.
            (RiseOf::Layer, None) => {}
        }
    }
    Ok(())
}

fn rule<'a>(profile: &'a Profile, rise: &'a Rise, unit: &'a str) -> Rule<'a> {
    Rule {
        profile: profile.id(),
        id: &rise.id,
        metric: &rise.metric,
        unit,
        over: rise.over,
        clear: rise.clear,
        minutes: rise.minutes,
        source: &rise.source,
    }
}

/// `CEL-DAY`: the unit of a rate. Rec 20 has a code for none of these.
fn a_day(unit: &str) -> String {
    format!("{unit}-DAY")
}

/// By how much a point rose, and over how many days; negative where it fell. `None` where nothing stands to compare with.
fn risen(trend: &Trend) -> Option<(f64, f64)> {
    let (before, mean_before) = (trend.before?, trend.mean_before?);
    let seconds = i32::try_from((trend.start - before).num_seconds()).ok()?;
    (seconds > 0).then(|| (trend.mean - mean_before, f64::from(seconds) / 86_400.0))
}

fn steepest_point(trends: &[Trend], grid: Option<&Grid>) -> Option<Found> {
    let rate = |trend: &Trend| {
        let (rise, days) = risen(trend)?;
        let point = grid.and_then(|grid| Point::named(&trend.name, grid));
        let subject = point.map_or_else(|| Subject::Name(trend.name.clone()), Subject::Point);
        Some(Found { value: rise / days, subject, at: trend.start })
    };
    trends.iter().filter_map(rate).max_by(|one, other| one.value.total_cmp(&other.value))
}

/// What is added up of one layer.
#[derive(Debug, Clone, Copy, Default)]
struct Layer {
    rise: f64,
    days: f64,
    points: u32,
    at: DateTime<Utc>,
}

/// Over the points that were measured both times, so that a dead one moves no mean. A layer of which not half has been measured
/// has no mean.
fn steepest_layer(trends: &[Trend], grid: &Grid) -> Option<Found> {
    let mut layers: BTreeMap<i16, Layer> = BTreeMap::new();
    for trend in trends {
        let (Some(point), Some((rise, days))) = (Point::named(&trend.name, grid), risen(trend)) else {
            continue;
        };
        let layer = layers.entry(point.layer).or_default();
        layer.rise += rise;
        layer.days += days;
        layer.points += 1;
        layer.at = layer.at.max(trend.start);
    }
    let all = i32::from(grid.row_count) * i32::from(grid.column_count);
    let measured = layers.into_iter().filter(|(_, layer)| f64::from(layer.points) * 2.0 >= f64::from(all));
    let found = measured.map(|(number, layer)| Found {
        value: layer.rise / layer.days,
        subject: Subject::Layer(number),
        at: layer.at,
    });
    found.max_by(|one, other| one.value.total_cmp(&other.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            place_id: 1,
            valid_from: DateTime::UNIX_EPOCH,
            row_count: 2,
            column_count: 2,
            layer_count: 2,
            row_cm: 450,
            column_cm: 450,
            layer_cm: 150,
            declared_by: None,
        }
    }

    fn trend(name: &str, mean: f64, before: Option<f64>) -> Trend {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Trend {
            device_id: 1,
            name: name.to_owned(),
            unit: "Cel".to_owned(),
            start,
            mean,
            before: before.map(|_| start - TimeDelta::days(2)),
            mean_before: before,
        }
    }

    #[test]
    fn the_steepest_point_is_named_by_row_column_and_layer_where_the_grid_is_declared() {
        let trends = [
            trend("c1/d1/temp", 30.0, Some(29.0)),
            trend("c4/d2/temp", 24.0, Some(20.0)),
            trend("c2/d1/temp", 50.0, None),
        ];
        let found = steepest_point(&trends, Some(&grid())).unwrap();
        assert!((found.value - 2.0).abs() < 1e-9);
        assert_eq!(found.subject, Subject::Point(Point { row: 2, column: 2, layer: 2 }));
        assert_eq!(steepest_point(&trends, None).unwrap().subject, Subject::Name("c4/d2/temp".to_owned()));
        assert_eq!(steepest_point(&trends[2..], Some(&grid())), None);
    }

    #[test]
    fn the_mean_of_a_layer_is_over_points_measured_twice_and_needs_half_of_them() {
        let trends = [
            trend("c1/d1/temp", 22.0, Some(20.0)),
            trend("c2/d1/temp", 20.0, Some(20.0)),
            // Not measured before: it would pretend a rise.
            trend("c3/d1/temp", 40.0, None),
            // One of four points, and one that hangs in no cable.
            trend("c1/d2/temp", 40.0, Some(20.0)),
            trend("c5/d2/temp", 40.0, Some(20.0)),
        ];
        let found = steepest_layer(&trends, &grid()).unwrap();
        assert_eq!(found.subject, Subject::Layer(1));
        assert!((found.value - 0.5).abs() < 1e-9, "{}", found.value);
        assert_eq!(steepest_layer(&trends[2..], &grid()), None);
    }
}
