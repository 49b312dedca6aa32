//! The history of keys as the log tells it, entry by entry: the table of keys is not asked.

use std::collections::{BTreeMap, BTreeSet};

use trace::{
    keys::{KeyRole, Kid, PublicKey},
    pack::Frame,
    record::{Record, statement::Statement},
};

struct Enrolled {
    key: PublicKey,
    party: String,
    role: KeyRole,
    /// Unix seconds.
    revoked_since: Option<i64>,
}

pub(super) struct History {
    registrars: BTreeSet<Kid>,
    keys: BTreeMap<Kid, Enrolled>,
}

impl History {
    pub(super) const fn new(registrars: BTreeSet<Kid>) -> Self {
        Self { registrars, keys: BTreeMap::new() }
    }

    /// Signature, signer and what the record says of keys; learns from it what it enrols or revokes.
    pub(super) fn check_record(&mut self, record: &Record) -> Result<(), String> {
        let statement = record.statement().transpose().map_err(|error| error.to_string())?;
        let kid = record.kid();
        let is_registrar = self.registrars.contains(&kid);
        // The registrar's own enrolment is the one record that brings the key that it is signed with.
        let own =
            statement.as_ref().and_then(Statement::new_key).filter(|new| *new.kid == kid && is_registrar);
        let key = match (self.keys.get(&kid), own) {
            (Some(enrolled), _) => enrolled.key,
            (None, Some(own)) => {
                PublicKey::from_bytes(own.key.as_bytes()).map_err(|error| error.to_string())?
            }
            (None, None) => return Err("signed by a key that nobody has enrolled before".to_owned()),
        };
        record.verify(&key).map_err(|error| error.to_string())?;
        self.check_signer(record, statement.as_ref(), is_registrar)?;
        statement.map_or(Ok(()), |statement| self.learn(record, &statement, is_registrar))
    }

    /// Strict frame, strict signature, and a pack key that was enrolled before.
    pub(super) fn check_pack(&self, bytes: &[u8]) -> Result<(), String> {
        let frame = Frame::parse(bytes).map_err(|error| error.to_string())?;
        let signer = self.keys.get(&frame.kid).ok_or("signed by a key that nobody has enrolled before")?;
        if signer.role != KeyRole::Pack {
            return Err(format!("a key for {} signed a pack", signer.role));
        }
        frame.verify(&signer.key).map_err(|error| error.to_string())
    }

    fn check_signer(
        &self,
        record: &Record,
        statement: Option<&Statement>,
        is_registrar: bool,
    ) -> Result<(), String> {
        if is_registrar {
            return match statement {
                Some(Statement::CodeRun(_)) | None => {
                    Err("a registrar's key signed more than keys".to_owned())
                }
                Some(_) => Ok(()),
            };
        }
        let Some(signer) = self.keys.get(&record.kid()) else { return Ok(()) };
        if !matches!(signer.role, KeyRole::Record | KeyRole::Derivation) {
            return Err(format!("a key for {} signed a record", signer.role));
        }
        if signer.party != record.claims().iss {
            return Err("signed with another party's key".to_owned());
        }
        if signer.revoked_since.is_some_and(|since| record.claims().iat > since) {
            return Err("signed after its key was revoked".to_owned());
        }
        Ok(())
    }

    fn learn(&mut self, record: &Record, statement: &Statement, is_registrar: bool) -> Result<(), String> {
        if let Some(new) = statement.new_key() {
            if !is_registrar {
                return Err("somebody else than the registrar enrols a key".to_owned());
            }
            let claims = record.claims();
            let key = new.verify_possession(&claims.aud, claims.jti).map_err(|error| error.to_string())?;
            let enrolled = Enrolled { key, party: new.party.to_owned(), role: new.role, revoked_since: None };
            if self.keys.insert(*new.kid, enrolled).is_some() {
                return Err("a key is enrolled a second time".to_owned());
            }
        }
        if let Statement::Revoke(revocation) = statement {
            if !is_registrar {
                return Err("somebody else than the registrar revokes a key".to_owned());
            }
            let key = self.keys.get_mut(&revocation.kid).ok_or("revokes a key that nobody enrolled")?;
            key.revoked_since.get_or_insert(revocation.since);
        }
        Ok(())
    }
}
