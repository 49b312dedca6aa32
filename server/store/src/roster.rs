//! Rosters: the lines under each stated root, and where the statements stand in the log.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    record::Record,
    schema::{entry, record, roster},
};

pub async fn insert(conn: &mut Connection, root: &[u8], lines: &str) -> Result<(), StoreError> {
    diesel::insert_into(roster::table)
        .values((roster::root.eq(root), roster::lines.eq(lines)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn lines(conn: &mut Connection, root: &[u8]) -> Result<Option<String>, StoreError> {
    Ok(roster::table.find(root).select(roster::lines).first(conn).await.optional()?)
}

/// The newest roster statement, in a log or still waiting.
pub async fn newest(conn: &mut Connection) -> Result<Option<Record>, StoreError> {
    Ok(record::table
        .filter(record::step.eq("roster").and(record::kind.eq("statement")))
        .order(record::accepted_at.desc())
        .select(Record::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// (log, index) of the newest roster statement that stands in a log.
pub async fn newest_place(conn: &mut Connection) -> Result<Option<(i16, i64)>, StoreError> {
    Ok(record::table
        .inner_join(entry::table.on(entry::hash.eq(record::entry)))
        .filter(record::step.eq("roster").and(record::kind.eq("statement")))
        .order(record::accepted_at.desc())
        .select((entry::log_id, entry::index))
        .first(conn)
        .await
        .optional()?)
}

/// The first roster statement of the log after `index`, and its own index.
pub async fn first_after(
    conn: &mut Connection,
    log_id: i16,
    index: i64,
) -> Result<Option<(i64, Record)>, StoreError> {
    Ok(record::table
        .inner_join(entry::table.on(entry::hash.eq(record::entry)))
        .filter(record::step.eq("roster").and(record::kind.eq("statement")))
        .filter(entry::log_id.eq(log_id).and(entry::index.gt(index)))
        .order(entry::index)
        .select((entry::index, Record::as_select()))
        .first(conn)
        .await
        .optional()?)
}

/// The last roster statement of the log before `index`, and its own index.
pub async fn last_before(
    conn: &mut Connection,
    log_id: i16,
    index: i64,
) -> Result<Option<(i64, Record)>, StoreError> {
    Ok(record::table
        .inner_join(entry::table.on(entry::hash.eq(record::entry)))
        .filter(record::step.eq("roster").and(record::kind.eq("statement")))
        .filter(entry::log_id.eq(log_id).and(entry::index.lt(index)))
        .order(entry::index.desc())
        .select((entry::index, Record::as_select()))
        .first(conn)
        .await
        .optional()?)
}
