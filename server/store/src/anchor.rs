//! The outbox of the chains: a row stands here before its transaction is sent, and follows what becomes of it.
//!
//! `pending` → `anchored` (in a block) → `final` (deep enough); a re-organised chain takes a row back to `pending`, and what
//! the contract refused is `failed`.

use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_types};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::anchor};

/// First half of the advisory lock of a chain's leader; the second is a hash of the chain's name.
const LEADER_LOCK: i32 = 0x616e_6368;

/// A chain and the contract on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub chain_id: i64,
    /// `0x` and 40 lower-case hexadecimal digits.
    pub contract: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = anchor)]
pub struct Anchor {
    pub id: i64,
    pub chain: String,
    pub chain_id: i64,
    pub contract: String,
    pub log_id: i16,
    pub size: i64,
    pub root: Vec<u8>,
    pub state: String,
    pub nonce: i64,
    pub raw: Vec<u8>,
    pub tx_hash: Vec<u8>,
    /// Wei.
    pub gas_price: i64,
    pub priced_at: DateTime<Utc>,
    pub from_block: i64,
    pub gas_used: Option<i64>,
    pub block_number: Option<i64>,
    pub block_hash: Option<Vec<u8>>,
    pub reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub anchored_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = anchor)]
pub struct NewAnchor<'a> {
    pub chain: &'a str,
    pub chain_id: i64,
    pub contract: &'a str,
    pub log_id: i16,
    pub size: i64,
    pub root: &'a [u8],
    pub nonce: i64,
    pub raw: &'a [u8],
    pub tx_hash: &'a [u8],
    pub gas_price: i64,
    pub priced_at: DateTime<Utc>,
    pub from_block: i64,
    pub created_at: DateTime<Utc>,
}

/// What a row's head is sent as, from now on.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = anchor)]
pub struct Signed<'a> {
    pub nonce: i64,
    pub raw: &'a [u8],
    pub tx_hash: &'a [u8],
    pub gas_price: i64,
    pub priced_at: DateTime<Utc>,
}

/// The block that took a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    pub tx_hash: &'a [u8],
    pub number: i64,
    pub hash: &'a [u8],
    pub gas_used: i64,
    /// Wei, where the node tells it.
    pub gas_price: Option<i64>,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = sql_types::Bool)]
    locked: bool,
}

/// Tries to become the one who sends on a chain for as long as this connection lives; never waits.
pub async fn try_lead(conn: &mut Connection, chain: &str) -> Result<bool, StoreError> {
    let row: Locked = diesel::sql_query("select pg_try_advisory_lock($1, hashtext($2)) as locked")
        .bind::<sql_types::Integer, _>(LEADER_LOCK)
        .bind::<sql_types::Text, _>(chain)
        .get_result(conn)
        .await?;
    Ok(row.locked)
}

/// What is not final yet, oldest first.
pub async fn open(conn: &mut Connection, place: Place<'_>) -> Result<Vec<Anchor>, StoreError> {
    Ok(anchor::table
        .filter(anchor::chain_id.eq(place.chain_id).and(anchor::contract.eq(place.contract)))
        .filter(anchor::state.eq_any(["pending", "anchored"]))
        .order((anchor::nonce, anchor::id))
        .select(Anchor::as_select())
        .load(conn)
        .await?)
}

