//! What the numbers and clocks of packs say of who sends them.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Double, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError};

/// A device that numbers its own packs, as far as they were looked at.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Numbered {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = BigInt)]
    pub packs: i64,
    /// How often a pack has a lower number than one that was measured before it.
    #[diesel(sql_type = BigInt)]
    pub back: i64,
}

/// The devices that sign themselves, by their packs that were committed since `since`: of at most `limit` packs of all devices
/// together, those that came first. A number counts as a number: the shorter one is the lower one.
pub async fn numbered(
    conn: &mut Connection,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Numbered>, StoreError> {
    Ok(diesel::sql_query(
        "with looked as (
            select device_id, cti, last_at from pack
            where committed_at >= $1 and mark is distinct from 'clock_suspect' limit $2),
        compared as (
            select device_id, (octet_length(cti), cti) < (lag(octet_length(cti)) over w, lag(cti) over w) as is_back
            from looked join device d on d.id = device_id and d.signing = 'device'
            window w as (partition by device_id order by last_at, octet_length(cti), cti))
        select device_id, count(*) as packs, count(*) filter (where is_back) as back from compared group by 1 order by 1",
    )
    .bind::<Timestamptz, _>(since)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// A device by the times in its packs.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Clock {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    /// Packs whose time cannot be right.
    #[diesel(sql_type = BigInt)]
    pub suspect: i64,
    /// Minutes that the newest of them is ahead of its arrival; negative behind it.
    #[diesel(sql_type = Double)]
    pub ahead_min: f64,
}

/// The devices with packs that were committed since `since`, of at most `limit` packs of all devices together.
pub async fn clocks(
    conn: &mut Connection,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Clock>, StoreError> {
    Ok(diesel::sql_query(
        "with looked as (
            select device_id, mark is not distinct from 'clock_suspect' as is_suspect, received_at,
                extract(epoch from last_at - received_at)::double precision / 60 as ahead
            from pack where committed_at >= $1 limit $2)
        select device_id, count(*) filter (where is_suspect) as suspect,
            coalesce((array_agg(ahead order by received_at desc) filter (where is_suspect))[1], 0) as ahead_min
        from looked group by 1 order by 1",
    )
    .bind::<Timestamptz, _>(since)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Missing {
    #[diesel(sql_type = BigInt)]
    missing: i64,
}

/// Numbers that are missing between those of a device's packs since `since`. A jump of more than a million is a new count.
pub async fn missing_numbers(
    conn: &mut Connection,
    device_id: i64,
    since: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let row: Missing = diesel::sql_query(
        "with numbers as (
            select ('x' || lpad(encode(cti, 'hex'), 16, '0'))::bit(64)::bigint as number from pack
            where device_id = $1 and committed_at >= $2 and octet_length(cti) < 8),
        steps as (select number - lag(number) over (order by number) as step from numbers)
        select coalesce(sum(step - 1) filter (where step between 2 and 1000000), 0)::bigint as missing from steps",
    )
    .bind::<BigInt, _>(device_id)
    .bind::<Timestamptz, _>(since)
    .get_result(conn)
    .await?;
    Ok(row.missing)
}
