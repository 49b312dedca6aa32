//! Statements about the ledger itself: keys, rosters, code runs, the next log.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    claims::is_text_or_number,
    jws::{self, Jws, JwsError},
};
use crate::{
    hash::{Hash, sha256},
    keys::{Custody, KeyError, KeyRole, Kid, PublicKey, SecretKey},
};

/// `typ` of a proof of possession.
pub const POP_TYP: &str = "trace-pop";

/// `typ` of a handover: what the old key signs for the one that takes its place.
pub const HANDOVER_TYP: &str = "trace-handover";

/// The text whose digest `ledger/1#…` names.
const PROFILE: &str = include_str!("ledger-1.toml");

/// The `profile` claim of every record that holds a statement.
pub fn profile_reference() -> String {
    use std::fmt::Write as _;
    let digest = sha256(PROFILE.as_bytes());
    let mut reference = "ledger/1#".to_owned();
    for byte in digest.as_bytes().iter().take(16) {
        // Writing to a String cannot fail.
        write!(reference, "{byte:02x}").unwrap_or_default();
    }
    reference
}

/// What a registrar (or, for a code run, a party) says about the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Statement {
    Enrol(Enrolment),
    Rotate(Rotation),
    Revoke(Revocation),
    Roster(Roster),
    CodeRun(CodeRun),
    NewLog(NewLog),
}

/// A key that may sign from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    pub kid: Kid,
    /// The public key's 32 bytes.
    pub key: Hash,
    pub role: KeyRole,
    /// Digital Link of the party that the key speaks for.
    pub party: String,
    pub custody: Custody,
    /// Pack keys only: what the base name of every pack under this key starts with.
    /// `urn:dev:org:{PEN}-{party}:{device}:` for a device, `urn:dev:org:{PEN}-{party}:` for a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_name: Option<String>,
    /// Compact JWS by the new key itself: nobody enrols a key that they do not hold.
    pub pop: String,
}

/// A key that takes another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub replaces: Kid,
    pub kid: Kid,
    pub key: Hash,
    pub role: KeyRole,
    pub party: String,
    pub custody: Custody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_name: Option<String>,
    pub pop: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    pub kid: Kid,
    pub party: String,
    /// Unix seconds; records after it do not count.
    pub since: i64,
    pub reason: RevocationReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// Somebody else has it.
    Compromised,
    /// It is gone, or what held it, and nobody knows who has it now.
    Lost,
    Superseded,
    Retired,
}

impl RevocationReason {
    /// Whether others than its owner may have signed with it.
    pub const fn is_out_of_hands(self) -> bool {
        match self {
            Self::Compromised | Self::Lost => true,
            Self::Superseded | Self::Retired => false,
        }
    }
}

/// RFC 6962 root over the sorted lines of all keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    pub root: Hash,
    pub lines: u64,
}

/// Serial numbers from one counter per GTIN and epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRun {
    pub gtin: String,
    pub epoch: char,
    pub first: u64,
    pub count: u64,
    /// SHA-256 of the epoch's derived key, so that a key handed over later can be checked.
    pub key_hash: Hash,
}

/// The log that follows once this one is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLog {
    pub origin: String,
    /// C2SP verifier key.
    pub vkey: String,
    /// The old log's last checkpoint, with its own signature line; absent for a ledger's first log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

