//! EPCIS 2.0 documents that a registered party hands in: each event becomes one record, signed on the party's behalf.
//!
//! An imported event is a statement about lots, not a booking: it links to the lots that it names, and moves no holding.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use store::{Connection, Store, StoreError, consignment, lot, party::Party, record};
use trace::{
    epcis::{
        Document, EpcisError, Event, IMPORT_DECOYS, Kind, Namespaces, Uri, event_hash, event_hash_uri,
        import_conceal, import_profile_reference, normalise,
    },
    hash::Hash,
    json::{self, JsonError},
    record::{Body, Claims, Draft, Issued, Record, Ref, Rel, Seen},
};
use uuid::Uuid;

use super::{
    disclosures,
    keys::{Keys, KeysError, Signer, fresh_salt},
};

/// Events in one document: a day's work of a carrier, and a bound on one request's time.
pub const EVENTS_MAX: usize = 500;
/// A document may hold many events, so it may be larger than one record.
pub const DOCUMENT_LIMITS: json::Limits = json::Limits { bytes_max: 4 * 1024 * 1024, depth_max: 40 };

/// Why nothing of a document was taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("not strict JSON")]
    Json(#[from] JsonError),
    #[error("not an EPCIS 2.0 document")]
    Document(#[from] EpcisError),
    #[error("{found} events where {EVENTS_MAX} are allowed")]
    TooMany { found: usize },
    #[error("the party's key cannot sign")]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Accepted {
        jti: Uuid,
        entry: Hash,
    },
    /// The same event was taken before, as this record.
    Duplicate {
        jti: Uuid,
    },
    Refused(Reason),
}

/// Why one event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Event(#[from] EpcisError),
    #[error("the eventID was used before, for an event that says something else")]
    EventIdUsed,
    #[error("an errorDeclaration corrects an event of one's own, by its eventID; none is known here")]
    NothingToCorrect,
    #[error("the event cannot be signed: {0}")]
    Unsignable(String),
}

impl Reason {
    /// The rule's name, as in `rule-<name>`.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Event(_) => "epcis",
            Self::EventIdUsed => "event-id-used",
            Self::NothingToCorrect => "nothing-to-correct",
            Self::Unsignable(_) => "unsignable",
        }
    }

    /// Where in the event, if at one place.
    pub fn path(&self) -> &str {
        match self {
            Self::Event(error) => &error.path,
            Self::EventIdUsed => "$.eventID",
            Self::NothingToCorrect => "$.errorDeclaration",
            Self::Unsignable(_) => "$",
        }
    }
}

/// Takes a document as received. `seen` is the newest cosigned head, which proves that the records are not older. Each event stands or falls alone, in a transaction of its own: handing the document in
/// again after a crash answers `Duplicate` for what was taken.
pub async fn capture(
    store: &Store,
    keys: &Keys,
    party: &Party,
    seen: Option<Seen>,
    text: &[u8],
) -> Result<Vec<Outcome>, CaptureError> {
    let document = Document::from_value(json::parse_within(text, DOCUMENT_LIMITS)?)?;
    let events = document.into_events();
    if events.len() > EVENTS_MAX {
        return Err(CaptureError::TooMany { found: events.len() });
    }
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        outcomes.push(capture_event(store, keys, party, seen.clone(), event).await?);
    }
    Ok(outcomes)
}

async fn capture_event(
    store: &Store,
    keys: &Keys,
    party: &Party,
    seen: Option<Seen>,
    mut event: Event,
) -> Result<Outcome, CaptureError> {
    if let Err(error) = normalise(&mut event) {
        return Ok(Outcome::Refused(error.into()));
    }
    let mut transaction = store.begin().await?;
    record::lock_imports(&mut transaction, party.id).await?;
    let import = Import {
        keys,
        party,
        signer: keys.signer_of(&mut transaction, party.id).await?,
        seen,
        now: Utc::now(),
    };
    let outcome = import.take(&mut transaction, event).await?;
    if matches!(outcome, Outcome::Accepted { .. }) {
        transaction.commit().await?;
    }
    Ok(outcome)
}

struct Import<'a> {
    keys: &'a Keys,
    party: &'a Party,
    signer: Signer,
    seen: Option<Seen>,
    now: DateTime<Utc>,
}

