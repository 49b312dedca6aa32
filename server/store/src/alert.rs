//! Alerts: a threshold passed, or a signer who said two things.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError, schema::alert};

#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = alert)]
pub struct Alert {
    pub id: i64,
    pub party_id: i64,
    pub place_id: i64,
    pub device_id: Option<i64>,
    pub rule: String,
    pub metric: String,
    pub unit: String,
    pub threshold: f64,
    pub value: f64,
    pub raised_at: DateTime<Utc>,
    pub acknowledged_at: Option<DateTime<Utc>>,
    pub acknowledged_by: Option<Uuid>,
    pub cleared_at: Option<DateTime<Utc>>,
    pub cleared_value: Option<f64>,
    pub lots: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert<'a> {
    pub party_id: i64,
    pub place_id: i64,
    pub device_id: i64,
    pub rule: &'a str,
    pub metric: &'a str,
    pub unit: &'a str,
    pub threshold: f64,
    pub value: f64,
    pub raised_at: DateTime<Utc>,
    /// What lay there.
    pub lots: &'a [i64],
}

/// Raises an alert unless the device has an open one by the same rule. `false`: it had.
pub async fn raise(conn: &mut Connection, new: &NewAlert<'_>) -> Result<bool, StoreError> {
    let inserted = diesel::sql_query(
        "insert into alert (party_id, place_id, device_id, rule, metric, unit, threshold, value, raised_at, lots)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (device_id, rule) where cleared_at is null do nothing",
    )
    .bind::<BigInt, _>(new.party_id)
    .bind::<BigInt, _>(new.place_id)
    .bind::<Nullable<BigInt>, _>(Some(new.device_id))
    .bind::<Text, _>(new.rule)
    .bind::<Text, _>(new.metric)
    .bind::<Text, _>(new.unit)
    .bind::<Double, _>(new.threshold)
    .bind::<Double, _>(new.value)
    .bind::<Timestamptz, _>(new.raised_at)
    .bind::<Array<BigInt>, _>(new.lots)
    .execute(conn)
    .await?;
    Ok(inserted == 1)
}

pub async fn clear(conn: &mut Connection, id: i64, value: f64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(alert::table.find(id).filter(alert::cleared_at.is_null()))
        .set((alert::cleared_at.eq(Some(at)), alert::cleared_value.eq(Some(value))))
        .execute(conn)
        .await?;
    Ok(())
}

/// Somebody has seen it. `false`: somebody had before.
pub async fn acknowledge(
    conn: &mut Connection,
    id: i64,
    by: Uuid,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let changed = diesel::update(alert::table.find(id).filter(alert::acknowledged_at.is_null()))
        .set((alert::acknowledged_at.eq(Some(at)), alert::acknowledged_by.eq(Some(by))))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

pub async fn by_id(conn: &mut Connection, id: i64) -> Result<Option<Alert>, StoreError> {
    Ok(alert::table.find(id).select(Alert::as_select()).first(conn).await.optional()?)
}

/// Open alerts of these devices.
pub async fn open_of(conn: &mut Connection, devices: &[i64]) -> Result<Vec<Alert>, StoreError> {
    Ok(alert::table
        .filter(alert::device_id.eq_any(devices).and(alert::cleared_at.is_null()))
        .select(Alert::as_select())
        .load(conn)
        .await?)
}

/// The newest of a party, or of all with `None`; open ones first.
pub async fn newest(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<Alert>, StoreError> {
    let mut query = alert::table.select(Alert::as_select()).into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(alert::party_id.eq(party_id));
    }
    let order = (alert::cleared_at.is_not_null(), alert::raised_at.desc(), alert::id.desc());
    Ok(query.order(order).limit(limit).load(conn).await?)
}

/// Alerts that were raised while the lot lay there.
pub async fn of_lot(conn: &mut Connection, lot_id: i64) -> Result<Vec<Alert>, StoreError> {
    Ok(alert::table
        .filter(alert::lots.contains(vec![lot_id]))
        .order(alert::raised_at)
        .select(Alert::as_select())
        .load(conn)
        .await?)
}
