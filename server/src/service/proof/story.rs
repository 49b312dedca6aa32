//! What a bundle holds and why: statements, the evidence that they name, and what confirms their keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use store::{Connection, pack::Pack, record::Record as Row};
use trace::{
    bundle::{Bundle, Item, Signed},
    hash::Hash,
    keys::PublicKey,
    record::{Record, Rel, Seen, statement::Statement},
    roster::{KeyState, LineProof, Roster, RosterLine},
};

use super::{PACKS_MAX, ProofError, heads::Heads};
use crate::service::{
    keys::Keys,
    ledger::{Ledger, to_hash, to_u64},
};

/// Which log, and the index there.
pub(super) type Place = (i16, u64);

enum Placed {
    Record(Box<Row>),
    Pack(Pack),
}

impl Placed {
    fn kid(&self) -> &[u8] {
        match self {
            Self::Record(record) => &record.kid,
            Self::Pack(pack) => &pack.kid,
        }
    }
}

/// Statements by where they stand, and which roster confirms each.
pub(super) struct Story<'a> {
    ledger: &'a Ledger,
    keys: &'a Keys,
    placed: BTreeMap<Place, Placed>,
    publics: HashMap<Vec<u8>, PublicKey>,
    /// Statement's place → roster's place and the signer's line in it.
    confirmed: BTreeMap<Place, (Place, LineProof)>,
    rosters: HashMap<Vec<u8>, Roster>,
}

impl<'a> Story<'a> {
    pub fn new(ledger: &'a Ledger, keys: &'a Keys) -> Self {
        Self {
            ledger,
            keys,
            placed: BTreeMap::new(),
            publics: HashMap::new(),
            confirmed: BTreeMap::new(),
            rosters: HashMap::new(),
        }
    }

    pub async fn add_record(&mut self, conn: &mut Connection, record: &Row) -> Result<Place, ProofError> {
        let at = self.ledger.locate(conn, &to_hash(&record.entry)?).await?.ok_or(ProofError::NotYet)?;
        let place = (at.log_id, at.index);
        self.placed.entry(place).or_insert_with(|| Placed::Record(Box::new(record.clone())));
        Ok(place)
    }

    /// The packs that the records name as evidence. One whose strict check is still due has no leaf, and is left out.
    pub async fn add_packs(&mut self, conn: &mut Connection, records: &[Row]) -> Result<(), ProofError> {
        let entries: Vec<Vec<u8>> = records.iter().map(|record| record.entry.clone()).collect();
        let refs = store::record::refs_of(conn, &entries).await?;
        let evidence = refs.into_iter().filter(|(_, rel, _)| rel == Rel::Evidence.as_str());
        let targets: BTreeSet<Vec<u8>> = evidence.map(|(.., target)| target).collect();
        for target in targets.iter().take(PACKS_MAX) {
            let Some(pack) = store::pack::by_entry(conn, target).await? else { continue };
            if let Some(at) = self.ledger.locate(conn, &to_hash(target)?).await? {
                self.placed.insert((at.log_id, at.index), Placed::Pack(pack));
            }
        }
        Ok(())
    }

    /// The signers' enrolments, the first roster after each statement, and what ended a key before it.
    pub async fn add_keys(&mut self, conn: &mut Connection) -> Result<(), ProofError> {
        let registrar = self.keys.registrar().kid();
        let signed: Vec<(Place, Hash)> = self
            .placed
            .iter()
            .map(|(place, placed)| Ok((*place, to_hash(placed.kid())?)))
            .collect::<Result<_, ProofError>>()?;
        let kids: BTreeSet<Hash> = signed.iter().map(|(_, kid)| *kid).collect();
        let kids: Vec<Vec<u8>> = kids.into_iter().map(|kid| kid.as_bytes().to_vec()).collect();
        for key in store::key::by_kids(conn, &kids).await? {
            self.publics.insert(key.kid, PublicKey::from_bytes(&key.public)?);
            let Some(entry) = key.enrolled_by else { continue };
            let enrolment = store::record::by_entry(conn, &entry).await?.ok_or(ProofError::Corrupt)?;
            self.add_record(conn, &enrolment).await?;
        }
        for (place, kid) in signed.into_iter().filter(|(_, kid)| *kid != registrar) {
            self.add_roster(conn, place, kid).await?;
        }
        Ok(())
    }

