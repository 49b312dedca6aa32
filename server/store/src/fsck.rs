//! What `fsck` reads: consistent, read-only snapshots, over the synchronous driver and plain SQL. It shares no query with
//! the server, so that a mistake in one is not repeated in the other.

pub mod derived;
mod rows;

use chrono::{DateTime, Utc};
use postgres::{Client, NoTls, Statement, fallible_iterator::FallibleIterator as _};
use uuid::Uuid;

pub use rows::{
    AnchorRow, Attached, CheckpointRow, CosignatureRow, DisclosureRow, EntryRow, HeadRow, KeyRow, LogRow,
    LotPartRow, PackRow, RecordRow, RefRow, Said,
};

#[derive(Debug, thiserror::Error)]
pub enum FsckReadError {
    #[error("the database cannot be read")]
    Postgres(#[from] postgres::Error),
}

/// For a connection that only walks ranges by their keys: a planner that takes a table for small would read all of it for
/// each range, and compiling a query costs more than a range.
const RANGES_ONLY: &str = "set local enable_hashjoin = off; set local enable_mergejoin = off; \
     set local enable_seqscan = off; set local jit = off; set local max_parallel_workers_per_gather = 0";

/// An open snapshot. Several connections can look at the same one: see [`Snapshot::join`].
pub struct Snapshot {
    client: Client,
    entries: Option<Statement>,
    attached: Option<[Statement; 3]>,
}

impl Snapshot {
    /// Connects (as the role `auditor`) and opens the snapshot. Must not be called from within an async runtime.
    pub fn open(url: &str) -> Result<Self, FsckReadError> {
        let mut client = Client::connect(url, NoTls)?;
        client.batch_execute("begin isolation level repeatable read read only")?;
        Ok(Self { client, entries: None, attached: None })
    }

    /// Another connection on the snapshot of that name, for as long as the first one is open.
    pub fn join(url: &str, name: &str) -> Result<Self, FsckReadError> {
        let mut joined = Self::open(url)?;
        let quoted = name.replace('\'', "''");
        joined.client.batch_execute(&format!("set transaction snapshot '{quoted}'"))?;
        Ok(joined)
    }

    /// [`Self::join`] for whoever reads ranges and lists of entries alone.
    pub fn join_for_ranges(url: &str, name: &str) -> Result<Self, FsckReadError> {
        let mut joined = Self::join(url, name)?;
        joined.client.batch_execute(RANGES_ONLY)?;
        Ok(joined)
    }

    /// The name under which others can join.
    pub fn name(&mut self) -> Result<String, FsckReadError> {
        Ok(self.client.query_one("select pg_export_snapshot()", &[])?.get(0))
    }

    pub fn logs(&mut self) -> Result<Vec<LogRow>, FsckReadError> {
        let rows = self.client.query(rows::LOGS, &[])?;
        Ok(rows.iter().map(LogRow::of).collect())
    }

