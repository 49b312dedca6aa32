//! Bundles: what a reader needs to check statements offline, with the disclosures that this reader may see.

mod heads;
mod story;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use store::{
    Connection, StoreError,
    account::{self, Looking},
    record::Record as Row,
};
use story::Story;
use trace::{
    bundle::{BUNDLE_BYTES_MAX, Bundle, ITEMS_MAX},
    hash::Hash,
    keys::KeyError,
    pack::receipt::{Receipt, ReceiptError},
    tlog::{checkpoint::Checkpoint, proof::TlogProof},
};
use uuid::Uuid;

use crate::service::{
    disclosures,
    keys::{Keys, KeysError},
    ledger::{Ledger, LedgerError, to_hash, to_u64, tree::TreeError},
};

/// Records in one bundle, packs, enrolments and rosters not counted.
pub const RECORDS_MAX: usize = 2_000;
/// Reading packs in one bundle: the evidence that its records name.
pub const PACKS_MAX: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("no such record")]
    Unknown,
    #[error("no witnessed checkpoint covers the record yet")]
    NotYet,
    #[error("more records than one bundle holds")]
    TooMany,
    #[error("a stored value is not what was written")]
    Corrupt,
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TreeError> for ProofError {
    fn from(error: TreeError) -> Self {
        Self::Ledger(error.into())
    }
}

/// Who reads, and so which disclosures are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Public,
    /// A party sees what its own records conceal.
    Party(i64),
    /// Sees everything; whose sealed statements were opened sees that.
    Regulator(Looking),
}

impl Reader {
    fn may_open(self, record: &Row) -> bool {
        match self {
            Self::Public => false,
            Self::Party(party) => record.party_id == party,
            Self::Regulator(_) => true,
        }
    }
}

/// The bundle of one record.
pub async fn of_record(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    jti: Uuid,
    reader: Reader,
) -> Result<Bundle, ProofError> {
    let record = store::record::by_jti(conn, jti).await?.ok_or(ProofError::Unknown)?;
    of_records(conn, ledger, keys, vec![record], (reader, &jti.to_string())).await
}

