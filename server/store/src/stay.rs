//! Where devices stand and stood: a reading belongs to the place that was valid at its time.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    schema::{device, device_stay},
};

/// Each stay, the one that lasts included: a table of a query.
pub(crate) const STAYS: &str = "(select device_id, place_id, position, valid_from, valid_to from device_stay
    union all select id, place_id, position, placed_at, coalesce(retired_at, 'infinity') from device)";

/// A device at a place, from a moment until the next one.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Stay {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = BigInt)]
    pub place_id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub position: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub from: DateTime<Utc>,
    /// `None`: it lasts.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub to: Option<DateTime<Utc>>,
}

impl Stay {
    pub fn covers(&self, at: DateTime<Utc>) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

/// A stay that ends.
#[derive(Debug, Insertable)]
#[diesel(table_name = device_stay)]
pub struct Ended<'a> {
    pub device_id: i64,
    pub place_id: i64,
    pub position: Option<&'a str>,
    pub valid_from: DateTime<Utc>,
    pub valid_to: DateTime<Utc>,
    pub ended_by: Option<Uuid>,
}

/// Ends the stay that lasts and begins the next one where it ends.
pub async fn move_to(
    conn: &mut Connection,
    ended: &Ended<'_>,
    place_id: i64,
    position: Option<&str>,
) -> Result<(), StoreError> {
    diesel::insert_into(device_stay::table).values(ended).execute(conn).await?;
    let moved =
        (device::place_id.eq(place_id), device::position.eq(position), device::placed_at.eq(ended.valid_to));
    diesel::update(device::table.find(ended.device_id)).set(moved).execute(conn).await?;
    Ok(())
}

/// The newest `limit` stays of a device, newest first.
pub async fn of_device(conn: &mut Connection, device_id: i64, limit: i64) -> Result<Vec<Stay>, StoreError> {
    Ok(diesel::sql_query(format!(
        "select device_id, place_id, position, valid_from as \"from\", nullif(valid_to, 'infinity') as \"to\"
        from {STAYS} stay where device_id = $1 order by valid_from desc limit $2"
    ))
    .bind::<BigInt, _>(device_id)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// The stays at any of the places that touch the time from `from` to `to`, in their order.
pub async fn at_places(
    conn: &mut Connection,
    places: &[i64],
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<Stay>, StoreError> {
    Ok(diesel::sql_query(format!(
        "select device_id, place_id, position, valid_from as \"from\", nullif(valid_to, 'infinity') as \"to\"
        from {STAYS} stay where place_id = any($1) and valid_from <= $3 and valid_to > $2 order by 1, 4"
    ))
    .bind::<Array<BigInt>, _>(places)
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct PlaceId {
    #[diesel(sql_type = BigInt)]
    place_id: i64,
}

/// Where a device stood at a moment.
pub async fn place_at(
    conn: &mut Connection,
    device_id: i64,
    at: DateTime<Utc>,
) -> Result<Option<i64>, StoreError> {
    let rows: Vec<PlaceId> = diesel::sql_query(format!(
        "select place_id from {STAYS} stay where device_id = $1 and valid_from <= $2 and valid_to > $2"
    ))
    .bind::<BigInt, _>(device_id)
    .bind::<Timestamptz, _>(at)
    .load(conn)
    .await?;
    Ok(rows.into_iter().next().map(|row| row.place_id))
}
