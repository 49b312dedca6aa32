//! The log as the rest of the server sees it: heads, tiles, look-ups and proofs. Writing is `jobs::sequencer`'s.

pub mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, TimeDelta, Utc};
use store::{Connection, Store, StoreError, anchor::Anchor, ledger as rows};
use trace::{
    hash::Hash,
    merkle,
    record::Seen,
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, SignerKey, VerifierKey},
        origin::Origin,
        policy::Policy,
        tile::{TileId, TilePath},
    },
};
use tree::{TreeError, TreeReader};

/// How long `/checkpoint` waits for witnesses before it shows a head with the cosignatures that it has.
const WITNESS_PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// A leaf that waits longer than this means that nobody sequences.
const QUEUE_WAIT_MAX: TimeDelta = TimeDelta::seconds(15);
/// For so long witnesses and chains are offered the last head of a log that was sealed.
pub const SEALED_IS_RECENT: TimeDelta = TimeDelta::days(30);
/// Checkpoints with enough cosignatures looked at for one that meets the policy: all do, but where groups stand in groups or
/// a witness's key was replaced.
const CANDIDATES: i64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the log key's name is not {expected}/<year>")]
    Origin { expected: String },
    #[error("the log {origin} was opened under another key")]
    OtherKey { origin: String },
    #[error("the key of the log {origin} is not configured")]
    NoKey { origin: String },
    #[error("no log key is configured")]
    NoKeys,
    #[error("a stored value of the log is not what was written")]
    Corrupt,
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Anchors among which each chain's newest is found.
const ANCHORS_LOOKED_AT: i64 = 64;

/// A configured witness.
#[derive(Debug)]
pub struct Witness {
    pub name: String,
    /// The newest size that it cosigned.
    pub size: Option<u64>,
    /// It has not cosigned what `/checkpoint` shows.
    pub is_missing: bool,
}

/// What others than the operator have of the open log.
#[derive(Debug)]
pub struct Outside {
    pub witnesses: Vec<Witness>,
    /// The newest head on each chain.
    pub anchors: Vec<Anchor>,
}

/// The newest head of the log that stands on each chain.
pub async fn newest_anchors(conn: &mut Connection, log_id: i16) -> Result<Vec<Anchor>, StoreError> {
    let mut newest = store::anchor::standing(conn, log_id, 0, ANCHORS_LOOKED_AT).await?;
    let mut chains = BTreeSet::new();
    newest.retain(|anchor| chains.insert((anchor.chain_id, anchor.contract.clone())));
    Ok(newest)
}

/// Why nothing is signed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The process has just started.
    Starting,
    /// No witness and no chain answered: the head in the database may be an old one.
    NobodyAnswered,
    /// A witness or chain has seen more, or something else: this database is an old copy, or a fork.
    Behind { who: String, size: u64 },
    /// Another process leads.
    Following,
}

/// Whether a log takes leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// Named in the open log as the one that follows.
    Announced,
    Open,
    Sealed,
}

/// One log of the ledger: a year's, or what came after a closed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub id: i16,
    pub origin: String,
    pub verifier: VerifierKey,
    pub state: LogState,
    pub opens_at: DateTime<Utc>,
    pub sealed_at: Option<DateTime<Utc>>,
}

impl Log {
    /// `2026` of `host/ledger/2026`.
    pub fn shard(&self) -> &str {
        self.origin.rsplit('/').next().unwrap_or_default()
    }
}

impl LogState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Open => "open",
            Self::Sealed => "sealed",
        }
    }
}

impl TryFrom<rows::Log> for Log {
    type Error = LedgerError;

    fn try_from(row: rows::Log) -> Result<Self, LedgerError> {
        let states = [LogState::Announced, LogState::Open, LogState::Sealed];
        let state = states.into_iter().find(|state| state.as_str() == row.state);
        let state = state.ok_or(LedgerError::Corrupt)?;
        let verifier = row.vkey.parse().map_err(|_| LedgerError::Corrupt)?;
        let (opens_at, sealed_at) = (row.opens_at, row.sealed_at);
        Ok(Self { id: row.id, origin: row.origin, verifier, state, opens_at, sealed_at })
    }
}

/// One ledger with its logs.
pub struct Ledger {
    store: Store,
    name: String,
    /// By origin: of the open log, and of the one that follows it once that is known.
    signers: BTreeMap<String, SignerKey>,
    policy: Policy,
    /// Oldest first, as this process last read them; one of them is open.
    logs: RwLock<Logs>,
    tree: TreeReader,
    halt: Mutex<Option<Halt>>,
}

