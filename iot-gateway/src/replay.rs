//! Dead letters that a keeper wants tried again and only a gateway can sign: asked for, taken in like a message, confirmed.
//!
//! A crash between the server's verdict and the confirmation delivers the letter again, and its number (cti) tells the server
//! that it is no second message.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::json;
use trace::{
    b64,
    pack::carriage::{Outcome, PAYLOAD_BYTES_MAX, Status},
};

use crate::intake::{Intake, Stopping};

/// Of one answer: 1 MiB of payloads and one more letter, in base64 and with their topics.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Asks the server for letters at the register's pace.
pub struct Replayer {
    pub client: Client,
    pub url: String,
    pub token: String,
    pub interval: Duration,
    pub intake: Intake,
}

#[derive(Deserialize)]
struct Answer {
    /// Entity tag of the register that the letters are to be read by.
    register: Option<String>,
    replays: Vec<Letter>,
}

#[derive(Deserialize)]
struct Letter {
    id: i64,
    topic: String,
    received_ms: i64,
    /// base64url.
    payload: String,
}

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("the server did not answer")]
    Http(#[from] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("an answer of more than {ANSWER_BYTES_MAX} bytes")]
    LongAnswer,
    #[error("the answer is not the agreed JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

impl Replayer {
    /// Runs until it is dropped. What fails is asked for again after a pause.
    pub async fn run(self) {
        self.intake.registry.known().await;
        loop {
            if let Err(error) = self.turn().await {
                self.intake.metrics.replay_errors.one();
                tracing::warn!(error = crate::cause(&error), "dead letters were not taken in again");
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn turn(&self) -> Result<(), ReplayError> {
        let answer = self.ask().await?;
        if answer.replays.is_empty() {
            return Ok(());
        }
        let is_current = answer.register.is_some() && answer.register == self.register_tag();
        if !is_current {
            // The cause may have been mended a moment ago, in the register: they would fail for the same reason.
            self.intake.registry.want_fresh();
            return Ok(());
        }
        for letter in &answer.replays {
            let verdict = self.take(letter).await?;
            self.intake.metrics.replays.one();
            match self.confirm(letter.id, &verdict).await {
                // One letter that cannot be settled does not hold up the others.
                Err(ReplayError::Status(status)) => {
                    self.intake.metrics.replay_errors.one();
                    tracing::warn!(letter = letter.id, %status, "the server does not take the word on a replay");
                }
                confirmed => confirmed?,
            }
        }
        Ok(())
    }

    fn register_tag(&self) -> Option<String> {
        self.intake.registry.current.borrow().tag.clone()
    }

    async fn take(&self, letter: &Letter) -> Result<Outcome, ReplayError> {
        let Some(payload) = b64::from_url(&letter.payload).ok().filter(|p| p.len() <= PAYLOAD_BYTES_MAX)
        else {
            return Ok(Outcome { status: Status::DeadLetter, cti: None });
        };
        let taken = self.intake.take_received(&letter.topic, letter.received_ms, &payload).await?;
        Ok(taken.verdict.await.map_err(|_| Stopping)?)
    }

    async fn ask(&self) -> Result<Answer, ReplayError> {
        let mut response = self.client.get(&self.url).bearer_auth(&self.token).send().await?;
        if response.status() != StatusCode::OK {
            return Err(ReplayError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(ReplayError::LongAnswer);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(serde_json::from_slice(&body)?)
    }

    async fn confirm(&self, id: i64, verdict: &Outcome) -> Result<(), ReplayError> {
        let told = json!({ "status": verdict.status.code(), "cti": verdict.cti.as_deref().map(b64::url) });
        let url = format!("{}/{id}", self.url);
        let response = self.client.post(url).bearer_auth(&self.token).json(&told).send().await?;
        match response.status() {
            // Not found: somebody else settled it, or its party left.
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            other => Err(ReplayError::Status(other)),
        }
    }
}
