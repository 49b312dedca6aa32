//! What the newest hours of readings say: means by point, and what they were some time before.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Interval, Nullable, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError};

/// The mean of a point's newest hour, and of the hour that it is compared with.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Trend {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub unit: String,
    #[diesel(sql_type = Timestamptz)]
    pub start: DateTime<Utc>,
    #[diesel(sql_type = Double)]
    pub mean: f64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub before: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Double>)]
    pub mean_before: Option<f64>,
}

/// Of each device the points of its newest hour that began in (`from`, `to`], each with its newest hour that began at least
/// `window` earlier, and at most twice that; since it stands where it stands.
pub async fn newest(
    conn: &mut Connection,
    devices: &[i64],
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    window: TimeDelta,
    limit: i64,
) -> Result<Vec<Trend>, StoreError> {
    Ok(diesel::sql_query(
        "select of.id as device_id, current.name, current.unit, current.start, current.sum / current.count as mean,
            earlier.start as before, earlier.sum / earlier.count as mean_before
        from device of
        cross join lateral (select start from rollup
            where device_id = of.id and span = 60 and start > $2 and start <= $3 and start >= of.placed_at
            order by start desc limit 1) newest
        join rollup current on current.device_id = of.id and current.span = 60 and current.start = newest.start
        left join lateral (select start, sum, count from rollup r
            where r.device_id = of.id and r.name = current.name and r.unit = current.unit and r.span = 60
                and r.start <= current.start - $4 and r.start >= current.start - 2 * $4 and r.start >= of.placed_at
            order by r.start desc limit 1) earlier on true
        where of.id = any($1)
        order by of.id, current.name, current.unit limit $5",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<Interval, _>(window)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}
