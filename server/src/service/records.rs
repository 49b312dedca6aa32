//! A record on its way into the ledger: signed, then its row, its sealed disclosures and its leaf, in the caller's
//! transaction. A person's step, an import, what the server derives and what the registrar states all go through here.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use store::{Connection, StoreError, record};
use trace::{
    epcis::event_hash_uri,
    hash::Hash,
    keys::{Kid, SecretKey},
    record::{Body, Claims, Conceal, Draft, Issued, Record, Ref, Rel, Seen, issue},
};
use uuid::Uuid;

use super::{
    capture::OwnSignature,
    disclosures,
    keys::{DataKey, Keys, KeysError, fresh_salt},
};

/// What an author states, and the columns of its row that the signed bytes do not give.
pub struct NewRecord<'a> {
    pub jti: Uuid,
    pub author: &'a store::party::Party,
    pub hand: Hand<'a>,
    /// The profile's reference, `sugar/3#…`.
    pub profile: String,
    pub body: Body,
    /// The moment of acceptance; `iat`, too, where the server signs.
    pub now: DateTime<Utc>,
    pub kind: Kind,
    pub seen: Option<Seen>,
    pub refs: Vec<Ref>,
    /// Who typed for whom.
    pub act: Option<Json>,
    /// CBV event hash of an import, in clear: the row holds it keyed, the record conceals it.
    pub event_hash: Option<Hash>,
    pub conceal: &'a [Conceal],
    pub decoys: usize,
    /// Whose the personal disclosures are.
    pub person: Option<(Uuid, &'a DataKey)>,
    pub step: Option<String>,
    pub grade: &'static str,
    pub place_id: Option<i64>,
    pub late: bool,
}

/// Where the signature comes from.
#[derive(Clone, Copy)]
pub enum Hand<'a> {
    /// A key that the server has.
    Held(&'a SecretKey),
    /// The author's own, verified already: what was signed must be what is written here.
    Own(&'a OwnSignature),
}

impl<'a> From<&'a SecretKey> for Hand<'a> {
    fn from(key: &'a SecretKey) -> Self {
        Self::Held(key)
    }
}

impl Hand<'_> {
    fn kid(&self) -> Kid {
        match self {
            Self::Held(key) => key.kid(),
            Self::Own(own) => own.record.kid(),
        }
    }

    /// When the author says to have stated it, in Unix seconds.
    fn iat(&self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::Held(_) => now.timestamp(),
            Self::Own(own) => own.record.claims().iat,
        }
    }

    fn sign(&self, draft: Draft, conceal: &[Conceal], decoys: usize) -> Result<Issued, KeysError> {
        match self {
            Self::Held(key) => sign(draft, conceal, decoys, key),
            Self::Own(own) => own.signature_of(draft, conceal, decoys),
        }
    }
}

/// Whose word a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An author's, of an event.
    Event,
    /// The server's, of what follows from its state.
    Derived,
    /// The registrar's, about the ledger itself.
    Statement,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Derived => "derived",
            Self::Statement => "statement",
        }
    }
}

/// A record that was written.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub entry: Hash,
    /// When the event happened; when it was stated, if it names no time.
    pub time: DateTime<Utc>,
}

impl<'a> NewRecord<'a> {
    /// A plain record: the author's own word, with nothing concealed, referred to or graded.
    pub fn new(
        author: &'a store::party::Party,
        hand: impl Into<Hand<'a>>,
        jti: Uuid,
        profile: String,
        body: Body,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            jti,
            author,
            hand: hand.into(),
            profile,
            body,
            now,
            kind: Kind::Event,
            seen: None,
            refs: Vec::new(),
            act: None,
            event_hash: None,
            conceal: &[],
            decoys: 0,
            person: None,
            step: None,
            grade: "self",
            place_id: None,
            late: false,
        }
    }

    /// Signs, and writes all of it or nothing: `conn` is inside a transaction.
    ///
    /// # Errors
    /// [`KeysError::Issue`] if the draft is outside a format's limits, before anything was written.
    pub async fn write(self, conn: &mut Connection, keys: &Keys) -> Result<Written, KeysError> {
        let iat = self.hand.iat(self.now);
        let draft = Draft {
            claims: Claims {
                iss: self.author.iss.clone(),
                iat,
                jti: self.jti,
                aud: keys.ledger().to_owned(),
                profile: self.profile,
                seen: self.seen,
                refs: self.refs.clone(),
            },
            body: self.body,
            act: self.act,
            event_hash: self.event_hash.as_ref().map(event_hash_uri),
        };
        let profile = draft.claims.profile.clone();
        let issued = self.hand.sign(draft, self.conceal, self.decoys)?;
        let public = Record::parse(&issued.signed).ok().and_then(|record| record.process(&[]).ok());
        let public = public.ok_or(StoreError::Corrupt("a record just signed"))?;
        let event = |name: &str| public.get("event")?.get(name)?.as_str().map(str::to_owned);
        let time = event("eventTime").and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
        let time = time.map(|time| time.with_timezone(&Utc));
        let corrected = self.refs.iter().find(|one| one.rel == Rel::Corrects);
        let row = record::Record {
            jti: self.jti,
            entry: issued.entry.as_bytes().to_vec(),
            kind: self.kind.as_str().to_owned(),
            party_id: self.author.id,
            iss: self.author.iss.clone(),
            kid: self.hand.kid().as_bytes().to_vec(),
            profile,
            step: self.step,
            grade: self.grade.to_owned(),
            event_type: event("type"),
            // Statements are no events; the table holds one record per (party, event), so each names itself.
            event_id: event("eventID").or_else(|| Some(format!("urn:uuid:{}", self.jti))),
            event_time: time,
            event_offset: event("eventTimeZoneOffset"),
            event_hash: self.event_hash.map(|hash| keyed_event_hash(keys, hash).as_bytes().to_vec()),
            place_id: self.place_id,
            late: self.late,
            corrects: corrected.map(|one| one.leaf.as_bytes().to_vec()),
            iat: DateTime::from_timestamp(iat, 0).unwrap_or(self.now),
            accepted_at: self.now,
            signed: issued.signed.clone(),
            public,
        };
        let refs: Vec<_> =
            self.refs.iter().map(|one| (one.rel.as_str(), one.leaf.as_bytes().to_vec())).collect();
        let sealed = disclosures::seal(keys, &row.entry, &issued.disclosures, self.person)?;
        record::insert(conn, &row, &refs, &sealed).await?;
        Ok(Written { entry: issued.entry, time: time.unwrap_or(self.now) })
    }
}

/// What the row of an import is found by: the hash itself could be guessed from private content.
pub fn keyed_event_hash(keys: &Keys, hash: Hash) -> Hash {
    keys.lookup("event-hash", hash.as_bytes())
}

/// Salts come from the system; where it gives none, nothing is signed.
fn sign(draft: Draft, conceal: &[Conceal], decoys: usize, key: &SecretKey) -> Result<Issued, KeysError> {
    let mut failed = None;
    let salts = || {
        fresh_salt().unwrap_or_else(|error| {
            failed = Some(error);
            [0; 16]
        })
    };
    let issued = issue(draft, conceal, salts, decoys, key);
    match failed {
        Some(error) => Err(error),
        None => Ok(issued?),
    }
}
