//! Looks for what no single reading says: rises and disagreements as sums come in, silences, and work that is overdue.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use store::StoreError;
use tokio::time::Instant;
use trace::causes::Causes;

use crate::{
    app::AppState,
    service::alerts::{
        live::{self, Told},
        overdue, senders, silence, trends,
    },
};

/// Between two looks when no place is due.
const IDLE: Duration = Duration::from_secs(2);
/// Between two looks for those who have the page open.
const LIVE: Duration = Duration::from_secs(1);
/// Silences are stated in minutes …
const SILENCES: Duration = Duration::from_mins(1);
/// … and intervals in days.
const OVERDUE: Duration = Duration::from_mins(10);
/// A clock that is off, or a second device, shows in packs of an hour.
const SENDERS: Duration = Duration::from_mins(5);

/// Runs for as long as the process does. Two servers that both look raise once: an open alert is unique.
pub async fn run(state: Arc<AppState>) {
    tokio::join!(
        tell(&state),
        keep_on(&state, IDLE, async || {
            while trends::look(&state.store, &state.profiles, Utc::now()).await? > 0 {}
            Ok(())
        }),
        keep_on(&state, SILENCES, async || silence::look(&state.store, &state.profiles, Utc::now())
            .await
            .map(drop)),
        keep_on(&state, SENDERS, async || senders::look(&state.store, Utc::now()).await),
        keep_on(&state, OVERDUE, async || overdue::look(&state.store, &state.profiles, Utc::now()).await),
    );
}

/// A look that fails is tried again at the next one.
async fn keep_on(state: &AppState, pause: Duration, look: impl AsyncFn() -> Result<(), StoreError>) {
    loop {
        let next = Instant::now() + pause;
        if state.ledger.halt().is_none()
            && let Err(error) = look().await
        {
            tracing::error!(error = %Causes(&error), "alerts were not looked for");
        }
        tokio::time::sleep_until(next.max(Instant::now() + IDLE)).await;
    }
}

/// Whoever has the page open is told by each server, whichever raised the alert.
async fn tell(state: &AppState) {
    let mut told = Told::default();
    loop {
        if let Err(error) = live::tell(&state.store, &state.live, &mut told).await {
            tracing::warn!(error = %Causes(&error), "those who look at alerts were not told of changes");
        }
        tokio::time::sleep(LIVE).await;
    }
}
