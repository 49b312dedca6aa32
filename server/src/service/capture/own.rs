//! A record that its author signed in their own browser: what it needs beforehand, and what is asked of it before it counts.

use chrono::{DateTime, TimeDelta, Utc};
use store::{Connection, StoreError, key, ledger};
use trace::{
    b64,
    keys::{KeyRole, PublicKey},
    profile::{
        Refusal,
        author::{AuthorError, Grounds, SALTS_MAX, prepare_with},
        build, form,
    },
    record::{Conceal, Draft, Issued, Record, Ref, Seen},
};

use super::{Capture, CaptureError, Request, refs};
use crate::service::keys::KeysError;

/// What the refusals of a signature point at: the button that makes it.
const FIELD: &str = "signed";
/// Clocks of phones run ahead, and a form may be sent when there is a net again.
const AHEAD_MINUTES_MAX: i64 = 10;
const BEHIND_HOURS_MAX: i64 = 24;

/// A signature that came with a form: parsed, not verified.
#[derive(Debug, Clone)]
pub struct OwnSignature {
    pub record: Record,
    /// The salts of its disclosures and decoys, for the ledger to make the same bytes.
    pub salts: Vec<[u8; 16]>,
}

impl OwnSignature {
    /// `signed` and `salts` as the form has them.
    pub fn parse(signed: &str, salts: &str) -> Result<Self, Refusal> {
        if signed.is_empty() {
            return Err(Refusal::new(FIELD, "not-signed"));
        }
        let record = Record::parse(signed).map_err(|_| Refusal::new(FIELD, "signature-unreadable"))?;
        let bytes = b64::from_url(salts).map_err(|_| Refusal::new(FIELD, "signature-unreadable"))?;
        let (salts, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() || salts.len() > SALTS_MAX {
            return Err(Refusal::new(FIELD, "signature-unreadable"));
        }
        Ok(Self { record, salts: salts.to_vec() })
    }

    /// The author's bytes, if they are the ones that this ledger makes of the same draft with the author's salts.
    pub fn signature_of(
        &self,
        draft: Draft,
        conceal: &[Conceal],
        decoys: usize,
    ) -> Result<Issued, KeysError> {
        let prepared = prepare_with(draft, conceal, decoys, &self.salts, self.record.kid());
        let (prepared, used) = prepared.map_err(|error| match error {
            AuthorError::Record(error) => KeysError::Issue(error),
            _ => KeysError::OtherWords,
        })?;
        if prepared.signing_input() != self.record.signing_input() || used != self.salts.len() {
            return Err(KeysError::OtherWords);
        }
        Ok(prepared.with_signature(self.record.signature())?)
    }
}

impl Capture<'_> {
    /// All that a browser needs to write the record down itself; refuses what would be refused. Nothing is changed.
    pub async fn grounds(
        &self,
        request: Request<'_>,
        submitted: &[(String, String)],
    ) -> Result<Grounds, CaptureError> {
        let Request { party, profile, step, .. } = request;
        if !step.roles.contains(&party.role) {
            return Err(CaptureError::NoSuchStep);
        }
        // Left uncommitted: what was locked to be compared is free again at the end.
        let mut transaction = self.store.begin().await?;
        let values = form::parse(profile, step, submitted).map_err(CaptureError::Refused)?;
        let facts = self.facts(&mut transaction, request, &values, Utc::now()).await?;
        let built = build::build(profile, step, &values, &facts.context).map_err(CaptureError::Refused)?;
        let device =
            |field: &trace::profile::Field| Some((field.id.clone(), values.device(&field.id)?.to_owned()));
        Ok(Grounds {
            refs: refs(request, &built.effect, &facts),
            devices: step.fields.iter().filter_map(device).collect(),
            aud: self.keys.ledger().to_owned(),
            seen: self.seen.clone(),
            act: request.act(),
            context: facts.context,
        })
    }

    /// Strict: the key is this account's own, good and in a browser; the claims are those that the ledger would make.
    /// That the rest of the bytes are, too, is seen when they are made again.
    pub(super) async fn check_signature(
        &self,
        conn: &mut Connection,
        request: Request<'_>,
        own: &OwnSignature,
        expected: &[Ref],
        now: DateTime<Utc>,
    ) -> Result<(), CaptureError> {
        let refuse = |rule| Err(CaptureError::from(Refusal::new(FIELD, rule)));
        let known = key::by_kid(conn, own.record.kid().as_bytes()).await?;
        let good = |key: &key::Key| {
            key.state == "good"
                && key.role == KeyRole::Record.as_str()
                && key.party_id == request.party.id
                && key.account_id.is_some()
                && key.account_id == request.account
        };
        let Some(key) = known.filter(good) else { return refuse("signature-key") };
        let public = PublicKey::from_bytes(&key.public).map_err(|_| StoreError::Corrupt("a public key"))?;
        if own.record.verify(&public).is_err() {
            return refuse("signature-wrong");
        }
        let claims = own.record.claims();
        let stated = (claims.iss.as_str(), claims.aud.as_str(), claims.jti, claims.profile.as_str());
        let reference = request.profile.reference();
        let meant = (request.party.iss.as_str(), self.keys.ledger(), request.jti, reference.as_str());
        if stated != meant || claims.refs != expected {
            return refuse("signature-other");
        }
        let iat = DateTime::from_timestamp(claims.iat, 0).unwrap_or_default();
        if iat > now + TimeDelta::minutes(AHEAD_MINUTES_MAX) || iat < now - TimeDelta::hours(BEHIND_HOURS_MAX)
        {
            return refuse("signature-clock");
        }
        match &claims.seen {
            Some(seen) if !is_cosigned(conn, seen).await? => refuse("signature-other"),
            _ => Ok(()),
        }
    }
}

/// Whether a checkpoint that an author says to have seen is one of ours that somebody else has seen, too.
async fn is_cosigned(conn: &mut Connection, seen: &Seen) -> Result<bool, StoreError> {
    let logs = ledger::logs(conn).await?;
    let (Some(log), Ok(size)) =
        (logs.into_iter().find(|log| log.origin == seen.origin), i64::try_from(seen.size))
    else {
        return Ok(false);
    };
    let Some(checkpoint) = ledger::checkpoint(conn, log.id, size).await? else { return Ok(false) };
    let cosigned = !ledger::cosignatures(conn, log.id, size).await?.is_empty();
    Ok(cosigned && checkpoint.root == seen.root.as_bytes())
}
