//! What `fsck` reads: one consistent, read-only snapshot, over the synchronous driver and plain SQL. It shares no query with
//! the server, so that a mistake in one is not repeated in the other.

use postgres::{Client, NoTls, Row};

#[derive(Debug, thiserror::Error)]
pub enum FsckReadError {
    #[error("the database cannot be read")]
    Postgres(#[from] postgres::Error),
}

/// An open snapshot.
pub struct Snapshot {
    client: Client,
}

#[derive(Debug, Clone)]
pub struct LogRow {
    pub id: i16,
    pub origin: String,
    pub vkey: String,
    pub size: i64,
    pub root: Vec<u8>,
}

/// An entry with the signed bytes that it stands for.
#[derive(Debug, Clone)]
pub struct EntryRow {
    pub index: i64,
    pub hash: Vec<u8>,
    pub record: Option<RecordRow>,
    pub pack: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub struct RecordRow {
    pub jti: String,
    pub iss: String,
    pub kid: Vec<u8>,
    pub signed: String,
}

/// A holding, and what its movements add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imbalance {
    pub lot: String,
    pub party: String,
    pub place: String,
    pub held: i64,
    pub moved: i64,
}

impl Snapshot {
    /// Connects (as the role `auditor`) and opens the snapshot. Must not be called from within an async runtime.
    pub fn open(url: &str) -> Result<Self, FsckReadError> {
        let mut client = Client::connect(url, NoTls)?;
        client.batch_execute("begin isolation level repeatable read read only")?;
        Ok(Self { client })
    }

    pub fn logs(&mut self) -> Result<Vec<LogRow>, FsckReadError> {
        let rows = self.client.query(
            "select l.id, l.origin, l.vkey, h.size, h.root from log l join head h on h.log_id = l.id order by l.id",
            &[],
        )?;
        let log = |row: &Row| LogRow {
            id: row.get(0),
            origin: row.get(1),
            vkey: row.get(2),
            size: row.get(3),
            root: row.get(4),
        };
        Ok(rows.iter().map(log).collect())
    }

    /// Entries from index `from`, ascending.
    pub fn entries(&mut self, log_id: i16, from: i64, limit: i64) -> Result<Vec<EntryRow>, FsckReadError> {
        let rows = self.client.query(
            "select e.index, e.hash, r.jti::text, r.iss, r.kid, r.signed, \
             (select p.bytes from pack p where p.entry = e.hash limit 1) \
             from entry e left join record r on r.entry = e.hash \
             where e.log_id = $1 and e.index >= $2 order by e.index limit $3",
            &[&log_id, &from, &limit],
        )?;
        let entry = |row: &Row| {
            let jti: Option<String> = row.get(2);
            EntryRow {
                index: row.get(0),
                hash: row.get(1),
                record: jti.map(|jti| RecordRow {
                    jti,
                    iss: row.get(3),
                    kid: row.get(4),
                    signed: row.get(5),
                }),
                pack: row.get(6),
            }
        };
        Ok(rows.iter().map(entry).collect())
    }

    pub fn tile(&mut self, log_id: i16, level: i16, index: i64) -> Result<Option<Vec<u8>>, FsckReadError> {
        let row = self.client.query_opt(
            "select data from tile where log_id = $1 and level = $2 and index = $3",
            &[&log_id, &level, &index],
        )?;
        Ok(row.map(|row| row.get(0)))
    }

    /// How many tiles the log has.
    pub fn tile_count(&mut self, log_id: i16) -> Result<i64, FsckReadError> {
        Ok(self.client.query_one("select count(*) from tile where log_id = $1", &[&log_id])?.get(0))
    }

    /// (size, root, note) of the checkpoints with `from < size <= to`, ascending.
    pub fn checkpoints(
        &mut self,
        log_id: i16,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, Vec<u8>, String)>, FsckReadError> {
        let rows = self.client.query(
            "select size, root, note from checkpoint where log_id = $1 and size > $2 and size <= $3 order by size",
            &[&log_id, &from, &to],
        )?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Records that stand in no log and in no queue: acknowledged and lost.
    pub fn lost_records(&mut self, limit: i64) -> Result<Vec<String>, FsckReadError> {
        let rows = self.client.query(
            "select r.jti::text from record r where not exists (select from entry e where e.hash = r.entry) \
             and not exists (select from pending p where p.entry = r.entry) order by r.jti limit $1",
            &[&limit],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Holdings that are not what their movements add up to.
    pub fn imbalances(&mut self, limit: i64) -> Result<Vec<Imbalance>, FsckReadError> {
        let rows = self.client.query(
            "with moved as (select lot_id, party_id, place_id, sum(delta)::bigint as total from movement group by 1, 2, 3) \
             select l.uri, y.iss, p.uri, coalesce(h.quantity, 0), coalesce(m.total, 0) \
             from holding h full join moved m using (lot_id, party_id, place_id) \
             join lot l on l.id = lot_id join party y on y.id = party_id join place p on p.id = place_id \
             where coalesce(h.quantity, 0) <> coalesce(m.total, 0) order by lot_id limit $1",
            &[&limit],
        )?;
        let imbalance = |row: &Row| Imbalance {
            lot: row.get(0),
            party: row.get(1),
            place: row.get(2),
            held: row.get(3),
            moved: row.get(4),
        };
        Ok(rows.iter().map(imbalance).collect())
    }
}
