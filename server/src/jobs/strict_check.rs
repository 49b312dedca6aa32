//! The strict check of packs whose batch passed: only what holds here becomes a leaf. It may lag, and catches up.

use std::{sync::Arc, time::Duration};

use store::Store;
use tokio::sync::Notify;
use trace::causes::Causes;

use crate::service::intake;

/// Between two looks when nothing is due; a checkpoint is at most a second away after it.
const IDLE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);
/// Each with a transaction of its own: while one waits for Postgres, another verifies.
const CHECKERS: usize = 2;

/// Runs for as long as the process does; `arrived` saves the wait where this server took the packs itself.
pub async fn run(store: Store, arrived: Arc<Notify>) {
    let mut checkers = tokio::task::JoinSet::new();
    for _ in 0..CHECKERS {
        checkers.spawn(check(store.clone(), Arc::clone(&arrived)));
    }
    while checkers.join_next().await.is_some() {}
}

async fn check(store: Store, arrived: Arc<Notify>) {
    loop {
        let pause = match intake::check_strictly(&store).await {
            Ok(0) => IDLE,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the strict check of packs failed and is tried again");
                RETRY
            }
        };
        // Woken or not, it looks.
        drop(tokio::time::timeout(pause, arrived.notified()).await);
    }
}
