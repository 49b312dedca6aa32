//! A month of one place's probes as a chart, beside a hundred million readings of all: from the sums that are kept current, and
//! from the readings themselves.

use std::io::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Store,
    reading::{self, Window},
    rollup,
    stay::Stay,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Failed,
    house::{self, Directory},
    table::{Latencies, Row},
};

/// `SUYUAN_BENCH_READINGS` says another number, for a smaller disk.
const READINGS: u64 = 100_000_000;
const DAYS: u64 = 30;
/// Seconds between two readings of a probe.
const BEAT: u64 = 10;
/// Of the place that is looked at.
const PROBES: i64 = 40;
/// As charts have.
const POINTS: i64 = 60;
const LOOKS: u32 = 200;
const WRITERS: usize = 4;

pub async fn run() -> Result<Vec<Row>, Failed> {
    let readings = match std::env::var("SUYUAN_BENCH_READINGS") {
        Ok(number) => number.parse()?,
        Err(_) => READINGS,
    };
    let home = Directory::make("chart")?;
    let cluster = home.path().join("postgres");
    let cluster = tokio::task::block_in_place(|| house::tuned_cluster(&cluster))?;
    let url = cluster.url("migrator", "suyuan");
    store::migrate(&url).await?;
    let store = Store::open(&cluster.url("app", "suyuan"), 4)?;
    let from: DateTime<Utc> = "2026-10-01T00:00:00Z".parse()?;
    let probes = readings / (DAYS * 86_400 / BEAT);
    fill(&store, &url, from, probes).await?;
    let Disk { size, bare, stored } = tokio::task::block_in_place(|| settled(&url))?;

    let devices: Vec<i64> = (1..=PROBES).collect();
    let stay = |&device_id: &i64| Stay { device_id, place_id: 1, position: None, from, to: None };
    let stays: Vec<Stay> = devices.iter().map(stay).collect();
    let to = from + TimeDelta::days(i64::try_from(DAYS)?);
    let bucket_s = i32::try_from((to - from).num_seconds() / POINTS)?;
    let mut conn = store.connection().await?;
    let mut looks = Latencies::default();
    for _ in 0..LOOKS {
        let look = Instant::now();
        let found = reading::buckets(&mut conn, &stays, "temp", Window { from, to, bucket_s }).await?;
        looks.push(look.elapsed());
        if found.len() != usize::try_from(POINTS)? {
            return Err(format!("a chart of {} points", found.len()).into());
        }
    }
    drop(conn);
    let themselves = tokio::task::block_in_place(|| from_readings(&url, &devices, (from, to), bucket_s))?;
    drop(store);
    tokio::task::spawn_blocking(move || drop((cluster, home))).await?;
    Ok(vec![
        Row::new(
            format!(
                "a month of {PROBES} probes as a chart of {POINTS} points, p50, {stored} readings stored"
            ),
            (looks.percentile(50), "ms"),
            (50.0, "wanted at most"),
        ),
        Row::new(
            format!("the same, p99 of {LOOKS}"),
            (looks.percentile(99), "ms"),
            (themselves, "once from the readings themselves"),
        ),
        Row::new(
            "readings, their sums and all indices on disk, for each reading",
            (size / stored, "bytes"),
            (bare, "its row alone"),
        ),
    ])
}

/// Each writer takes a day, and the next.
async fn fill(store: &Store, url: &str, from: DateTime<Utc>, probes: u64) -> Result<(), Failed> {
    let mut conn = store.connection().await?;
    let days: Vec<DateTime<Utc>> =
        (0..DAYS).filter_map(|day| Some(from + TimeDelta::days(i64::try_from(day).ok()?))).collect();
    for day in &days {
        rollup::create_day(&mut conn, day.date_naive()).await?;
    }
    drop(conn);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (url, days) = (url.to_owned(), days.clone());
        writers.spawn_blocking(move || -> Result<(), String> {
            let told = |error: postgres::Error| error.to_string();
            let mut client = postgres::Client::connect(&url, postgres::NoTls).map_err(told)?;
            for day in days.iter().skip(writer).step_by(WRITERS) {
                client.batch_execute(&a_day(*day, probes)).map_err(told)?;
                writeln!(std::io::stderr(), "{} is written", day.date_naive())
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// Readings in the order of their time, as they come; then their sums, as the server keeps them.
fn a_day(day: DateTime<Utc>, probes: u64) -> String {
    let (day, beats) = (day.to_rfc3339(), 86_400 / BEAT);
    let sums = |minutes: u32| {
        format!(
            "insert into rollup (device_id, name, unit, span, start, min, max, sum, count, minutes)
            select device_id, name, unit, {minutes},
                date_bin('{minutes} minutes', at, '{day}'), min(value), max(value), sum(value), count(*), {minutes}
            from reading where at >= '{day}' and at < timestamptz '{day}' + interval '1 day'
            group by device_id, name, unit, date_bin('{minutes} minutes', at, '{day}');"
        )
    };
    format!(
        "set work_mem = '256MB';
        insert into reading (device_id, at, name, unit, value, cti)
        select probe, timestamptz '{day}' + beat * interval '{BEAT} seconds', 'temp', 'Cel',
            20 + 5 * sin(beat / 500.0) + probe % 7, '\\x01'
        from generate_series(0, {beats} - 1) beat, generate_series(1, {probes}) probe;
        {}{}{}",
        sums(1),
        sums(60),
        sums(1_440)
    )
}

/// What lies on disk, in bytes, and how many readings that is.
struct Disk {
    size: f64,
    /// The rows of readings alone.
    bare: f64,
    stored: f64,
}

/// Vacuumed and analysed as autovacuum does it in time.
fn settled(url: &str) -> Result<Disk, Failed> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    for settle in ["vacuum (analyze) rollup", "analyze reading", "checkpoint"] {
        client.batch_execute(settle)?;
    }
    let row = client.query_one(
        "select pg_database_size(current_database())::float8,
            (select sum(pg_relation_size(inhrelid))::float8 from pg_inherits where inhparent = 'reading'::regclass),
            (select sum(count)::float8 from rollup where span = 1440)",
        &[],
    )?;
    let stored: f64 = row.get(2);
    let bare: f64 = row.get(1);
    Ok(Disk { size: row.get(0), bare: bare / stored, stored })
}

/// What the same chart takes without sums, in ms.
fn from_readings(
    url: &str,
    devices: &[i64],
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    bucket_s: i32,
) -> Result<f64, Failed> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    let query = format!(
        "select floor(extract(epoch from at) / {bucket_s}), min(value), avg(value), max(value), count(*) from reading
        where device_id = any($1) and name = 'temp' and at >= '{}' and at < '{}' group by 1 order by 1",
        from.to_rfc3339(),
        to.to_rfc3339()
    );
    let began = Instant::now();
    client.query(&query, &[&devices])?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
