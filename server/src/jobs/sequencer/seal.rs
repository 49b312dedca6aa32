//! Sealing a log and opening the one that follows (`formats.md`, "Ledger, logs, time"; a log of a year ends with the year).
//!
//! One transaction: what waits, a last roster and the final checkpoint in the old log; its last head and the roster again as
//! the new log's first entries. A crash leaves the old log open, or the new one with both entries under a signed head.

use chrono::{DateTime, Utc};
use store::{Session, ledger as rows};
use trace::{
    merkle,
    record::statement::{NewLog, Statement},
    tlog::origin::Origin,
};
use uuid::Uuid;

use super::{Repeats, SequenceError, Sequencer, append, take_batch};
use crate::{
    jobs::roster,
    service::{
        keys::Keys,
        ledger::{Ledger, LedgerError, Log, LogState, tree::Edge},
    },
};

#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("{0} is announced already")]
    Announced(String),
    #[error("the ledger has had a log {0}")]
    Known(String),
    #[error("{0} is no log of this ledger")]
    OtherLedger(String),
    #[error(transparent)]
    Keys(#[from] crate::service::keys::KeysError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// States in the open log which log follows it, and from when. Said again, nothing changes.
pub async fn announce(
    ledger: &Ledger,
    keys: &Keys,
    next: &trace::tlog::note::VerifierKey,
    opens_at: DateTime<Utc>,
) -> Result<(), AnnounceError> {
    let (origin, vkey) = (next.name.as_str(), next.to_string());
    let is_beside = |open: &Log| {
        let (open, next) = (open.origin.parse::<Origin>(), origin.parse::<Origin>());
        open.is_ok_and(|open| next.is_ok_and(|next| next.is_beside(&open)))
    };
    if !is_beside(&ledger.open_log()) {
        return Err(AnnounceError::OtherLedger(origin.to_owned()));
    }
    let mut transaction = ledger.store().begin().await?;
    for log in rows::logs(&mut transaction).await? {
        match log.state.as_str() {
            "announced" if log.origin == origin && log.vkey == vkey => return Ok(()),
            "announced" => return Err(AnnounceError::Announced(log.origin)),
            _ if log.origin == origin => return Err(AnnounceError::Known(log.origin)),
            _ => {}
        }
    }
    let new = rows::NewLog { ledger: ledger.name(), origin, vkey: &vkey, state: "announced", opens_at };
    rows::insert_log(&mut transaction, new, merkle::empty_root().as_bytes()).await?;
    let statement = NewLog { origin: origin.to_owned(), vkey, closed: None };
    keys.state(&mut transaction, Uuid::now_v7(), Statement::NewLog(statement), None).await?;
    Ok(transaction.commit().await?)
}

/// The announced log, once its time has come and its key is here.
pub(super) async fn due(sequencer: &mut Sequencer, now: DateTime<Utc>) -> Result<Option<Log>, SequenceError> {
    let logs = rows::logs(&mut sequencer.session).await?;
    let Some(next) = logs.into_iter().find(|log| log.state == "announced" && log.opens_at <= now) else {
        return Ok(None);
    };
    let next = Log::try_from(next)?;
    if let Err(error) = sequencer.ledger.signer(&next) {
        tracing::error!(%error, "the next log's time has come, and this process cannot open it");
        return Ok(None);
    }
    Ok(Some(next))
}

impl Sequencer {
    /// Seals the log and opens `next`. Afterwards this leader has nothing more to lead.
    pub async fn seal(mut self, keys: &Keys, next: &Log) -> Result<(), SequenceError> {
        debug_assert!(next.state == LogState::Announced);
        self.session.begin().await?;
        // What other transactions commit from here on waits for the new log.
        let mut entries = take_batch(&mut self.session, Repeats::Dropped).await?;
        entries.push(last_roster(&mut self.session, keys).await?);
        let signer = self.ledger.signer(&self.log)?;
        let from = (&self.head, &self.edge);
        let (edge, last) = append(&mut self.session, (&self.log, signer), from, &entries).await?;
        let sealed = rows::seal_log(&mut self.session, self.log.id, last.signed_at).await?;
        if !sealed || !rows::open_announced(&mut self.session, next.id).await? {
            return Err(SequenceError::NotAnnounced { origin: next.origin.clone() });
        }
        self.open(keys, next, &last).await?;
        self.session.commit().await?;
        tracing::info!(
            sealed = self.log.origin,
            size = edge.size(),
            opened = next.origin,
            "a log was sealed"
        );
        self.ledger.refresh(&mut self.session).await?;
        Ok(())
    }

    /// The new log's first entries: the old one's last head, and the roster.
    async fn open(&mut self, keys: &Keys, next: &Log, last: &rows::Checkpoint) -> Result<(), SequenceError> {
        let closed = NewLog {
            origin: next.origin.clone(),
            vkey: next.verifier.to_string(),
            closed: Some(last.note.clone()),
        };
        let closed = keys.state(&mut self.session, Uuid::now_v7(), Statement::NewLog(closed), None).await?;
        rows::take_entry(&mut self.session, closed.as_bytes()).await?;
        let entries = [closed.as_bytes().to_vec(), last_roster(&mut self.session, keys).await?];
        let head = rows::head(&mut self.session, next.id).await?;
        let signer = self.ledger.signer(next)?;
        append(&mut self.session, (next, signer), (&head, &Edge::default()), &entries).await?;
        Ok(())
    }
}

/// States the roster, and takes its leaf out of the queue.
async fn last_roster(session: &mut Session, keys: &Keys) -> Result<Vec<u8>, SequenceError> {
    let entry = roster::state_now(session, keys).await?;
    rows::take_entry(session, entry.as_bytes()).await?;
    Ok(entry.as_bytes().to_vec())
}
