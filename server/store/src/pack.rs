//! Reading packs: the signed bytes as they came. Evidence: added to, never changed.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::pack};

#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = pack)]
pub struct Pack {
    pub device_id: i64,
    pub cti: Vec<u8>,
    pub entry: Vec<u8>,
    pub kid: Vec<u8>,
    pub bytes: Vec<u8>,
    pub readings: i32,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub mark: Option<String>,
    pub received_at: DateTime<Utc>,
}

impl Pack {
    pub fn key(&self) -> PackKey {
        PackKey { device_id: self.device_id, cti: self.cti.clone() }
    }
}

/// What makes a pack one: the device and the number that the signer gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, QueryableByName)]
pub struct PackKey {
    #[diesel(sql_type = BigInt)]
    pub device_id: i64,
    #[diesel(sql_type = Binary)]
    pub cti: Vec<u8>,
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = BigInt)]
    device_id: i64,
    #[diesel(sql_type = Binary)]
    cti: Vec<u8>,
    #[diesel(sql_type = Binary)]
    entry: Vec<u8>,
}

/// Writes packs and queues their strict checks; a pack whose key is known is left out. Returns the keys that are new.
pub async fn insert_new(conn: &mut Connection, packs: &[Pack]) -> Result<Vec<PackKey>, StoreError> {
    fn column<'a, T>(packs: &'a [Pack], of: impl Fn(&'a Pack) -> T) -> Vec<T> {
        packs.iter().map(of).collect()
    }
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(diesel::sql_query(
        "with stored as (
            insert into pack (device_id, cti, entry, kid, bytes, readings, first_at, last_at, mark, received_at)
            select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            on conflict (device_id, cti) do nothing
            returning device_id, cti, readings),
        due as (insert into strict_check (device_id, cti, readings) select device_id, cti, readings from stored)
        select device_id, cti from stored",
    )
    .bind::<Array<BigInt>, _>(column(packs, |pack| pack.device_id))
    .bind::<Array<Binary>, _>(column(packs, |pack| pack.cti.as_slice()))
    .bind::<Array<Binary>, _>(column(packs, |pack| pack.entry.as_slice()))
    .bind::<Array<Binary>, _>(column(packs, |pack| pack.kid.as_slice()))
    .bind::<Array<Binary>, _>(column(packs, |pack| pack.bytes.as_slice()))
    .bind::<Array<Integer>, _>(column(packs, |pack| pack.readings))
    .bind::<Array<Timestamptz>, _>(column(packs, |pack| pack.first_at))
    .bind::<Array<Timestamptz>, _>(column(packs, |pack| pack.last_at))
    .bind::<Array<Nullable<Text>>, _>(column(packs, |pack| pack.mark.as_deref()))
    .bind::<Array<Timestamptz>, _>(column(packs, |pack| pack.received_at))
    .load(conn)
    .await?)
}

/// The entries of known packs among `keys`.
pub async fn entries(conn: &mut Connection, keys: &[PackKey]) -> Result<Vec<(PackKey, Vec<u8>)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<Known> = diesel::sql_query(
        "select device_id, cti, entry from pack where (device_id, cti) in (select * from unnest($1, $2))",
    )
    .bind::<Array<BigInt>, _>(keys.iter().map(|key| key.device_id).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(keys.iter().map(|key| key.cti.as_slice()).collect::<Vec<_>>())
    .load(conn)
    .await?;
    let keyed = |row: Known| (PackKey { device_id: row.device_id, cti: row.cti }, row.entry);
    Ok(known.into_iter().map(keyed).collect())
}

/// The entries of those of `keys` that passed their strict check: they stand in a log, or wait for it.
pub async fn leaves(conn: &mut Connection, keys: &[PackKey]) -> Result<Vec<(PackKey, Vec<u8>)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<Known> = diesel::sql_query(
        "select device_id, cti, entry from pack p
        where (device_id, cti) in (select * from unnest($1, $2))
            and (exists (select from entry e where e.hash = p.entry)
                or exists (select from pending q where q.entry = p.entry))",
    )
    .bind::<Array<BigInt>, _>(keys.iter().map(|key| key.device_id).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(keys.iter().map(|key| key.cti.as_slice()).collect::<Vec<_>>())
    .load(conn)
    .await?;
    let keyed = |row: Known| (PackKey { device_id: row.device_id, cti: row.cti }, row.entry);
    Ok(known.into_iter().map(keyed).collect())
}

/// What one transaction checks strictly, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictBatch {
    pub packs: i64,
    /// In all of its packs; one pack is taken however many it has.
    pub readings: i64,
}

/// Takes packs whose strict check is due, oldest first, passing by what another transaction has taken. Rolled back with the
/// caller's: then they are due again.
pub async fn take_strict_checks(conn: &mut Connection, batch: StrictBatch) -> Result<Vec<Pack>, StoreError> {
    Ok(diesel::sql_query(
        "with waiting as (select id, readings from strict_check order by id limit $1 for update skip locked),
        counted as (select id, sum(readings) over (order by id) - readings as before from waiting),
        due as (delete from strict_check where id = any(array(select id from counted where before < $2))
            returning device_id, cti)
        select p.* from due join pack p using (device_id, cti)",
    )
    .bind::<BigInt, _>(batch.packs)
    .bind::<BigInt, _>(batch.readings)
    .load(conn)
    .await?)
}

/// How many packs wait for their strict check: the log's lag behind the intake.
pub async fn strict_checks_due(conn: &mut Connection) -> Result<i64, StoreError> {
    Ok(crate::schema::strict_check::table.count().get_result(conn).await?)
}

/// Packs of a device that cover any of a time, in the order of time.
pub async fn of_device(
    conn: &mut Connection,
    device_id: i64,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Pack>, StoreError> {
    Ok(pack::table
        .filter(pack::device_id.eq(device_id).and(pack::last_at.ge(from)).and(pack::first_at.lt(to)))
        .order((pack::first_at, pack::cti))
        .limit(limit)
        .select(Pack::as_select())
        .load(conn)
        .await?)
}

/// How many packs of a device were marked since, by mark.
pub async fn marks(
    conn: &mut Connection,
    device_id: i64,
    since: DateTime<Utc>,
) -> Result<Vec<(String, i64)>, StoreError> {
    let marked = pack::table
        .filter(pack::device_id.eq(device_id).and(pack::mark.is_not_null()).and(pack::received_at.ge(since)))
        .group_by(pack::mark)
        .select((pack::mark.assume_not_null(), diesel::dsl::count_star()));
    Ok(marked.load(conn).await?)
}

pub async fn by_entry(conn: &mut Connection, entry: &[u8]) -> Result<Option<Pack>, StoreError> {
    Ok(pack::table.filter(pack::entry.eq(entry)).select(Pack::as_select()).first(conn).await.optional()?)
}
