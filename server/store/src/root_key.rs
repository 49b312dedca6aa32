//! The one row that the key-encryption key opens.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::root_key};

pub async fn sealed(conn: &mut Connection) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(root_key::table.find(true).select(root_key::sealed).first(conn).await.optional()?)
}

/// Keeps the first: of two servers that start on an empty database, both go on with the same key.
pub async fn found(conn: &mut Connection, sealed: &[u8], at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::insert_into(root_key::table)
        .values((root_key::single.eq(true), root_key::sealed.eq(sealed), root_key::sealed_at.eq(at)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Only the owner of the tables may do this. `false`: the row is not `old` any more.
pub async fn replace(
    conn: &mut Connection,
    old: &[u8],
    sealed: &[u8],
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let row = root_key::table.filter(root_key::sealed.eq(old));
    let new = (root_key::sealed.eq(sealed), root_key::sealed_at.eq(at));
    Ok(diesel::update(row).set(new).execute(conn).await? == 1)
}
