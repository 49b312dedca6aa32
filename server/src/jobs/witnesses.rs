//! Asks each witness to cosign the newest head (C2SP tlog-witness, `add-checkpoint`) and keeps what verifies.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use store::{StoreError, ledger as rows};
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
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("no answer")]
    Http(#[from] reqwest::Error),
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

/// What came of one request.
enum Answer {
    Cosigned(SignatureLine),
    /// It has cosigned another size than the request says.
    Knows(u64),
}

/// What each witness has cosigned of each log.
pub type Known = BTreeMap<(i16, String), u64>;

/// Asks all witnesses again and again.
pub async fn run(ledger: Arc<Ledger>, http: reqwest::Client, interval: Duration) {
    let mut known = BTreeMap::new();
    loop {
        if let Err(error) = ask_all(&ledger, &http, &mut known).await {
            tracing::error!(error = %Causes(&error), "the witnesses were not asked");
        }
        tokio::time::sleep(interval).await;
    }
}

/// One round: the newest head of the open log, and of those sealed lately, to each witness that has not cosigned it. `known`
/// remembers what each has cosigned.
pub async fn ask_all(ledger: &Ledger, http: &reqwest::Client, known: &mut Known) -> Result<(), WitnessError> {
    for log in ledger.recent_logs(Utc::now() - SEALED_IS_RECENT) {
        ask_for_newest(ledger, &log, http, known).await?;
    }
    Ok(())
}

async fn ask_for_newest(
    ledger: &Ledger,
    log: &Log,
    http: &reqwest::Client,
    known: &mut Known,
) -> Result<(), WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let newest = rows::newest_checkpoints(&mut conn, log.id, 1).await?.into_iter().next();
    drop(conn);
    let Some(newest) = newest else { return Ok(()) };
    let note: Note = newest.note.parse().map_err(|_| LedgerError::Corrupt)?;
    let size = to_u64(newest.size)?;
    for asked in configured(ledger) {
        let of_log = (log.id, asked.name.to_owned());
        if known.get(&of_log) == Some(&size) {
            continue;
        }
        let from = match known.get(&of_log) {
            Some(&from) => from,
            None => cosigned_before(ledger, log, asked.name).await?,
        };
        match cosign(ledger, log, http, &asked, &note, size, from).await {
            Ok(line) => {
                keep(ledger, &asked, (log.id, newest.size), &line).await?;
                known.insert(of_log, size);
            }
            Err(error) => {
                tracing::warn!(witness = asked.name, error = %Causes(&error), "not cosigned");
            }
        }
    }
    Ok(())
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
    let note = head.sign(signer);
    let mut verdict =
        if configured(ledger).next().is_none() { Answers::NoneConfigured } else { Answers::Nobody };
    for asked in configured(ledger) {
        let from = cosigned_before(ledger, log, asked.name).await.unwrap_or(0);
        match cosign(ledger, log, http, &asked, &note, size, from).await {
            Ok(_) => verdict = Answers::Agree,
            Err(WitnessError::OtherHistory { known }) => {
                return Answers::Beyond { who: asked.name.to_owned(), size: known };
            }
            Err(error) => {
                tracing::warn!(witness = asked.name, error = %Causes(&error), "did not confirm the head");
            }
        }
    }
    verdict
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
    log: &Log,
    http: &reqwest::Client,
    asked: &Asked<'_>,
    note: &Note,
    size: u64,
    from: u64,
) -> Result<SignatureLine, WitnessError> {
    let known = match add_checkpoint(ledger, log, http, asked, note, size, from.min(size)).await? {
        Answer::Cosigned(line) => return Ok(line),
        Answer::Knows(known) => known,
    };
    if known > size {
        return Err(WitnessError::OtherHistory { known });
    }
    match add_checkpoint(ledger, log, http, asked, note, size, known).await {
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
    log: &Log,
    http: &reqwest::Client,
    asked: &Asked<'_>,
    note: &Note,
    size: u64,
    from: u64,
) -> Result<Answer, WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let proof = ledger.tree().consistency_proof(&mut conn, log.id, from, size).await;
    // The witness may take its time; the pool need not wait with it.
    drop(conn);
    let proof = proof.map_err(LedgerError::from)?;
    let request = AddCheckpoint { old_size: from, proof, checkpoint: note.clone() };
    let url = format!("{}/add-checkpoint", asked.url.trim_end_matches('/'));
    let response = http.post(url).timeout(ANSWER_TIMEOUT).body(request.to_string()).send().await?;
    let status = response.status().as_u16();
    let body = bounded_text(response).await?;
    match status {
        200 => Ok(Answer::Cosigned(own_line(&body, &note.text, asked.key)?)),
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
    (log_id, size): (i16, i64),
    line: &SignatureLine,
) -> Result<(), WitnessError> {
    let mut conn = ledger.store().connection().await?;
    let row = rows::Cosignature {
        log_id,
        size,
        witness: asked.name.to_owned(),
        line: line.to_string(),
        at: Utc::now(),
    };
    Ok(rows::insert_cosignature(&mut conn, &row).await?)
}
