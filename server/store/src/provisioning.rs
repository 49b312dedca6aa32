//! One-time tokens of devices: of each only its hash, until when it holds, and what became of it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Connection, StoreError, schema::provisioning};

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = provisioning)]
pub struct Provisioning {
    pub token_hash: Vec<u8>,
    pub device_id: i64,
    pub created_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub redeemed_at: Option<DateTime<Utc>>,
    pub withdrawn_at: Option<DateTime<Utc>>,
    pub kid: Option<Vec<u8>>,
}

impl Provisioning {
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.redeemed_at.is_none() && self.withdrawn_at.is_none() && self.expires_at > now
    }
}

#[derive(Debug, Insertable)]
#[diesel(table_name = provisioning)]
pub struct NewProvisioning<'a> {
    pub token_hash: &'a [u8],
    pub device_id: i64,
    pub created_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Fails with constraint `provisioning_open` where the device has a token that is neither redeemed nor withdrawn.
pub async fn insert(conn: &mut Connection, new: &NewProvisioning<'_>) -> Result<(), StoreError> {
    diesel::insert_into(provisioning::table).values(new).execute(conn).await?;
    Ok(())
}

/// A device has one token at most: the one before it is given up.
pub async fn withdraw(conn: &mut Connection, device_id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    let open = provisioning::table
        .filter(provisioning::device_id.eq(device_id))
        .filter(provisioning::redeemed_at.is_null().and(provisioning::withdrawn_at.is_null()));
    diesel::update(open).set(provisioning::withdrawn_at.eq(Some(at))).execute(conn).await?;
    Ok(())
}

/// A token that can be redeemed at `now`. Whoever changes a device's tokens holds the device's row locked.
pub async fn open(
    conn: &mut Connection,
    token_hash: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<Provisioning>, StoreError> {
    Ok(provisioning::table
        .find(token_hash)
        .filter(provisioning::redeemed_at.is_null().and(provisioning::withdrawn_at.is_null()))
        .filter(provisioning::expires_at.gt(now))
        .select(Provisioning::as_select())
        .first(conn)
        .await
        .optional()?)
}

pub async fn redeem(
    conn: &mut Connection,
    token_hash: &[u8],
    kid: Option<&[u8]>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(provisioning::table.find(token_hash))
        .set((provisioning::redeemed_at.eq(Some(at)), provisioning::kid.eq(kid)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The newest token of a device.
pub async fn newest(conn: &mut Connection, device_id: i64) -> Result<Option<Provisioning>, StoreError> {
    Ok(provisioning::table
        .filter(provisioning::device_id.eq(device_id))
        .order(provisioning::created_at.desc())
        .select(Provisioning::as_select())
        .first(conn)
        .await
        .optional()?)
}
