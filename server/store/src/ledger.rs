//! The transparency log's rows: the queue, entries, full tiles, checkpoints, the head, cosignatures.
//!
//! Append-only but for `pending` (taken from) and `head` (swapped). Hashes are 32 bytes as the columns hold them;
//! `service::ledger` parses them.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    dsl::count_star,
    prelude::*,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    schema::{checkpoint, cosignature, entry, head, log, pending, tile},
};

/// What one process at a time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// Of the log with this id.
    Sequencing(i16),
    Witnesses,
}

impl Lead {
    /// The two halves of the advisory lock's key. `SUYU` and `witn` in ASCII.
    fn lock(self) -> (i32, i32) {
        match self {
            Self::Sequencing(log_id) => (0x5355_5955, i32::from(log_id)),
            Self::Witnesses => (0x7769_746e, 0),
        }
    }
}

/// The constraint by which an entry stands once in the ledger.
pub const ENTRY_ONCE: &str = "entry_hash";

/// One shard of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = log)]
pub struct Log {
    pub id: i16,
    pub ledger: String,
    pub origin: String,
    pub vkey: String,
    /// `announced`, `open` or `sealed`.
    pub state: String,
    /// When it takes over from the one before.
    pub opens_at: DateTime<Utc>,
    pub sealed_at: Option<DateTime<Utc>>,
}

/// The newest signed head.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = head)]
pub struct Head {
    pub size: i64,
    pub root: Vec<u8>,
    pub signed_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = checkpoint)]
pub struct Checkpoint {
    pub log_id: i16,
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub signed_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = cosignature)]
pub struct Cosignature {
    pub log_id: i16,
    pub size: i64,
    pub witness: String,
    pub line: String,
    pub at: DateTime<Utc>,
}

/// A full tile: 256 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = tile)]
pub struct Tile {
    pub log_id: i16,
    pub level: i16,
    pub index: i64,
    pub data: Vec<u8>,
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = entry)]
pub struct Entry {
    pub log_id: i16,
    pub index: i64,
    pub hash: Vec<u8>,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Binary)]
    entry: Vec<u8>,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// A log that is not there yet.
#[derive(Debug, Clone, Copy, Insertable)]
#[diesel(table_name = log)]
pub struct NewLog<'a> {
    pub ledger: &'a str,
    pub origin: &'a str,
    pub vkey: &'a str,
    /// `announced` or `open`.
    pub state: &'a str,
    pub opens_at: DateTime<Utc>,
}

/// Adds a log with an empty head.
///
/// # Errors
/// A violated constraint where the origin is known, or another log is in that state already.
pub async fn insert_log(
    conn: &mut Connection,
    new: NewLog<'_>,
    empty_root: &[u8],
) -> Result<Log, StoreError> {
    let added: Log =
        diesel::insert_into(log::table).values(new).returning(Log::as_returning()).get_result(conn).await?;
    let first = (
        head::log_id.eq(added.id),
        head::size.eq(0_i64),
        head::root.eq(empty_root),
        head::signed_at.eq(new.opens_at),
    );
    diesel::insert_into(head::table).values(first).execute(conn).await?;
    Ok(added)
}

/// The open log takes nothing more. `false`: it was not open.
pub async fn seal_log(conn: &mut Connection, log_id: i16, at: DateTime<Utc>) -> Result<bool, StoreError> {
    let open = log::table.filter(log::id.eq(log_id).and(log::state.eq("open")));
    let sealed = diesel::update(open).set((log::state.eq("sealed"), log::sealed_at.eq(at)));
    Ok(sealed.execute(conn).await? == 1)
}

/// The announced log takes what is queued from now on. `false`: it was not announced.
pub async fn open_announced(conn: &mut Connection, log_id: i16) -> Result<bool, StoreError> {
    let announced = log::table.filter(log::id.eq(log_id).and(log::state.eq("announced")));
    Ok(diesel::update(announced).set(log::state.eq("open")).execute(conn).await? == 1)
}

/// All logs of the ledger, oldest first.
pub async fn logs(conn: &mut Connection) -> Result<Vec<Log>, StoreError> {
    Ok(log::table.order(log::id).select(Log::as_select()).load(conn).await?)
}

