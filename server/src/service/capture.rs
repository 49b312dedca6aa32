//! A step of the working day: what was typed → a signed record and what follows from it, in one transaction.
//!
//! Parse → look up what the words refer to, locking what the rules compare → rules and event (`trace::profile::build`) →
//! sign → record, disclosures, leaf, holdings, and the derived records that the server owes. A refusal changes nothing.

mod epoch;
mod facts;
mod own;

use chrono::{DateTime, FixedOffset, Utc};
use serde_json::{Value as Json, json};
use store::{
    Connection, Store, StoreError,
    party::{self, Party},
    record,
};
use trace::{
    hash::Hash,
    profile::{
        Effect, Profile, Refusal, Step,
        build::{self, Built},
        form::{self, Values},
    },
    record::{Ref, Rel, Seen},
};
use uuid::Uuid;

pub use self::own::OwnSignature;

use self::facts::Facts;
use super::{
    codes,
    effects::{self, Cause, Consequence, EffectError},
    keys::{DataKey, Keys, KeysError},
    ledger::LedgerError,
    records::{Hand, NewRecord},
};

/// China Standard Time: what a form's times mean that name no zone, and how the server's own records are written.
const LOCAL_OFFSET_SECONDS: i32 = 8 * 3600;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No such step for this party's role.
    #[error("no such step")]
    NoSuchStep,
    #[error("refused by a rule")]
    Refused(Vec<Refusal>),
    /// The jti was used for something else.
    #[error("the idempotency key was used before")]
    JtiUsed,
    #[error("the party's key cannot sign")]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EffectError> for CaptureError {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Refused(refusals) => Self::Refused(refusals),
            EffectError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Refusal> for CaptureError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// What the author gets: the record's name and its entry, which the log will hold.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub jti: Uuid,
    pub entry: Hash,
    /// `false`: the same request was taken before, and this is its receipt.
    pub fresh: bool,
    pub warnings: Vec<Refusal>,
}

/// Everything that capturing needs besides the request.
pub struct Capture<'a> {
    pub store: &'a Store,
    pub keys: &'a Keys,
    /// Prefix of document URIs, with a final slash.
    pub documents: &'a str,
    pub serial_master: &'a [u8; 32],
    /// What `Ledger::seen` answers: the head that records written now name.
    pub seen: Option<Seen>,
}

/// Who takes which step, under which idempotency key, and whether they signed it themselves.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub party: &'a Party,
    /// The account that typed: concealed as `act`.
    pub account: Option<Uuid>,
    pub profile: &'a Profile,
    pub step: &'a Step,
    pub jti: Uuid,
    /// The packs whose readings stand in what was submitted.
    pub evidence: &'a [Evidence],
    /// Else the platform signs on the party's behalf.
    pub own: Option<&'a OwnSignature>,
}

impl Request<'_> {
    /// Who typed for whom.
    fn act(&self) -> Option<Json> {
        self.account.map(|account| json!({"account": account}))
    }
}

/// A pack that a figure was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evidence {
    pub entry: Hash,
    /// Whether the device itself signed it, and not a gateway for it.
    pub by_device: bool,
}