/// The whole story of `lots`: every record that speaks of them. `named` is what the reader asked for.
pub async fn of_lots(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    (named, lots): (&str, &[i64]),
    reader: Reader,
) -> Result<Bundle, ProofError> {
    let limit = i64::try_from(RECORDS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let rows = store::record::of_lots(conn, lots, limit.saturating_mul(4)).await?;
    let records: BTreeMap<Vec<u8>, Row> =
        rows.into_iter().map(|(.., record)| (record.entry.clone(), record)).collect();
    if records.is_empty() {
        return Err(ProofError::Unknown);
    }
    of_records(conn, ledger, keys, records.into_values().collect(), (reader, named)).await
}

/// A pack's inclusion as a COSE receipt (RFC 9942), under the first witnessed head that covers it: asked again, it is the same.
pub async fn receipt(conn: &mut Connection, ledger: &Ledger, entry: &Hash) -> Result<Receipt, ProofError> {
    store::pack::by_entry(conn, entry.as_bytes()).await?.ok_or(ProofError::Unknown)?;
    let at = ledger.locate(conn, entry).await?.ok_or(ProofError::NotYet)?;
    let covering = ledger.witnessed_covering(conn, at.log_id, at.index).await?;
    let (_, note) = covering.ok_or(ProofError::NotYet)?;
    let head: Checkpoint = note.text.parse().map_err(|_| ProofError::Corrupt)?;
    let log = ledger.log(conn, at.log_id).await?;
    let path = ledger.tree().inclusion_proof(conn, at.log_id, head.size, at.index).await?;
    Ok(Receipt::sign(&head, at.index, path, ledger.signer(&log)?)?)
}

/// A single record's proof as plain C2SP tlog-proof.
pub async fn tlog_proof(conn: &mut Connection, ledger: &Ledger, jti: Uuid) -> Result<TlogProof, ProofError> {
    let record = store::record::by_jti(conn, jti).await?.ok_or(ProofError::Unknown)?;
    let entry = to_hash(&record.entry)?;
    let at = ledger.locate(conn, &entry).await?.ok_or(ProofError::NotYet)?;
    let covering = ledger.witnessed_covering(conn, at.log_id, at.index).await?;
    let (checkpoint, note) = if let Some(found) = covering {
        found
    } else {
        let log = ledger.log(conn, at.log_id).await?;
        ledger.witnessed(conn, &log).await?.ok_or(ProofError::NotYet)?
    };
    let size = to_u64(checkpoint.size)?;
    if at.log_id != checkpoint.log_id || at.index >= size {
        return Err(ProofError::NotYet);
    }
    let path = ledger.tree().inclusion_proof(conn, at.log_id, size, at.index).await?;
    Ok(TlogProof { index: at.index, path, checkpoint: note })
}

/// What a reader needs to follow a log into the next one: the registrar's `new-log` statements in it and, once that is open, at the
/// head of the next. Nothing of the log before comes along: who asks has followed this one.
pub async fn of_next_log(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    log_id: i16,
) -> Result<Bundle, ProofError> {
    let logs = store::ledger::logs(conn).await?;
    let next = logs.iter().map(|log| log.id).find(|id| *id > log_id).ok_or(ProofError::Unknown)?;
    let mut story = Story::new(ledger, keys);
    for stated in store::record::new_logs_between(conn, log_id, next).await? {
        story.add_record(conn, &stated).await?;
    }
    story.into_bundle(conn, HashMap::new()).await
}

/// The bundle of `records` and their corrections, with the reading packs, enrolments, rosters and seen heads that they stand on.
pub async fn of_records(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    mut records: Vec<Row>,
    (reader, named): (Reader, &str),
) -> Result<Bundle, ProofError> {
    add_corrections(conn, ledger, &mut records).await?;
    let mut story = Story::new(ledger, keys);
    for record in &records {
        story.add_record(conn, record).await?;
    }
    story.add_packs(conn, &records).await?;
    story.add_keys(conn).await?;
    story.add_new_logs(conn).await?;
    let disclosed = disclosures_for(conn, keys, &records, reader).await?;
    let opened = records.iter().filter(|record| disclosed.contains_key(&record.entry));
    let opened: BTreeSet<i64> = opened.map(|record| record.party_id).collect();
    let bundle = story.into_bundle(conn, disclosed).await?;
    // No reader parses more.
    if bundle.items.len() > ITEMS_MAX || bundle.to_string().len() > BUNDLE_BYTES_MAX {
        return Err(ProofError::TooMany);
    }
    if let Reader::Regulator(by) = reader {
        for party in opened {
            account::insert_look(conn, by, party, &format!("proof {named}")).await?;
        }
    }
    Ok(bundle)
}

/// A reader who is shown a record is shown what corrects it, as soon as witnesses have seen that, too.
async fn add_corrections(
    conn: &mut Connection,
    ledger: &Ledger,
    records: &mut Vec<Row>,
) -> Result<(), ProofError> {
    let mut known: BTreeSet<Vec<u8>> = records.iter().map(|record| record.entry.clone()).collect();
    let mut newest: Vec<Vec<u8>> = known.iter().cloned().collect();
    while !newest.is_empty() {
        if records.len() > RECORDS_MAX {
            return Err(ProofError::TooMany);
        }
        let corrections = store::record::corrections_of(conn, &newest).await?;
        newest.clear();
        for correction in corrections {
            let Some(at) = ledger.locate(conn, &to_hash(&correction.entry)?).await? else { continue };
            if ledger.witnessed_covering(conn, at.log_id, at.index).await?.is_none() {
                continue;
            }
            if known.insert(correction.entry.clone()) {
                newest.push(correction.entry.clone());
                records.push(correction);
            }
        }
    }
    Ok(())
}

/// Disclosure texts by entry, as far as `reader` may see them and nobody was erased.
async fn disclosures_for(
    conn: &mut Connection,
    keys: &Keys,
    records: &[Row],
    reader: Reader,
) -> Result<HashMap<Vec<u8>, Vec<String>>, ProofError> {
    let entries: Vec<Vec<u8>> =
        records.iter().filter(|record| reader.may_open(record)).map(|record| record.entry.clone()).collect();
    if entries.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store::record::disclosures_of(conn, &entries).await?;
    let people: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.person_id).collect();
    let people: Vec<Uuid> = people.into_iter().collect();
    let people = keys.person_keys(conn, &people).await?;
    let mut texts: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    for (at, text) in disclosures::open(keys, &people, &rows)? {
        if let Some(row) = rows.get(at) {
            texts.entry(row.entry.clone()).or_default().push(text);
        }
    }
    Ok(texts)
}
