//! Probes that should say the same and do not: one of them is wrong, or the grain is.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use store::{Connection, StoreError, grid::Grid, trend::Trend};
use trace::profile::{Disagreement, Profile, watch::Peers};

use super::{
    rule::{Found, Rule, Spot, settle},
    subject::Subject,
    trends::{Metric, Seen},
};
use crate::service::grid::Point;

/// A point with fewer neighbours that were measured is compared with nobody.
const NEIGHBOURS_MIN: usize = 2;

pub(super) async fn look(conn: &mut Connection, profile: &Profile, seen: &Seen) -> Result<(), StoreError> {
    for disagreement in profile.disagreements() {
        let Disagreement { metric, unit, devices, .. } = disagreement;
        let trends =
            seen.trends(conn, profile, &Metric { name: metric, unit, devices }, TimeDelta::hours(1)).await?;
        let same_hour = same_hour(&trends);
        let found = match (disagreement.with, &seen.grid) {
            (Peers::Neighbours, Some(grid)) => farthest_point(&same_hour, grid),
            (Peers::Neighbours, None) => None,
            (Peers::Devices, _) => farthest_devices(&same_hour, |id| {
                let device = seen.devices.iter().find(|device| device.id == id);
                device.map(|device| device.name.clone()).unwrap_or_default()
            }),
        };
        let Some(found) = found else { continue };
        let spot = Spot { party: seen.place.party_id, place: seen.place.id, device: None };
        settle(conn, &rule(profile, disagreement), spot, &found, &seen.open, seen.now).await?;
    }
    Ok(())
}

fn rule<'a>(profile: &'a Profile, disagreement: &'a Disagreement) -> Rule<'a> {
    Rule {
        profile: profile.id(),
        id: &disagreement.id,
        metric: &disagreement.metric,
        unit: &disagreement.unit,
        over: disagreement.over,
        clear: disagreement.clear,
        minutes: disagreement.minutes,
        source: &disagreement.source,
    }
}

/// Only what was measured in the same hour, the newest, can disagree.
fn same_hour(trends: &[Trend]) -> Vec<&Trend> {
    let newest = trends.iter().map(|trend| trend.start).max();
    trends.iter().filter(|trend| Some(trend.start) == newest).collect()
}

/// The point that differs most from the median of those beside, above and below it.
fn farthest_point(trends: &[&Trend], grid: &Grid) -> Option<Found> {
    let measured: BTreeMap<Point, &Trend> =
        trends.iter().filter_map(|trend| Some((Point::named(&trend.name, grid)?, *trend))).collect();
    let apart = |(point, trend): (&Point, &&Trend)| {
        let mut around: Vec<f64> =
            point.neighbours().filter_map(|beside| measured.get(&beside)).map(|beside| beside.mean).collect();
        let median = (around.len() >= NEIGHBOURS_MIN).then(|| median(&mut around))??;
        Some(Found { value: (trend.mean - median).abs(), subject: Subject::Point(*point), at: trend.start })
    };
    measured.iter().filter_map(apart).max_by(|one, other| one.value.total_cmp(&other.value))
}

/// The two devices whose means are farthest apart.
fn farthest_devices(trends: &[&Trend], name: impl Fn(i64) -> String) -> Option<Found> {
    let at = trends.first()?.start;
    let of_device = trends.chunk_by(|one, other| one.device_id == other.device_id);
    let means: Vec<(i64, f64)> = of_device
        .filter_map(|points| {
            let (sum, count) =
                points.iter().fold((0.0, 0.0), |(sum, count), trend| (sum + trend.mean, count + 1.0));
            Some((points.first()?.device_id, sum / count))
        })
        .collect();
    let by_mean = |one: &&(i64, f64), other: &&(i64, f64)| one.1.total_cmp(&other.1);
    let (coldest, warmest) = (means.iter().min_by(by_mean)?, means.iter().max_by(by_mean)?);
    (means.len() > 1).then(|| Found {
        value: warmest.1 - coldest.1,
        subject: Subject::Devices(name(warmest.0), name(coldest.0)),
        at,
    })
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get(values.len().checked_sub(1)? / 2)?);
    Some(f64::midpoint(*upper, *lower))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn trend(device_id: i64, name: &str, mean: f64) -> Trend {
        Trend {
            device_id,
            name: name.to_owned(),
            unit: "Cel".to_owned(),
            start: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            mean,
            before: None,
            mean_before: None,
        }
    }

    #[test]
    fn the_point_that_stands_out_is_found_and_not_those_around_it() {
        let grid = Grid {
            place_id: 1,
            valid_from: DateTime::UNIX_EPOCH,
            row_count: 3,
            column_count: 3,
            layer_count: 2,
            row_cm: 450,
            column_cm: 450,
            layer_cm: 150,
            declared_by: None,
        };
        let mut trends: Vec<Trend> = (1..=9)
            .flat_map(|cable| [1, 2].map(|layer| trend(1, &format!("c{cable}/d{layer}/temp"), 20.0)))
            .collect();
        trends.iter_mut().find(|trend| trend.name == "c5/d1/temp").unwrap().mean = 9.0;
        let all: Vec<&Trend> = trends.iter().collect();
        let found = farthest_point(&all, &grid).unwrap();
        assert_eq!(found.subject, Subject::Point(Point { row: 2, column: 2, layer: 1 }));
        assert!((found.value - 11.0).abs() < 1e-9);
        // A corner whose neighbours but one are dead is compared with nobody.
        let corner: Vec<&Trend> = trends
            .iter()
            .filter(|trend| ["c1/d1/temp", "c1/d2/temp"].contains(&trend.name.as_str()))
            .collect();
        assert_eq!(farthest_point(&corner, &grid), None);
    }

    #[test]
    fn two_devices_of_a_place_are_told_apart_and_one_alone_agrees_with_itself() {
        let trends = [trend(1, "temp", 20.0), trend(2, "temp", 26.0), trend(3, "temp", 21.0)];
        let all: Vec<&Trend> = trends.iter().collect();
        let found = farthest_devices(&all, |id| format!("air{id}")).unwrap();
        assert_eq!(found.subject, Subject::Devices("air2".to_owned(), "air1".to_owned()));
        assert!((found.value - 6.0).abs() < 1e-9);
        assert_eq!(farthest_devices(&all[..1], |id| id.to_string()), None);
    }
}
