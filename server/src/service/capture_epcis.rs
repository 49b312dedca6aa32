//! EPCIS 2.0 documents that a registered party hands in: each event becomes one record, signed on the party's behalf.
//!
//! An imported event is a statement about lots, not a booking: it links to the lots that it names, and moves no holding.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use store::{Connection, Store, StoreError, consignment, lot, party::Party, record};
use trace::{
    epcis::{
        Document, EpcisError, Event, IMPORT_DECOYS, Kind, Namespaces, Uri, event_hash, import_conceal,
        import_profile_reference, normalise,
    },
    hash::Hash,
    json::{self, JsonError},
    profile::build,
    record::{Body, Record, Ref, Rel, Seen},
};
use uuid::Uuid;

use super::{
    keys::{Keys, KeysError, Signer},
    records::{NewRecord, keyed_event_hash},
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
        let keyed = keyed_event_hash(self.keys, hash);
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
        let stated = NewRecord {
            event_hash: Some(hash),
            conceal: &import_conceal(&event),
            ..self.record(jti, build::event_body(event.to_value()))
        };
        self.write(conn, &event, stated).await
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
        let refs = vec![Ref { rel: Rel::Corrects, leaf }];
        self.write(conn, event, NewRecord { refs, ..self.record(Uuid::now_v7(), body) }).await
    }

    fn record(&self, jti: Uuid, body: Body) -> NewRecord<'_> {
        NewRecord {
            seen: self.seen.clone(),
            decoys: IMPORT_DECOYS,
            ..NewRecord::new(self.party, &self.signer.secret, jti, import_profile_reference(), body, self.now)
        }
    }

    async fn write(
        &self,
        conn: &mut Connection,
        event: &Event,
        stated: NewRecord<'_>,
    ) -> Result<Outcome, CaptureError> {
        let place = match &event.circumstances.read_point {
            Some(place) => store::party::place_by_uri(conn, place.id.as_str()).await?,
            None => None,
        };
        let stated = NewRecord { place_id: place.map(|place| place.id), ..stated };
        let jti = stated.jti;
        let written = match stated.write(conn, self.keys).await {
            Ok(written) => written,
            Err(KeysError::Issue(error)) => {
                return Ok(Outcome::Refused(Reason::Unsignable(error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        link(conn, written.entry.as_bytes(), event).await?;
        Ok(Outcome::Accepted { jti, entry: written.entry })
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
