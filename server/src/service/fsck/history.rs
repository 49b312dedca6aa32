//! The history of keys as the log tells it: read from the registrars' statements first, so that records can then be checked
//! in any order. The table of keys is not asked; it is compared with this afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trace::{
    hash::Hash,
    keys::{Custody, KeyRole, Kid, PublicKey},
    record::{
        Record,
        statement::{Roster, Statement},
    },
};

/// Where an entry stands: log, index. Logs are numbered in the order in which they were opened.
pub(super) type Place = (i16, i64);

#[derive(Debug)]
pub(super) struct Enrolled {
    pub key: PublicKey,
    /// Digital Link of whose key it is.
    pub party: String,
    pub role: KeyRole,
    pub custody: Custody,
    pub base_name: Option<String>,
    pub at: Place,
    pub entry: Hash,
    /// Unix seconds.
    pub since: i64,
    /// When it stopped being good, and how.
    pub ended: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    at: Place,
    pub since: i64,
    pub revoked: bool,
}

/// What the registrars said, and what of it cannot be.
#[derive(Debug)]
pub(super) struct History {
    registrars: BTreeSet<Kid>,
    keys: HashMap<Kid, Enrolled>,
    /// Every place that a statement about a key was learnt from.
    learnt: BTreeSet<Place>,
    /// Each root that was ever stated, where it was first.
    pub rosters: BTreeMap<Hash, (Place, u64)>,
    /// Origin → verifier key, of the logs that another one names as its successor.
    pub successors: BTreeMap<String, String>,
    /// The logs that name one.
    pub ended_logs: BTreeSet<i16>,
}

impl History {
    pub(super) fn new(registrars: BTreeSet<Kid>) -> Self {
        Self {
            registrars,
            keys: HashMap::new(),
            learnt: BTreeSet::new(),
            rosters: BTreeMap::new(),
            successors: BTreeMap::new(),
            ended_logs: BTreeSet::new(),
        }
    }

    pub(super) fn keys(&self) -> &HashMap<Kid, Enrolled> {
        &self.keys
    }

    pub(super) fn key(&self, kid: &Kid) -> Option<&Enrolled> {
        self.keys.get(kid)
    }

    /// Learns from a statement what it says of keys, rosters and logs. What cannot be is left out here and said by
    /// [`History::check_record`] when the entry's turn comes.
    pub(super) fn learn(&mut self, at: Place, entry: Hash, signed: &str) {
        let Ok(record) = Record::parse(signed) else { return };
        let Some(Ok(statement)) = record.statement() else { return };
        if !self.registrars.contains(&record.kid()) {
            return;
        }
        if self.try_learn(at, entry, &record, &statement).is_ok() {
            self.learnt.insert(at);
        }
    }

    fn try_learn(
        &mut self,
        at: Place,
        entry: Hash,
        record: &Record,
        statement: &Statement,
    ) -> Result<(), String> {
        let claims = record.claims();
        match statement {
            Statement::Enrol(_) | Statement::Rotate(_) => {
                let new = statement.new_key().ok_or("no new key")?;
                let key =
                    new.verify_possession(&claims.aud, claims.jti).map_err(|error| error.to_string())?;
                let own = *new.kid == record.kid();
                let signer = if own { Some(&key) } else { self.keys.get(&record.kid()).map(|one| &one.key) };
                let signer = signer.ok_or("signed by a key that nobody has enrolled before")?;
                record.verify(signer).map_err(|error| error.to_string())?;
                if self.keys.contains_key(new.kid) {
                    return Err("a key is enrolled a second time".to_owned());
                }
                if let Statement::Rotate(rotation) = statement {
                    self.end(&rotation.replaces, End { at, since: claims.iat, revoked: false })?;
                }
                let enrolled = Enrolled {
                    key,
                    party: new.party.to_owned(),
                    role: new.role,
                    custody: new.custody,
                    base_name: new.base_name.map(str::to_owned),
                    at,
                    entry,
                    since: claims.iat,
                    ended: None,
                };
                self.keys.insert(*new.kid, enrolled);
                Ok(())
            }
            Statement::Revoke(revocation) => {
                self.verify(record)?;
                self.end(&revocation.kid, End { at, since: revocation.since, revoked: true })
            }
            Statement::Roster(Roster { root, lines }) => {
                self.verify(record)?;
                self.rosters.entry(*root).or_insert((at, *lines));
                Ok(())
            }
            Statement::NewLog(next) => {
                self.verify(record)?;
                self.ended_logs.insert(at.0);
                self.successors.entry(next.origin.clone()).or_insert_with(|| next.vkey.clone());
                Ok(())
            }
            Statement::CodeRun(_) => Err("a registrar's key signed more than keys".to_owned()),
        }
    }

    fn verify(&self, record: &Record) -> Result<(), String> {
        let signer = self.keys.get(&record.kid());
        let signer = signer.ok_or("signed by a key that nobody has enrolled before")?;
        record.verify(&signer.key).map_err(|error| error.to_string())
    }

    /// A key ends once.
    fn end(&mut self, kid: &Kid, end: End) -> Result<(), String> {
        let key = self.keys.get_mut(kid).ok_or("ends a key that nobody enrolled")?;
        key.ended.get_or_insert(end);
        Ok(())
    }

    /// Signature, signer, and that what the record says of keys was learnt from it.
    pub(super) fn check_record(&self, at: Place, record: &Record) -> Result<KeyRole, String> {
        let kid = record.kid();
        let signer = self.keys.get(&kid).ok_or("signed by a key that nobody has enrolled")?;
        let is_registrar = self.registrars.contains(&kid);
        // The registrar's own enrolment is the one record that brings the key that it is signed with.
        if signer.at > at || (signer.at == at && !is_registrar) {
            return Err("signed by a key that nobody has enrolled before".to_owned());
        }
        record.verify(&signer.key).map_err(|error| error.to_string())?;
        let statement = record.statement().transpose().map_err(|error| error.to_string())?;
        if is_registrar {
            return match statement {
                Some(Statement::CodeRun(_)) | None => {
                    Err("a registrar's key signed more than keys".to_owned())
                }
                Some(_) if !self.learnt.contains(&at) => {
                    Err("what it says of keys does not follow from what was said before".to_owned())
                }
                Some(_) => Ok(signer.role),
            };
        }
        if !matches!(statement, None | Some(Statement::CodeRun(_))) {
            return Err("somebody else than the registrar speaks of keys".to_owned());
        }
        if !matches!(signer.role, KeyRole::Record | KeyRole::Derivation) {
            return Err(format!("a key for {} signed a record", signer.role));
        }
        if signer.party != record.claims().iss {
            return Err("signed with another party's key".to_owned());
        }
        match signer.ended {
            Some(end) if at > end.at && record.claims().iat > end.since => {
                Err("signed after its key had stopped being good".to_owned())
            }
            _ => Ok(signer.role),
        }
    }

    /// The pack key of that name, if it was enrolled before `at`.
    pub(super) fn pack_signer(&self, at: Place, kid: &Kid) -> Result<&Enrolled, String> {
        let signer = self.keys.get(kid).filter(|signer| signer.at < at);
        let signer = signer.ok_or("signed by a key that nobody has enrolled before")?;
        if signer.role != KeyRole::Pack {
            return Err(format!("a key for {} signed a pack", signer.role));
        }
        Ok(signer)
    }
}