#[derive(Debug, Clone)]
struct Logs {
    all: Arc<[Arc<Log>]>,
    open: Arc<Log>,
}

impl Logs {
    async fn read(conn: &mut Connection) -> Result<Option<Self>, LedgerError> {
        let all = rows::logs(conn).await?.into_iter();
        let all: Arc<[Arc<Log>]> =
            all.map(|row| row.try_into().map(Arc::new)).collect::<Result<_, LedgerError>>()?;
        let open = all.iter().find(|log| log.state == LogState::Open).cloned();
        Ok(open.map(|open| Self { all, open }))
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub log_id: i16,
    pub origin: String,
    pub index: u64,
}

impl Ledger {
    /// Opens the ledger with the keys of its open log and, where it is announced, of the next. In an empty database the first
    /// of the keys, `<host>/<ledger>/<year>`, names the first log.
    pub async fn open(
        store: Store,
        host: &str,
        name: &str,
        signers: impl IntoIterator<Item = SignerKey>,
        policy: Policy,
    ) -> Result<Self, LedgerError> {
        let is_ours = |origin: &Origin| origin.host() == host && origin.ledger() == name;
        let mut by_origin = BTreeMap::new();
        for signer in signers {
            let origin = signer.name.as_str().to_owned();
            if !origin.parse().is_ok_and(|origin| is_ours(&origin)) {
                return Err(LedgerError::Origin { expected: format!("{host}/{name}") });
            }
            by_origin.insert(origin, signer);
        }
        let signers = by_origin;
        let logs = match found(&store, name, &signers).await {
            // Another process was faster.
            Err(LedgerError::Store(error)) if error.constraint().is_some() => {
                Logs::read(&mut *store.connection().await?).await?.ok_or(LedgerError::Corrupt)?
            }
            found => found?,
        };
        let ledger = Self {
            name: name.to_owned(),
            policy,
            tree: TreeReader::default(),
            halt: Mutex::new(Some(Halt::Starting)),
            logs: RwLock::new(logs),
            signers,
            store,
        };
        ledger.signer(&ledger.open_log())?;
        Ok(ledger)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log that takes leaves, as far as this process knows.
    pub fn open_log(&self) -> Arc<Log> {
        Arc::clone(&self.logs.read().unwrap_or_else(PoisonError::into_inner).open)
    }

    /// All logs, oldest first, as far as this process knows.
    pub fn logs(&self) -> Arc<[Arc<Log>]> {
        Arc::clone(&self.logs.read().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// Reads the logs again: another process may have sealed one.
    pub async fn refresh(&self, conn: &mut Connection) -> Result<(), LedgerError> {
        let logs = Logs::read(conn).await?.ok_or(LedgerError::Corrupt)?;
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = logs;
        Ok(())
    }

    /// A log by its row's number.
    pub async fn log(&self, conn: &mut Connection, id: i16) -> Result<Arc<Log>, LedgerError> {
        let find = || self.logs().iter().find(|log| log.id == id).cloned();
        if let Some(known) = find() {
            return Ok(known);
        }
        self.refresh(conn).await?;
        find().ok_or(LedgerError::Corrupt)
    }

    /// The open log, and those sealed after `since`: others may not have their last heads yet.
    pub fn recent_logs(&self, since: DateTime<Utc>) -> Vec<Arc<Log>> {
        let is_recent = |log: &Arc<Log>| match log.state {
            LogState::Announced => false,
            LogState::Open => true,
            LogState::Sealed => log.sealed_at.is_some_and(|at| at > since),
        };
        self.logs().iter().filter(|log| is_recent(log)).cloned().collect()
    }

    /// The key that signs the log's heads.
    ///
    /// # Errors
    /// [`LedgerError::NoKey`] or [`LedgerError::OtherKey`] where the configured keys do not hold it.
    pub fn signer(&self, log: &Log) -> Result<&SignerKey, LedgerError> {
        let origin = || log.origin.clone();
        let signer = self.signers.get(&log.origin).ok_or_else(|| LedgerError::NoKey { origin: origin() })?;
        if signer.verifier() != log.verifier {
            return Err(LedgerError::OtherKey { origin: origin() });
        }
        Ok(signer)
    }

    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    pub const fn tree(&self) -> &TreeReader {
        &self.tree
    }

    pub const fn store(&self) -> &Store {
        &self.store
    }

    pub fn halt(&self) -> Option<Halt> {
        self.halt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_halt(&self, halt: Option<Halt>) {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner) = halt;
    }

    /// Why the log is not fresh; empty when it is. A follower is fine as long as somebody sequences.
    pub async fn not_ready(&self) -> Result<Vec<String>, LedgerError> {
        let mut reasons = Vec::new();
        match self.halt() {
            Some(Halt::NobodyAnswered) => {
                reasons.push(
                    "no witness or chain has confirmed the head since the start: not signing".to_owned(),
                );
            }
            Some(Halt::Behind { who, size }) => {
                reasons.push(format!(
                    "{who} has seen size {size}, more or other than this database: not signing"
                ));
            }
            Some(Halt::Starting | Halt::Following) | None => {}
        }
        let mut conn = self.store.connection().await?;
        let (waiting, since) = rows::queue_state(&mut conn).await?;
        if since.is_some_and(|since| Utc::now() - since > QUEUE_WAIT_MAX) {
            reasons.push(format!("{waiting} entries wait for a checkpoint"));
        }
        Ok(reasons)
    }

    /// The log's newest signed head, cosigned or not.
    pub async fn head(
        &self,
        conn: &mut Connection,
        log_id: i16,
    ) -> Result<(u64, Hash, DateTime<Utc>), LedgerError> {
        let head = rows::head(conn, log_id).await?;
        Ok((to_u64(head.size)?, to_hash(&head.root)?, head.signed_at))
    }

    /// What witnesses and chains have of the open log; one that is missing stands there with nothing.
    pub async fn outside(&self, conn: &mut Connection) -> Result<Outside, LedgerError> {
        let log = self.open_log();
        let published = self.published(conn, &log).await?;
        let published = published.and_then(|note| note.text.parse::<Checkpoint>().ok()).map(|head| head.size);
        let mut witnesses = Vec::new();
        for name in self.policy.witnesses().keys() {
            let size = rows::newest_size_of(conn, log.id, name).await?;
            let size = size.map(to_u64).transpose()?;
            witnesses.push(Witness { name: name.clone(), size, is_missing: size < published });
        }
        Ok(Outside { witnesses, anchors: newest_anchors(conn, log.id).await? })
    }

    /// A checkpoint with the cosignatures that it has.
    pub async fn note(
        &self,
        conn: &mut Connection,
        checkpoint: &rows::Checkpoint,
    ) -> Result<Note, LedgerError> {
        let mut note: Note = checkpoint.note.parse().map_err(|_| LedgerError::Corrupt)?;
        for row in rows::cosignatures(conn, checkpoint.log_id, checkpoint.size).await? {
            note.signatures.push(row.line.parse().map_err(|_| LedgerError::Corrupt)?);
        }
        Ok(note)
    }

    /// The log's newest checkpoint that meets the policy.
    pub async fn witnessed(
        &self,
        conn: &mut Connection,
        log: &Log,
    ) -> Result<Option<(rows::Checkpoint, Note)>, LedgerError> {
        let (names, least) = self.policy.deciding();
        let candidates = match least {
            0 => rows::newest_checkpoints(conn, log.id, 1).await?,
            least => {
                let quorum = rows::Quorum { names: &names, least };
                rows::newest_with_quorum(conn, log.id, quorum, CANDIDATES).await?
            }
        };
        self.first_witnessed(conn, log, candidates).await
    }

    /// The log's first checkpoint that covers `index` and meets the policy.
    pub async fn witnessed_covering(
        &self,
        conn: &mut Connection,
        log_id: i16,
        index: u64,
    ) -> Result<Option<(rows::Checkpoint, Note)>, LedgerError> {
        let index = i64::try_from(index).map_err(|_| LedgerError::Corrupt)?;
        let log = self.log(conn, log_id).await?;
        let (names, least) = self.policy.deciding();
        let quorum = rows::Quorum { names: &names, least };
        let candidates = rows::first_with_quorum(conn, log_id, index, quorum, CANDIDATES).await?;
        self.first_witnessed(conn, &log, candidates).await
    }

    async fn first_witnessed(
        &self,
        conn: &mut Connection,
        log: &Log,
        candidates: Vec<rows::Checkpoint>,
    ) -> Result<Option<(rows::Checkpoint, Note)>, LedgerError> {
        for checkpoint in candidates {
            let note = self.note(conn, &checkpoint).await?;
            if self.meets_policy(log, &note) {
                return Ok(Some((checkpoint, note)));
            }
        }
        Ok(None)
    }

    /// What `/checkpoint` answers: the newest that meets the policy, or where it is newer the newest that was signed 60 s ago,
    /// with what it has. Time and rows only add to both, so that no server ever shows less than another has shown.
    pub async fn published(&self, conn: &mut Connection, log: &Log) -> Result<Option<Note>, LedgerError> {
        let waited = rows::newest_signed_before(conn, log.id, WITNESS_PATIENCE).await?;
        match (self.witnessed(conn, log).await?, waited) {
            (Some((witnessed, _)), Some(waited)) if witnessed.size < waited.size => {
                Ok(Some(self.note(conn, &waited).await?))
            }
            (Some((_, note)), _) => Ok(Some(note)),
            (None, Some(waited)) => Ok(Some(self.note(conn, &waited).await?)),
            (None, None) => Ok(None),
        }
    }

    /// For a record's `seen`: the newest cosigned checkpoint; of the log before, while the open one has none.
    pub async fn seen(&self, conn: &mut Connection) -> Result<Option<Seen>, LedgerError> {
        if self.policy.witnesses().is_empty() {
            return Ok(None);
        }
        for log in self.logs().iter().rev().filter(|log| log.state != LogState::Announced) {
            let Some((checkpoint, _)) = self.witnessed(conn, log).await? else { continue };
            let (size, root) = (to_u64(checkpoint.size)?, to_hash(&checkpoint.root)?);
            return Ok((size > 0).then(|| Seen { origin: log.origin.clone(), size, root }));
        }
        Ok(None)
    }

    /// The bytes behind `/tile/…`; `None` where the log does not have them.
    pub async fn tile(
        &self,
        conn: &mut Connection,
        log_id: i16,
        path: TilePath,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        match path {
            TilePath::Hashes(TileId { level, index, width }) => {
                let hashes = self.tree.tile(conn, log_id, level, index, u64::from(width)).await?;
                Ok(hashes.map(|hashes| tree::bytes_of(&hashes)))
            }
            TilePath::Entries { index, width } => {
                let first = index.checked_mul(256).and_then(|first| i64::try_from(first).ok());
                let Some(first) = first else { return Ok(None) };
                let entries = rows::entries_from(conn, log_id, first, i64::from(width)).await?;
                Ok((entries.len() == usize::from(width)).then(|| bundle(&entries)))
            }
        }
    }

    /// Where an entry stands, in whichever log of the ledger.
    pub async fn locate(&self, conn: &mut Connection, entry: &Hash) -> Result<Option<Location>, LedgerError> {
        let Some(row) = rows::locate(conn, entry.as_bytes()).await? else { return Ok(None) };
        let log = self.log(conn, row.log_id).await?;
        Ok(Some(Location { log_id: log.id, origin: log.origin.clone(), index: to_u64(row.index)? }))
    }

    /// Whether the log's own line and enough cosignatures stand on the note.
    pub fn meets_policy(&self, log: &Log, note: &Note) -> bool {
        Checkpoint::open(note, &log.verifier).is_ok()
            && self.policy.witnessed(note).is_ok_and(|witnessed| witnessed.enough)
    }
}

/// The logs that the database has; in an empty one the first is that of the earliest key.
async fn found(
    store: &Store,
    name: &str,
    signers: &BTreeMap<String, SignerKey>,
) -> Result<Logs, LedgerError> {
    let mut transaction = store.begin().await?;
    if let Some(logs) = Logs::read(&mut transaction).await? {
        return Ok(logs);
    }
    let (origin, signer) = signers.first_key_value().ok_or(LedgerError::NoKeys)?;
    let vkey = signer.verifier().to_string();
    let new = rows::NewLog { ledger: name, origin, vkey: &vkey, state: "open", opens_at: Utc::now() };
    rows::insert_log(&mut transaction, new, merkle::empty_root().as_bytes()).await?;
    let logs = Logs::read(&mut transaction).await?.ok_or(LedgerError::Corrupt)?;
    transaction.commit().await?;
    Ok(logs)
}

/// C2SP tlog-tiles: each entry after its length as a big-endian `uint16`; ours are all of 32 bytes.
fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [0, 32].into_iter().chain(entry.iter().copied())).collect()
}

pub fn to_u64(size: i64) -> Result<u64, LedgerError> {
    u64::try_from(size).map_err(|_| LedgerError::Corrupt)
}

pub fn to_hash(bytes: &[u8]) -> Result<Hash, LedgerError> {
    Hash::from_slice(bytes).ok_or(LedgerError::Corrupt)
}