    /// Calls `each` for the entries `from <= index < to`, ascending, with what stands behind them.
    pub fn entries(
        &mut self,
        log_id: i16,
        (from, to): (i64, i64),
        mut each: impl FnMut(&EntryRow<'_>),
    ) -> Result<(), FsckReadError> {
        let statement = match &self.entries {
            Some(statement) => statement.clone(),
            None => self.entries.insert(self.client.prepare(rows::ENTRIES)?).clone(),
        };
        let mut rows = self.client.query_raw(&statement, rows::parameters(&[&log_id, &from, &to]))?;
        while let Some(row) = rows.next()? {
            each(&EntryRow::of(&row));
        }
        Ok(())
    }

    /// What hangs on the records of the entries `from <= index < to`.
    pub fn attached(&mut self, log_id: i16, (from, to): (i64, i64)) -> Result<Attached, FsckReadError> {
        let statements = if let Some(statements) = &self.attached {
            statements.clone()
        } else {
            let [refs, disclosures, lots] = rows::ATTACHED;
            let mut prepare = |sql| self.client.prepare(sql);
            self.attached.insert([prepare(refs)?, prepare(disclosures)?, prepare(lots)?]).clone()
        };
        let [refs, disclosures, lots] = statements.map(|one| self.client.query(&one, &[&log_id, &from, &to]));
        Ok(Attached::of(&refs?, &disclosures?, &lots?))
    }

    /// Calls `each` for those of `indices` that are there, ascending, with what stands behind them.
    pub fn listed(
        &mut self,
        log_id: i16,
        indices: &[i64],
        mut each: impl FnMut(&EntryRow<'_>),
    ) -> Result<(), FsckReadError> {
        let parameters: &[&(dyn postgres::types::ToSql + Sync)] = &[&log_id, &indices];
        let mut rows = self.client.query_raw(rows::LISTED_ENTRIES, rows::parameters(parameters))?;
        while let Some(row) = rows.next()? {
            each(&EntryRow::of(&row));
        }
        Ok(())
    }

    /// What hangs on the records of `indices`.
    pub fn attached_to(&mut self, log_id: i16, indices: &[i64]) -> Result<Attached, FsckReadError> {
        let [refs, disclosures, lots] =
            rows::LISTED_ATTACHED.map(|sql| self.client.query(sql, &[&log_id, &indices]));
        Ok(Attached::of(&refs?, &disclosures?, &lots?))
    }

    /// Those of the full tiles of one level that are there, ascending.
    pub fn listed_tiles(
        &mut self,
        log_id: i16,
        level: i16,
        indices: &[i64],
    ) -> Result<Vec<(i64, Vec<u8>)>, FsckReadError> {
        let rows = self.client.query(rows::LISTED_TILES, &[&log_id, &level, &indices])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The entries `from <= index < to`, without what stands behind them.
    pub fn hashes(&mut self, log_id: i16, (from, to): (i64, i64)) -> Result<Vec<Vec<u8>>, FsckReadError> {
        let rows = self.client.query(rows::HASHES, &[&log_id, &from, &to])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Each party's first place: Digital Link of the party → of the place.
    pub fn first_places(&mut self) -> Result<Vec<(String, String)>, FsckReadError> {
        let rows = self.client.query(rows::FIRST_PLACES, &[])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The registrars' statements in the order of the logs: (log, index, entry, signed bytes).
    pub fn statements(&mut self, mut each: impl FnMut(i16, i64, &[u8], &str)) -> Result<(), FsckReadError> {
        let mut rows = self.client.query_raw(rows::STATEMENTS, rows::parameters(&[]))?;
        while let Some(row) = rows.next()? {
            each(row.get(0), row.get(1), row.get(2), row.get(3));
        }
        Ok(())
    }

    /// Full tiles of one level with `from <= index < to`, ascending.
    pub fn tiles(
        &mut self,
        log_id: i16,
        level: i16,
        (from, to): (i64, i64),
    ) -> Result<Vec<(i64, Vec<u8>)>, FsckReadError> {
        let rows = self.client.query(rows::TILES, &[&log_id, &level, &from, &to])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// How many tiles the log has.
    pub fn tile_count(&mut self, log_id: i16) -> Result<i64, FsckReadError> {
        Ok(self.client.query_one("select count(*) from tile where log_id = $1", &[&log_id])?.get(0))
    }

    /// Checkpoints with `from < size <= to`, ascending.
    pub fn checkpoints(
        &mut self,
        log_id: i16,
        (from, to): (i64, i64),
    ) -> Result<Vec<CheckpointRow>, FsckReadError> {
        let rows = self.client.query(rows::CHECKPOINTS, &[&log_id, &from, &to])?;
        Ok(rows.iter().map(CheckpointRow::of).collect())
    }

    pub fn newest_checkpoint(&mut self, log_id: i16) -> Result<Option<CheckpointRow>, FsckReadError> {
        let row = self.client.query_opt(rows::NEWEST_CHECKPOINT, &[&log_id])?;
        Ok(row.as_ref().map(CheckpointRow::of))
    }

    /// The last entry whose index is none of `entries` that follow each other.
    pub fn beyond(&mut self, log_id: i16, entries: i64) -> Result<Option<i64>, FsckReadError> {
        Ok(self.client.query_one(rows::BEYOND, &[&log_id, &entries])?.get(0))
    }

    /// How many checkpoints are of sizes that a log of `entries` never had.
    pub fn strays(&mut self, log_id: i16, entries: i64) -> Result<i64, FsckReadError> {
        Ok(self.client.query_one(rows::STRAYS, &[&log_id, &entries])?.get(0))
    }

    /// Cosignatures of the checkpoints with `from < size <= to`.
    pub fn cosignatures(
        &mut self,
        log_id: i16,
        (from, to): (i64, i64),
    ) -> Result<Vec<CosignatureRow>, FsckReadError> {
        let rows = self.client.query(rows::COSIGNATURES, &[&log_id, &from, &to])?;
        Ok(rows.iter().map(CosignatureRow::of).collect())
    }

    /// Every key's row, without its secret.
    pub fn keys(&mut self) -> Result<Vec<KeyRow>, FsckReadError> {
        let rows = self.client.query(rows::KEYS, &[])?;
        Ok(rows.iter().map(KeyRow::of).collect())
    }

    /// The lines that are kept under a roster's root.
    pub fn roster(&mut self, root: &[u8]) -> Result<Option<String>, FsckReadError> {
        let row = self.client.query_opt("select lines from roster where root = $1", &[&root])?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Roots of kept rosters.
    pub fn roster_roots(&mut self) -> Result<Vec<Vec<u8>>, FsckReadError> {
        let rows = self.client.query("select root from roster order by root", &[])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether a record that waits for the log names that root.
    pub fn roster_waits(&mut self, root: &str) -> Result<bool, FsckReadError> {
        Ok(self.client.query_one(rows::ROSTER_WAITS, &[&root])?.get(0))
    }

    /// What was sent to the chains, beside the checkpoint that it names.
    pub fn anchors(&mut self, mut each: impl FnMut(&AnchorRow)) -> Result<(), FsckReadError> {
        let mut rows = self.client.query_raw(rows::ANCHORS, rows::parameters(&[]))?;
        while let Some(row) = rows.next()? {
            each(&AnchorRow::of(&row));
        }
        Ok(())
    }

    /// Signed bytes that are not in a log: the records and packs that wait for it.
    pub fn waiting(&mut self, mut each: impl FnMut(&EntryRow<'_>)) -> Result<(), FsckReadError> {
        let mut rows = self.client.query_raw(rows::WAITING, rows::parameters(&[]))?;
        while let Some(row) = rows.next()? {
            each(&EntryRow::of(&row));
        }
        Ok(())
    }

    /// What one of [`derived::CHECKS`] finds, at most `limit`.
    pub fn derived(
        &mut self,
        check: &derived::Check,
        limit: i64,
    ) -> Result<Vec<(String, String)>, FsckReadError> {
        let rows = self.client.query(&format!("{} limit {limit}", check.sql), &[])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// A moment as the database keeps it, to the microsecond.
pub type Moment = DateTime<Utc>;
/// A record's own name.
pub type Jti = Uuid;
