//! What could not be accepted, with its reason: it neither vanishes nor blocks what follows.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::dead_letter};

#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = dead_letter)]
pub struct NewDeadLetter {
    pub party_id: Option<i64>,
    pub topic: String,
    pub received_at: DateTime<Utc>,
    pub reason: String,
    /// `None` where the message was too long to carry.
    pub payload: Option<Vec<u8>>,
    pub size: i32,
    pub sha256: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = dead_letter)]
pub struct DeadLetter {
    pub id: i64,
    pub party_id: Option<i64>,
    pub topic: String,
    pub received_at: DateTime<Utc>,
    pub committed_at: DateTime<Utc>,
    pub reason: String,
    pub payload: Option<Vec<u8>>,
    pub size: i32,
    pub sha256: Vec<u8>,
}

pub async fn insert(conn: &mut Connection, letters: &[NewDeadLetter]) -> Result<(), StoreError> {
    if !letters.is_empty() {
        diesel::insert_into(dead_letter::table).values(letters).execute(conn).await?;
    }
    Ok(())
}

/// The newest of a party, or of all with `None`.
pub async fn newest(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut query = dead_letter::table.select(DeadLetter::as_select()).into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(dead_letter::party_id.eq(party_id));
    }
    Ok(query.order(dead_letter::id.desc()).limit(limit).load(conn).await?)
}
