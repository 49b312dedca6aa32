//! Pending leaves → contiguous indices → full tiles → signed checkpoint → head, in one transaction.
//!
//! One leader per log: the advisory lock saves work, the compare-and-swap of the head keeps it right. The lock lives on the
//! connection that the transactions run on, so a leader who lost its lock cannot commit.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use store::{Session, StoreError, ledger as rows};
use trace::{causes::Causes, hash::Hash, merkle, tlog::checkpoint::Checkpoint};

use crate::{
    jobs::witnesses::{self, Answers},
    service::{
        chains::{Configured, Says},
        ledger::{
            Halt, Ledger, LedgerError, to_hash, to_u64,
            tree::{self, Edge, FullTile, TreeError},
        },
    },
};

/// Entries in one batch: about a second's work, so that a checkpoint is never far.
const BATCH_MAX: i64 = 10_000;
/// Between two tries to become the leader, or to be answered by a witness at the start.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    #[error("another process moved the head although this one held the lock")]
    LostSwap,
    #[error("the database's head {size} has another root than its entries")]
    RootOfOthers { size: u64 },
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
    session: Session,
    edge: Edge,
    head: rows::Head,
}

impl Sequencer {
    /// Takes the lock and rebuilds the tree's edge; `None` where another process leads.
    pub async fn lead(ledger: Arc<Ledger>) -> Result<Option<Self>, SequenceError> {
        let log_id = ledger.log_id();
        let mut session = ledger.store().session().await?;
        if !rows::try_lead(&mut session, log_id).await? {
            return Ok(None);
        }
        let head = rows::head(&mut session, log_id).await?;
        let size = to_u64(head.size)?;
        let edge = ledger.tree().edge(&mut session, log_id, size).await?;
        if edge.frontier.root() != to_hash(&head.root)? {
            return Err(SequenceError::RootOfOthers { size });
        }
        Ok(Some(Self { ledger, session, edge, head }))
    }

    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    pub fn root(&self) -> Hash {
        self.edge.frontier.root()
    }

    /// One batch; the new size, or `None` where nothing waited. After an error this value is of no use any more.
    pub async fn step(&mut self) -> Result<Option<u64>, SequenceError> {
        self.session.begin().await?;
        let Some((edge, checkpoint)) = self.write_batch().await? else {
            // Entries that stood in the log already leave the queue here.
            self.session.commit().await?;
            return Ok(None);
        };
        // A crash before this line leaves the queue as it was; after it, everything is there and signed.
        self.session.commit().await?;
        let size = edge.size();
        self.head =
            rows::Head { size: checkpoint.size, root: checkpoint.root, signed_at: checkpoint.signed_at };
        self.edge = edge;
        Ok(Some(size))
    }

    /// Everything of a batch but the commit.
    async fn write_batch(&mut self) -> Result<Option<(Edge, rows::Checkpoint)>, SequenceError> {
        let log_id = self.ledger.log_id();
        let taken = rows::take_pending(&mut self.session, BATCH_MAX).await?;
        if taken.is_empty() {
            return Ok(None);
        }
        let known = rows::known_entries(&mut self.session, &taken).await?;
        let entries = tree::fresh_only(taken, &known);
        if entries.is_empty() {
            return Ok(None);
        }
        let mut edge = self.edge.clone();
        let mut full = Vec::new();
        for entry in &entries {
            full.extend(edge.push(merkle::leaf_hash(&to_hash(entry)?)));
        }
        rows::insert_entries(&mut self.session, log_id, self.head.size, &entries).await?;
        if !full.is_empty() {
            let tiles =
                full.into_iter().map(|tile| tile_row(log_id, &tile)).collect::<Result<Vec<_>, _>>()?;
            rows::insert_tiles(&mut self.session, &tiles).await?;
        }
        let checkpoint = self.sign(&edge)?;
        rows::insert_checkpoint(&mut self.session, &checkpoint).await?;
        if !rows::swap_head(&mut self.session, log_id, &self.head, &checkpoint).await? {
            return Err(SequenceError::LostSwap);
        }
        Ok(Some((edge, checkpoint)))
    }

    fn sign(&self, edge: &Edge) -> Result<rows::Checkpoint, SequenceError> {
        let (size, root) = (edge.size(), edge.frontier.root());
        let head = Checkpoint { origin: self.ledger.origin().to_owned(), size, root };
        Ok(rows::Checkpoint {
            log_id: self.ledger.log_id(),
            size: i64::try_from(size).map_err(|_| LedgerError::Corrupt)?,
            root: root.as_bytes().to_vec(),
            note: head.sign(self.ledger.signer()).to_string(),
            signed_at: Utc::now(),
        })
    }
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
pub async fn run(ledger: Arc<Ledger>, interval: Duration, guard: Guard) -> SequenceError {
    loop {
        match lead_until_error(&ledger, interval, &guard).await {
            Err(lost @ (SequenceError::LostSwap | SequenceError::RootOfOthers { .. })) => return lost,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the sequencer starts again");
            }
            Ok(()) => ledger.set_halt(Some(Halt::Following)),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// `Ok` where another process leads.
async fn lead_until_error(
    ledger: &Arc<Ledger>,
    interval: Duration,
    guard: &Guard,
) -> Result<(), SequenceError> {
    let Some(mut sequencer) = Sequencer::lead(Arc::clone(ledger)).await? else { return Ok(()) };
    tracing::info!(origin = ledger.origin(), size = sequencer.size(), "leading");
    while !guard.may_sign(&sequencer).await {
        tokio::time::sleep(RETRY).await;
    }
    ledger.set_halt(None);
    loop {
        // A full batch means that more may wait.
        let before = sequencer.size();
        let size = sequencer.step().await?;
        let was_full = size.is_some_and(|size| size - before >= BATCH_MAX.unsigned_abs());
        if !was_full {
            tokio::time::sleep(interval).await;
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
            if vouched == (VouchedHead { size, root }) {
                tracing::warn!(size, "signing from the head that the operator vouches for");
                return true;
            }
            tracing::error!(size = vouched.size, found = size, "--head is not the head of this database");
        }
        let witnesses = witnesses::ask_for_head(ledger, &self.http, size, root).await;
        let halt = match (witnesses, self.ask_chains(ledger, size).await) {
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

    /// What the chains have of this log. The first that has more, or something else, decides.
    async fn ask_chains(&self, ledger: &Ledger, size: u64) -> Answers {
        let mut verdict = if self.chains.is_empty() { Answers::NoneConfigured } else { Answers::Nobody };
        for chain in self.chains.iter() {
            match chain.ask_for_head(ledger, size).await {
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
