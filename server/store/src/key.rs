//! Keys: who signs for whom, who holds the secret, and since when.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    schema::{key, party},
};

/// `sealed` is the seed under the key-encryption key; platform custody only.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = key)]
pub struct Key {
    pub kid: Vec<u8>,
    pub party_id: i64,
    pub device_id: Option<i64>,
    pub role: String,
    pub custody: String,
    pub state: String,
    pub since: DateTime<Utc>,
    pub public: Vec<u8>,
    pub sealed: Option<Vec<u8>>,
    pub enrolled_by: Option<Vec<u8>>,
    /// Browser custody only: whose own browser holds it.
    pub account_id: Option<Uuid>,
}

/// What the roster says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub kid: Vec<u8>,
    pub party: String,
    pub custody: String,
    pub state: String,
    pub since: DateTime<Utc>,
}

/// Fails with constraint `key_pkey` where the key is known.
pub async fn insert(conn: &mut Connection, new: &Key) -> Result<(), StoreError> {
    diesel::insert_into(key::table).values(new).execute(conn).await?;
    Ok(())
}

/// Names the record that enrolled the key.
pub async fn set_enrolled_by(conn: &mut Connection, kid: &[u8], entry: &[u8]) -> Result<(), StoreError> {
    diesel::update(key::table.find(kid)).set(key::enrolled_by.eq(Some(entry))).execute(conn).await?;
    Ok(())
}

pub async fn by_kid(conn: &mut Connection, kid: &[u8]) -> Result<Option<Key>, StoreError> {
    Ok(key::table.find(kid).select(Key::as_select()).first(conn).await.optional()?)
}

pub async fn by_kids(conn: &mut Connection, kids: &[Vec<u8>]) -> Result<Vec<Key>, StoreError> {
    Ok(key::table.filter(key::kid.eq_any(kids)).select(Key::as_select()).load(conn).await?)
}

/// The good keys of a party in a role, newest first.
pub async fn good_of(conn: &mut Connection, party_id: i64, role: &str) -> Result<Vec<Key>, StoreError> {
    Ok(key::table
        .filter(key::party_id.eq(party_id).and(key::role.eq(role)).and(key::state.eq("good")))
        .order(key::since.desc())
        .select(Key::as_select())
        .load(conn)
        .await?)
}

/// The newest `limit` keys of a device, whatever their state.
pub async fn of_device(conn: &mut Connection, device_id: i64, limit: i64) -> Result<Vec<Key>, StoreError> {
    Ok(key::table
        .filter(key::device_id.eq(device_id))
        .order(key::since.desc())
        .limit(limit)
        .select(Key::as_select())
        .load(conn)
        .await?)
}

/// `limit` keys in the browsers of one account: the good ones first, each kind the newest first.
pub async fn of_account(conn: &mut Connection, account_id: Uuid, limit: i64) -> Result<Vec<Key>, StoreError> {
    Ok(key::table
        .filter(key::account_id.eq(account_id))
        .order((key::state.ne("good"), key::since.desc()))
        .limit(limit)
        .select(Key::as_select())
        .load(conn)
        .await?)
}

/// Every key that was ever enrolled or rotated in.
pub async fn all(conn: &mut Connection) -> Result<Vec<Listed>, StoreError> {
    let listed = |(kid, party, custody, state, since)| Listed { kid, party, custody, state, since };
    let rows = key::table
        .inner_join(party::table.on(party::id.eq(key::party_id)))
        .filter(key::enrolled_by.is_not_null())
        .order(key::kid)
        .select((key::kid, party::iss, key::custody, key::state, key::since))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(listed).collect())
}

/// Moves a good key to another state and forgets its secret. `false`: it was not good any more.
pub async fn retire(
    conn: &mut Connection,
    kid: &[u8],
    state: &'static str,
    since: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let good = key::table.filter(key::kid.eq(kid).and(key::state.eq("good")));
    let changed = diesel::update(good)
        .set((key::state.eq(state), key::since.eq(since), key::sealed.eq(None::<Vec<u8>>)))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// Until the transaction ends, nobody else states anything of keys: so the log tells of them in the order in which they changed.
pub async fn lock_history(conn: &mut Connection) -> Result<(), StoreError> {
    /// `keys` in ASCII.
    const HISTORY_LOCK: i64 = 0x6b65_7973;
    diesel::sql_query("select pg_advisory_xact_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(HISTORY_LOCK)
        .execute(conn)
        .await?;
    Ok(())
}
