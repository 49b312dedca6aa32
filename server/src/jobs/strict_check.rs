//! The strict check of packs whose batch passed: only what holds here becomes a leaf. It may lag, and catches up.

use std::time::Duration;

use store::Store;

use trace::causes::Causes;

use crate::service::intake;

/// Between two looks when nothing is due; a checkpoint is at most a second away after it.
const IDLE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// Runs for as long as the process does.
pub async fn run(store: Store) {
    loop {
        let pause = match intake::check_strictly(&store).await {
            Ok(0) => IDLE,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the strict check of packs failed and is tried again");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
