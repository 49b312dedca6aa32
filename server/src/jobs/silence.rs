//! Looks for devices that have fallen silent.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use trace::causes::Causes;

use crate::{app::AppState, service::alerts::silence};

/// Between two looks: silences are stated in minutes.
const PAUSE: Duration = Duration::from_mins(1);

/// Runs for as long as the process does. Two servers that both look raise once: an open alert is unique.
pub async fn run(state: Arc<AppState>) {
    loop {
        if state.ledger.halt().is_none()
            && let Err(error) = silence::look(&state.store, &state.profiles, Utc::now()).await
        {
            tracing::error!(error = %Causes(&error), "no silent device was looked for");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
