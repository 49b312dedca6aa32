//! Pending leaves → contiguous indices → full tiles → signed checkpoint → head, in one transaction.
//!
//! One leader per log: the advisory lock saves work, the compare-and-swap of the head keeps it right. The lock lives on the
//! connection that the transactions run on, so a leader who lost its lock cannot commit.

pub mod seal;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use store::{Session, StoreError, ledger as rows};
use trace::{
    causes::Causes,
    hash::Hash,
    merkle,
    tlog::{checkpoint::Checkpoint, note::SignerKey},
};

use crate::{
    jobs::{
        roster::RosterError,
        witnesses::{self, Answers},
    },
    service::{
        chains::{AskError, Configured, Says},
        keys::{Keys, KeysError},
        ledger::{
            Halt, Ledger, LedgerError, Log, SEALED_IS_RECENT, to_hash, to_u64,
            tree::{self, Edge, FullTile, TreeError},
        },
    },
};

/// Entries in one batch: a fraction of a second's work, so that a checkpoint is never far.
const BATCH_MAX: i64 = 20_000;
/// Between two tries to become the leader, or to be answered by a witness at the start.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    #[error("another process moved the head although this one held the lock")]
    LostSwap,
    #[error("the database's head {size} has another root than its entries")]
    RootOfOthers { size: u64 },
    #[error("the log {origin} was sealed or opened by somebody else meanwhile")]
    NotAnnounced { origin: String },
    #[error("{who} turned out to have size {size}, more or other than this database")]
    Behind { who: String, size: u64 },
    #[error("the log cannot be sealed")]
    Keys(#[from] KeysError),
    #[error("the last roster cannot be stated")]
    Roster(#[from] RosterError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `SIZE:ROOT` of `--head`: the operator vouches for the head in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VouchedHead {
    pub size: u64,
    pub root: Hash,
}

impl std::str::FromStr for VouchedHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (size, root) = text.split_once(':').ok_or("not SIZE:ROOT")?;
        let size = size.parse().map_err(|_| "not a size before the colon")?;
        Ok(Self { size, root: root.parse().map_err(|_| "not a root in base64url after the colon")? })
    }
}

/// The leader of one log. Dropping it frees the lock and rolls an open transaction back.
pub struct Sequencer {
    ledger: Arc<Ledger>,
    log: Arc<Log>,
    session: Session,
    edge: Edge,
    head: rows::Head,
}

impl Sequencer {
    /// Takes the lock of the open log and rebuilds the tree's edge; `None` where another process leads.
    pub async fn lead(ledger: Arc<Ledger>) -> Result<Option<Self>, SequenceError> {
        let mut session = ledger.store().session().await?;
        ledger.refresh(&mut session).await?;
        let log = ledger.open_log();
        if !rows::try_lead(&mut session, rows::Lead::Sequencing(log.id)).await? {
            return Ok(None);
        }
        // Who held the lock until now may have sealed the log with its last commit.
        ledger.refresh(&mut session).await?;
        if ledger.open_log().id != log.id {
            return Ok(None);
        }
        let head = rows::head(&mut session, log.id).await?;
        let size = to_u64(head.size)?;
        let edge = ledger.tree().edge(&mut session, log.id, size).await?;
        if edge.frontier.root() != to_hash(&head.root)? {
            return Err(SequenceError::RootOfOthers { size });
        }
        Ok(Some(Self { ledger, log, session, edge, head }))
    }

    /// Fails where the connection, and the lock with it, is gone, or the head is another's.
    async fn check_lead(&mut self) -> Result<(), SequenceError> {
        let head = rows::head(&mut self.session, self.log.id).await?;
        if (head.size, &head.root) == (self.head.size, &self.head.root) {
            Ok(())
        } else {
            Err(SequenceError::LostSwap)
        }
    }

    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    pub fn root(&self) -> Hash {
        self.edge.frontier.root()
    }

