//! Devices: who may publish readings, from which place, and in whose signature.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    schema::{device, key, party},
};

#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = device)]
pub struct Device {
    pub id: i64,
    pub party_id: i64,
    pub name: String,
    pub kind: String,
    pub profile: String,
    pub format: String,
    pub signing: String,
    pub repeats: String,
    pub token_hash: Vec<u8>,
    pub broker_hash: Option<String>,
    pub place_id: i64,
    pub position: Option<String>,
    /// Since when it stands there.
    pub placed_at: DateTime<Utc>,
    pub mapping: Option<serde_json::Value>,
    pub created_at: DateTime<Utc>,
    pub lost_at: Option<DateTime<Utc>>,
    pub retired_at: Option<DateTime<Utc>>,
}

impl Device {
    /// Neither lost nor taken down.
    pub const fn is_in_use(&self) -> bool {
        self.lost_at.is_none() && self.retired_at.is_none()
    }
}

#[derive(Debug, Insertable)]
#[diesel(table_name = device)]
pub struct NewDevice<'a> {
    pub party_id: i64,
    pub name: &'a str,
    pub kind: &'a str,
    pub profile: &'a str,
    pub format: &'a str,
    pub signing: &'a str,
    pub repeats: &'a str,
    pub token_hash: &'a [u8],
    pub broker_hash: Option<&'a str>,
    pub place_id: i64,
    pub mapping: Option<&'a serde_json::Value>,
}

/// Fails with constraint `device_party_id_name_key` where the party has a device of that name, and with `device_node`
/// where another device stands at its node.
pub async fn insert(conn: &mut Connection, new: &NewDevice<'_>) -> Result<Device, StoreError> {
    Ok(diesel::insert_into(device::table)
        .values(new)
        .returning(Device::as_returning())
        .get_result(conn)
        .await?)
}

/// Gives a device a new MQTT password. It is found again, if it was lost: whoever provisions it has it in hands.
pub async fn set_password(
    conn: &mut Connection,
    id: i64,
    token_hash: &[u8],
    broker_hash: &str,
) -> Result<(), StoreError> {
    diesel::update(device::table.find(id))
        .set((
            device::token_hash.eq(token_hash),
            device::broker_hash.eq(Some(broker_hash)),
            device::lost_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Refused from now on, until it is provisioned anew. `false`: it was lost or out of use already.
pub async fn lose(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<bool, StoreError> {
    let in_use = device::table.find(id).filter(device::lost_at.is_null().and(device::retired_at.is_null()));
    let changed = diesel::update(in_use).set(device::lost_at.eq(Some(at))).execute(conn).await?;
    Ok(changed == 1)
}

/// Refused from now on, for good. `false`: it was out of use already.
pub async fn retire(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<bool, StoreError> {
    let in_use = device::table.find(id).filter(device::retired_at.is_null());
    let changed = diesel::update(in_use).set(device::retired_at.eq(Some(at))).execute(conn).await?;
    Ok(changed == 1)
}

/// All devices of any of `parties` (slugs), whatever became of them, each with its party's slug.
pub async fn of_parties(
    conn: &mut Connection,
    parties: &[String],
) -> Result<Vec<(String, Device)>, StoreError> {
    Ok(device::table
        .inner_join(party::table.on(party::id.eq(device::party_id)))
        .filter(party::slug.eq_any(parties))
        .select((party::slug, Device::as_select()))
        .load(conn)
        .await?)
}

pub async fn by_name(conn: &mut Connection, party: &str, name: &str) -> Result<Option<Device>, StoreError> {
    Ok(device::table
        .inner_join(party::table.on(party::id.eq(device::party_id)))
        .filter(party::slug.eq(party).and(device::name.eq(name)))
        .select(Device::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Devices in use at a place, by name.
pub async fn at_place(conn: &mut Connection, place_id: i64) -> Result<Vec<Device>, StoreError> {
    Ok(device::table
        .filter(device::place_id.eq(place_id).and(device::retired_at.is_null()))
        .order(device::name)
        .select(Device::as_select())
        .load(conn)
        .await?)
}

/// Whatever became of them.
pub async fn by_ids(conn: &mut Connection, ids: &[i64]) -> Result<Vec<Device>, StoreError> {
    Ok(device::table
        .filter(device::id.eq_any(ids))
        .order(device::name)
        .select(Device::as_select())
        .load(conn)
        .await?)
}

/// All devices in use, and not lost, with their party's slug, in a stable order: the register's content.
pub async fn all(conn: &mut Connection) -> Result<Vec<(String, Device)>, StoreError> {
    Ok(device::table
        .inner_join(party::table.on(party::id.eq(device::party_id)))
        .filter(device::retired_at.is_null().and(device::lost_at.is_null()))
        .order(device::id)
        .select((party::slug, Device::as_select()))
        .load(conn)
        .await?)
}

/// Devices in use after the row `after`, each with its party's slug: a party's, or everybody's with `None`.
pub async fn after(
    conn: &mut Connection,
    party_id: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<(String, Device)>, StoreError> {
    let mut query = device::table
        .inner_join(party::table.on(party::id.eq(device::party_id)))
        .filter(device::retired_at.is_null().and(device::id.gt(after)))
        .select((party::slug, Device::as_select()))
        .into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(device::party_id.eq(party_id));
    }
    Ok(query.order(device::id).limit(limit).load(conn).await?)
}

/// The parties that have a Sparkplug device in use at an edge node, `Group/Edge`.
pub async fn parties_at_edge(conn: &mut Connection, edge: &str) -> Result<Vec<i64>, StoreError> {
    let at_edge = diesel::dsl::sql::<diesel::sql_types::Bool>(
        "split_part(mapping ->> 'node', '/', 1) || '/' || split_part(mapping ->> 'node', '/', 2) = ",
    )
    .bind::<diesel::sql_types::Text, _>(edge);
    Ok(device::table
        .filter(device::format.eq("sparkplug").and(device::retired_at.is_null()))
        .filter(at_edge)
        .select(device::party_id)
        .distinct()
        .load(conn)
        .await?)
}

/// The good pack keys: (kid, the device that it belongs to; `None` for a gateway).
pub async fn pack_keys(conn: &mut Connection) -> Result<Vec<(Vec<u8>, Option<i64>)>, StoreError> {
    Ok(key::table
        .filter(key::role.eq("pack").and(key::state.eq("good")))
        .order(key::kid)
        .select((key::kid, key::device_id))
        .load(conn)
        .await?)
}

/// The device, its row locked until the transaction ends.
pub async fn lock(conn: &mut Connection, id: i64) -> Result<Option<Device>, StoreError> {
    Ok(device::table.find(id).select(Device::as_select()).for_update().first(conn).await.optional()?)
}

/// A device by its row, with its party's slug.
pub async fn by_id(conn: &mut Connection, id: i64) -> Result<Option<(String, Device)>, StoreError> {
    Ok(device::table
        .inner_join(party::table.on(party::id.eq(device::party_id)))
        .filter(device::id.eq(id))
        .select((party::slug, Device::as_select()))
        .first(conn)
        .await
        .optional()?)
}
