//! What the summary of a place's conditions is made from: readings by window, the packs that carried them, the lots there.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Double, Integer, Nullable, SmallInt, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, stay::STAYS};

/// A place and a window of time in which something was measured there.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Measured {
    #[diesel(sql_type = BigInt)]
    pub place_id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub start: DateTime<Utc>,
    /// When the newest of its packs that was looked for came.
    #[diesel(sql_type = Timestamptz)]
    pub newest: DateTime<Utc>,
}

/// Windows of `window_s` seconds that ended before `before`, with packs that were committed since `since`; oldest first, those
/// after `after`.
pub async fn measured(
    conn: &mut Connection,
    window_s: i32,
    (since, before): (DateTime<Utc>, DateTime<Utc>),
    after: Option<&Measured>,
    limit: i64,
) -> Result<Vec<Measured>, StoreError> {
    let (start, place_id) = after.map_or((DateTime::UNIX_EPOCH, 0), |after| (after.start, after.place_id));
    Ok(diesel::sql_query(format!(
        "select d.place_id, to_timestamp(w * $1) as start, max(p.committed_at) as newest
        from pack p join {STAYS} d on d.device_id = p.device_id and p.last_at >= d.valid_from and p.first_at < d.valid_to,
            generate_series(floor(extract(epoch from greatest(p.first_at, d.valid_from)) / $1)::bigint,
                floor(extract(epoch from least(p.last_at, d.valid_to)) / $1)::bigint) w
        where p.committed_at >= $2 and p.first_at > '2000-01-01' and p.last_at < now() + interval '1 day'
            and p.last_at - p.first_at < interval '1 day' and to_timestamp((w + 1) * $1) <= $3
            and (to_timestamp(w * $1), d.place_id) > ($4, $5)
        group by 1, 2 order by 2, 1 limit $6"
    ))
    .bind::<Integer, _>(window_s)
    .bind::<Timestamptz, _>(since)
    .bind::<Timestamptz, _>(before)
    .bind::<Timestamptz, _>(start)
    .bind::<BigInt, _>(place_id)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// One device's readings of one metric in a window.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Summary {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    /// Last part of the SenML name.
    #[diesel(sql_type = Text)]
    pub metric: String,
    #[diesel(sql_type = Double)]
    pub min: f64,
    #[diesel(sql_type = Double)]
    pub max: f64,
    #[diesel(sql_type = Double)]
    pub mean: f64,
    #[diesel(sql_type = Double)]
    pub s_dev: f64,
    #[diesel(sql_type = Double)]
    pub p95: f64,
    /// Of the window's 24 parts, how many have a reading.
    #[diesel(sql_type = BigInt)]
    pub parts: i64,
}

pub const PARTS: i64 = 24;

/// Where a pack `p` is a leaf, or on its way to become one: joined, because neither queue has an index for it and either may be long.
const WHEREABOUTS: &str = "left join entry leaf on leaf.hash = p.entry
    left join (select distinct entry from pending) waiting on waiting.entry = p.entry
    left join strict_check due on (due.device_id, due.cti) = (p.device_id, p.cti)";
/// Of a pack `p` with its [`WHEREABOUTS`].
const NOT_REFUSED: &str = "(leaf.hash is not null or waiting.entry is not null or due.id is not null)";

/// Of readings whose packs the strict check did not refuse.
pub async fn summaries(
    conn: &mut Connection,
    place_id: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<Summary>, StoreError> {
    Ok(diesel::sql_query(format!(
        "select device_id, metric, min(value) as min, max(value) as max, avg(value) as mean,
            stddev_pop(value) as s_dev, percentile_cont(0.95) within group (order by value) as p95,
            count(distinct floor(extract(epoch from at - $2) * $4 / extract(epoch from $3 - $2))) as parts
        from (select r.device_id, r.at, r.value, regexp_replace(r.name, '^.*[/.:]', '') as metric
            from reading r join {STAYS} d on d.device_id = r.device_id and r.at >= d.valid_from and r.at < d.valid_to
                join pack p on (p.device_id, p.cti) = (r.device_id, r.cti) {WHEREABOUTS}
            where d.place_id = $1 and r.at >= $2 and r.at < $3 and {NOT_REFUSED}) readings
        group by 1, 2 order by 1, 2"
    ))
    .bind::<BigInt, _>(place_id)
    .bind::<Timestamptz, _>(start)
    .bind::<Timestamptz, _>(end)
    .bind::<BigInt, _>(PARTS)
    .load(conn)
    .await?)
}

/// A pack with readings in the window, and where it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Carried {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = Binary)]
    pub entry: Vec<u8>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub log_id: Option<i16>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub index: Option<i64>,
}

/// Ascending by log and index; those that are not logged yet come last, and those that the strict check refused are not there.
pub async fn packs(
    conn: &mut Connection,
    place_id: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<Carried>, StoreError> {
    Ok(diesel::sql_query(format!(
        "select p.device_id, p.entry, leaf.log_id, leaf.index
        from (select device_id, range_agg(tstzrange(greatest(valid_from, $2), least(valid_to, $3))) as time from {STAYS} d
                where place_id = $1 and valid_from < $3 and valid_to > $2 group by device_id) here
            join pack p on p.device_id = here.device_id {WHEREABOUTS}
        where p.last_at >= $2 and p.first_at < $3 and here.time && tstzrange(p.first_at, p.last_at, '[]')
            and {NOT_REFUSED}
        order by leaf.log_id nulls last, leaf.index"
    ))
    .bind::<BigInt, _>(place_id)
    .bind::<Timestamptz, _>(start)
    .bind::<Timestamptz, _>(end)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct LotId {
    #[diesel(sql_type = BigInt)]
    lot_id: i64,
}

/// The lots that lay at the place at some time of the window, by the times of the records that moved them.
pub async fn lots(
    conn: &mut Connection,
    place_id: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    let rows: Vec<LotId> = diesel::sql_query(
        "select m.lot_id from movement m join record r on r.entry = m.entry
        where m.place_id = $1 and coalesce(r.event_time, r.accepted_at) < $3
        group by m.lot_id
        having sum(m.delta) filter (where coalesce(r.event_time, r.accepted_at) < $2) > 0
            or bool_or(m.delta > 0 and coalesce(r.event_time, r.accepted_at) >= $2)
        order by 1",
    )
    .bind::<BigInt, _>(place_id)
    .bind::<Timestamptz, _>(start)
    .bind::<Timestamptz, _>(end)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.lot_id).collect())
}
