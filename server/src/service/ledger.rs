//! The log as the rest of the server sees it: heads, tiles, look-ups and proofs. Writing is `jobs::sequencer`'s.

pub mod tree;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
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
/// Checkpoints with enough cosignatures looked at for one that meets the policy: all do, but where groups stand in groups or
/// a witness's key was replaced.
const CANDIDATES: i64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the log key's name is not {expected}/<year>")]
    Origin { expected: String },
    #[error("the log {origin} was opened under another key")]
    OtherKey { origin: String },
    #[error("a stored value of the log is not what was written")]
    Corrupt,
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Anchors among which each chain's newest is found.
const ANCHORS_LOOKED_AT: i64 = 64;

/// What others than the operator have of the open log.
#[derive(Debug)]
pub struct Outside {
    /// Each configured witness, and the newest size that it cosigned.
    pub witnesses: Vec<(String, Option<u64>)>,
    /// The newest head on each chain.
    pub anchors: Vec<Anchor>,
    /// What each chain's anchors cost, in gas.
    pub gas: Vec<(String, u64)>,
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

/// One ledger with its open log.
pub struct Ledger {
    store: Store,
    name: String,
    signer: SignerKey,
    policy: Policy,
    log: rows::Log,
    tree: TreeReader,
    halt: Mutex<Option<Halt>>,
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub log_id: i16,
    pub origin: String,
    pub index: u64,
}

impl Ledger {
    /// Opens the log that the key names, `<host>/<ledger>/<year>`, making its rows where they are missing.
    pub async fn open(
        store: Store,
        host: &str,
        name: &str,
        signer: SignerKey,
        policy: Policy,
    ) -> Result<Self, LedgerError> {
        let origin = signer.name.as_str().to_owned();
        let is_ours = |origin: &Origin| origin.host() == host && origin.ledger() == name;
        if !origin.parse().is_ok_and(|origin| is_ours(&origin)) {
            return Err(LedgerError::Origin { expected: format!("{host}/{name}") });
        }
        let vkey = signer.verifier().to_string();
        let mut conn = store.connection().await?;
        let empty = merkle::empty_root();
        let log = rows::open_log(&mut conn, name, &origin, &vkey, empty.as_bytes(), Utc::now()).await?;
        if log.vkey != vkey {
            return Err(LedgerError::OtherKey { origin });
        }
        drop(conn);
        let halt = Mutex::new(Some(Halt::Starting));
        Ok(Self { store, name: name.to_owned(), signer, policy, log, tree: TreeReader::default(), halt })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn origin(&self) -> &str {
        &self.log.origin
    }

    /// `2026` of `host/ledger/2026`.
    pub fn shard(&self) -> &str {
        self.log.origin.rsplit('/').next().unwrap_or_default()
    }

    pub const fn log_id(&self) -> i16 {
        self.log.id
    }

    pub const fn signer(&self) -> &SignerKey {
        &self.signer
    }

    pub fn verifier(&self) -> VerifierKey {
        self.signer.verifier()
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

    /// The newest signed head, cosigned or not.
    pub async fn head(&self, conn: &mut Connection) -> Result<(u64, Hash, DateTime<Utc>), LedgerError> {
        let head = rows::head(conn, self.log.id).await?;
        Ok((to_u64(head.size)?, to_hash(&head.root)?, head.signed_at))
    }

    /// What witnesses and chains have of this log; one that is missing stands there with nothing.
    pub async fn outside(&self, conn: &mut Connection) -> Result<Outside, LedgerError> {
        let mut witnesses = Vec::new();
        for name in self.policy.witnesses().keys() {
            let size = rows::newest_size_of(conn, self.log.id, name).await?;
            witnesses.push((name.clone(), size.map(to_u64).transpose()?));
        }
        let spent = store::anchor::gas_spent(conn).await?;
        let gas = spent
            .into_iter()
            .map(|(chain, gas)| Ok((chain, to_u64(gas)?)))
            .collect::<Result<_, LedgerError>>()?;
        Ok(Outside { witnesses, anchors: newest_anchors(conn, self.log.id).await?, gas })
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

    /// The newest checkpoint that meets the policy.
    pub async fn witnessed(
        &self,
        conn: &mut Connection,
    ) -> Result<Option<(rows::Checkpoint, Note)>, LedgerError> {
        let (names, least) = self.policy.deciding();
        let candidates = match least {
            0 => rows::newest_checkpoints(conn, self.log.id, 1).await?,
            least => {
                let quorum = rows::Quorum { names: &names, least };
                rows::newest_with_quorum(conn, self.log.id, quorum, CANDIDATES).await?
            }
        };
        for checkpoint in candidates {
            let note = self.note(conn, &checkpoint).await?;
            if self.meets_policy(&note) {
                return Ok(Some((checkpoint, note)));
            }
        }
        Ok(None)
    }

    /// The first checkpoint that covers `index` and meets the policy.
    pub async fn witnessed_covering(
        &self,
        conn: &mut Connection,
        log_id: i16,
        index: u64,
    ) -> Result<Option<(rows::Checkpoint, Note)>, LedgerError> {
        let index = i64::try_from(index).map_err(|_| LedgerError::Corrupt)?;
        let (names, least) = self.policy.deciding();
        let quorum = rows::Quorum { names: &names, least };
        for checkpoint in rows::first_with_quorum(conn, log_id, index, quorum, CANDIDATES).await? {
            let note = self.note(conn, &checkpoint).await?;
            if self.meets_policy(&note) {
                return Ok(Some((checkpoint, note)));
            }
        }
        Ok(None)
    }

    /// What `/checkpoint` answers: the newest that meets the policy, or where it is newer the newest that was signed 60 s ago,
    /// with what it has. Time and rows only add to both, so that no server ever shows less than another has shown.
    pub async fn published(&self, conn: &mut Connection) -> Result<Option<Note>, LedgerError> {
        let waited = rows::newest_signed_before(conn, self.log.id, WITNESS_PATIENCE).await?;
        match (self.witnessed(conn).await?, waited) {
            (Some((witnessed, _)), Some(waited)) if witnessed.size < waited.size => {
                Ok(Some(self.note(conn, &waited).await?))
            }
            (Some((_, note)), _) => Ok(Some(note)),
            (None, Some(waited)) => Ok(Some(self.note(conn, &waited).await?)),
            (None, None) => Ok(None),
        }
    }

    /// For a record's `seen`: the newest cosigned checkpoint.
    pub async fn seen(&self, conn: &mut Connection) -> Result<Option<Seen>, LedgerError> {
        if self.policy.witnesses().is_empty() {
            return Ok(None);
        }
        let Some((checkpoint, _)) = self.witnessed(conn).await? else { return Ok(None) };
        let (size, root) = (to_u64(checkpoint.size)?, to_hash(&checkpoint.root)?);
        Ok((size > 0).then(|| Seen { origin: self.log.origin.clone(), size, root }))
    }

    /// The bytes behind `/tile/…`; `None` where the log does not have them.
    pub async fn tile(&self, conn: &mut Connection, path: TilePath) -> Result<Option<Vec<u8>>, LedgerError> {
        match path {
            TilePath::Hashes(TileId { level, index, width }) => {
                let hashes = self.tree.tile(conn, self.log.id, level, index, u64::from(width)).await?;
                Ok(hashes.map(|hashes| tree::bytes_of(&hashes)))
            }
            TilePath::Entries { index, width } => {
                let first = index.checked_mul(256).and_then(|first| i64::try_from(first).ok());
                let Some(first) = first else { return Ok(None) };
                let entries = rows::entries_from(conn, self.log.id, first, i64::from(width)).await?;
                Ok((entries.len() == usize::from(width)).then(|| bundle(&entries)))
            }
        }
    }

    /// Where an entry stands, in whichever log of the ledger.
    pub async fn locate(&self, conn: &mut Connection, entry: &Hash) -> Result<Option<Location>, LedgerError> {
        let Some(row) = rows::locate(conn, entry.as_bytes()).await? else { return Ok(None) };
        let logs = rows::logs(conn).await?;
        let log = logs.into_iter().find(|log| log.id == row.log_id).ok_or(LedgerError::Corrupt)?;
        Ok(Some(Location { log_id: row.log_id, origin: log.origin, index: to_u64(row.index)? }))
    }

    /// Whether the log's own line and enough cosignatures stand on the note.
    pub fn meets_policy(&self, note: &Note) -> bool {
        Checkpoint::open(note, &self.verifier()).is_ok()
            && self.policy.witnessed(note).is_ok_and(|witnessed| witnessed.enough)
    }
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
