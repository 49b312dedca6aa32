//! Readings by minute, hour and day, and the days that readings stand in.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Date, Double, Integer, SmallInt, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError};

/// Minutes in a stretch that readings are summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    Minute,
    Hour,
    Day,
}

impl Span {
    pub const fn minutes(self) -> i16 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }
}

/// What a stretch is of. Rows are written in this order, so that two servers wait for one another instead of deadlocking.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    pub device_id: i64,
    pub name: String,
    pub unit: String,
    pub start: DateTime<Utc>,
}

/// What is added to a stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    pub min: f64,
    pub max: f64,
    pub sum: f64,
    pub count: i64,
    /// Minutes that had no reading before.
    pub minutes: i32,
}

#[derive(QueryableByName)]
struct Last {
    #[diesel(sql_type = BigInt)]
    device_id: i64,
    #[diesel(sql_type = Timestamptz)]
    start: DateTime<Utc>,
}

/// The last minute after `from` and up to `to` in which each of the devices has a reading; none: the device is left out.
pub async fn last_minutes(
    conn: &mut Connection,
    devices: &[i64],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<HashMap<i64, DateTime<Utc>>, StoreError> {
    let rows: Vec<Last> = diesel::sql_query(
        "select device_id, max(start) as start from rollup
        where device_id = any($1) and span = 1 and start > $2 and start <= $3 group by device_id",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.device_id, row.start)).collect())
}

#[derive(QueryableByName)]
struct Added {
    #[diesel(sql_type = BigInt)]
    device_id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    unit: String,
    #[diesel(sql_type = Timestamptz)]
    start: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    is_new: bool,
}

/// Adds to the stretches, each once and in their order; returns those that had nothing before.
pub async fn add(
    conn: &mut Connection,
    span: Span,
    sums: &[(Stretch, Sums)],
) -> Result<Vec<Stretch>, StoreError> {
    fn column<'a, T>(sums: &'a [(Stretch, Sums)], of: impl Fn(&'a (Stretch, Sums)) -> T) -> Vec<T> {
        sums.iter().map(of).collect()
    }
    if sums.is_empty() {
        return Ok(Vec::new());
    }
    let added: Vec<Added> = diesel::sql_query(
        "insert into rollup as r (device_id, name, unit, span, start, min, max, sum, count, minutes)
        select device_id, name, unit, $1, start, min, max, sum, count, minutes
        from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10)
            as added (device_id, name, unit, start, min, max, sum, count, minutes)
        on conflict (device_id, span, start, name, unit) do update set
            min = least(r.min, excluded.min), max = greatest(r.max, excluded.max), sum = r.sum + excluded.sum,
            count = r.count + excluded.count, minutes = r.minutes + excluded.minutes
        returning device_id, name, unit, start, xmax = 0 as is_new",
    )
    .bind::<SmallInt, _>(span.minutes())
    .bind::<Array<BigInt>, _>(column(sums, |(of, _)| of.device_id))
    .bind::<Array<Text>, _>(column(sums, |(of, _)| of.name.as_str()))
    .bind::<Array<Text>, _>(column(sums, |(of, _)| of.unit.as_str()))
    .bind::<Array<Timestamptz>, _>(column(sums, |(of, _)| of.start))
    .bind::<Array<Double>, _>(column(sums, |(_, sums)| sums.min))
    .bind::<Array<Double>, _>(column(sums, |(_, sums)| sums.max))
    .bind::<Array<Double>, _>(column(sums, |(_, sums)| sums.sum))
    .bind::<Array<BigInt>, _>(column(sums, |(_, sums)| sums.count))
    .bind::<Array<Integer>, _>(column(sums, |(_, sums)| sums.minutes))
    .load(conn)
    .await?;
    let new = added.into_iter().filter(|row| row.is_new);
    Ok(new
        .map(|row| Stretch { device_id: row.device_id, name: row.name, unit: row.unit, start: row.start })
        .collect())
}

/// Makes room for a day's readings; `false` where there is room already.
pub async fn create_day(conn: &mut Connection, day: NaiveDate) -> Result<bool, StoreError> {
    Ok(diesel::select(reading_day_create(day)).get_result(conn).await?)
}

/// Drops the readings of the days before `day`, and their minutes; hours, days and packs stay. How many days were dropped.
pub async fn drop_before(conn: &mut Connection, day: NaiveDate) -> Result<i32, StoreError> {
    Ok(diesel::select(reading_drop_before(day)).get_result(conn).await?)
}

#[diesel::declare_sql_function]
extern "SQL" {
    fn reading_day_create(day: Date) -> Bool;
    fn reading_drop_before(day: Date) -> Integer;
}

/// The hours since `from` in which a device was heard, ascending.
pub async fn hours_heard(
    conn: &mut Connection,
    device_id: i64,
    from: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, StoreError> {
    use crate::schema::rollup;
    let hours = rollup::table
        .filter(rollup::device_id.eq(device_id).and(rollup::span.eq(Span::Hour.minutes())))
        .filter(rollup::start.ge(from))
        .select(rollup::start)
        .distinct()
        .order(rollup::start);
    Ok(hours.load(conn).await?)
}
