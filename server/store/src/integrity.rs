//! What the sampled checks of the ledger found.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Bool, Integer},
};
use diesel_async::RunQueryDsl;

use crate::{Connection, StoreError, schema::integrity_check};

/// The two halves of the advisory lock's key: `SUYU` and `fsck` in ASCII.
const LOCK: (i32, i32) = (0x5355_5955, 0x6673_636b);

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = integrity_check)]
pub struct Check {
    pub at: DateTime<Utc>,
    pub entries: i64,
    /// Entries that there were.
    pub logged: i64,
    pub misfits: i64,
    pub first_at: Option<String>,
    pub first_what: Option<String>,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Whether this transaction is, until it ends, the one that checks.
pub async fn lead(conn: &mut Connection) -> Result<bool, StoreError> {
    let row: Locked = diesel::sql_query("select pg_try_advisory_xact_lock($1, $2) as locked")
        .bind::<Integer, _>(LOCK.0)
        .bind::<Integer, _>(LOCK.1)
        .get_result(conn)
        .await?;
    Ok(row.locked)
}

pub async fn insert(conn: &mut Connection, check: &Check) -> Result<(), StoreError> {
    diesel::insert_into(integrity_check::table).values(check).execute(conn).await?;
    Ok(())
}

pub async fn newest(conn: &mut Connection) -> Result<Option<Check>, StoreError> {
    Ok(integrity_check::table
        .order(integrity_check::id.desc())
        .select(Check::as_select())
        .first(conn)
        .await
        .optional()?)
}