    fn vouchable(&self) -> VouchedHead {
        VouchedHead { size: self.size(), root: self.root() }
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// One batch; the new size, or `None` where nothing waited. After an error this value is of no use any more.
    pub async fn step(&mut self) -> Result<Option<u64>, SequenceError> {
        self.session.begin().await?;
        let mut written = self.write_batch(Repeats::Refused).await;
        if matches!(&written, Err(SequenceError::Store(error)) if error.constraint() == Some(rows::ENTRY_ONCE))
        {
            self.session.rollback().await?;
            self.session.begin().await?;
            written = self.write_batch(Repeats::Dropped).await;
        }
        let Some((edge, checkpoint)) = written? else {
            // Entries that stood in the log already leave the queue here.
            self.session.commit().await?;
            return Ok(None);
        };
        // A crash before this line leaves the queue as it was; after it, everything is there and signed.
        self.session.commit().await?;
        let size = edge.size();
        self.head = head_of(&checkpoint);
        self.edge = edge;
        Ok(Some(size))
    }

    /// Everything of a batch but the commit.
    async fn write_batch(
        &mut self,
        repeats: Repeats,
    ) -> Result<Option<(Edge, rows::Checkpoint)>, SequenceError> {
        let entries = take_batch(&mut self.session, repeats).await?;
        if entries.is_empty() {
            return Ok(None);
        }
        let signer = self.ledger.signer(&self.log)?;
        let from = (&self.head, &self.edge);
        Ok(Some(append(&mut self.session, (&self.log, signer), from, &entries).await?))
    }
}

/// Entries of a batch that stand in a log already, or twice in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// They are rare: the index refuses them, and the batch is written anew.
    Refused,
    /// Each entry is looked up first.
    Dropped,
}

/// What waits, at most a batch of it, in the order in which it was queued.
async fn take_batch(session: &mut Session, repeats: Repeats) -> Result<Vec<Vec<u8>>, SequenceError> {
    let taken = rows::take_pending(session, BATCH_MAX).await?;
    if taken.is_empty() || repeats == Repeats::Refused {
        return Ok(taken);
    }
    let known = rows::known_entries(session, &taken).await?;
    Ok(tree::fresh_only(taken, &known))
}

/// Entries, full tiles, the signed checkpoint, then the head: inside the caller's transaction.
async fn append(
    session: &mut Session,
    (log, signer): (&Log, &SignerKey),
    (head, edge): (&rows::Head, &Edge),
    entries: &[Vec<u8>],
) -> Result<(Edge, rows::Checkpoint), SequenceError> {
    let mut edge = edge.clone();
    let mut full = Vec::new();
    for entry in entries {
        full.extend(edge.push(merkle::leaf_hash(&to_hash(entry)?)));
    }
    rows::insert_entries(session, log.id, head.size, entries).await?;
    if !full.is_empty() {
        let tiles = full.into_iter().map(|tile| tile_row(log.id, &tile)).collect::<Result<Vec<_>, _>>()?;
        rows::insert_tiles(session, &tiles).await?;
    }
    let checkpoint = sign(log, signer, &edge)?;
    rows::insert_checkpoint(session, &checkpoint).await?;
    if !rows::swap_head(session, log.id, head, &checkpoint).await? {
        return Err(SequenceError::LostSwap);
    }
    Ok((edge, checkpoint))
}

fn sign(log: &Log, signer: &SignerKey, edge: &Edge) -> Result<rows::Checkpoint, SequenceError> {
    let (size, root) = (edge.size(), edge.frontier.root());
    let head = Checkpoint { origin: log.origin.clone(), size, root };
    Ok(rows::Checkpoint {
        log_id: log.id,
        size: i64::try_from(size).map_err(|_| LedgerError::Corrupt)?,
        root: root.as_bytes().to_vec(),
        note: head.sign(signer).to_string(),
        signed_at: Utc::now(),
    })
}

fn head_of(checkpoint: &rows::Checkpoint) -> rows::Head {
    let (size, root, signed_at) = (checkpoint.size, checkpoint.root.clone(), checkpoint.signed_at);
    rows::Head { size, root, signed_at }
}

fn tile_row(log_id: i16, tile: &FullTile) -> Result<rows::Tile, LedgerError> {
    Ok(rows::Tile {
        log_id,
        level: i16::from(tile.level),
        index: i64::try_from(tile.index).map_err(|_| LedgerError::Corrupt)?,
        data: tree::bytes_of(&tile.hashes),
    })
}

