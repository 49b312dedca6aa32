//! Where the temperature cables of a store hang, and when they were read.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError, reading::Reading, schema::grid};

/// Cables of a store from a moment on. Distances in centimetres.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = grid)]
pub struct Grid {
    pub place_id: i64,
    pub valid_from: DateTime<Utc>,
    pub row_count: i16,
    pub column_count: i16,
    pub layer_count: i16,
    pub row_cm: i32,
    pub column_cm: i32,
    pub layer_cm: i32,
    pub declared_by: Option<Uuid>,
}

/// `false` where one is declared from that moment already.
pub async fn insert(conn: &mut Connection, new: &Grid) -> Result<bool, StoreError> {
    let added = diesel::insert_into(grid::table).values(new).on_conflict_do_nothing().execute(conn).await?;
    Ok(added == 1)
}

/// The one that was valid at a moment.
pub async fn at(conn: &mut Connection, place_id: i64, at: DateTime<Utc>) -> Result<Option<Grid>, StoreError> {
    Ok(grid::table
        .filter(grid::place_id.eq(place_id).and(grid::valid_from.le(at)))
        .order(grid::valid_from.desc())
        .select(Grid::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Those of `places` whose cables were ever declared.
pub async fn declared(conn: &mut Connection, places: &[i64]) -> Result<Vec<i64>, StoreError> {
    Ok(grid::table
        .filter(grid::place_id.eq_any(places))
        .select(grid::place_id)
        .distinct()
        .order(grid::place_id)
        .load(conn)
        .await?)
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

/// When any of `points` was read at `until` or before, newest first.
pub async fn moments(
    conn: &mut Connection,
    devices: &[i64],
    points: &[String],
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<DateTime<Utc>>, StoreError> {
    let rows: Vec<Moment> = diesel::sql_query(
        "select distinct at from unnest($1) as of (id), unnest($2) as point (name),
            lateral (select at from reading where device_id = of.id and reading.name = point.name and at <= $3
                order by at desc limit $4) newest
        order by at desc limit $4",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Array<Text>, _>(points)
    .bind::<Timestamptz, _>(until)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.at).collect())
}

/// When any of `points` was read after `after`, oldest first.
pub async fn moments_after(
    conn: &mut Connection,
    devices: &[i64],
    points: &[String],
    after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<DateTime<Utc>>, StoreError> {
    let rows: Vec<Moment> = diesel::sql_query(
        "select distinct at from unnest($1) as of (id), unnest($2) as point (name),
            lateral (select at from reading where device_id = of.id and reading.name = point.name and at > $3
                order by at limit $4) next
        order by at limit $4",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Array<Text>, _>(points)
    .bind::<Timestamptz, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.at).collect())
}

/// What was read of `points` at a moment.
pub async fn scan(
    conn: &mut Connection,
    devices: &[i64],
    points: &[String],
    at: DateTime<Utc>,
) -> Result<Vec<Reading>, StoreError> {
    Ok(diesel::sql_query(
        "select device_id, at, name, unit, value, cti from reading
        where device_id = any($1) and name = any($2) and at = $3 order by device_id, name",
    )
    .bind::<Array<BigInt>, _>(devices)
    .bind::<Array<Text>, _>(points)
    .bind::<Timestamptz, _>(at)
    .load(conn)
    .await?)
}
