//! What the sensors of a place measured while goods lay there, in buckets small enough to draw.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Connection, StoreError,
    device::{self, Device},
    reading::{self, Window},
    stay::{self, Stay},
};
use trace::profile::Profile;

use crate::service::story::Told;

/// Points of one chart: more cannot be told apart on a phone.
const POINTS: i64 = 60;
/// Places whose sensors are looked at, newest step first.
const PLACES_MAX: usize = 6;
const CHARTS_MAX: usize = 3;
const BUCKET_SECONDS_MIN: i64 = 60;

/// One metric at one place over the time that goods lay there.
#[derive(Debug)]
pub struct Chart {
    pub profile: String,
    pub metric: String,
    pub unit: String,
    pub place: i64,
    pub points: Vec<Point>,
    pub readings: i64,
    /// The profile's limits, for the line in the chart.
    pub over: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: DateTime<Utc>,
    pub min: f64,
    pub mean: f64,
    pub max: f64,
}

/// The stay at each place: from its first step to a little after its last.
fn stays(steps: &[(i64, DateTime<Utc>)]) -> Vec<(i64, DateTime<Utc>, DateTime<Utc>)> {
    let mut stays: BTreeMap<i64, (DateTime<Utc>, DateTime<Utc>)> = BTreeMap::new();
    for (place, at) in steps {
        let stay = stays.entry(*place).or_insert((*at, *at));
        *stay = (stay.0.min(*at), stay.1.max(*at));
    }
    let mut stays: Vec<_> = stays.into_iter().map(|(place, (from, to))| (place, from, to)).collect();
    stays.sort_by_key(|(_, _, to)| std::cmp::Reverse(*to));
    stays.truncate(PLACES_MAX);
    stays
}

/// The charts of the steps' places: metrics that the profile watches, the newest stay first.
pub async fn charts(
    conn: &mut Connection,
    profile: &Profile,
    steps: &[Told],
) -> Result<Vec<Chart>, StoreError> {
    let placed: Vec<(i64, DateTime<Utc>)> = steps
        .iter()
        .filter_map(|step| Some((step.place_id?, step.time.unwrap_or(step.accepted_at))))
        .collect();
    let stays = stays(&placed);
    let stayed_at: Vec<i64> = stays.iter().map(|(place, ..)| *place).collect();
    let margin = TimeDelta::hours(1);
    let first = stays.iter().map(|(_, from, _)| *from).min().unwrap_or_default() - margin;
    let last = stays.iter().map(|(.., to)| *to).max().unwrap_or_default() + margin;
    let devices_stays = stay::at_places(conn, &stayed_at, (first, last)).await?;
    let ids: Vec<i64> = devices_stays.iter().map(|stay| stay.device_id).collect();
    let devices: HashMap<i64, Device> =
        device::by_ids(conn, &ids).await?.into_iter().map(|device| (device.id, device)).collect();
    let mut charts = Vec::new();
    for (place, from, to) in stays {
        for threshold in profile.thresholds() {
            let is_watched = |stay: &&Stay| {
                let kind = devices.get(&stay.device_id).map(|device| &device.kind);
                stay.place_id == place
                    && (threshold.devices.is_empty()
                        || kind.is_some_and(|kind| threshold.devices.contains(kind)))
            };
            let there: Vec<Stay> = devices_stays.iter().filter(is_watched).cloned().collect();
            let drawn = |chart: &Chart| chart.place == place && chart.metric == threshold.metric;
            if there.is_empty() || charts.iter().any(drawn) {
                continue;
            }
            let window = Window { from: from - margin, to: to + margin, bucket_s: bucket(from, to) };
            let buckets = reading::buckets(conn, &there, &threshold.metric, window).await?;
            let Some(unit) = buckets.first().map(|bucket| bucket.unit.clone()) else { continue };
            charts.push(Chart {
                profile: profile.id().to_owned(),
                metric: threshold.metric.clone(),
                unit,
                place,
                readings: buckets.iter().map(|bucket| bucket.count).sum(),
                points: buckets
                    .into_iter()
                    .map(|bucket| Point {
                        at: bucket.from,
                        min: bucket.min,
                        mean: bucket.mean,
                        max: bucket.max,
                    })
                    .collect(),
                over: threshold.over,
            });
            if charts.len() == CHARTS_MAX {
                return Ok(charts);
            }
        }
    }
    Ok(charts)
}

/// Seconds in a bucket, so that a stay has at most [`POINTS`] of them.
fn bucket(from: DateTime<Utc>, to: DateTime<Utc>) -> i32 {
    let seconds = (to - from).num_seconds() + 7_200;
    i32::try_from((seconds / POINTS).max(BUCKET_SECONDS_MIN)).unwrap_or(i32::MAX)
}