impl Import<'_> {
    async fn take(&self, conn: &mut Connection, mut event: Event) -> Result<Outcome, CaptureError> {
        let hash = cbv_hash(&event);
        let keyed = self.keys.lookup("event-hash", hash.as_bytes());
        let known = match &event.circumstances.event_id {
            Some(id) => record::by_event_id(conn, self.party.id, id.as_str()).await?,
            None => record::by_event_hash(conn, self.party.id, keyed.as_bytes()).await?.into_iter().collect(),
        };
        let original = known.iter().find(|record| record.corrects.is_none());
        if event.circumstances.error_declaration.is_some() {
            return self.correct(conn, &event, original, &known).await;
        }
        if let Some(original) = original {
            let same = original.event_hash.as_deref() == Some(keyed.as_bytes());
            return Ok(if same {
                Outcome::Duplicate { jti: original.jti }
            } else {
                Outcome::Refused(Reason::EventIdUsed)
            });
        }
        let jti = Uuid::now_v7();
        if event.circumstances.event_id.is_none() {
            event.circumstances.event_id = Uri::new(&format!("urn:uuid:{jti}"));
        }
        let conceal = import_conceal(&event);
        let mut value = event.to_value();
        let context =
            value.as_object_mut().and_then(|members| members.shift_remove("@context")).unwrap_or_default();
        let draft = Draft {
            claims: self.claims(jti, Vec::new()),
            body: Body::Event { context, event: value },
            act: None,
            event_hash: Some(event_hash_uri(&hash)),
        };
        let issued = match self.issue(draft, &conceal)? {
            Ok(issued) => issued,
            Err(reason) => return Ok(Outcome::Refused(reason)),
        };
        self.write(conn, jti, &event, &issued, Some(keyed), None).await?;
        Ok(Outcome::Accepted { jti, entry: issued.entry })
    }

    /// The original's redacted event with the declaration: what opened the original opens the correction, too.
    async fn correct(
        &self,
        conn: &mut Connection,
        event: &Event,
        original: Option<&record::Record>,
        known: &[record::Record],
    ) -> Result<Outcome, CaptureError> {
        let Some(original) = original else { return Ok(Outcome::Refused(Reason::NothingToCorrect)) };
        if let Some(correction) =
            known.iter().find(|record| record.corrects.as_ref() == Some(&original.entry))
        {
            return Ok(Outcome::Duplicate { jti: correction.jti });
        }
        let declaration = event.to_value().get("errorDeclaration").cloned().unwrap_or_default();
        let body = Record::parse(&original.signed).ok().and_then(|record| record.corrected(declaration));
        let (Some(body), Some(leaf)) = (body, Hash::from_slice(&original.entry)) else {
            return Err(StoreError::Corrupt("a signed record").into());
        };
        let jti = Uuid::now_v7();
        let refs = vec![Ref { rel: Rel::Corrects, leaf }];
        let draft = Draft { claims: self.claims(jti, refs), body, act: None, event_hash: None };
        let issued = match self.issue(draft, &[])? {
            Ok(issued) => issued,
            Err(reason) => return Ok(Outcome::Refused(reason)),
        };
        self.write(conn, jti, event, &issued, None, Some(original.entry.clone())).await?;
        Ok(Outcome::Accepted { jti, entry: issued.entry })
    }

    fn claims(&self, jti: Uuid, refs: Vec<Ref>) -> Claims {
        Claims {
            iss: self.party.iss.clone(),
            iat: self.now.timestamp(),
            jti,
            aud: self.keys.ledger().to_owned(),
            profile: import_profile_reference(),
            seen: self.seen.clone(),
            refs,
        }
    }

    fn issue(
        &self,
        draft: Draft,
        conceal: &[trace::record::Conceal],
    ) -> Result<Result<Issued, Reason>, CaptureError> {
        let mut failed = None;
        let salts = || {
            fresh_salt().unwrap_or_else(|error| {
                failed = Some(error);
                [0; 16]
            })
        };
        let issued = trace::record::issue(draft, conceal, salts, IMPORT_DECOYS, &self.signer.secret);
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(issued.map_err(|error| Reason::Unsignable(error.to_string()))),
        }
    }

    async fn write(
        &self,
        conn: &mut Connection,
        jti: Uuid,
        event: &Event,
        issued: &Issued,
        event_hash: Option<Hash>,
        corrects: Option<Vec<u8>>,
    ) -> Result<(), CaptureError> {
        let circumstances = &event.circumstances;
        let entry = issued.entry.as_bytes().to_vec();
        let public = Record::parse(&issued.signed).ok().and_then(|record| record.process(&[]).ok());
        let place = match &circumstances.read_point {
            Some(place) => store::party::place_by_uri(conn, place.id.as_str()).await?,
            None => None,
        };
        let refs: Vec<_> = corrects.iter().map(|target| (Rel::Corrects.as_str(), target.clone())).collect();
        let row = record::Record {
            jti,
            entry: entry.clone(),
            kind: "event".to_owned(),
            party_id: self.party.id,
            iss: self.party.iss.clone(),
            kid: self.signer.kid.as_bytes().to_vec(),
            profile: import_profile_reference(),
            step: None,
            grade: "self".to_owned(),
            event_type: Some(event.kind.name().to_owned()),
            event_id: circumstances.event_id.as_ref().map(|id| id.as_str().to_owned()),
            event_time: Some(circumstances.event_time.instant()),
            event_offset: Some(circumstances.event_time_zone_offset.as_str().to_owned()),
            event_hash: event_hash.map(|hash| hash.as_bytes().to_vec()),
            place_id: place.map(|place| place.id),
            late: false,
            corrects,
            iat: self.now,
            accepted_at: self.now,
            signed: issued.signed.clone(),
            public: public.ok_or(StoreError::Corrupt("a record just signed"))?,
        };
        let sealed = disclosures::seal(self.keys, &entry, &issued.disclosures, None)?;
        record::insert(conn, &row, &refs, &sealed).await?;
        link(conn, &entry, event).await
    }
}

