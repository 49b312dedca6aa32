//! Bundles: what a reader needs to check statements offline, with the disclosures that this reader may see.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use store::{Connection, StoreError, ledger as rows, record::Record as Row};
use trace::{
    bundle::{Anchor, Bundle, Item, SeenProof, Signed},
    hash::Hash,
    keys::{KeyError, PublicKey},
    record::{Record, Seen, statement::Statement},
    roster::{LineProof, Roster, RosterLine},
    tlog::{note::Note, proof::TlogProof},
};
use uuid::Uuid;

use crate::service::{
    disclosures,
    keys::{Keys, KeysError},
    ledger::{Ledger, LedgerError, Location, to_hash, to_u64, tree::TreeError},
};

/// Records in one bundle, enrolments and rosters not counted.
pub const RECORDS_MAX: usize = 2_000;
/// Anchored heads looked at for one that is witnessed, too.
const ANCHORED_CANDIDATES: i64 = 8;

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
    Regulator,
}

impl Reader {
    fn may_open(self, record: &Row) -> bool {
        match self {
            Self::Public => false,
            Self::Party(party) => record.party_id == party,
            Self::Regulator => true,
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
    of_records(conn, ledger, keys, vec![record], reader).await
}

/// The whole story of `lots`: every record that speaks of them.
pub async fn of_lots(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    lots: &[i64],
    reader: Reader,
) -> Result<Bundle, ProofError> {
    let limit = i64::try_from(RECORDS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let rows = store::record::of_lots(conn, lots, limit.saturating_mul(4)).await?;
    let records: BTreeMap<Vec<u8>, Row> =
        rows.into_iter().map(|(.., record)| (record.entry.clone(), record)).collect();
    if records.is_empty() {
        return Err(ProofError::Unknown);
    }
    of_records(conn, ledger, keys, records.into_values().collect(), reader).await
}

/// A single record's proof as plain C2SP tlog-proof.
pub async fn tlog_proof(conn: &mut Connection, ledger: &Ledger, jti: Uuid) -> Result<TlogProof, ProofError> {
    let record = store::record::by_jti(conn, jti).await?.ok_or(ProofError::Unknown)?;
    let entry = to_hash(&record.entry)?;
    let at = ledger.locate(conn, &entry).await?.ok_or(ProofError::NotYet)?;
    let covering = ledger.witnessed_covering(conn, at.log_id, at.index).await?;
    let (checkpoint, note) = match covering {
        Some(found) => found,
        None => ledger.witnessed(conn).await?.ok_or(ProofError::NotYet)?,
    };
    let size = to_u64(checkpoint.size)?;
    if at.log_id != checkpoint.log_id || at.index >= size {
        return Err(ProofError::NotYet);
    }
    let path = ledger.tree().inclusion_proof(conn, at.log_id, size, at.index).await?;
    Ok(TlogProof { index: at.index, path, checkpoint: note })
}

/// The bundle of `records` with the enrolments and rosters that they stand on.
pub async fn of_records(
    conn: &mut Connection,
    ledger: &Ledger,
    keys: &Keys,
    records: Vec<Row>,
    reader: Reader,
) -> Result<Bundle, ProofError> {
    if records.len() > RECORDS_MAX {
        return Err(ProofError::TooMany);
    }
    let publics = public_keys(conn, &records).await?;
    let mut story = Story::default();
    for record in &records {
        story.add(conn, ledger, record).await?;
    }
    for record in &records {
        story.add_enrolment(conn, ledger, &publics, record).await?;
        story.add_roster(conn, ledger, keys, record).await?;
    }
    let heads = story.heads(conn, ledger).await?;
    let disclosed = disclosures_for(conn, keys, &records, reader).await?;
    story.into_bundle(conn, ledger, keys, heads, disclosed, &publics).await
}

/// Public keys by kid, and the entries of their enrolments.
type Publics = HashMap<Vec<u8>, (PublicKey, Option<Vec<u8>>)>;

async fn public_keys(conn: &mut Connection, records: &[Row]) -> Result<Publics, ProofError> {
    let kids: BTreeSet<Vec<u8>> = records.iter().map(|record| record.kid.clone()).collect();
    let kids: Vec<Vec<u8>> = kids.into_iter().collect();
    let found = store::key::by_kids(conn, &kids).await?;
    found
        .into_iter()
        .map(|key| Ok((key.kid, (PublicKey::from_bytes(&key.public)?, key.enrolled_by))))
        .collect()
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

/// Records by where they stand, and which roster confirms each.
#[derive(Default)]
struct Story {
    placed: BTreeMap<(i16, u64), Row>,
    /// Record's place → roster's place and the signer's line in it.
    confirmed: BTreeMap<(i16, u64), ((i16, u64), LineProof)>,
    rosters: HashMap<Vec<u8>, Roster>,
}

/// The checkpoint that the bundle stands on in one log.
struct Head {
    size: u64,
    note: Note,
    anchors: Vec<store::anchor::Anchor>,
    origin: String,
}

impl Story {
    async fn add(
        &mut self,
        conn: &mut Connection,
        ledger: &Ledger,
        record: &Row,
    ) -> Result<Location, ProofError> {
        let entry = to_hash(&record.entry)?;
        let at = ledger.locate(conn, &entry).await?.ok_or(ProofError::NotYet)?;
        self.placed.entry((at.log_id, at.index)).or_insert_with(|| record.clone());
        Ok(at)
    }

    async fn add_enrolment(
        &mut self,
        conn: &mut Connection,
        ledger: &Ledger,
        publics: &Publics,
        record: &Row,
    ) -> Result<(), ProofError> {
        let Some((_, Some(enrolled_by))) = publics.get(&record.kid) else { return Ok(()) };
        if self.placed.values().any(|placed| placed.entry == *enrolled_by) {
            return Ok(());
        }
        let enrolment = store::record::by_entry(conn, enrolled_by).await?.ok_or(ProofError::Corrupt)?;
        self.add(conn, ledger, &enrolment).await?;
        Ok(())
    }

    /// The first roster after the record; until there is one, the last before it.
    async fn add_roster(
        &mut self,
        conn: &mut Connection,
        ledger: &Ledger,
        keys: &Keys,
        record: &Row,
    ) -> Result<(), ProofError> {
        let kid = to_hash(&record.kid)?;
        if kid == keys.registrar().kid() {
            return Ok(());
        }
        let at = self.add(conn, ledger, record).await?;
        let index = i64::try_from(at.index).map_err(|_| ProofError::Corrupt)?;
        let found = match store::roster::first_after(conn, at.log_id, index).await? {
            Some(found) => Some(found),
            None => store::roster::last_before(conn, at.log_id, index).await?,
        };
        let Some((roster_index, statement)) = found else { return Ok(()) };
        let Some(line) = self.prove_line(conn, &statement, kid).await? else { return Ok(()) };
        let place = (at.log_id, to_u64(roster_index)?);
        self.placed.entry(place).or_insert(statement);
        self.confirmed.insert((at.log_id, at.index), (place, line));
        Ok(())
    }

    async fn prove_line(
        &mut self,
        conn: &mut Connection,
        statement: &Row,
        kid: Hash,
    ) -> Result<Option<LineProof>, ProofError> {
        if !self.rosters.contains_key(&statement.entry) {
            let roster = roster_behind(conn, statement).await?;
            self.rosters.insert(statement.entry.clone(), roster);
        }
        let Some(roster) = self.rosters.get(&statement.entry) else { return Ok(None) };
        roster.prove(&kid).map_err(|_| ProofError::Corrupt)
    }

    /// One checkpoint for each log that the story touches: where it can be, one that stands on a chain, too.
    async fn heads(&self, conn: &mut Connection, ledger: &Ledger) -> Result<BTreeMap<i16, Head>, ProofError> {
        let mut last: BTreeMap<i16, u64> = BTreeMap::new();
        for &(log_id, index) in self.placed.keys() {
            let newest = last.entry(log_id).or_default();
            *newest = index.max(*newest);
        }
        let logs = rows::logs(conn).await?;
        let mut heads = BTreeMap::new();
        for (log_id, index) in last {
            let log = logs.iter().find(|log| log.id == log_id).ok_or(ProofError::Corrupt)?;
            let head = head_covering(conn, ledger, log, index).await?.ok_or(ProofError::NotYet)?;
            heads.insert(log_id, head);
        }
        Ok(heads)
    }

    async fn into_bundle(
        self,
        conn: &mut Connection,
        ledger: &Ledger,
        keys: &Keys,
        heads: BTreeMap<i16, Head>,
        mut disclosed: HashMap<Vec<u8>, Vec<String>>,
        publics: &Publics,
    ) -> Result<Bundle, ProofError> {
        let numbers: BTreeMap<(i16, u64), usize> =
            self.placed.keys().enumerate().map(|(number, place)| (*place, number)).collect();
        let mut bundle = Bundle::default();
        let mut seen: BTreeMap<(String, u64), Seen> = BTreeMap::new();
        for (&place, record) in &self.placed {
            let (log_id, index) = place;
            let head = heads.get(&log_id).ok_or(ProofError::Corrupt)?;
            let parsed = Record::parse(&record.signed).map_err(|_| ProofError::Corrupt)?;
            let key = match publics.get(&record.kid) {
                Some((key, _)) => *key,
                // Enrolments and rosters: the registrar's.
                None => keys.public(conn, parsed.kid()).await?.ok_or(ProofError::Corrupt)?,
            };
            if let Some(had) = &parsed.claims().seen {
                seen.insert((had.origin.clone(), had.size), had.clone());
            }
            let confirmed = self.confirmed.get(&place);
            bundle.items.push(Item {
                signed: Signed::Record {
                    signed: record.signed.clone(),
                    disclosures: disclosed.remove(&record.entry).unwrap_or_default(),
                },
                key,
                checkpoint: heads.keys().position(|id| *id == log_id).ok_or(ProofError::Corrupt)?,
                index,
                path: ledger.tree().inclusion_proof(conn, log_id, head.size, index).await?,
                roster: confirmed.and_then(|(at, line)| Some((*numbers.get(at)?, line.clone()))),
            });
        }
        for had in seen.into_values() {
            bundle.seen.extend(seen_proof(conn, ledger, &heads, &had).await?);
        }
        for head in heads.into_values() {
            bundle.anchors.extend(head.anchors.iter().filter_map(|anchored| anchor(&head.origin, anchored)));
            bundle.checkpoints.push(head.note);
        }
        Ok(bundle)
    }
}

/// The lines behind a roster statement.
async fn roster_behind(conn: &mut Connection, statement: &Row) -> Result<Roster, ProofError> {
    let record = Record::parse(&statement.signed).map_err(|_| ProofError::Corrupt)?;
    let Some(Ok(Statement::Roster(stated))) = record.statement() else { return Err(ProofError::Corrupt) };
    let lines = store::roster::lines(conn, stated.root.as_bytes()).await?.ok_or(ProofError::Corrupt)?;
    let lines: Result<Vec<RosterLine>, _> = lines.lines().map(str::parse).collect();
    Ok(Roster::new(lines.map_err(|_| ProofError::Corrupt)?))
}

async fn head_covering(
    conn: &mut Connection,
    ledger: &Ledger,
    log: &rows::Log,
    index: u64,
) -> Result<Option<Head>, ProofError> {
    let size_min = i64::try_from(index).map_err(|_| ProofError::Corrupt)?.saturating_add(1);
    let anchored = store::anchor::standing(conn, log.id, size_min, ANCHORED_CANDIDATES).await?;
    let origin = log.origin.clone();
    for candidate in &anchored {
        let Some(checkpoint) = rows::checkpoint(conn, log.id, candidate.size).await? else { continue };
        let note = ledger.note(conn, &checkpoint).await?;
        if ledger.meets_policy(&note) {
            let anchors = anchored.iter().filter(|other| other.size == candidate.size).cloned().collect();
            return Ok(Some(Head {
                size: to_u64(candidate.size)?,
                note: exported(ledger, note),
                anchors,
                origin,
            }));
        }
    }
    let newest = if log.id == ledger.log_id() {
        ledger.witnessed(conn).await?
    } else {
        ledger.witnessed_covering(conn, log.id, index).await?
    };
    let Some((checkpoint, note)) = newest else { return Ok(None) };
    let size = to_u64(checkpoint.size)?;
    let head = Head { size, note: exported(ledger, note), anchors: Vec::new(), origin };
    Ok((size > index).then_some(head))
}

/// Only lines that the policy knows leave the house.
fn exported(ledger: &Ledger, mut note: Note) -> Note {
    let log = ledger.verifier();
    let witnesses = ledger.policy().witnesses();
    note.signatures.retain(|line| {
        let by = |key: &trace::tlog::note::VerifierKey| line.name == key.name && line.id == key.id();
        by(&log) || witnesses.values().any(|witness| by(&witness.key))
    });
    note
}

async fn seen_proof(
    conn: &mut Connection,
    ledger: &Ledger,
    heads: &BTreeMap<i16, Head>,
    seen: &Seen,
) -> Result<Option<SeenProof>, ProofError> {
    let Some((&log_id, head)) = heads.iter().find(|(_, head)| head.origin == seen.origin) else {
        return Ok(None);
    };
    let size = i64::try_from(seen.size).map_err(|_| ProofError::Corrupt)?;
    let Some(checkpoint) = rows::checkpoint(conn, log_id, size).await? else { return Ok(None) };
    if checkpoint.root != seen.root.as_bytes() || seen.size > head.size {
        return Ok(None);
    }
    let note = exported(ledger, ledger.note(conn, &checkpoint).await?);
    let path = ledger.tree().consistency_proof(conn, log_id, seen.size, head.size).await?;
    Ok(Some(SeenProof { note, path }))
}

fn anchor(origin: &str, anchored: &store::anchor::Anchor) -> Option<Anchor> {
    Some(Anchor {
        chain_id: u64::try_from(anchored.chain_id).ok()?,
        contract: anchored.contract.to_ascii_lowercase(),
        origin: origin.to_owned(),
        size: u64::try_from(anchored.size).ok()?,
        root: Hash::from_slice(&anchored.root)?,
        transaction: hex(&anchored.tx_hash),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
