//! Permitted amounts, used up by records.

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::quota};

/// What a permit allows in `unit`, and what of it is used. `details` is public: species, method, certificate.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = quota)]
pub struct Quota {
    pub id: i64,
    pub party_id: i64,
    pub place_id: Option<i64>,
    pub profile: String,
    pub kind: String,
    pub number: String,
    pub uri: String,
    pub unit: String,
    pub allowed: i64,
    pub used: i64,
    pub valid_from: NaiveDate,
    pub valid_until: NaiveDate,
    pub details: serde_json::Value,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = quota)]
pub struct NewQuota<'a> {
    pub party_id: i64,
    pub place_id: Option<i64>,
    pub profile: &'a str,
    pub kind: &'a str,
    pub number: &'a str,
    pub uri: &'a str,
    pub unit: &'a str,
    pub allowed: i64,
    pub valid_from: NaiveDate,
    pub valid_until: NaiveDate,
    pub details: serde_json::Value,
}

/// Fails with constraint `quota_party_id_kind_number_key` where it is registered already.
pub async fn insert(conn: &mut Connection, new: &NewQuota<'_>) -> Result<i64, StoreError> {
    Ok(diesel::insert_into(quota::table).values(new).returning(quota::id).get_result(conn).await?)
}

pub async fn of_party(conn: &mut Connection, party_id: i64) -> Result<Vec<Quota>, StoreError> {
    Ok(quota::table
        .filter(quota::party_id.eq(party_id))
        .order(quota::number)
        .select(Quota::as_select())
        .load(conn)
        .await?)
}

/// Adds to what is used. Fails with constraint `quota_check` over the allowed amount.
pub async fn consume(conn: &mut Connection, id: i64, amount: i64) -> Result<(), StoreError> {
    diesel::update(quota::table.find(id)).set(quota::used.eq(quota::used + amount)).execute(conn).await?;
    Ok(())
}

/// The permit by the number on its paper, locked until the transaction ends, so that two loads can't both take the last of
/// it.
pub async fn lock_numbered(
    conn: &mut Connection,
    party_id: i64,
    number: &str,
) -> Result<Option<Quota>, StoreError> {
    Ok(quota::table
        .filter(quota::party_id.eq(party_id).and(quota::number.eq(number)))
        .order(quota::id)
        .select(Quota::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}
