//! Checks a part of the ledger again and again, as the role that can only read, and notes what was found.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use store::{
    Store, StoreError,
    integrity::{self, Check},
};
use trace::causes::Causes;

use crate::service::fsck::{self, Ask, FsckError, Sampled};

/// Between two looks whether it is time: another server may have checked.
const LOOK: Duration = Duration::from_mins(1);

/// What is checked, and how often.
#[derive(Debug, Clone)]
pub struct Watch {
    pub ask: Arc<Ask>,
    /// Entries drawn by lot each time.
    pub sample: usize,
    pub interval: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fsck(#[from] FsckError),
    #[error("the check broke off")]
    BrokeOff(#[from] tokio::task::JoinError),
}

/// Runs for as long as the process does; without a watch, it only waits.
pub async fn run(store: Store, watch: Option<Watch>) {
    let Some(watch) = watch else { return std::future::pending().await };
    loop {
        match step(&store, &watch).await {
            Ok(Some(check)) if check.misfits > 0 => {
                let (at, what) = (check.first_at.unwrap_or_default(), check.first_what.unwrap_or_default());
                tracing::error!(misfits = check.misfits, at, what, "the ledger does not fit what was signed");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the ledger was not checked");
            }
        }
        tokio::time::sleep(watch.interval.min(LOOK)).await;
    }
}

/// Checks once, if it is time and nobody else does; what it found is in the table for all servers.
pub async fn step(store: &Store, watch: &Watch) -> Result<Option<Check>, WatchError> {
    let mut transaction = store.begin().await?;
    if !integrity::lead(&mut transaction).await? {
        return Ok(None);
    }
    let began = Utc::now();
    let interval = TimeDelta::from_std(watch.interval).unwrap_or(TimeDelta::MAX);
    let last = integrity::newest(&mut transaction).await?;
    // A look at an empty log has found nothing out: the next one does not wait.
    if last.is_some_and(|last| last.logged > 0 && began.signed_duration_since(last.at) < interval) {
        return Ok(None);
    }
    let (ask, sample) = (Arc::clone(&watch.ask), watch.sample);
    let sampled = tokio::task::spawn_blocking(move || fsck::sample(&ask, sample)).await??;
    let check = noted(began, &sampled);
    integrity::insert(&mut transaction, &check).await?;
    transaction.commit().await?;
    Ok(Some(check))
}

fn noted(at: chrono::DateTime<Utc>, Sampled { report, logged }: &Sampled) -> Check {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let first = report.misfits.first();
    Check {
        at,
        entries: count(report.entries),
        logged: count(*logged),
        misfits: i64::try_from(report.misfits.len()).unwrap_or(i64::MAX),
        first_at: first.map(|misfit| misfit.at.clone()),
        first_what: first.map(|misfit| misfit.what.clone()),
    }
}
