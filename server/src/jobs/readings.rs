//! Makes room for the readings of the days to come, and drops the days that are older than they are kept.

use std::time::Duration;

use chrono::Utc;
use store::Store;
use trace::causes::Causes;

use crate::service::rollups;

const PAUSE: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_mins(1);

/// Runs for as long as the process does. Several servers may: each day is made once.
pub async fn run(store: Store, kept_days: u64) {
    loop {
        let turned = async {
            let mut conn = store.connection().await?;
            rollups::turn_days(&mut conn, Utc::now().date_naive(), kept_days).await
        };
        let pause = match turned.await {
            Ok((made, dropped)) => {
                if made > 0 || dropped > 0 {
                    tracing::info!(made, dropped, "days of readings");
                }
                PAUSE
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "no room was made for readings: they stand with those of other days");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