    /// The first roster after the statement; until there is one, the last before it.
    async fn add_roster(&mut self, conn: &mut Connection, place: Place, kid: Hash) -> Result<(), ProofError> {
        let (log_id, index) = place;
        let index = i64::try_from(index).map_err(|_| ProofError::Corrupt)?;
        let found = match store::roster::first_after(conn, log_id, index).await? {
            Some(found) => Some(found),
            None => store::roster::last_before(conn, log_id, index).await?,
        };
        let Some((roster_index, statement)) = found else { return Ok(()) };
        let Some(line) = self.prove_line(conn, &statement, kid).await? else { return Ok(()) };
        for ending in store::record::endings_of(conn, &[kid.to_string()]).await? {
            // A revocation that came after the roster may reach back to before it; a replacement does not.
            let reaches_back = ending.step.as_deref() == Some("revoke");
            if line.line.state != KeyState::Good || (reaches_back && self.is_witnessed(conn, &ending).await?)
            {
                self.add_record(conn, &ending).await?;
            }
        }
        let roster = (log_id, to_u64(roster_index)?);
        self.placed.entry(roster).or_insert(Placed::Record(Box::new(statement)));
        self.confirmed.insert(place, (roster, line));
        Ok(())
    }

    async fn is_witnessed(&self, conn: &mut Connection, record: &Row) -> Result<bool, ProofError> {
        let Some(at) = self.ledger.locate(conn, &to_hash(&record.entry)?).await? else { return Ok(false) };
        Ok(self.ledger.witnessed_covering(conn, at.log_id, at.index).await?.is_some())
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

    /// Where the story crosses from one log into a later one: what names the later one in the earlier, and what holds the
    /// earlier one's last head in the later. Without these nobody could tell which came first. The log before the first of them
    /// comes along: a trust file is not made anew on New Year's Eve.
    pub async fn add_new_logs(&mut self, conn: &mut Connection) -> Result<(), ProofError> {
        let (first, last) = (self.placed.first_key_value(), self.placed.last_key_value());
        let (Some((&(first, _), _)), Some((&(last, _), _))) = (first, last) else { return Ok(()) };
        let logs = self.ledger.logs();
        let first = logs.iter().map(|log| log.id).filter(|id| *id < first).max().unwrap_or(first);
        if first == last {
            return Ok(());
        }
        for stated in store::record::new_logs_between(conn, first, last).await? {
            self.add_record(conn, &stated).await?;
        }
        Ok(())
    }

    /// `disclosed`: texts by entry.
    pub async fn into_bundle(
        self,
        conn: &mut Connection,
        mut disclosed: HashMap<Vec<u8>, Vec<String>>,
    ) -> Result<Bundle, ProofError> {
        let seen = self.seen()?;
        let heads = Heads::covering(conn, self.ledger, self.placed.keys().copied(), &seen).await?;
        let mut order: Vec<Place> = self.placed.keys().copied().collect();
        order.sort_by_key(|(log_id, index)| (heads.number(*log_id), *index));
        let numbers: BTreeMap<Place, usize> =
            order.iter().enumerate().map(|(number, at)| (*at, number)).collect();
        let mut items = Vec::with_capacity(order.len());
        for at in order {
            let placed = self.placed.get(&at).ok_or(ProofError::Corrupt)?;
            let confirmed = self.confirmed.get(&at);
            items.push(Item {
                signed: signed(placed, &mut disclosed),
                key: self.public_key(conn, placed).await?,
                checkpoint: heads.number(at.0).ok_or(ProofError::Corrupt)?,
                index: at.1,
                path: heads.inclusion_proof(conn, self.ledger, at).await?,
                roster: confirmed.and_then(|(roster, line)| Some((*numbers.get(roster)?, line.clone()))),
            });
        }
        let seen = heads.seen_proofs(conn, self.ledger, &seen).await?;
        let (checkpoints, anchors) = heads.into_parts();
        Ok(Bundle { checkpoints, seen, items, anchors })
    }

    /// Enrolments and rosters are the registrar's; its key has a row like all others.
    async fn public_key(&self, conn: &mut Connection, placed: &Placed) -> Result<PublicKey, ProofError> {
        match self.publics.get(placed.kid()) {
            Some(key) => Ok(*key),
            None => self.keys.public(conn, to_hash(placed.kid())?).await?.ok_or(ProofError::Corrupt),
        }
    }

    /// The heads that the records' authors had seen.
    fn seen(&self) -> Result<Vec<Seen>, ProofError> {
        let mut seen = Vec::new();
        for placed in self.placed.values() {
            let Placed::Record(record) = placed else { continue };
            let record = Record::parse(&record.signed).map_err(|_| ProofError::Corrupt)?;
            seen.extend(record.claims().seen.clone());
        }
        Ok(seen)
    }
}

fn signed(placed: &Placed, disclosed: &mut HashMap<Vec<u8>, Vec<String>>) -> Signed {
    match placed {
        Placed::Pack(pack) => Signed::Pack(pack.bytes.clone()),
        Placed::Record(record) => {
            let mut disclosures = disclosed.remove(&record.entry).unwrap_or_default();
            disclosures.sort_unstable();
            Signed::Record { signed: record.signed.clone(), disclosures }
        }
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