impl Capture<'_> {
    /// Takes a step with what was submitted: pairs of a form or of a JSON object.
    pub async fn take(
        &self,
        request: Request<'_>,
        submitted: &[(String, String)],
    ) -> Result<Receipt, CaptureError> {
        let Request { party, profile, step, jti, .. } = request;
        if !step.roles.contains(&party.role) {
            return Err(CaptureError::NoSuchStep);
        }
        let mut transaction = self.store.begin().await?;
        if let Some(earlier) = record::by_jti(&mut transaction, jti).await? {
            return receipt_of(&earlier, party);
        }
        let now = Utc::now();
        let values = form::parse(profile, step, submitted).map_err(CaptureError::Refused)?;
        let facts = self.facts(&mut transaction, request, &values, now).await?;
        let built = build::build(profile, step, &values, &facts.context).map_err(CaptureError::Refused)?;
        let entry = self.write(&mut transaction, request, &values, &facts, &built, now).await?;
        transaction.commit().await?;
        Ok(Receipt { jti, entry, fresh: true, warnings: built.warnings })
    }

    async fn write(
        &self,
        conn: &mut Connection,
        request: Request<'_>,
        values: &Values,
        facts: &Facts,
        built: &Built,
        now: DateTime<Utc>,
    ) -> Result<Hash, CaptureError> {
        let Request { party, profile, step, jti, evidence, own, .. } = request;
        let refs = refs(request, &built.effect, facts);
        let signer = match own {
            None => Some(self.keys.signer_of(conn, party.id).await?),
            Some(own) => {
                self.check_signature(conn, request, own, &refs, now).await?;
                None
            }
        };
        let hand = match (&signer, own) {
            (Some(signer), _) => Hand::Held(&signer.secret),
            (None, Some(own)) => Hand::Own(own),
            (None, None) => return Err(KeysError::NoKey.into()),
        };
        let place = facts.place(&built.effect).ok_or_else(|| Refusal::new("place", "no-place"))?;
        let (person, data_key) = self.person_of(conn, party, facts).await?;
        let body = build::event_body(built.event.clone());
        let stated = NewRecord {
            seen: match own {
                None => self.seen.clone(),
                Some(own) => own.record.claims().seen.clone(),
            },
            refs,
            act: request.act(),
            conceal: &built.conceal,
            decoys: built.decoys,
            person: Some((person, &data_key)),
            step: Some(step.id.clone()),
            grade: grade(step, values, evidence, &built.event),
            place_id: Some(place.id),
            ..NewRecord::new(party, hand, jti, profile.reference(), body, now)
        };
        let written = stated.write(conn, self.keys).await.map_err(|error| match error {
            KeysError::OtherWords => Refusal::new("signed", "signature-other").into(),
            error => CaptureError::Keys(error),
        })?;
        let entry = written.entry.as_bytes();
        let cause = Cause { entry, party, place, profile: profile.id(), time: written.time };
        match (effects::apply(conn, &cause, &built.effect).await?, &facts.context.codes) {
            (Consequence::Epoch(arrival), _) => self.open_epoch(conn, &cause, profile, &arrival, now).await?,
            (Consequence::Codes(marked), Some(run)) => {
                codes::record_run(conn, self.serial_master, run, &marked, entry).await?;
            }
            (Consequence::None | Consequence::Codes(_), _) => {}
        }
        Ok(written.entry)
    }

    /// Whose the personal disclosures are: the author, else the owner of the plot, else somebody known by this record only,
    /// so that it can be erased by itself.
    async fn person_of(
        &self,
        conn: &mut Connection,
        party: &Party,
        facts: &Facts,
    ) -> Result<(Uuid, DataKey), CaptureError> {
        let known = party.person_id.or_else(|| facts.places.iter().find_map(|place| place.person_id));
        if let Some(person) = known
            && let Some(key) = self.keys.person_key(conn, person).await?
        {
            return Ok((person, key));
        }
        let person = Uuid::now_v7();
        let (key, sealed) = self.keys.new_person_key(person)?;
        party::insert_person(conn, person, &sealed).await?;
        Ok((person, key))
    }
}

fn receipt_of(earlier: &record::Record, party: &Party) -> Result<Receipt, CaptureError> {
    let entry = Hash::from_slice(&earlier.entry).ok_or(StoreError::Corrupt("an entry"))?;
    if earlier.party_id != party.id {
        return Err(CaptureError::JtiUsed);
    }
    Ok(Receipt { jti: earlier.jti, entry, fresh: false, warnings: Vec::new() })
}

/// What a step's record refers to.
fn refs(request: Request<'_>, effect: &Effect, facts: &Facts) -> Vec<Ref> {
    let evidence = request.evidence.iter().map(|pack| Ref { rel: Rel::Evidence, leaf: pack.entry });
    answered(effect, facts).into_iter().chain(evidence).collect()
}

/// A hand-over is two records: receiving (or refusing) points at the shipping.
fn answered(effect: &Effect, facts: &Facts) -> Vec<Ref> {
    let (Effect::Receive { consignment, .. } | Effect::Refuse { consignment, .. }) = effect else {
        return Vec::new();
    };
    let shipped = facts.shipped.get(consignment).and_then(|entry| Hash::from_slice(entry));
    shipped.map(|leaf| Ref { rel: Rel::Answers, leaf }).into_iter().collect()
}

/// How well founded the statement is: figures that devices signed, all of them; a document, or what a gateway signed for a
/// device; or the author's word. One figure typed over what the instrument sent makes the whole the author's.
fn grade(step: &Step, values: &Values, evidence: &[Evidence], event: &Json) -> &'static str {
    let mut instruments = step.fields.iter().filter(|field| field.instrument.is_some());
    let measured =
        instruments.all(|field| values.number(&field.id).is_none() || values.device(&field.id).is_some());
    if !evidence.is_empty() && measured {
        return if evidence.iter().all(|pack| pack.by_device) { "device" } else { "documented" };
    }
    let documents = event.get("bizTransactionList").and_then(Json::as_array);
    if documents.is_some_and(|documents| !documents.is_empty()) { "documented" } else { "self" }
}

pub fn local_offset() -> FixedOffset {
    FixedOffset::east_opt(LOCAL_OFFSET_SECONDS)
        .unwrap_or_else(|| FixedOffset::east_opt(0).unwrap_or(Utc::now().fixed_offset().timezone()))
}
