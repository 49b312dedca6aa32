//! Asks each witness to cosign the newest head (C2SP tlog-witness, `add-checkpoint`) and keeps what verifies.
//!
//! All are asked side by side, each for its own time: one that hangs, lies or cannot be written down costs the others nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use store::{Session, StoreError, ledger as rows};
use tokio::time::{MissedTickBehavior, timeout};
use trace::{
    causes::Causes,
    hash::Hash,
    tlog::{
        checkpoint::Checkpoint,
        cosignature,
        note::{Note, SignatureLine, VerifierKey},
        witness::AddCheckpoint,
    },
};

use crate::service::ledger::{Ledger, LedgerError, Log, SEALED_IS_RECENT, to_u64};

/// Longest answer of a witness.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// What one witness may take in a round, both requests and the proofs for them together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Witnesses that are asked at the same time.
const ASKED_AT_ONCE: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("no answer")]
    Http(#[from] reqwest::Error),
    #[error("no answer in time")]
    TooLate,
    #[error("answered {status}")]
    Refused { status: u16 },
    #[error("knows size {known}, but not this history")]
    OtherHistory { known: u64 },
    #[error("answered what is not a cosignature of its key")]
    NotACosignature,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the witnesses, or the chains, say of a head at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// At least one has nothing that this head does not extend, and none anything else.
    Agree,
    /// Some are configured, and none answered.
    Nobody,
    NoneConfigured,
    /// One has something that this head does not extend.
    Beyond {
        who: String,
        size: u64,
    },
}

/// One witness to be asked.
struct Asked<'a> {
    name: &'a str,
    key: &'a VerifierKey,
    url: &'a str,
}

/// A log's head as it is offered.
struct Head {
    log: Arc<Log>,
    size: u64,
    note: Note,
}

/// What came of one request.
enum Answer {
    Cosigned(SignatureLine),
    /// It has cosigned another size than the request says.
    Knows(u64),
}

/// Asks all witnesses, as long as no other process does.
pub async fn run(ledger: Arc<Ledger>, http: reqwest::Client, interval: Duration) {
    loop {
        if let Err(error) = lead(&ledger, &http, interval).await {
            tracing::error!(error = %Causes(&error), "the witnesses were not asked");
        }
        tokio::time::sleep(interval).await;
    }
}

/// `Ok` where another process asks.
async fn lead(ledger: &Ledger, http: &reqwest::Client, interval: Duration) -> Result<(), WitnessError> {
    let Some(mut asker) = Asker::lead(ledger, http.clone()).await? else { return Ok(()) };
    let mut rounds = tokio::time::interval(interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // No round is longer than what lies between two.
        asker.ask_all(ANSWER_TIMEOUT.min(interval)).await?;
    }
}

/// The one who asks the witnesses, as long as its connection to the database lives.
pub struct Asker<'a> {
    ledger: &'a Ledger,
    http: reqwest::Client,
    session: Session,
    /// What each witness has cosigned of each log, as far as it is known here.
    known: BTreeMap<(i16, String), u64>,
}

impl<'a> Asker<'a> {
    /// `None` where another process asks.
    pub async fn lead(ledger: &'a Ledger, http: reqwest::Client) -> Result<Option<Self>, WitnessError> {
        let mut session = ledger.store().session().await?;
        if !rows::try_lead(&mut session, rows::Lead::Witnesses).await? {
            return Ok(None);
        }
        Ok(Some(Self { ledger, http, session, known: BTreeMap::new() }))
    }

    /// One round: the newest head of the open log, and of those sealed lately, to each witness that has not cosigned it, each
    /// for at most `patience`.
    pub async fn ask_all(&mut self, patience: Duration) -> Result<(), WitnessError> {
        let (ledger, http) = (self.ledger, &self.http);
        // Over the connection that holds the lock: where that is gone, another asks.
        ledger.refresh(&mut self.session).await?;
        let mut heads = Vec::new();
        for log in ledger.recent_logs(Utc::now() - SEALED_IS_RECENT) {
            let newest = rows::newest_checkpoints(&mut self.session, log.id, 1).await?;
            let Some(newest) = newest.into_iter().next() else { continue };
            let note = newest.note.parse().map_err(|_| LedgerError::Corrupt)?;
            heads.push(Head { log, size: to_u64(newest.size)?, note });
        }
        let asked: Vec<_> = configured(ledger).collect();
        let pairs = heads.iter().flat_map(|head| asked.iter().map(move |asked| (head, asked)));
        let answers = pairs.filter_map(|(head, asked)| {
            let of_log = (head.log.id, asked.name.to_owned());
            let from = self.known.get(&of_log).copied();
            let answer = async move {
                let answer = timeout(patience, ask(ledger, http, asked, head, from)).await;
                (of_log, head.size, answer.unwrap_or(Err(WitnessError::TooLate)))
            };
            (from != Some(head.size)).then(|| answer.boxed())
        });
        let answers: Vec<_> = answers.collect();
        let answers: Vec<_> = stream::iter(answers).buffer_unordered(ASKED_AT_ONCE).collect().await;
        for (of_log, size, answer) in answers {
            match answer {
                Ok(()) => drop(self.known.insert(of_log, size)),
                Err(error) => tracing::warn!(witness = of_log.1, error = %Causes(&error), "not cosigned"),
            }
        }
        Ok(())
    }
}

/// Keeps the cosignature of one witness on the head. `from`: what it has cosigned, where that is known.
async fn ask(
    ledger: &Ledger,
    http: &reqwest::Client,
    asked: &Asked<'_>,
    head: &Head,
    from: Option<u64>,
) -> Result<(), WitnessError> {
    let from = match from {
        Some(from) => from,
        None => cosigned_before(ledger, &head.log, asked.name).await?,
    };
    let line = cosign(ledger, http, asked, head, from).await?;
    keep(ledger, asked, head, &line).await
}

