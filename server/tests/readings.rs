//! Readings in days, and their sums by minute, hour and day: right however late and in whichever order they come.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a test says what it expects by failing, and its counts are small"
)]

mod database;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use server::service::rollups;
use store::{
    Store,
    reading::{self, Reading, Window},
    stay::Stay,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn temperature(device_id: i64, at: DateTime<Utc>, value: f64) -> Reading {
    let (name, unit) = ("p1/temp".to_owned(), "Cel".to_owned());
    Reading { device_id, at, name, unit, value, cti: vec![1] }
}

/// A month of two probes, a reading each seven minutes, with a day's gap.
fn month() -> Vec<Reading> {
    let start = at("2026-11-01T00:00:00Z");
    let minutes = (0..30 * 24 * 60).step_by(7).filter(|minute| !(14_400..15_840).contains(minute));
    minutes
        .flat_map(|minute| {
            let at = start + TimeDelta::minutes(minute);
            let wave = 20.0 + (minute % 1_440) as f64 / 200.0;
            [temperature(1, at, wave), temperature(2, at + TimeDelta::seconds(30), wave - 3.0)]
        })
        .collect()
}

/// Fisher-Yates with a little generator of its own: the same order each time.
fn shuffled(mut readings: Vec<Reading>) -> Vec<Reading> {
    let mut state: u64 = 7;
    for last in (1..readings.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let other = usize::try_from(state >> 33).unwrap() % (last + 1);
        readings.swap(last, other);
    }
    readings
}

/// A device that was never moved.
fn always(device_id: i64) -> Stay {
    Stay { device_id, place_id: 1, position: None, from: DateTime::UNIX_EPOCH, to: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_those_of_the_readings_whatever_their_order() {
    let Some(url) = database::fresh("rollups").await else { return };
    let store = Store::open(&url, 4).unwrap();
    let mut conn = store.connection().await.unwrap();
    for batch in shuffled(month()).chunks(97) {
        rollups::add(&mut conn, batch).await.unwrap();
    }
    let day = 86_400;
    for bucket_s in [60, 3_600, 7_200, day] {
        // Buckets begin at whole multiples of their length; days of the place begin eight hours before those of UTC.
        let window = Window { from: at("2026-11-01T00:00:00Z"), to: at("2026-12-01T00:00:00Z"), bucket_s };
        let found = reading::buckets(&mut conn, &[1, 2].map(always), "temp", window).await.unwrap();
        let of = |reading: &Reading| {
            let shift = if bucket_s == day { 8 * 3_600 } else { 0 };
            let stretch =
                (reading.at.timestamp() + shift).div_euclid(i64::from(bucket_s)) * i64::from(bucket_s);
            (stretch - shift).div_euclid(i64::from(bucket_s)) * i64::from(bucket_s)
        };
        let mut expected: BTreeMap<i64, (f64, f64, f64, i64)> = BTreeMap::new();
        for reading in month() {
            let (min, max, sum, count) =
                expected.entry(of(&reading)).or_insert((f64::INFINITY, f64::NEG_INFINITY, 0.0, 0));
            (*min, *max) = (min.min(reading.value), max.max(reading.value));
            *sum += reading.value;
            *count += 1;
        }
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(found.len(), expected.len(), "{bucket_s} s");
        for (bucket, (from, (min, max, sum, count))) in found.iter().zip(expected) {
            assert_eq!((bucket.from.timestamp(), bucket.count), (from, count), "{bucket_s} s");
            assert!((bucket.min - min).abs() < 1e-9 && (bucket.max - max).abs() < 1e-9);
            assert!((bucket.mean - sum / count as f64).abs() < 1e-9);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_says_how_many_of_its_minutes_were_measured() {
    let Some(url) = database::fresh("coverage").await else { return };
    let store = Store::open(&url, 4).unwrap();
    let mut conn = store.connection().await.unwrap();
    let ten = at("2026-11-02T02:00:00Z");
    let minute = |number: i64, value: f64| temperature(1, ten + TimeDelta::seconds(number * 20), value);
    rollups::add(&mut conn, &[minute(0, 1.0), minute(1, 2.0), minute(30, 3.0)]).await.unwrap();
    // Late: one into a minute that was measured, one into another.
    rollups::add(&mut conn, &[minute(2, 9.0), minute(60, 4.0)]).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows =
        client.query("select span, min, max, count, minutes from rollup where span > 1 order by span", &[]);
    for row in rows.await.unwrap() {
        let found: (f64, f64, i64, i32) = (row.get(1), row.get(2), row.get(3), row.get(4));
        assert_eq!(found, (1.0, 9.0, 5, 3), "span {}", row.get::<_, i16>(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_readings_is_made_ahead_takes_what_came_early_and_is_dropped_in_one_piece() {
    let Some(url) = database::fresh("days").await else { return };
    let role = format!("{url}?options=-c%20role%3Dapp");
    let store = Store::open(&role, 4).unwrap();
    let mut conn = store.connection().await.unwrap();
    let today = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let noon = at("2026-11-22T12:00:00Z");
    let (old, wrong) = (at("2024-01-01T00:00:00Z"), at("1970-01-01T00:00:07Z"));
    let early: Vec<Reading> = [noon, old, wrong].iter().map(|moment| temperature(1, *moment, 20.0)).collect();
    reading::insert(&mut conn, &early.iter().collect::<Vec<_>>()).await.unwrap();
    rollups::add(&mut conn, &early).await.unwrap();
    assert_eq!(rollups::turn_days(&mut conn, today, 2_000).await.unwrap(), (9, 0));
    assert_eq!(rollups::turn_days(&mut conn, today, 2_000).await.unwrap(), (0, 0), "each day once");
    reading::insert(&mut conn, &[&temperature(1, noon, 21.0)]).await.unwrap();

    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let count = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("select count(*) from reading_20261122").await, 2, "the early one was moved");
    assert_eq!(count("select count(*) from reading_default").await, 1, "2024; 1970 is too old to be kept");
    assert_eq!(count("select count(*) from rollup where span = 1440").await, 3, "days are kept for ever");

    let later = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
    assert_eq!(rollups::turn_days(&mut conn, later, 3).await.unwrap(), (9, 8));
    assert_eq!(count("select count(*) from reading").await, 0);
    assert_eq!(count("select count(*) from rollup where span = 1").await, 0);
    assert_eq!(count("select count(*) from rollup where span = 60").await, 3);
    // Nobody else may do this, and the application nothing else.
    assert!(
        client.batch_execute("set role auditor; select reading_drop_before('2030-01-01')").await.is_err()
    );
    assert!(client.batch_execute("reset role; set role app; drop table reading_20261201").await.is_err());
    assert!(client.batch_execute("reset role; set role app; delete from rollup").await.is_err());
}
