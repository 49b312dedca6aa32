//! Tells of alerts by webhook and by mail.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use store::StoreError;
use trace::causes::Causes;

use crate::{app::AppState, service::deliveries, web::alerts::letter};

/// Messages under way at once: one that does not arrive does not keep the others waiting.
const AT_ONCE: usize = 4;
/// Between two looks when nothing is due.
const IDLE: Duration = Duration::from_secs(2);
/// Parties that are registered meanwhile are told from then on.
const TARGETS: Duration = Duration::from_mins(1);

/// Runs for as long as the process does. What one server sends, no other does.
pub async fn run(state: Arc<AppState>) {
    let targets = async {
        loop {
            if let Err(error) = state.deliveries.settle(&state.store).await {
                tracing::error!(error = %Causes(&error), "who is told of alerts was not written down");
            }
            tokio::time::sleep(TARGETS).await;
        }
    };
    let senders = futures_util::future::join_all((0..AT_ONCE).map(|_| send(&state)));
    tokio::join!(targets, senders);
}

async fn send(state: &AppState) {
    loop {
        match step(state).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(error = %Causes(&error), "no alert was delivered"),
        }
        tokio::time::sleep(IDLE).await;
    }
}

async fn step(state: &AppState) -> Result<bool, StoreError> {
    deliveries::step(&state.store, &state.deliveries, |told| letter(state, told), Utc::now()).await
}
