//! A dead letter judged again, after the cause was mended.

use chrono::{DateTime, Utc};
use store::{Connection, StoreError, dead_letter::DeadLetter};
use trace::pack::carriage::{Body, Item, Status};

use super::{Judged, Known, Reason, keep, read_known};
use crate::service::profiles::Profiles;

/// What judging a letter again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Again {
    /// It stands now; `true` where it had stood before.
    Stored {
        before: bool,
    },
    /// A gateway has to read and sign it first.
    Unsigned,
    Refused(Reason),
}

/// Judges a letter as if it came now, with the moment of its first arrival, and stores it if it holds. All of it in the
/// caller's transaction.
pub(in crate::service) async fn judge_again(
    conn: &mut Connection,
    profiles: &Profiles,
    pen: u32,
    letter: &DeadLetter,
    now: DateTime<Utc>,
) -> Result<Again, StoreError> {
    let Some(payload) = &letter.payload else { return Ok(Again::Refused(Reason::Oversize)) };
    let item = Item {
        topic: &letter.topic,
        received_ms: letter.received_at.timestamp_millis(),
        body: Body::Bytes(payload),
    };
    let known = read_known(conn, profiles, pen, std::slice::from_ref(&item)).await?;
    let mut judged = [known.judge(&item, now)];
    refuse_unless_strict(&mut judged);
    keep(conn, profiles, &mut judged, now).await?;
    let [judged] = judged;
    Ok(match (judged.reason(), judged.outcome().status) {
        (Some(Reason::NotAPack), _) if known.is_signed_by_gateways(&letter.topic) => Again::Unsigned,
        (Some(reason), _) => Again::Refused(reason),
        (None, status) => Again::Stored { before: status == Status::Duplicate },
    })
}

/// A pack that only a batch let through stands without a leaf, and would be taken for a duplicate of itself.
fn refuse_unless_strict(judged: &mut [Judged<'_>]) {
    for judged in judged {
        if judged.stored().is_some_and(|candidate| candidate.frame.verify(&candidate.public).is_err()) {
            judged.refuse(Reason::Signature);
        }
    }
}

impl Known<'_> {
    fn is_signed_by_gateways(&self, topic: &str) -> bool {
        self.device(topic).is_ok_and(|(_, device)| device.signing == "gateway")
    }
}
