//! States the conditions of every window that has closed, on the lots that lay there.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use trace::causes::Causes;

use crate::{
    app::AppState,
    service::{conditions, keys::KeysError, ledger::LedgerError},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// How far back the first look goes, for packs that came while nobody looked.
const FIRST_LOOK: TimeDelta = TimeDelta::days(3);
/// Packs wait for their leaves, and a window that could not be stated is tried again, at most so long; what takes longer is
/// found by the next start.
const LEAF_WAIT: TimeDelta = TimeDelta::hours(1);

/// Runs for as long as the process does; `window_s` is the length of a window in seconds.
pub async fn run(state: Arc<AppState>, window_s: i32) {
    let mut since = Utc::now() - FIRST_LOOK;
    loop {
        // Whoever leads the log states: two servers would only lose to each other's jti.
        if state.ledger.halt().is_none() {
            let now = Utc::now();
            match look(&state, window_s, since, now).await {
                Ok(_) => since = now - TimeDelta::seconds(window_s.into()) - LEAF_WAIT,
                Err(error) => {
                    tracing::error!(error = %Causes(&error), "no conditions were stated");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Keys(#[from] KeysError),
}

async fn look(
    state: &AppState,
    window_s: i32,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<usize, LookError> {
    let seen = state.ledger.seen(&mut *state.store.connection().await?).await?;
    let (store, keys, profiles) = (&state.store, &state.keys, &state.profiles);
    Ok(conditions::summarise(store, keys, profiles, seen.as_ref(), window_s, since, now).await?)
}