/// Tries to become the one who does it for as long as this connection lives; never waits.
pub async fn try_lead(conn: &mut Connection, what: Lead) -> Result<bool, StoreError> {
    let (first, second) = what.lock();
    let row: Locked = diesel::sql_query("select pg_try_advisory_lock($1, $2) as locked")
        .bind::<diesel::sql_types::Integer, _>(first)
        .bind::<diesel::sql_types::Integer, _>(second)
        .get_result(conn)
        .await?;
    Ok(row.locked)
}

/// Puts an entry into the queue: the sequencer gives it an index within about a second.
pub async fn queue(conn: &mut Connection, entry: &[u8]) -> Result<(), StoreError> {
    diesel::insert_into(pending::table).values(pending::entry.eq(entry)).execute(conn).await?;
    Ok(())
}

/// Puts many entries into the queue at once.
pub async fn queue_all(conn: &mut Connection, entries: &[Vec<u8>]) -> Result<(), StoreError> {
    diesel::sql_query("insert into pending (entry) select unnest($1)")
        .bind::<Array<Binary>, _>(entries)
        .execute(conn)
        .await?;
    Ok(())
}

/// How many entries wait, and since when the oldest does.
pub async fn queue_state(conn: &mut Connection) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
    use diesel::dsl::min;
    Ok(pending::table.select((count_star(), min(pending::queued_at))).first(conn).await?)
}

/// Takes at most `limit` waiting entries, oldest first. Rolled back with the caller's transaction: then they wait again.
pub async fn take_pending(conn: &mut Connection, limit: i64) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut taken: Vec<Taken> = diesel::sql_query(
        "delete from pending where id = any(array(select id from pending order by id limit $1)) \
         returning id, entry",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    taken.sort_by_key(|row| row.id);
    Ok(taken.into_iter().map(|row| row.entry).collect())
}

/// Takes one waiting entry, wherever it stands in the queue.
pub async fn take_entry(conn: &mut Connection, entry: &[u8]) -> Result<(), StoreError> {
    diesel::delete(pending::table.filter(pending::entry.eq(entry))).execute(conn).await?;
    Ok(())
}

/// Those of `hashes` that stand in a log already.
pub async fn known_entries(conn: &mut Connection, hashes: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(entry::table.filter(entry::hash.eq_any(hashes)).select(entry::hash).load(conn).await?)
}

/// Appends `hashes` from index `first`. Fails with constraint [`ENTRY_ONCE`] where one stands in a log already.
pub async fn insert_entries(
    conn: &mut Connection,
    log_id: i16,
    first: i64,
    hashes: &[Vec<u8>],
) -> Result<(), StoreError> {
    diesel::sql_query(
        "insert into entry (log_id, index, hash) \
         select $1, $2 + position - 1, hash from unnest($3) with ordinality as added (hash, position)",
    )
    .bind::<SmallInt, _>(log_id)
    .bind::<BigInt, _>(first)
    .bind::<Array<Binary>, _>(hashes)
    .execute(conn)
    .await?;
    Ok(())
}

pub async fn insert_tiles(conn: &mut Connection, tiles: &[Tile]) -> Result<(), StoreError> {
    diesel::insert_into(tile::table).values(tiles).execute(conn).await?;
    Ok(())
}

pub async fn insert_checkpoint(conn: &mut Connection, new: &Checkpoint) -> Result<(), StoreError> {
    diesel::insert_into(checkpoint::table).values(new).execute(conn).await?;
    Ok(())
}

/// Compare-and-swap of an open log's head. `false`: somebody else moved it, or the log is sealed, and nothing of this
/// transaction may be kept.
pub async fn swap_head(
    conn: &mut Connection,
    log_id: i16,
    from: &Head,
    to: &Checkpoint,
) -> Result<bool, StoreError> {
    let current = head::table
        .filter(head::log_id.eq(log_id))
        .filter(head::size.eq(from.size))
        .filter(head::root.eq(&from.root))
        .filter(diesel::dsl::exists(log::table.filter(log::id.eq(log_id).and(log::state.eq("open")))));
    let moved = diesel::update(current)
        .set((head::size.eq(to.size), head::root.eq(&to.root), head::signed_at.eq(to.signed_at)))
        .execute(conn)
        .await?;
    Ok(moved == 1)
}

pub async fn head(conn: &mut Connection, log_id: i16) -> Result<Head, StoreError> {
    Ok(head::table.find(log_id).select(Head::as_select()).first(conn).await?)
}

