//! States the roster whenever something was logged, or a key changed, since the last one.

use std::{sync::Arc, time::Duration};

use store::{Connection, Store, ledger as rows};
use trace::{
    causes::Causes,
    hash::Hash,
    keys::Kid,
    record::{
        Record,
        statement::{self, Statement},
    },
    roster::{Roster, RosterLine},
};
use uuid::Uuid;

use crate::service::{
    keys::{Keys, KeysError},
    ledger::{Ledger, LedgerError, to_hash},
};

#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Founds the ledger as soon as there is an operator, then states rosters for ever.
pub async fn run(ledger: Arc<Ledger>, keys: Arc<Keys>, interval: Duration) {
    loop {
        match step(ledger.store(), &ledger, &keys).await {
            Ok(_) | Err(RosterError::Keys(KeysError::NoOperator)) => {}
            Err(error) => {
                tracing::error!(error = %Causes(&error), "no roster was stated");
            }
        }
        tokio::time::sleep(interval).await;
    }
}

/// States one roster if it is due; `false` where it is not, or where another process leads.
pub async fn step(store: &Store, ledger: &Ledger, keys: &Keys) -> Result<bool, RosterError> {
    if ledger.halt().is_some() {
        return Ok(false);
    }
    let mut transaction = store.begin().await?;
    let operator = crate::service::keys::operator(&mut transaction).await?;
    keys.found(&mut transaction, &operator).await?;
    store::key::lock_history(&mut transaction).await?;
    let lines = roster_of(&mut transaction).await?;
    let due = is_due(&mut transaction, ledger, &lines).await?;
    if due {
        state(&mut transaction, keys, &lines).await?;
    }
    transaction.commit().await?;
    Ok(due)
}

/// States the roster as it is; returns its entry, which waits in the queue.
pub(super) async fn state_now(conn: &mut Connection, keys: &Keys) -> Result<Hash, RosterError> {
    store::key::lock_history(conn).await?;
    let lines = roster_of(conn).await?;
    state(conn, keys, &lines).await
}

async fn state(conn: &mut Connection, keys: &Keys, lines: &[RosterLine]) -> Result<Hash, RosterError> {
    let roster = Roster::new(lines.iter().cloned());
    let root = roster.root();
    store::roster::insert(conn, root.as_bytes(), &text_of(lines)).await?;
    let count = u64::try_from(roster.len()).unwrap_or(u64::MAX);
    let stated = Statement::Roster(statement::Roster { root, lines: count });
    Ok(keys.state(conn, Uuid::now_v7(), stated, None).await?)
}

/// Due unless the last roster says the same and nothing was logged or queued after it.
async fn is_due(conn: &mut Connection, ledger: &Ledger, lines: &[RosterLine]) -> Result<bool, RosterError> {
    let Some(last) = store::roster::newest(conn).await? else { return Ok(true) };
    let stated = Record::parse(&last.signed).ok().and_then(|record| record.statement()).and_then(Result::ok);
    let root = Roster::new(lines.iter().cloned()).root();
    if !matches!(stated, Some(Statement::Roster(roster)) if roster.root == root) {
        return Ok(true);
    }
    // While the last one waits for its own leaf, nothing can stand after it.
    let Some(at) = rows::locate(conn, &last.entry).await? else { return Ok(false) };
    let open = ledger.open_log();
    let head = rows::head(conn, open.id).await?;
    let (waiting, _) = rows::queue_state(conn).await?;
    Ok(waiting > 0 || at.log_id != open.id || head.size > at.index + 1)
}

/// Every key that was ever enrolled, as the roster lists it.
pub async fn roster_of(conn: &mut Connection) -> Result<Vec<RosterLine>, RosterError> {
    let listed = store::key::all(conn).await?;
    let line = |key: store::key::Listed| {
        Ok(RosterLine {
            kid: kid(&key.kid)?,
            party: key.party,
            custody: key.custody.parse().map_err(|_| LedgerError::Corrupt)?,
            state: key.state.parse().map_err(|_| LedgerError::Corrupt)?,
            since: key.since.timestamp(),
        })
    };
    listed.into_iter().map(line).collect()
}

fn kid(bytes: &[u8]) -> Result<Kid, LedgerError> {
    to_hash(bytes)
}

/// Lines with LF, sorted bytewise: what `store::roster` keeps.
fn text_of(lines: &[RosterLine]) -> String {
    let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    lines.sort_unstable();
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}