/// The hash of what the event says, in its own context.
fn cbv_hash(event: &Event) -> Hash {
    let standard = Namespaces::default();
    let namespaces =
        event.context.as_ref().map_or_else(|| standard.clone(), |context| standard.with(context));
    event_hash(&event.to_value(), &namespaces)
}

/// Says of which known lots the event speaks: by name, or because they stand on a unit that it names.
async fn link(conn: &mut Connection, entry: &[u8], event: &Event) -> Result<(), CaptureError> {
    let named: BTreeSet<String> = identifiers(event).into_iter().map(str::to_owned).collect();
    let uris: Vec<String> = named.into_iter().collect();
    let mut lots: BTreeSet<i64> = lot::by_uris(conn, &uris).await?.into_iter().map(|lot| lot.id).collect();
    for unit in uris.iter().filter(|uri| uri.starts_with("https://id.gs1.org/00/")) {
        lots.extend(consignment::contents(conn, unit).await?.into_iter().map(|(lot, _)| lot));
    }
    for lot in lots {
        record::insert_lot_part(conn, entry, lot, "observed", None).await?;
    }
    Ok(())
}

fn identifiers(event: &Event) -> Vec<&str> {
    let (lists, classes, parent) = match &event.kind {
        Kind::Object(event) => (vec![&event.epc_list], vec![&event.quantity_list], None),
        Kind::Aggregation(event) => {
            (vec![&event.child_epcs], vec![&event.child_quantity_list], event.parent_id.as_ref())
        }
        Kind::Association(event) => {
            (vec![&event.child_epcs], vec![&event.child_quantity_list], Some(&event.parent_id))
        }
        Kind::Transaction(event) => {
            (vec![&event.epc_list], vec![&event.quantity_list], event.parent_id.as_ref())
        }
        Kind::Transformation(event) => (
            vec![&event.input_epc_list, &event.output_epc_list],
            vec![&event.input_quantity_list, &event.output_quantity_list],
            None,
        ),
    };
    let epcs = lists.into_iter().flatten().flatten().map(Uri::as_str);
    let classes = classes.into_iter().flatten().flatten().map(|element| element.epc_class.as_str());
    epcs.chain(classes).chain(parent.map(Uri::as_str)).collect()
}

/// The newest cosigned head of the open log: proof that the record is not older.
pub(super) async fn newest_seen(conn: &mut Connection) -> Result<Option<Seen>, StoreError> {
    let logs = store::ledger::logs(conn).await?;
    let Some(open) = logs.into_iter().find(|log| log.state == "open") else { return Ok(None) };
    let newest = store::ledger::newest_cosigned(conn, open.id, 1).await?.into_iter().next();
    let seen = newest.and_then(|head| {
        Some(Seen {
            origin: open.origin,
            size: u64::try_from(head.size).ok()?,
            root: Hash::from_slice(&head.root)?,
        })
    });
    Ok(seen)
}