pub async fn checkpoint(
    conn: &mut Connection,
    log_id: i16,
    size: i64,
) -> Result<Option<Checkpoint>, StoreError> {
    Ok(checkpoint::table.find((log_id, size)).select(Checkpoint::as_select()).first(conn).await.optional()?)
}

/// The newest `limit` checkpoints, newest first.
pub async fn newest_checkpoints(
    conn: &mut Connection,
    log_id: i16,
    limit: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    Ok(checkpoint::table
        .filter(checkpoint::log_id.eq(log_id))
        .order(checkpoint::size.desc())
        .limit(limit)
        .select(Checkpoint::as_select())
        .load(conn)
        .await?)
}

/// The newest checkpoint that was signed so long ago, by the database's clock: the one that all servers share.
pub async fn newest_signed_before(
    conn: &mut Connection,
    log_id: i16,
    age: TimeDelta,
) -> Result<Option<Checkpoint>, StoreError> {
    use diesel::dsl::{IntervalDsl as _, now};
    let before = now.into_sql::<Timestamptz>() - age.num_seconds().seconds();
    Ok(checkpoint::table
        .filter(checkpoint::log_id.eq(log_id).and(checkpoint::signed_at.le(before)))
        .order(checkpoint::size.desc())
        .select(Checkpoint::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// The newest `limit` checkpoints that carry at least one cosignature, newest first.
pub async fn newest_cosigned(
    conn: &mut Connection,
    log_id: i16,
    limit: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    let cosigned = cosignature::table
        .filter(cosignature::log_id.eq(log_id))
        .select(cosignature::size)
        .distinct()
        .order(cosignature::size.desc())
        .limit(limit);
    Ok(checkpoint::table
        .filter(checkpoint::log_id.eq(log_id).and(checkpoint::size.eq_any(cosigned)))
        .order(checkpoint::size.desc())
        .select(Checkpoint::as_select())
        .load(conn)
        .await?)
}

/// Whose cosignatures count, and how many of them a checkpoint must have.
#[derive(Debug, Clone, Copy)]
pub struct Quorum<'a> {
    pub names: &'a [&'a str],
    pub least: usize,
}

impl Quorum<'_> {
    fn least(&self) -> i64 {
        i64::try_from(self.least).unwrap_or(i64::MAX)
    }
}

/// The newest `limit` checkpoints that so many of the witnesses cosigned, newest first.
pub async fn newest_with_quorum(
    conn: &mut Connection,
    log_id: i16,
    quorum: Quorum<'_>,
    limit: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    let sizes: Vec<i64> = cosignature::table
        .filter(cosignature::log_id.eq(log_id))
        .filter(cosignature::witness.eq_any(quorum.names))
        .group_by(cosignature::size)
        .having(count_star().ge(quorum.least()))
        .order(cosignature::size.desc())
        .limit(limit)
        .select(cosignature::size)
        .load(conn)
        .await?;
    let found = checkpoint::table.filter(checkpoint::log_id.eq(log_id).and(checkpoint::size.eq_any(sizes)));
    Ok(found.order(checkpoint::size.desc()).select(Checkpoint::as_select()).load(conn).await?)
}

/// The first `limit` checkpoints over `index` that so many of the witnesses cosigned, smallest first.
pub async fn first_with_quorum(
    conn: &mut Connection,
    log_id: i16,
    index: i64,
    quorum: Quorum<'_>,
    limit: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    let sizes: Vec<i64> = cosignature::table
        .filter(cosignature::log_id.eq(log_id).and(cosignature::size.gt(index)))
        .filter(cosignature::witness.eq_any(quorum.names))
        .group_by(cosignature::size)
        .having(count_star().ge(quorum.least()))
        .order(cosignature::size)
        .limit(limit)
        .select(cosignature::size)
        .load(conn)
        .await?;
    let found = checkpoint::table.filter(checkpoint::log_id.eq(log_id).and(checkpoint::size.eq_any(sizes)));
    Ok(found.order(checkpoint::size).select(Checkpoint::as_select()).load(conn).await?)
}

pub async fn cosignatures(
    conn: &mut Connection,
    log_id: i16,
    size: i64,
) -> Result<Vec<Cosignature>, StoreError> {
    Ok(cosignature::table
        .filter(cosignature::log_id.eq(log_id).and(cosignature::size.eq(size)))
        .order(cosignature::witness)
        .select(Cosignature::as_select())
        .load(conn)
        .await?)
}

