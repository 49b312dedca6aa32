//! Dead letters for those whose business they are: read, and replayed after the cause was mended.
//!
//! A signed pack is judged again here. What a gateway must read and sign waits until the party's gateway has asked for it:
//! it takes the letter in like a message and says what became of it. Delivered at least once; the pack's number (cti) tells
//! a second delivery from a second message.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use store::{
    Connection, Store, StoreError,
    dead_letter::{self, DeadLetter},
    party::Party,
};
use trace::pack::{Topic, carriage::Status};

use crate::service::{
    account::{Asker, Member},
    alerts::scope_of,
    inspection,
    intake::{Again, judge_again},
    profiles::Profiles,
    story,
};

/// Letters that a gateway is given at once, and bytes of their payloads.
const REPLAYS_MAX: i64 = 100;
const REPLAY_BYTES_MAX: i64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// There is none, or it is not the caller's business.
    #[error("no such letter")]
    Unknown,
    /// Only its size and digest were kept.
    #[error("the payload was too long to keep")]
    NoPayload,
    /// A gateway says that it was stored, and no such pack is here.
    #[error("no pack of that number is stored")]
    NotStored,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A page of letters, newest first.
#[derive(Debug)]
pub struct Letters {
    pub letters: Vec<DeadLetter>,
    pub parties: BTreeMap<i64, Party>,
    /// Where the next page begins.
    pub before: Option<i64>,
}

/// A party's letters; everybody's for regulator and operator, and logged for the regulator.
pub async fn list(
    store: &Store,
    asker: &Asker,
    before: Option<i64>,
    page: i64,
) -> Result<Letters, StoreError> {
    let mut conn = store.connection().await?;
    let mut letters =
        dead_letter::newest(&mut conn, scope_of(&asker.party), before, page.saturating_add(1)).await?;
    let page = usize::try_from(page).unwrap_or(usize::MAX);
    let is_more = letters.len() > page;
    letters.truncate(page);
    let looked_at = letters.iter().filter_map(|letter| letter.party_id).collect();
    inspection::look(&mut conn, asker, &looked_at, "dead letters").await?;
    Ok(Letters {
        parties: story::parties(&mut conn, looked_at.into_iter()).await?,
        before: letters.last().filter(|_| is_more).map(|letter| letter.id),
        letters,
    })
}

/// Who may have a letter replayed: its party and the operator. A regulator looks on.
fn may_replay(party: &Party, letter: &DeadLetter) -> bool {
    party.role == "operator" || letter.party_id == Some(party.id)
}

/// The last replay brought it in: there is nothing left to do.
pub fn is_settled(letter: &DeadLetter) -> bool {
    letter.outcome.as_deref().is_some_and(|outcome| outcome == STORED || outcome == DUPLICATE)
}

pub const STORED: &str = "stored";
pub const DUPLICATE: &str = "duplicate";
/// A gateway signed it, and the server refused the pack: a letter of its own says why.
pub const REFUSED: &str = "refused";

/// Replays a letter, or hands it to the gateways. One that was brought in already stays as it is.
pub async fn replay(
    store: &Store,
    profiles: &Profiles,
    pen: u32,
    member: &Member,
    id: i64,
    now: DateTime<Utc>,
) -> Result<(), LetterError> {
    let mut transaction = store.begin().await?;
    let letter = dead_letter::lock(&mut transaction, id).await?;
    let letter = letter.filter(|letter| may_replay(&member.party, letter)).ok_or(LetterError::Unknown)?;
    if is_settled(&letter) {
        return Ok(());
    }
    if letter.payload.is_none() {
        return Err(LetterError::NoPayload);
    }
    match judge_again(&mut transaction, profiles, pen, &letter, now).await? {
        Again::Unsigned => dead_letter::want_replay(&mut transaction, id, now).await?,
        Again::Stored { before } => {
            let outcome = if before { DUPLICATE } else { STORED };
            dead_letter::replayed(&mut transaction, id, outcome, now).await?;
        }
        Again::Refused(reason) => {
            dead_letter::replayed(&mut transaction, id, reason.as_str(), now).await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// What waits for a gateway of `party`: the party's own, everybody's for the operator's. The oldest first, a bounded number.
pub async fn waiting(conn: &mut Connection, party: &Party) -> Result<Vec<DeadLetter>, StoreError> {
    dead_letter::waiting(conn, gateway_scope(party), REPLAYS_MAX, REPLAY_BYTES_MAX).await
}

fn gateway_scope(party: &Party) -> Option<i64> {
    (party.role != "operator").then_some(party.id)
}

/// A gateway's word on a letter that it took in again. It is not trusted with "stored": the pack must be here. Said twice, or
/// after somebody else said it, it changes nothing.
pub async fn confirm(
    store: &Store,
    party: &Party,
    id: i64,
    status: Status,
    cti: Option<&[u8]>,
    now: DateTime<Utc>,
) -> Result<(), LetterError> {
    let mut transaction = store.begin().await?;
    let letter = dead_letter::lock(&mut transaction, id).await?;
    let letter = letter.filter(|letter| may_replay(party, letter)).ok_or(LetterError::Unknown)?;
    if letter.replay_wanted_at.is_none() {
        return Ok(());
    }
    let outcome = match status {
        Status::DeadLetter => REFUSED,
        Status::Stored | Status::Duplicate if !stands(&mut transaction, &letter, cti).await? => {
            return Err(LetterError::NotStored);
        }
        Status::Stored => STORED,
        Status::Duplicate => DUPLICATE,
    };
    dead_letter::replayed(&mut transaction, id, outcome, now).await?;
    Ok(transaction.commit().await?)
}

async fn stands(conn: &mut Connection, letter: &DeadLetter, cti: Option<&[u8]>) -> Result<bool, StoreError> {
    let Some((cti, topic)) = cti.zip(letter.topic.parse::<Topic>().ok()) else { return Ok(false) };
    let name = topic.device;
    let Some(device) = store::device::by_name(conn, name.party(), name.device()).await? else {
        return Ok(false);
    };
    let key = store::pack::PackKey { device_id: device.id, cti: cti.to_vec() };
    Ok(!store::pack::entries(conn, &[key]).await?.is_empty())
}