/// The newest row of a chain, whatever became of it.
pub async fn newest(conn: &mut Connection, place: Place<'_>) -> Result<Option<Anchor>, StoreError> {
    Ok(anchor::table
        .filter(anchor::chain_id.eq(place.chain_id).and(anchor::contract.eq(place.contract)))
        .order(anchor::id.desc())
        .select(Anchor::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// `None`: this head is in the outbox already, and has not failed.
pub async fn insert(conn: &mut Connection, new: &NewAnchor<'_>) -> Result<Option<Anchor>, StoreError> {
    Ok(diesel::insert_into(anchor::table)
        .values(new)
        .on_conflict_do_nothing()
        .returning(Anchor::as_returning())
        .get_result(conn)
        .await
        .optional()?)
}

pub async fn sent(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(anchor::table.find(id)).set(anchor::sent_at.eq(at)).execute(conn).await?;
    Ok(())
}

/// The same head by another transaction, which pays more or has another nonce; it is kept before it is sent.
pub async fn replace(conn: &mut Connection, id: i64, signed: &Signed<'_>) -> Result<Anchor, StoreError> {
    let row = anchor::table.find(id).filter(anchor::state.eq("pending"));
    Ok(diesel::update(row)
        .set((signed, anchor::sent_at.eq(None::<DateTime<Utc>>)))
        .returning(Anchor::as_returning())
        .get_result(conn)
        .await?)
}

pub async fn anchored(
    conn: &mut Connection,
    id: i64,
    block: Block<'_>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(anchor::table.find(id))
        .set((
            anchor::state.eq("anchored"),
            anchor::tx_hash.eq(block.tx_hash),
            anchor::block_number.eq(block.number),
            anchor::block_hash.eq(block.hash),
            anchor::gas_used.eq(block.gas_used),
            anchor::anchored_at.eq(at),
            block.gas_price.map(|price| anchor::gas_price.eq(price)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The block that took it is no block of the chain any more: it is to be sent again at once.
pub async fn uprooted(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(anchor::table.find(id))
        .set((
            anchor::state.eq("pending"),
            anchor::sent_at.eq(None::<DateTime<Utc>>),
            anchor::priced_at.eq(at),
            anchor::gas_used.eq(None::<i64>),
            anchor::block_number.eq(None::<i64>),
            anchor::block_hash.eq(None::<Vec<u8>>),
            anchor::anchored_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn finalise(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(anchor::table.find(id))
        .set((anchor::state.eq("final"), anchor::final_at.eq(at)))
        .execute(conn)
        .await?;
    Ok(())
}

/// `gas_used` where a block took it and reverted it: that is paid for as well.
pub async fn fail(
    conn: &mut Connection,
    id: i64,
    reason: &str,
    gas_used: Option<i64>,
) -> Result<(), StoreError> {
    diesel::update(anchor::table.find(id))
        .set((anchor::state.eq("failed"), anchor::reason.eq(reason), anchor::gas_used.eq(gas_used)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Heads of at least `size_min` leaves that stand on a chain, newest first.
pub async fn standing(
    conn: &mut Connection,
    log_id: i16,
    size_min: i64,
    limit: i64,
) -> Result<Vec<Anchor>, StoreError> {
    Ok(anchor::table
        .filter(anchor::log_id.eq(log_id).and(anchor::size.ge(size_min)))
        .filter(anchor::state.eq_any(["anchored", "final"]))
        .order(anchor::size.desc())
        .limit(limit)
        .select(Anchor::as_select())
        .load(conn)
        .await?)
}

/// A contract's anchors, all together.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Sum {
    #[diesel(sql_type = sql_types::BigInt)]
    pub chain_id: i64,
    #[diesel(sql_type = sql_types::Text)]
    pub contract: String,
    #[diesel(sql_type = sql_types::BigInt)]
    pub gas: i64,
    /// In decimal: ten whole coins are more wei than a `bigint` holds.
    #[diesel(sql_type = sql_types::Text)]
    pub wei: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Timestamptz>)]
    pub final_at: Option<DateTime<Utc>>,
    /// The largest head of the log that stands there.
    #[diesel(sql_type = sql_types::Nullable<sql_types::BigInt>)]
    pub size: Option<i64>,
}

/// What the anchors on each contract cost, of all logs, and how much of `log_id` stands there.
pub async fn sums(conn: &mut Connection, log_id: i16) -> Result<Vec<Sum>, StoreError> {
    let query = "select chain_id, contract, coalesce(sum(gas_used), 0)::bigint as gas,
            coalesce(sum(gas_used::numeric * gas_price), 0)::text as wei, max(final_at) as final_at,
            max(size) filter (where log_id = $1 and state in ('anchored', 'final')) as size
        from anchor group by chain_id, contract order by chain_id, contract";
    Ok(diesel::sql_query(query).bind::<sql_types::SmallInt, _>(log_id).load(conn).await?)
}
