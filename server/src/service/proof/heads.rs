//! The heads that a bundle stands on: one per log, those that authors had seen, and the first that covers each statement.

use std::collections::{BTreeMap, BTreeSet};

use store::{Connection, anchor::Anchor as AnchorRow, ledger as rows};
use trace::{
    bundle::{Anchor, SEEN_MAX, SeenProof},
    hash::Hash,
    record::Seen,
    tlog::note::{Note, SignatureLine, VerifierKey},
};

use super::{ProofError, story::Place};
use crate::service::ledger::{Ledger, Log, to_u64};

/// Anchored heads looked at for one that is witnessed, too.
const ANCHORED_CANDIDATES: i64 = 8;

/// The checkpoint that the bundle stands on in one log.
struct Head {
    log_id: i16,
    origin: String,
    key: VerifierKey,
    size: u64,
    note: Note,
    anchors: Vec<AnchorRow>,
}

/// One per log, in the order of their origins.
pub(super) struct Heads {
    heads: Vec<Head>,
    places: Vec<Place>,
}

impl Heads {
    /// Heads that cover every place and every seen head.
    pub async fn covering(
        conn: &mut Connection,
        ledger: &Ledger,
        places: impl Iterator<Item = Place>,
        seen: &[Seen],
    ) -> Result<Self, ProofError> {
        let places: Vec<Place> = places.collect();
        let logs = ledger.logs();
        let mut last: BTreeMap<i16, u64> = BTreeMap::new();
        let id_of = |origin: &str| logs.iter().find(|log| log.origin == origin).map(|log| log.id);
        let had = seen.iter().filter_map(|seen| Some((id_of(&seen.origin)?, seen.size.checked_sub(1)?)));
        for (log_id, index) in places.iter().copied().chain(had) {
            let newest = last.entry(log_id).or_default();
            *newest = index.max(*newest);
        }
        let mut heads = Vec::with_capacity(last.len());
        for (log_id, index) in last {
            let log = ledger.log(conn, log_id).await?;
            heads.push(covering(conn, ledger, &log, index).await?.ok_or(ProofError::NotYet)?);
        }
        heads.sort_by(|one, other| one.origin.cmp(&other.origin));
        Ok(Self { heads, places })
    }

    /// Which of the bundle's checkpoints is that of the log.
    pub fn number(&self, log_id: i16) -> Option<usize> {
        self.heads.iter().position(|head| head.log_id == log_id)
    }

    fn of(&self, log_id: i16) -> Result<&Head, ProofError> {
        self.heads.iter().find(|head| head.log_id == log_id).ok_or(ProofError::Corrupt)
    }

    pub async fn inclusion_proof(
        &self,
        conn: &mut Connection,
        ledger: &Ledger,
        (log_id, index): Place,
    ) -> Result<Vec<Hash>, ProofError> {
        let size = self.of(log_id)?.size;
        Ok(ledger.tree().inclusion_proof(conn, log_id, size, index).await?)
    }

    /// Each head once: those that were seen tell after which moment a statement was made, the first ones that cover one
    /// before which.
    pub async fn seen_proofs(
        &self,
        conn: &mut Connection,
        ledger: &Ledger,
        seen: &[Seen],
    ) -> Result<Vec<SeenProof>, ProofError> {
        let had = seen.iter().filter_map(|seen| {
            let head = self.heads.iter().find(|head| head.origin == seen.origin)?;
            Some((head.log_id, seen.size))
        });
        let mut wanted: BTreeSet<(i16, u64)> = had.collect();
        wanted.extend(self.first_covering(conn, ledger).await?);
        let mut proofs = Vec::new();
        for head in &self.heads {
            let sizes = wanted.iter().filter(|(log_id, size)| *log_id == head.log_id && *size < head.size);
            for (_, size) in sizes.take(SEEN_MAX - proofs.len()) {
                proofs.extend(head.seen_proof(conn, ledger, *size).await?);
            }
        }
        Ok(proofs)
    }

    /// The first witnessed head over each place; neighbours share one.
    async fn first_covering(
        &self,
        conn: &mut Connection,
        ledger: &Ledger,
    ) -> Result<Vec<(i16, u64)>, ProofError> {
        let mut found: Vec<(i16, u64)> = Vec::new();
        for &(log_id, index) in &self.places {
            if found.last().is_some_and(|&(of, size)| of == log_id && index < size) {
                continue;
            }
            if let Some((checkpoint, _)) = ledger.witnessed_covering(conn, log_id, index).await? {
                found.push((log_id, to_u64(checkpoint.size)?));
            }
        }
        Ok(found)
    }

    pub fn into_parts(self) -> (Vec<Note>, Vec<Anchor>) {
        let mut anchors: Vec<Anchor> = Vec::new();
        for head in &self.heads {
            anchors.extend(head.anchors.iter().filter_map(|anchored| anchor(&head.origin, anchored)));
        }
        anchors.sort_unstable();
        (self.heads.into_iter().map(|head| head.note).collect(), anchors)
    }
}

impl Head {
    async fn seen_proof(
        &self,
        conn: &mut Connection,
        ledger: &Ledger,
        size: u64,
    ) -> Result<Option<SeenProof>, ProofError> {
        let stored = i64::try_from(size).map_err(|_| ProofError::Corrupt)?;
        let Some(checkpoint) = rows::checkpoint(conn, self.log_id, stored).await? else { return Ok(None) };
        let note = exported(ledger, &self.key, ledger.note(conn, &checkpoint).await?);
        let path = ledger.tree().consistency_proof(conn, self.log_id, size, self.size).await?;
        Ok(Some(SeenProof { note, path }))
    }
}

/// A witnessed head over `index`: where it can be, one that stands on a chain, too.
async fn covering(
    conn: &mut Connection,
    ledger: &Ledger,
    log: &Log,
    index: u64,
) -> Result<Option<Head>, ProofError> {
    let size_min = i64::try_from(index).map_err(|_| ProofError::Corrupt)?.saturating_add(1);
    let anchored = store::anchor::standing(conn, log.id, size_min, ANCHORED_CANDIDATES).await?;
    let head = |size, note, anchors| Head {
        log_id: log.id,
        origin: log.origin.clone(),
        note: exported(ledger, &log.verifier, note),
        key: log.verifier.clone(),
        size,
        anchors,
    };
    for candidate in &anchored {
        let Some(checkpoint) = rows::checkpoint(conn, log.id, candidate.size).await? else { continue };
        let note = ledger.note(conn, &checkpoint).await?;
        if ledger.meets_policy(log, &note) {
            let anchors = anchored.iter().filter(|other| other.size == candidate.size).cloned().collect();
            return Ok(Some(head(to_u64(candidate.size)?, note, anchors)));
        }
    }
    let Some((checkpoint, note)) = ledger.witnessed(conn, log).await? else { return Ok(None) };
    let size = to_u64(checkpoint.size)?;
    Ok((size > index).then(|| head(size, note, Vec::new())))
}

/// Only lines that the policy knows leave the house: the log's own, then the witnesses' by name.
fn exported(ledger: &Ledger, log: &VerifierKey, mut note: Note) -> Note {
    let is_by = |line: &SignatureLine, key: &VerifierKey| line.name == key.name && line.id == key.id();
    note.signatures.retain(|line| ledger.policy().knows_line(log, line));
    note.signatures.sort_by(|one, other| {
        let rank = |line: &SignatureLine| (!is_by(line, log), line.name.clone(), line.id);
        rank(one).cmp(&rank(other))
    });
    note
}

fn anchor(origin: &str, anchored: &AnchorRow) -> Option<Anchor> {
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