/// Keeps the first cosignature of a witness for a size.
pub async fn insert_cosignature(conn: &mut Connection, new: &Cosignature) -> Result<(), StoreError> {
    diesel::insert_into(cosignature::table).values(new).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}

/// The largest size that `witness` has cosigned.
pub async fn newest_size_of(
    conn: &mut Connection,
    log_id: i16,
    witness: &str,
) -> Result<Option<i64>, StoreError> {
    Ok(cosignature::table
        .filter(cosignature::log_id.eq(log_id).and(cosignature::witness.eq(witness)))
        .select(diesel::dsl::max(cosignature::size))
        .first(conn)
        .await?)
}

/// Whether any witness ever cosigned this log.
pub async fn ever_cosigned(conn: &mut Connection, log_id: i16) -> Result<bool, StoreError> {
    let query = cosignature::table.filter(cosignature::log_id.eq(log_id));
    Ok(diesel::select(diesel::dsl::exists(query)).get_result(conn).await?)
}

pub async fn tile(
    conn: &mut Connection,
    log_id: i16,
    level: i16,
    index: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(tile::table.find((log_id, level, index)).select(tile::data).first(conn).await.optional()?)
}

/// Full tiles of one level from index `first`, ascending.
pub async fn tiles_from(
    conn: &mut Connection,
    log_id: i16,
    level: i16,
    first: i64,
    limit: i64,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    Ok(tile::table
        .filter(tile::log_id.eq(log_id).and(tile::level.eq(level)).and(tile::index.ge(first)))
        .order(tile::index)
        .limit(limit)
        .select((tile::index, tile::data))
        .load(conn)
        .await?)
}

/// The hashes of `[first, first + limit)`, as far as there are entries.
pub async fn entries_from(
    conn: &mut Connection,
    log_id: i16,
    first: i64,
    limit: i64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(entry::table
        .filter(entry::log_id.eq(log_id).and(entry::index.ge(first)))
        .order(entry::index)
        .limit(limit)
        .select(entry::hash)
        .load(conn)
        .await?)
}

/// What was signed behind an entry.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct SignedPart {
    #[diesel(sql_type = BigInt)]
    pub index: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub record: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub pack: Option<Vec<u8>>,
    /// Whose it is.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub party_id: Option<i64>,
}

/// The signed bytes behind the entries `[first, first + limit)`, ascending: at least one, and no more once `bytes` are passed.
pub async fn signed_parts(
    conn: &mut Connection,
    log_id: i16,
    first: i64,
    limit: i64,
    bytes: i64,
) -> Result<Vec<SignedPart>, StoreError> {
    Ok(diesel::sql_query(
        "select index, record, pack, party_id from ( \
           select e.index, r.signed as record, p.bytes as pack, coalesce(r.party_id, d.party_id) as party_id, \
             coalesce(octet_length(r.signed), octet_length(p.bytes), 0) as own, \
             sum(coalesce(octet_length(r.signed), octet_length(p.bytes), 0)) over (order by e.index) as running \
           from entry e left join record r on r.entry = e.hash \
             left join lateral (select bytes, device_id from pack where pack.entry = e.hash limit 1) p on true \
             left join device d on d.id = p.device_id \
           where e.log_id = $1 and e.index >= $2 and e.index < $2 + $3) behind \
         where running - own < $4 order by index",
    )
    .bind::<SmallInt, _>(log_id)
    .bind::<BigInt, _>(first)
    .bind::<BigInt, _>(limit)
    .bind::<BigInt, _>(bytes)
    .load(conn)
    .await?)
}

/// Where `hash` stands, in whichever log.
pub async fn locate(conn: &mut Connection, hash: &[u8]) -> Result<Option<Entry>, StoreError> {
    Ok(entry::table.filter(entry::hash.eq(hash)).select(Entry::as_select()).first(conn).await.optional()?)
}

/// Where those of `hashes` stand that are in a log.
pub async fn locate_all(conn: &mut Connection, hashes: &[Vec<u8>]) -> Result<Vec<Entry>, StoreError> {
    Ok(entry::table
        .filter(entry::hash.eq_any(hashes))
        .order((entry::log_id, entry::index))
        .select(Entry::as_select())
        .load(conn)
        .await?)
}
