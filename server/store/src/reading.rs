//! Readings: rows derived from packs, for charts, thresholds and forms. They can be dropped and derived again.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Double, Integer, Nullable, SmallInt, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, rollup::Span, stay::Stay};

/// `name` is the SenML name after the device's base name.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Reading {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub unit: String,
    #[diesel(sql_type = Double)]
    pub value: f64,
    #[diesel(sql_type = Binary)]
    pub cti: Vec<u8>,
}

/// The readings of one stretch of time, as a chart draws them.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Bucket {
    #[diesel(sql_type = Timestamptz)]
    pub from: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub unit: String,
    #[diesel(sql_type = Double)]
    pub min: f64,
    #[diesel(sql_type = Double)]
    pub mean: f64,
    #[diesel(sql_type = Double)]
    pub max: f64,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// A stretch of time cut into equal buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// Length of a bucket; at least a minute.
    pub bucket_s: i32,
}

impl Window {
    fn span(self) -> Span {
        let fits = |span: &Span| i32::from(span.minutes()) * 60 <= self.bucket_s;
        [Span::Day, Span::Hour].into_iter().find(fits).unwrap_or(Span::Minute)
    }
}

pub async fn insert(conn: &mut Connection, readings: &[&Reading]) -> Result<(), StoreError> {
    if readings.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "insert into reading (device_id, at, name, unit, value, cti) select * from unnest($1, $2, $3, $4, $5, $6)",
    )
    .bind::<Array<BigInt>, _>(readings.iter().map(|reading| reading.device_id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(readings.iter().map(|reading| reading.at).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(readings.iter().map(|reading| reading.name.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(readings.iter().map(|reading| reading.unit.as_str()).collect::<Vec<_>>())
    .bind::<Array<Double>, _>(readings.iter().map(|reading| reading.value).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(readings.iter().map(|reading| reading.cti.as_slice()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest reading of each name of these devices since `since`; what a weighbridge form is pre-filled with.
pub async fn latest(
    conn: &mut Connection,
    devices: &[i64],
    since: DateTime<Utc>,
) -> Result<Vec<Reading>, StoreError> {
    Ok(diesel::sql_query(
        "select distinct on (device_id, name) device_id, at, name, unit, value, cti from reading
        where device_id = any($1) and at >= $2 order by device_id, name, at desc",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Timestamptz, _>(since)
    .load(conn)
    .await?)
}

/// The readings of these devices from `from` to `to`, both included, newest first.
pub async fn within(
    conn: &mut Connection,
    devices: &[i64],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Reading>, StoreError> {
    Ok(diesel::sql_query(
        "select device_id, at, name, unit, value, cti from reading
        where device_id = any($1) and at >= $2 and at <= $3 order by at desc, device_id, name limit $4",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Minimum, mean and maximum per bucket of what was read during the stays under names that end in `metric`, from the longest rolled-up stretches that
/// fit into one; empty stretches have no bucket, because a gap is data. A stretch in which a device was moved belongs to neither place.
pub async fn buckets(
    conn: &mut Connection,
    stays: &[Stay],
    metric: &str,
    window: Window,
) -> Result<Vec<Bucket>, StoreError> {
    Ok(diesel::sql_query(
        "select to_timestamp(floor(extract(epoch from start) / $5) * $5) as \"from\", unit,
            min(min) as min, sum(sum) / sum(count) as mean, max(max) as max, sum(count)::bigint as count
        from rollup join unnest($1, $7, $8) as stay (of, valid_from, valid_to) on device_id = of
            and start >= valid_from and (valid_to is null or start + $6 * interval '1 minute' <= valid_to)
        where span = $6 and start > $2 - $6 * interval '1 minute' and start < $3
            and (name = $4 or right(name, length($4) + 1) in ('/' || $4, '.' || $4, ':' || $4))
        group by 1, 2 order by 1, 2",
    )
    .bind::<Array<BigInt>, _>(stays.iter().map(|stay| stay.device_id).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(window.from)
    .bind::<Timestamptz, _>(window.to)
    .bind::<Text, _>(metric)
    .bind::<Integer, _>(window.bucket_s)
    .bind::<SmallInt, _>(window.span().minutes())
    .bind::<Array<Timestamptz>, _>(stays.iter().map(|stay| stay.from).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(stays.iter().map(|stay| stay.to).collect::<Vec<_>>())
    .load(conn)
    .await?)
}
