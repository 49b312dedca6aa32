//! What could not be accepted, with its reason: it neither vanishes nor blocks what follows, and can be replayed.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz},
};
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

#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = dead_letter)]
#[diesel(check_for_backend(diesel::pg::Pg))]
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
    /// Set while it waits for a gateway.
    pub replay_wanted_at: Option<DateTime<Utc>>,
    pub replayed_at: Option<DateTime<Utc>>,
    /// Of the last replay: `stored`, `duplicate`, or why it failed again.
    pub outcome: Option<String>,
}

/// Names one of the letters that were inserted or recognised.
#[derive(QueryableByName)]
struct Recognised {
    #[diesel(sql_type = Integer)]
    position: i32,
}

pub async fn insert(conn: &mut Connection, letters: &[NewDeadLetter]) -> Result<(), StoreError> {
    if !letters.is_empty() {
        diesel::insert_into(dead_letter::table).values(letters).execute(conn).await?;
    }
    Ok(())
}

/// Closes the replays of those waiting letters that failed again on their way through a gateway, and returns the positions in
/// `letters` of what failed. The moment of arrival tells a replay from an equal message that the device sent since.
pub async fn fail_again(
    conn: &mut Connection,
    letters: &[NewDeadLetter],
    at: DateTime<Utc>,
) -> Result<Vec<usize>, StoreError> {
    let failed: Vec<Recognised> = diesel::sql_query(
        "update dead_letter d set replayed_at = $1, outcome = told.reason, replay_wanted_at = null
        from unnest($2, $3, $4, $5) with ordinality told (topic, received_at, sha256, reason, position)
        where d.replay_wanted_at is not null and d.topic = told.topic and d.sha256 = told.sha256
            and date_trunc('milliseconds', d.received_at) = told.received_at
        returning (told.position - 1)::integer as position",
    )
    .bind::<Timestamptz, _>(at)
    .bind::<Array<Text>, _>(letters.iter().map(|letter| letter.topic.as_str()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(letters.iter().map(|letter| letter.received_at).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(letters.iter().map(|letter| letter.sha256.as_slice()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>())
    .load(conn)
    .await?;
    Ok(failed.into_iter().filter_map(|row| usize::try_from(row.position).ok()).collect())
}

/// The newest of a party, or of all with `None`; only those before the row `before`, if that is given.
pub async fn newest(
    conn: &mut Connection,
    party_id: Option<i64>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut query = dead_letter::table.select(DeadLetter::as_select()).into_boxed();
    if let Some(party_id) = party_id {
        query = query.filter(dead_letter::party_id.eq(party_id));
    }
    if let Some(before) = before {
        query = query.filter(dead_letter::id.lt(before));
    }
    Ok(query.order(dead_letter::id.desc()).limit(limit).load(conn).await?)
}

/// One letter, locked until the transaction ends: two replays of it come one after the other.
pub async fn lock(conn: &mut Connection, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let query = dead_letter::table.find(id).select(DeadLetter::as_select()).for_update();
    Ok(query.first(conn).await.optional()?)
}

/// The oldest letters of a party, or of all with `None`, that wait for a gateway: at least one, then no more than `bytes_max`.
pub async fn waiting(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
    bytes_max: i64,
) -> Result<Vec<DeadLetter>, StoreError> {
    Ok(diesel::sql_query(
        "select d.* from (
            select l.*, sum(l.size) over (order by l.id) - l.size as before from (
                select * from dead_letter
                where replay_wanted_at is not null and payload is not null and ($1 is null or party_id = $1)
                order by id limit $2) l) d
        where before = 0 or before + size <= $3 order by id",
    )
    .bind::<Nullable<BigInt>, _>(party_id)
    .bind::<BigInt, _>(limit)
    .bind::<BigInt, _>(bytes_max)
    .load(conn)
    .await?)
}

/// From now on it waits for a gateway.
pub async fn want_replay(conn: &mut Connection, id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(dead_letter::table.find(id))
        .set(dead_letter::replay_wanted_at.eq(Some(at)))
        .execute(conn)
        .await?;
    Ok(())
}

/// What became of a replay.
pub async fn replayed(
    conn: &mut Connection,
    id: i64,
    outcome: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(dead_letter::table.find(id))
        .set((
            dead_letter::replay_wanted_at.eq(None::<DateTime<Utc>>),
            dead_letter::replayed_at.eq(Some(at)),
            dead_letter::outcome.eq(Some(outcome)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
