//! Runs of serial numbers: ranges, never a row a code. And how often they were scanned.

use std::ops::Bound;

use chrono::NaiveDate;
use diesel::{prelude::*, sql_query, sql_types};
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    schema::{code_run, code_void, scan},
};

/// `count` codes from index `first` of the counter of (gtin, key epoch), for one lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRun {
    pub gtin: String,
    pub key_epoch: char,
    pub first: i64,
    pub count: i64,
    pub lot_id: i64,
    pub entry: Vec<u8>,
}

/// The next free index of the counter. The advisory lock makes two runs of one GTIN wait for each other.
pub async fn next_index(conn: &mut Connection, gtin: &str, key_epoch: char) -> Result<i64, StoreError> {
    #[derive(QueryableByName)]
    struct Next {
        #[diesel(sql_type = sql_types::BigInt)]
        next: i64,
    }
    let epoch = key_epoch.to_string();
    sql_query("select pg_advisory_xact_lock(hashtextextended('code_run/' || $1 || $2, 0))")
        .bind::<sql_types::Text, _>(gtin)
        .bind::<sql_types::Text, _>(&epoch)
        .execute(conn)
        .await?;
    let row: Next = sql_query(
        "select coalesce(max(upper(span)), 0) as next from code_run where gtin = $1 and key_epoch = $2",
    )
    .bind::<sql_types::Text, _>(gtin)
    .bind::<sql_types::Text, _>(&epoch)
    .get_result(conn)
    .await?;
    Ok(row.next)
}

/// Fails with an exclusion violation where the span overlaps one of the same counter.
pub async fn insert(conn: &mut Connection, run: &CodeRun, key_hash: &[u8]) -> Result<(), StoreError> {
    let end =
        run.first.checked_add(run.count).ok_or(StoreError::Corrupt("a code run past the counter's end"))?;
    diesel::insert_into(code_run::table)
        .values((
            code_run::gtin.eq(&run.gtin),
            code_run::key_epoch.eq(run.key_epoch.to_string()),
            code_run::span.eq((Bound::Included(run.first), Bound::Excluded(end))),
            code_run::lot_id.eq(run.lot_id),
            code_run::entry.eq(&run.entry),
            code_run::key_hash.eq(key_hash),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

type RunRow = (String, String, (Bound<i64>, Bound<i64>), i64, Vec<u8>);

fn run_of((gtin, epoch, span, lot_id, entry): RunRow) -> Result<CodeRun, StoreError> {
    let (Bound::Included(first), Bound::Excluded(end)) = span else {
        return Err(StoreError::Corrupt("a code run's span"));
    };
    let key_epoch = epoch.chars().next().ok_or(StoreError::Corrupt("a code run's key epoch"))?;
    Ok(CodeRun { gtin, key_epoch, first, count: end.saturating_sub(first), lot_id, entry })
}

/// The run that holds `index`; `None`: a key leaked or a row is lost, which is an alarm.
pub async fn holding_index(
    conn: &mut Connection,
    gtin: &str,
    key_epoch: char,
    index: i64,
) -> Result<Option<CodeRun>, StoreError> {
    let row: Option<RunRow> = code_run::table
        .filter(code_run::gtin.eq(gtin).and(code_run::key_epoch.eq(key_epoch.to_string())))
        .filter(code_run::span.contains(index))
        .select((code_run::gtin, code_run::key_epoch, code_run::span, code_run::lot_id, code_run::entry))
        .first(conn)
        .await
        .optional()?;
    row.map(run_of).transpose()
}

pub async fn runs_of_lot(conn: &mut Connection, lot_id: i64) -> Result<Vec<CodeRun>, StoreError> {
    let rows: Vec<RunRow> = code_run::table
        .filter(code_run::lot_id.eq(lot_id))
        .order(code_run::id)
        .select((code_run::gtin, code_run::key_epoch, code_run::span, code_run::lot_id, code_run::entry))
        .load(conn)
        .await?;
    rows.into_iter().map(run_of).collect()
}

/// Why the code was voided, if it was.
pub async fn void_reason(
    conn: &mut Connection,
    gtin: &str,
    key_epoch: char,
    index: i64,
) -> Result<Option<String>, StoreError> {
    Ok(code_void::table
        .filter(code_void::gtin.eq(gtin).and(code_void::key_epoch.eq(key_epoch.to_string())))
        .filter(code_void::span.contains(index))
        .select(code_void::reason)
        .first(conn)
        .await
        .optional()?)
}

/// Counts one scan in `month` (its first day). Never a place, never a person. Nobody waits for the disk: a power failure may
/// forget the last half second of counts.
pub async fn count_scan(conn: &mut Connection, uri: &str, month: NaiveDate) -> Result<(), StoreError> {
    sql_query(
        "insert into scan (uri, month) select $1, $2 from set_config('synchronous_commit', 'off', true)
        on conflict (uri, month) do update set times = scan.times + 1",
    )
    .bind::<sql_types::Text, _>(uri)
    .bind::<sql_types::Date, _>(month)
    .execute(conn)
    .await?;
    Ok(())
}

/// (month, times) of every month in which the code was scanned, oldest first.
pub async fn scans(conn: &mut Connection, uri: &str) -> Result<Vec<(NaiveDate, i64)>, StoreError> {
    Ok(scan::table
        .filter(scan::uri.eq(uri))
        .order(scan::month)
        .select((scan::month, scan::times))
        .load(conn)
        .await?)
}