/// Leads when it can, for ever. Returns only when the head was moved under it: the process must end then.
pub async fn run(ledger: Arc<Ledger>, keys: Arc<Keys>, interval: Duration, guard: Guard) -> SequenceError {
    loop {
        match lead_until_sealed(&ledger, &keys, interval, &guard).await {
            Err(lost @ (SequenceError::LostSwap | SequenceError::RootOfOthers { .. })) => return lost,
            // The halt stays until the guard lets somebody sign again.
            Err(error @ SequenceError::Behind { .. }) => {
                tracing::error!(error = %Causes(&error), "not signing any more");
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the sequencer starts again");
                // Whoever may have lost the lock does nothing as the leader.
                ledger.set_halt(Some(Halt::Starting));
            }
            Ok(()) => ledger.set_halt(Some(Halt::Following)),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// `Ok` where another process leads, or the log was sealed: the next one wants a leader then.
async fn lead_until_sealed(
    ledger: &Arc<Ledger>,
    keys: &Keys,
    interval: Duration,
    guard: &Guard,
) -> Result<(), SequenceError> {
    let Some(mut sequencer) = Sequencer::lead(Arc::clone(ledger)).await? else { return Ok(()) };
    tracing::info!(origin = sequencer.log.origin, size = sequencer.size(), "leading");
    while !guard.may_sign(&sequencer).await {
        tokio::time::sleep(RETRY).await;
        sequencer.check_lead().await?;
    }
    let is_vouched = guard.vouched == Some(sequencer.vouchable());
    ledger.set_halt(None);
    let mut looked = Instant::now();
    loop {
        // Found while heads were anchored. The guard decides anew; what the operator vouched for needs no chain's consent.
        if let Some(Halt::Behind { who, size }) = ledger.halt().filter(|_| !is_vouched) {
            return Err(SequenceError::Behind { who, size });
        }
        // A full batch means that more may wait.
        let (before, began) = (sequencer.size(), Instant::now());
        let size = sequencer.step().await?;
        if looked.elapsed() >= RETRY {
            looked = Instant::now();
            if let Some(next) = seal::due(&mut sequencer, Utc::now()).await? {
                sequencer.seal(keys, &next).await?;
                return Ok(());
            }
        }
        let was_full = size.is_some_and(|size| size - before >= BATCH_MAX.unsigned_abs());
        if !was_full {
            // From step to step, so that a slow one keeps nobody waiting longer; a slower one still leaves Postgres a pause.
            tokio::time::sleep(interval.saturating_sub(began.elapsed()).max(interval / 4)).await;
        }
    }
}

/// The start-up guard: a restored backup is the likeliest accidental fork, so nothing is signed below, or beside, what a
/// witness has cosigned or a chain has. Where any are configured, at least one must answer.
pub struct Guard {
    pub http: reqwest::Client,
    pub chains: Arc<Vec<Configured>>,
    pub vouched: Option<VouchedHead>,
}

impl Guard {
    async fn may_sign(&self, sequencer: &Sequencer) -> bool {
        let ledger = &sequencer.ledger;
        let (size, root) = (sequencer.size(), sequencer.root());
        if let Some(vouched) = self.vouched {
            if vouched == sequencer.vouchable() {
                tracing::warn!(size, "signing from the head that the operator vouches for");
                return true;
            }
            tracing::error!(size = vouched.size, found = size, "--head is not the head of this database");
        }
        let log = sequencer.log();
        let witnesses = witnesses::ask_for_head(ledger, log, &self.http, size, root).await;
        let halt = match (witnesses, self.ask_chains(ledger).await) {
            (Answers::Beyond { who, size }, _) | (_, Answers::Beyond { who, size }) => {
                Halt::Behind { who, size }
            }
            (Answers::Agree, _)
            | (_, Answers::Agree)
            | (Answers::NoneConfigured, Answers::NoneConfigured) => return true,
            (Answers::Nobody, _) | (_, Answers::Nobody) => Halt::NobodyAnswered,
        };
        if ledger.halt().as_ref() != Some(&halt) {
            tracing::error!(?halt, size, "not signing");
            ledger.set_halt(Some(halt));
        }
        false
    }

    /// What the chains have of the logs that are anchored now. The first that has more, or something else, decides.
    async fn ask_chains(&self, ledger: &Ledger) -> Answers {
        let mut verdict = if self.chains.is_empty() { Answers::NoneConfigured } else { Answers::Nobody };
        for chain in self.chains.iter() {
            match ask_chain(chain, ledger).await {
                Ok(Says::Agrees) => verdict = Answers::Agree,
                Ok(Says::Beyond { size }) => return Answers::Beyond { who: chain.name.clone(), size },
                Err(error) => {
                    tracing::warn!(chain = chain.name, error = %Causes(&error), "did not confirm the head");
                }
            }
        }
        verdict
    }
}

/// Also of a log that was sealed lately: its last head may be on its way.
async fn ask_chain(chain: &Configured, ledger: &Ledger) -> Result<Says, AskError> {
    for log in ledger.recent_logs(Utc::now() - SEALED_IS_RECENT) {
        let mut conn = ledger.store().connection().await.map_err(LedgerError::from)?;
        let (size, ..) = ledger.head(&mut conn, log.id).await?;
        drop(conn);
        let says = chain.ask_for_head(ledger, &log, size).await?;
        if says != Says::Agrees {
            return Ok(says);
        }
    }
    Ok(Says::Agrees)
}
