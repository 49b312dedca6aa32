//! Batches of items to the server, and its verdicts back to whoever waits.
//!
//! A batch closes at 1,000 items, 1 MiB or after 2 ms, and at once when none is under way. It is posted until the
//! server answers 200 with one verdict for each item; any other end acknowledges none and the same batch is posted
//! again. A crash here loses nothing that was acknowledged: devices and brokers still hold what was not.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, header};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use trace::pack::carriage::{self, BATCH_BYTES_MAX, CONTENT_TYPE, CarriageError, ITEMS_MAX, Outcome, Status};

use crate::{intake::Waiting, metrics::Metrics};

const LINGER: Duration = Duration::from_millis(2);
/// While the server commits one, it verifies others and the next travels.
const UNDER_WAY_MAX: usize = 4;
/// 1,000 verdicts of a 64-byte counter and their heads, with room.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Clone)]
pub struct Uplink {
    pub client: Client,
    pub url: String,
    pub token: String,
    pub retry_first: Duration,
    pub retry_max: Duration,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("the server did not answer")]
    Http(#[from] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server's answer acknowledges nothing")]
    Answer(#[from] CarriageError),
    #[error("an answer of more than {ANSWER_BYTES_MAX} bytes")]
    LongAnswer,
}

/// Runs until every sender is gone and everything taken is answered for.
pub async fn run(uplink: Uplink, mut waiting: mpsc::Receiver<Waiting>) {
    let mut posts = JoinSet::new();
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(item) => item,
            None => match waiting.recv().await {
                Some(item) => item,
                None => break,
            },
        };
        while posts.try_join_next().is_some() {}
        let (batch, overflow) = fill(first, &mut waiting, !posts.is_empty()).await;
        next = overflow;
        while posts.len() >= UNDER_WAY_MAX && posts.join_next().await.is_some() {}
        posts.spawn(deliver(uplink.clone(), batch));
    }
    while posts.join_next().await.is_some() {}
}

/// Fills a batch from what waits, lingering only while another is under way. The item that no longer fits opens the next.
async fn fill(
    first: Waiting,
    waiting: &mut mpsc::Receiver<Waiting>,
    linger: bool,
) -> (Vec<Waiting>, Option<Waiting>) {
    let until = Instant::now() + LINGER;
    let mut bytes = first.item.len();
    let mut batch = vec![first];
    while batch.len() < ITEMS_MAX {
        let item = match waiting.try_recv() {
            Ok(item) => item,
            Err(_) if linger => match timeout_at(until, waiting.recv()).await {
                Ok(Some(item)) => item,
                Ok(None) | Err(_) => break,
            },
            Err(_) => break,
        };
        if bytes + item.item.len() > BATCH_BYTES_MAX {
            return (batch, Some(item));
        }
        bytes += item.item.len();
        batch.push(item);
    }
    (batch, None)
}

async fn deliver(uplink: Uplink, batch: Vec<Waiting>) {
    let items: Vec<&[u8]> = batch.iter().map(|waiting| waiting.item.as_slice()).collect();
    let body = bytes::Bytes::from(items.concat());
    let mut pause = uplink.retry_first;
    let verdicts = loop {
        uplink.metrics.posts.one();
        match uplink.post(body.clone(), batch.len()).await {
            Ok(verdicts) => break verdicts,
            Err(error) => {
                uplink.metrics.posts_failed.one();
                tracing::warn!(
                    error = crate::cause(&error),
                    items = batch.len(),
                    "batch not acknowledged, posted again after a pause"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(uplink.retry_max);
            }
        }
    };
    for (waiting, verdict) in batch.into_iter().zip(verdicts) {
        uplink.count(verdict.status);
        if waiting.answer.send(verdict).is_err() {
            // The device's connection ended first: it sends again, and the server knows the pack by then.
            tracing::debug!("a verdict came after its connection had ended");
        }
    }
}

impl Uplink {
    async fn post(&self, body: bytes::Bytes, sent: usize) -> Result<Vec<Outcome>, PostError> {
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .body(body);
        let mut response = request.send().await?;
        if response.status() != StatusCode::OK {
            return Err(PostError::Status(response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(PostError::LongAnswer);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(carriage::read_outcomes(&answer, sent)?)
    }

    fn count(&self, status: Status) {
        match status {
            Status::Stored => self.metrics.stored.one(),
            Status::Duplicate => self.metrics.duplicates.one(),
            Status::DeadLetter => self.metrics.dead_letters.one(),
        }
    }
}