/// What a new key signs to show that it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Possession {
    pub aud: String,
    pub jti: Uuid,
    pub kid: Kid,
    pub party: String,
    pub custody: Custody,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error("not a statement of ledger/1")]
    Unknown,
    #[error("not a usable public key")]
    Key(#[from] KeyError),
    #[error("the kid is not the thumbprint of the key")]
    KidOfOtherKey,
    #[error("the proof of possession does not verify")]
    Possession(#[from] JwsError),
    #[error("the proof of possession is for another enrolment")]
    OtherPossession,
    #[error("a base name stands where it may not, or is missing for a pack key")]
    BaseName,
}

impl Statement {
    pub(super) fn parse(value: &Value) -> Result<Self, StatementError> {
        let is_flat = value.as_object().is_some_and(|members| members.values().all(is_text_or_number));
        let statement = Self::deserialize(value).ok().filter(|_| is_flat).ok_or(StatementError::Unknown)?;
        if let Some(Key { kid, key, role, base_name, .. }) = statement.new_key() {
            if PublicKey::from_bytes(key.as_bytes())?.kid() != *kid {
                return Err(StatementError::KidOfOtherKey);
            }
            if (role == KeyRole::Pack) != base_name.is_some() {
                return Err(StatementError::BaseName);
            }
        }
        Ok(statement)
    }

    pub(super) fn to_value(&self) -> Value {
        // Strings, integers and closed words only: nothing here fails to serialise.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// The key that an enrolment or rotation brings.
    pub fn new_key(&self) -> Option<Key<'_>> {
        match self {
            Self::Enrol(Enrolment { kid, key, role, party, custody, base_name, pop })
            | Self::Rotate(Rotation { kid, key, role, party, custody, base_name, pop, .. }) => {
                let (base_name, pop) = (base_name.as_deref(), pop.as_str());
                Some(Key { kid, key, role: *role, party, custody: *custody, base_name, pop })
            }
            _ => None,
        }
    }
}

/// A key as an enrolment or a rotation states it.
#[derive(Debug, Clone, Copy)]
pub struct Key<'statement> {
    pub kid: &'statement Kid,
    pub key: &'statement Hash,
    pub role: KeyRole,
    pub party: &'statement str,
    pub custody: Custody,
    pub base_name: Option<&'statement str>,
    pub pop: &'statement str,
}

impl Key<'_> {
    /// Checks the proof of possession against the record that carries it, and returns the key.
    pub fn verify_possession(&self, aud: &str, jti: Uuid) -> Result<PublicKey, StatementError> {
        let key = PublicKey::from_bytes(self.key.as_bytes())?;
        let stated = Possession {
            aud: aud.to_owned(),
            jti,
            kid: key.kid(),
            party: self.party.to_owned(),
            custody: self.custody,
        };
        verify_possession(self.pop, &stated, &key)?;
        Ok(key)
    }
}

/// The proof of possession for an enrolment in the record `possession.jti`.
pub fn prove_possession(possession: &Possession, key: &SecretKey) -> String {
    jws::sign(POP_TYP, &possession.payload(), key)
}

/// What the new key signs to prove itself, for a key that is held elsewhere.
pub fn possession_input(possession: &Possession) -> String {
    jws::signing_input(POP_TYP, &possession.payload(), possession.kid)
}

/// What the key that is replaced signs, so that nobody else replaces it: the new key's possession, under another `typ`.
pub fn handover_input(possession: &Possession, replaced: Kid) -> String {
    jws::signing_input(HANDOVER_TYP, &possession.payload(), replaced)
}

impl Possession {
    fn payload(&self) -> String {
        // Strings and closed words only: nothing here fails to serialise.
        serde_json::to_value(self).unwrap_or(Value::Null).to_string()
    }
}

pub fn verify_possession(pop: &str, stated: &Possession, key: &PublicKey) -> Result<(), StatementError> {
    verify_signed(pop, POP_TYP, stated, key)
}

/// `replaced` is the key that gives its place to the one of `stated`.
pub fn verify_handover(
    handover: &str,
    stated: &Possession,
    replaced: &PublicKey,
) -> Result<(), StatementError> {
    verify_signed(handover, HANDOVER_TYP, stated, replaced)
}

fn verify_signed(
    compact: &str,
    typ: &str,
    stated: &Possession,
    key: &PublicKey,
) -> Result<(), StatementError> {
    let jws = Jws::parse(compact, typ)?;
    jws.verify(compact, key)?;
    // To the letter: a number or a name has one spelling.
    let is_stated = serde_json::to_value(stated).is_ok_and(|stated| stated == jws.payload);
    if is_stated { Ok(()) } else { Err(StatementError::OtherPossession) }
}