/// Whether the witnesses agree that `(size, root)` is no older than, and no other than, what they have cosigned.
pub async fn ask_for_head(
    ledger: &Ledger,
    log: &Log,
    http: &reqwest::Client,
    size: u64,
    root: Hash,
) -> Answers {
    let head = Checkpoint { origin: log.origin.clone(), size, root };
    let Ok(signer) = ledger.signer(log) else { return Answers::Nobody };
    // This very head was signed before, but for the empty one, which every tree extends: nothing new is said here.
    let head = Head { log: Arc::new(log.clone()), size, note: head.sign(signer) };
    let asked: Vec<_> = configured(ledger).collect();
    let mut verdict = if asked.is_empty() { Answers::NoneConfigured } else { Answers::Nobody };
    let answers: Vec<_> = asked.iter().map(|asked| confirm(ledger, http, asked, &head).boxed()).collect();
    let answers: Vec<_> = stream::iter(answers).buffer_unordered(ASKED_AT_ONCE).collect().await;
    for (name, answer) in answers {
        match answer {
            Ok(()) => verdict = Answers::Agree,
            Err(WitnessError::OtherHistory { known }) => {
                return Answers::Beyond { who: name.to_owned(), size: known };
            }
            Err(error) => tracing::warn!(witness = name, error = %Causes(&error), "did not confirm the head"),
        }
    }
    verdict
}

/// Whether one witness cosigns the head; its name comes with the answer.
async fn confirm<'a>(
    ledger: &Ledger,
    http: &reqwest::Client,
    asked: &Asked<'a>,
    head: &Head,
) -> (&'a str, Result<(), WitnessError>) {
    let answer = async {
        let from = cosigned_before(ledger, &head.log, asked.name).await?;
        cosign(ledger, http, asked, head, from).await.map(drop)
    };
    (asked.name, timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(WitnessError::TooLate)))
}

fn configured(ledger: &Ledger) -> impl Iterator<Item = Asked<'_>> {
    ledger
        .policy()
        .witnesses()
        .iter()
        .filter_map(|(name, witness)| Some(Asked { name, key: &witness.key, url: witness.url.as_deref()? }))
}

async fn cosigned_before(ledger: &Ledger, log: &Log, witness: &str) -> Result<u64, WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let size = rows::newest_size_of(&mut conn, log.id, witness).await?;
    Ok(to_u64(size.unwrap_or(0))?)
}

/// Sends the head with a proof from `from`; where the witness knows another size, once more with a proof from there.
async fn cosign(
    ledger: &Ledger,
    http: &reqwest::Client,
    asked: &Asked<'_>,
    head: &Head,
    from: u64,
) -> Result<SignatureLine, WitnessError> {
    let known = match add_checkpoint(ledger, http, asked, head, from.min(head.size)).await? {
        Answer::Cosigned(line) => return Ok(line),
        Answer::Knows(known) => known,
    };
    if known > head.size {
        return Err(WitnessError::OtherHistory { known });
    }
    match add_checkpoint(ledger, http, asked, head, known).await {
        Ok(Answer::Cosigned(line)) => Ok(line),
        // The proof was right for what this database holds: the witness holds something else.
        Ok(Answer::Knows(_)) | Err(WitnessError::Refused { status: 422 }) => {
            Err(WitnessError::OtherHistory { known })
        }
        Err(error) => Err(error),
    }
}

async fn add_checkpoint(
    ledger: &Ledger,
    http: &reqwest::Client,
    asked: &Asked<'_>,
    head: &Head,
    from: u64,
) -> Result<Answer, WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let proof = ledger.tree().consistency_proof(&mut conn, head.log.id, from, head.size).await;
    // The witness may take its time; the pool need not wait with it.
    drop(conn);
    let proof = proof.map_err(LedgerError::from)?;
    let request = AddCheckpoint { old_size: from, proof, checkpoint: head.note.clone() };
    let url = format!("{}/add-checkpoint", asked.url.trim_end_matches('/'));
    let response = http.post(url).body(request.to_string()).send().await?;
    let status = response.status().as_u16();
    let body = bounded_text(response).await?;
    match status {
        200 => Ok(Answer::Cosigned(own_line(&body, &head.note.text, asked.key)?)),
        409 => {
            let known = body.trim_end().parse().map_err(|_| WitnessError::Refused { status })?;
            Ok(Answer::Knows(known))
        }
        _ => Err(WitnessError::Refused { status }),
    }
}

async fn bounded_text(mut response: reqwest::Response) -> Result<String, WitnessError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(WitnessError::NotACosignature);
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| WitnessError::NotACosignature)
}

/// The line of the witness's own key; lines of other keys are ignored.
fn own_line(body: &str, text: &str, key: &VerifierKey) -> Result<SignatureLine, WitnessError> {
    let lines = body.lines().filter_map(|line| line.parse::<SignatureLine>().ok());
    let mut own = lines.filter(|line| cosignature::verify_line(text, line, key).is_ok());
    own.next().ok_or(WitnessError::NotACosignature)
}

async fn keep(
    ledger: &Ledger,
    asked: &Asked<'_>,
    head: &Head,
    line: &SignatureLine,
) -> Result<(), WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let row = rows::Cosignature {
        log_id: head.log.id,
        size: i64::try_from(head.size).map_err(|_| LedgerError::Corrupt)?,
        witness: asked.name.to_owned(),
        line: line.to_string(),
        at: Utc::now(),
    };
    Ok(rows::insert_cosignature(&mut conn, &row).await?)
}
