//! Records as they were signed, their references and their disclosures.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    schema::{disclosure, log, pending, record, record_lot, record_ref},
};

/// One signed record. `entry` (32 bytes) is the SHA-256 of `signed`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = record)]
pub struct Record {
    pub jti: Uuid,
    pub entry: Vec<u8>,
    pub kind: String,
    pub party_id: i64,
    pub iss: String,
    pub kid: Vec<u8>,
    pub profile: String,
    pub step: Option<String>,
    pub grade: String,
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    pub event_time: Option<DateTime<Utc>>,
    pub event_offset: Option<String>,
    pub event_hash: Option<Vec<u8>>,
    pub place_id: Option<i64>,
    pub late: bool,
    pub corrects: Option<Vec<u8>>,
    pub iat: DateTime<Utc>,
    pub accepted_at: DateTime<Utc>,
    pub signed: String,
    pub public: serde_json::Value,
}

/// A disclosure of a record, sealed; `position` is its place among the record's disclosures.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = disclosure)]
pub struct Disclosure {
    pub entry: Vec<u8>,
    pub position: i16,
    pub digest: Vec<u8>,
    pub visibility: String,
    pub person_id: Option<Uuid>,
    pub sealed: Vec<u8>,
}

/// Writes the record, its references and disclosures, and queues its leaf: all or, with the caller's transaction, nothing.
/// Fails with constraint `record_pkey` for a known jti and `record_party_id_event_id_corrects_key` for a known event.
pub async fn insert(
    conn: &mut Connection,
    new: &Record,
    refs: &[(&'static str, Vec<u8>)],
    disclosures: &[Disclosure],
) -> Result<(), StoreError> {
    diesel::insert_into(record::table).values(new).execute(conn).await?;
    let refs: Vec<_> = refs
        .iter()
        .map(|(rel, target)| {
            (record_ref::entry.eq(&new.entry), record_ref::rel.eq(*rel), record_ref::target.eq(target))
        })
        .collect();
    diesel::insert_into(record_ref::table).values(refs).execute(conn).await?;
    diesel::insert_into(disclosure::table).values(disclosures).execute(conn).await?;
    diesel::insert_into(pending::table).values(pending::entry.eq(&new.entry)).execute(conn).await?;
    Ok(())
}

pub async fn by_jti(conn: &mut Connection, jti: Uuid) -> Result<Option<Record>, StoreError> {
    Ok(record::table.find(jti).select(Record::as_select()).first(conn).await.optional()?)
}

pub async fn by_entry(conn: &mut Connection, entry: &[u8]) -> Result<Option<Record>, StoreError> {
    Ok(record::table
        .filter(record::entry.eq(entry))
        .select(Record::as_select())
        .first(conn)
        .await
        .optional()?)
}

pub async fn by_entries(conn: &mut Connection, entries: &[Vec<u8>]) -> Result<Vec<Record>, StoreError> {
    Ok(record::table
        .filter(record::entry.eq_any(entries))
        .order((record::event_time, record::accepted_at))
        .select(Record::as_select())
        .load(conn)
        .await?)
}

pub async fn by_event_id(
    conn: &mut Connection,
    party_id: i64,
    event_id: &str,
) -> Result<Vec<Record>, StoreError> {
    Ok(record::table
        .filter(record::party_id.eq(party_id).and(record::event_id.eq(event_id)))
        .order(record::accepted_at)
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// The party's event of this keyed CBV hash that is no correction: an import without an eventID that came before.
pub async fn by_event_hash(
    conn: &mut Connection,
    party_id: i64,
    event_hash: &[u8],
) -> Result<Option<Record>, StoreError> {
    Ok(record::table
        .filter(record::party_id.eq(party_id).and(record::event_hash.eq(event_hash)))
        .filter(record::corrects.is_null())
        .order(record::accepted_at)
        .select(Record::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// One import of a party at a time, until the transaction ends: an event without an eventID is a duplicate by its hash,
/// which no constraint watches.
pub async fn lock_imports(conn: &mut Connection, party_id: i64) -> Result<(), StoreError> {
    /// "impo": the advisory locks of imports.
    const CLASS: i32 = 0x696d_706f;
    let key = i32::try_from(party_id % i64::from(i32::MAX)).unwrap_or_default();
    diesel::sql_query("select pg_advisory_xact_lock($1, $2)")
        .bind::<diesel::sql_types::Integer, _>(CLASS)
        .bind::<diesel::sql_types::Integer, _>(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// The records that `entry` is corrected by.
pub async fn corrections_of(conn: &mut Connection, entries: &[Vec<u8>]) -> Result<Vec<Record>, StoreError> {
    Ok(record::table
        .filter(record::corrects.eq_any(entries.iter().map(Some)))
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// A party's newest records, newest first.
pub async fn newest_of(conn: &mut Connection, party_id: i64, limit: i64) -> Result<Vec<Record>, StoreError> {
    Ok(record::table
        .filter(record::party_id.eq(party_id).and(record::kind.eq("event")))
        .order(record::accepted_at.desc())
        .limit(limit)
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// The registrar's statements that replaced or revoked one of the keys, oldest first. `kids` as they stand in them.
pub async fn endings_of(conn: &mut Connection, kids: &[String]) -> Result<Vec<Record>, StoreError> {
    use diesel::{
        dsl::sql,
        sql_types::{Array, Bool, Text},
    };
    // Each arm names what the partial index on it is over.
    let replaced = sql::<Bool>(
        "(kind = 'statement' and step = 'rotate' and public -> 'statement' ->> 'replaces' = any(",
    )
    .bind::<Array<Text>, _>(kids)
    .sql("))");
    let revoked =
        sql::<Bool>("(kind = 'statement' and step = 'revoke' and public -> 'statement' ->> 'kid' = any(")
            .bind::<Array<Text>, _>(kids)
            .sql("))");
    Ok(record::table
        .filter(replaced.or(revoked))
        .order(record::accepted_at)
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// The registrar's statements about the logs after `first` up to `last`: in the log before each, and in the log itself.
pub async fn new_logs_between(
    conn: &mut Connection,
    first: i16,
    last: i16,
) -> Result<Vec<Record>, StoreError> {
    use diesel::{
        dsl::sql,
        sql_types::{Array, Bool, Text},
    };
    let between = log::table.filter(log::id.gt(first).and(log::id.le(last)));
    let origins: Vec<String> = between.select(log::origin).load(conn).await?;
    let stated = sql::<Bool>("public -> 'statement' ->> 'origin' = any(").bind::<Array<Text>, _>(origins);
    Ok(record::table
        .filter(record::kind.eq("statement").and(record::step.eq("new-log")))
        .filter(stated.sql(")"))
        .order(record::accepted_at)
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// The registrar's newest statements that replaced or revoked a key, newest first.
pub async fn endings(conn: &mut Connection, limit: i64) -> Result<Vec<Record>, StoreError> {
    Ok(record::table
        .filter(record::kind.eq("statement").and(record::step.eq_any(["rotate", "revoke"])))
        .order(record::accepted_at.desc())
        .limit(limit)
        .select(Record::as_select())
        .load(conn)
        .await?)
}

/// What was signed with a key from a moment on, newest first: `since` is (key, moment), `party_id` whose records, or all.
pub async fn signed_since(
    conn: &mut Connection,
    since: &[(Vec<u8>, DateTime<Utc>)],
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    use diesel::sql_types::{Array, BigInt, Binary, Nullable, Timestamptz};
    #[derive(QueryableByName)]
    struct Signed {
        #[diesel(sql_type = Binary)]
        entry: Vec<u8>,
    }
    let (kids, moments): (Vec<&[u8]>, Vec<DateTime<Utc>>) =
        since.iter().map(|(kid, moment)| (kid.as_slice(), *moment)).unzip();
    let signed: Vec<Signed> = diesel::sql_query(
        "select r.entry from unnest($1, $2) as ended (kid, since) join key using (kid) \
         join record r on r.party_id = key.party_id and r.kid = key.kid and r.accepted_at >= ended.since \
         where $3 is null or r.party_id = $3 order by r.accepted_at desc limit $4",
    )
    .bind::<Array<Binary>, _>(kids)
    .bind::<Array<Timestamptz>, _>(moments)
    .bind::<Nullable<BigInt>, _>(party_id)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let entries: Vec<Vec<u8>> = signed.into_iter().map(|row| row.entry).collect();
    by_entries(conn, &entries).await
}

pub async fn disclosures_of(
    conn: &mut Connection,
    entries: &[Vec<u8>],
) -> Result<Vec<Disclosure>, StoreError> {
    Ok(disclosure::table
        .filter(disclosure::entry.eq_any(entries))
        .order((disclosure::entry, disclosure::position))
        .select(Disclosure::as_select())
        .load(conn)
        .await?)
}

/// (entry, rel, target) of several records.
pub async fn refs_of(
    conn: &mut Connection,
    entries: &[Vec<u8>],
) -> Result<Vec<(Vec<u8>, String, Vec<u8>)>, StoreError> {
    Ok(record_ref::table
        .filter(record_ref::entry.eq_any(entries))
        .select((record_ref::entry, record_ref::rel, record_ref::target))
        .load(conn)
        .await?)
}

/// (entry, rel, target) of the records that point at `targets`.
pub async fn refs_to(
    conn: &mut Connection,
    targets: &[Vec<u8>],
) -> Result<Vec<(Vec<u8>, String, Vec<u8>)>, StoreError> {
    Ok(record_ref::table
        .filter(record_ref::target.eq_any(targets))
        .select((record_ref::entry, record_ref::rel, record_ref::target))
        .load(conn)
        .await?)
}

/// Says that the record speaks of the lot: `part` is input, output, observed or moved.
pub async fn insert_lot_part(
    conn: &mut Connection,
    entry: &[u8],
    lot_id: i64,
    part: &'static str,
    quantity: Option<i64>,
) -> Result<(), StoreError> {
    diesel::insert_into(record_lot::table)
        .values((
            record_lot::entry.eq(entry),
            record_lot::lot_id.eq(lot_id),
            record_lot::part.eq(part),
            record_lot::quantity.eq(quantity),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// (lot, part, quantity, record) of everything said of `lots`, oldest first, at most `limit`.
pub async fn of_lots(
    conn: &mut Connection,
    lots: &[i64],
    limit: i64,
) -> Result<Vec<(i64, String, Option<i64>, Record)>, StoreError> {
    Ok(record_lot::table
        .inner_join(record::table.on(record::entry.eq(record_lot::entry)))
        .filter(record_lot::lot_id.eq_any(lots))
        .order((record::event_time, record::accepted_at))
        .limit(limit)
        .select((record_lot::lot_id, record_lot::part, record_lot::quantity, Record::as_select()))
        .load(conn)
        .await?)
}

/// (part, lot) of a record.
pub async fn lots_of(
    conn: &mut Connection,
    entries: &[Vec<u8>],
) -> Result<Vec<(Vec<u8>, String, i64, Option<i64>)>, StoreError> {
    Ok(record_lot::table
        .filter(record_lot::entry.eq_any(entries))
        .select((record_lot::entry, record_lot::part, record_lot::lot_id, record_lot::quantity))
        .load(conn)
        .await?)
}
