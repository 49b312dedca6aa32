//! Alerts told to those who are not looking: by webhook and by mail. A message is written with the change that it tells of, is tried
//! again until it arrives, and has one name for all tries.

mod letter;
mod targets;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::Mac as _;
use store::{
    Connection, Store, StoreError,
    alert::{self, Alert},
    delivery::{self, Due},
    lot::{self, Lot},
    party::{self, Place},
};
use trace::causes::Causes;

pub use letter::Letter;
pub use targets::{Deliveries, DeliveriesError};

/// Tries of one message: the last comes after most of a day.
const ATTEMPTS_MAX: i32 = 16;
/// After the first try that failed; it doubles up to an hour and a half.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);
const DOUBLINGS_MAX: i32 = 9;
/// Kept of a problem.
const PROBLEM_CHARACTERS_MAX: usize = 300;

/// What a message tells of.
#[derive(Debug, Clone)]
pub struct Told {
    pub due: Due,
    pub alert: Alert,
    pub place: Place,
    pub lots: Vec<Lot>,
}

impl Told {
    pub fn is_cleared(&self) -> bool {
        self.due.what == "cleared"
    }

    /// Says only what was so at the change, so that every try says the same.
    fn json(&self) -> serde_json::Value {
        let alert = &self.alert;
        let cleared = self.is_cleared().then_some(alert.cleared_at).flatten();
        serde_json::json!({
            "id": self.due.id, "what": self.due.what, "at": self.due.at, "alert": alert.id, "rule": alert.rule,
            "profile": alert.profile, "place": self.place.uri, "subject": alert.subject, "metric": alert.metric,
            "unit": alert.unit, "limit": alert.threshold, "source": alert.source, "value": alert.value,
            "raised_at": alert.raised_at, "cleared_at": cleared,
            "cleared_value": cleared.and(alert.cleared_value),
            "lots": self.lots.iter().map(|lot| lot.uri.as_str()).collect::<Vec<_>>(),
        })
    }
}

/// Why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the address is not in the file any more")]
    NoTarget,
    #[error("the receiver answered {0}")]
    Status(u16),
    #[error("the receiver did not answer")]
    Http(#[from] reqwest::Error),
    #[error("the mail server did not take it")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("no mail can be made of it")]
    Mail(#[from] lettre::error::Error),
}

/// Sends the message that has waited longest; `false` where none is due. `letter` writes it in its reader's language.
///
/// A crash after the receiver took it and before the commit sends it again, under the same name.
pub async fn step(
    store: &Store,
    deliveries: &Deliveries,
    letter: impl Fn(&Told) -> Letter,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    let Some(due) = delivery::take(&mut transaction, now).await? else { return Ok(false) };
    let told = read(&mut transaction, due).await?;
    let (id, attempts) = (told.due.id, told.due.attempts);
    match deliveries.send(&told, letter, now).await {
        Ok(()) => delivery::delivered(&mut transaction, id, now).await?,
        Err(error) => {
            let problem: String = Causes(&error).to_string().chars().take(PROBLEM_CHARACTERS_MAX).collect();
            let next = (attempts + 1 < ATTEMPTS_MAX).then(|| now + pause(attempts));
            tracing::warn!(%id, channel = told.due.channel, attempts, problem, "an alert was not delivered");
            delivery::not_delivered(&mut transaction, id, next, &problem).await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

async fn read(conn: &mut Connection, due: Due) -> Result<Told, StoreError> {
    let alert = alert::by_id(conn, due.alert_id).await?.ok_or(StoreError::Corrupt("alert"))?;
    let place = party::place_by_id(conn, alert.place_id).await?;
    let lots = lot::by_ids(conn, &alert.lots).await?;
    Ok(Told { due, alert, place, lots })
}

fn pause(attempts: i32) -> TimeDelta {
    FIRST_PAUSE * 2_i32.pow(u32::try_from(attempts.clamp(0, DOUBLINGS_MAX)).unwrap_or_default())
}

/// `v1,` and HMAC-SHA256 of `{id}.{seconds}.{body}`, as Standard Webhooks writes it.
fn signature(secret: &[u8; 32], id: &str, seconds: i64, body: &str) -> String {
    // HMAC takes keys of every length.
    let Ok(mut mac) = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_bound() {
        let seconds = [0, 1, 2, 9, 10, 15].map(|attempts| pause(attempts).num_seconds());
        assert_eq!(seconds, [10, 20, 40, 5_120, 5_120, 5_120]);
    }
}
