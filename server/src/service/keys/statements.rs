//! The registrar's statements: enrolled, replaced, revoked. Each is a record in the same log.

use chrono::{DateTime, Utc};
use store::{Connection, party::Party};
use trace::{
    hash::Hash,
    keys::{Custody, KeyRole, Kid, PublicKey, SecretKey},
    record::{
        Body, Seen,
        statement::{self, Enrolment, Possession, Revocation, RevocationReason, Rotation, Statement},
    },
};
use uuid::Uuid;

use super::{Keys, KeysError, fresh_seed};
use crate::service::records::{Kind, NewRecord};

/// A key whose holder proves possession: `pop` is over the record `jti`.
#[derive(Debug, Clone)]
pub struct HeldKey {
    pub jti: Uuid,
    pub public: PublicKey,
    pub custody: Custody,
    pub pop: String,
    /// Browser custody only: whose own browser holds it.
    pub account: Option<Uuid>,
}

/// What a new key is for.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    pub party: &'a Party,
    pub role: KeyRole,
    /// A device's own key.
    pub device_id: Option<i64>,
    /// Pack keys only: what every base name under this key starts with.
    pub base_name: Option<String>,
    /// The key that this one takes the place of.
    pub replaces: Option<Kid>,
}

impl Keys {
    /// Makes a key in platform custody for a party and enrols it.
    pub async fn enrol_platform(&self, conn: &mut Connection, new: &NewKey<'_>) -> Result<Kid, KeysError> {
        let seed = fresh_seed()?;
        let secret = SecretKey::from_seed(&seed);
        let sealed = self.root.seal(secret.kid().as_bytes(), seed.as_slice())?;
        self.enrol_secret(conn, new, &secret, Some(sealed)).await
    }

    /// Enrols a key that its holder keeps; checks the proof of possession.
    pub async fn enrol_held(
        &self,
        conn: &mut Connection,
        new: &NewKey<'_>,
        held: &HeldKey,
    ) -> Result<Kid, KeysError> {
        self.enrol(conn, new, held, None).await
    }

    /// Makes sure that registrar and derivation key are enrolled for the operator: the ledger's first records.
    /// The registrar enrols itself: a reader believes it because the reader's trust file names its thumbprint.
    pub async fn found(&self, conn: &mut Connection, operator: &Party) -> Result<(), KeysError> {
        for (secret, role) in [(&self.registrar, KeyRole::Registrar), (&self.derivation, KeyRole::Derivation)]
        {
            if store::key::by_kid(conn, secret.kid().as_bytes()).await?.is_some() {
                continue;
            }
            let new = NewKey { party: operator, role, device_id: None, base_name: None, replaces: None };
            self.enrol_secret(conn, &new, secret, None).await?;
        }
        Ok(())
    }

    /// From `since` on the key signs no more.
    pub async fn revoke(
        &self,
        conn: &mut Connection,
        kid: Kid,
        since: DateTime<Utc>,
        reason: RevocationReason,
    ) -> Result<(), KeysError> {
        store::key::lock_history(conn).await?;
        let key = store::key::by_kid(conn, kid.as_bytes()).await?.ok_or(KeysError::NoKey)?;
        let party = store::party::by_id(conn, key.party_id).await?;
        if !store::key::retire(conn, kid.as_bytes(), "revoked", whole_second(since)).await? {
            return Err(KeysError::NotGood);
        }
        let revocation = Revocation { kid, party: party.iss, since: since.timestamp(), reason };
        self.state(conn, Uuid::now_v7(), Statement::Revoke(revocation), None).await?;
        Ok(())
    }

    /// Writes a statement of the registrar as a record and queues its leaf. The operator is its author.
    pub async fn state(
        &self,
        conn: &mut Connection,
        jti: Uuid,
        statement: Statement,
        seen: Option<Seen>,
    ) -> Result<Hash, KeysError> {
        self.state_at(conn, jti, statement, seen, Utc::now()).await
    }

    async fn state_at(
        &self,
        conn: &mut Connection,
        jti: Uuid,
        statement: Statement,
        seen: Option<Seen>,
        now: DateTime<Utc>,
    ) -> Result<Hash, KeysError> {
        // A roster that was read before this statement's change must not stand after it, nor the other way round.
        store::key::lock_history(conn).await?;
        let operator = operator(conn).await?;
        let step = statement_type(&statement).to_owned();
        let (profile, body) = (statement::profile_reference(), Body::Statement(statement));
        let stated = NewRecord {
            kind: Kind::Statement,
            seen,
            step: Some(step),
            ..NewRecord::new(&operator, &self.registrar, jti, profile, body, now)
        };
        Ok(stated.write(conn, self).await?.entry)
    }

    async fn enrol_secret(
        &self,
        conn: &mut Connection,
        new: &NewKey<'_>,
        secret: &SecretKey,
        sealed: Option<Vec<u8>>,
    ) -> Result<Kid, KeysError> {
        let jti = Uuid::now_v7();
        let possession = self.possession(jti, secret.kid(), new.party, Custody::Platform);
        let pop = statement::prove_possession(&possession, secret);
        let held = HeldKey { jti, public: secret.public(), custody: Custody::Platform, pop, account: None };
        self.enrol(conn, new, &held, sealed).await
    }

    async fn enrol(
        &self,
        conn: &mut Connection,
        new: &NewKey<'_>,
        held: &HeldKey,
        sealed: Option<Vec<u8>>,
    ) -> Result<Kid, KeysError> {
        let kid = held.public.kid();
        let possession = self.possession(held.jti, kid, new.party, held.custody);
        statement::verify_possession(&held.pop, &possession, &held.public)?;
        // Before any key's row is touched: whoever states two things of keys at once waits for nobody who waits for them.
        store::key::lock_history(conn).await?;
        // The second that the record states: the key's row and the roster say the same one.
        let now = whole_second(Utc::now());
        if store::record::by_jti(conn, held.jti).await?.is_some() {
            return Err(KeysError::Used);
        }
        if store::key::by_kid(conn, kid.as_bytes()).await?.is_some() {
            return Err(KeysError::Known);
        }
        if let Some(replaced) = new.replaces
            && !store::key::retire(conn, replaced.as_bytes(), "rotated", now).await?
        {
            return Err(KeysError::NotGood);
        }
        let row = store::key::Key {
            kid: kid.as_bytes().to_vec(),
            party_id: new.party.id,
            device_id: new.device_id,
            role: new.role.as_str().to_owned(),
            custody: held.custody.as_str().to_owned(),
            state: "good".to_owned(),
            since: now,
            public: held.public.as_bytes().to_vec(),
            sealed,
            enrolled_by: None,
            account_id: held.account,
        };
        // The key's row comes first: the registrar's own enrolment is signed by the key that it enrols.
        store::key::insert(conn, &row).await?;
        let entry = self.state_at(conn, held.jti, new.statement(held), None, now).await?;
        store::key::set_enrolled_by(conn, kid.as_bytes(), entry.as_bytes()).await?;
        Ok(kid)
    }

    /// What a new key has to show for the record `jti`.
    pub(in crate::service) fn possession(
        &self,
        jti: Uuid,
        kid: Kid,
        party: &Party,
        custody: Custody,
    ) -> Possession {
        Possession { aud: self.ledger.clone(), jti, kid, party: party.iss.clone(), custody }
    }
}

fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

impl NewKey<'_> {
    fn statement(&self, held: &HeldKey) -> Statement {
        let (kid, key) = (held.public.kid(), Hash(*held.public.as_bytes()));
        let (role, custody) = (self.role, held.custody);
        let (party, base_name, pop) = (self.party.iss.clone(), self.base_name.clone(), held.pop.clone());
        match self.replaces {
            Some(replaces) => {
                Statement::Rotate(Rotation { replaces, kid, key, role, party, custody, base_name, pop })
            }
            None => Statement::Enrol(Enrolment { kid, key, role, party, custody, base_name, pop }),
        }
    }
}

/// The one party that runs the ledger.
pub async fn operator(conn: &mut Connection) -> Result<Party, KeysError> {
    let found = store::party::with_roles(conn, &["operator".to_owned()], 1).await?;
    found.into_iter().next().ok_or(KeysError::NoOperator)
}

const fn statement_type(statement: &Statement) -> &'static str {
    match statement {
        Statement::Enrol(_) => "enrol",
        Statement::Rotate(_) => "rotate",
        Statement::Revoke(_) => "revoke",
        Statement::Roster(_) => "roster",
        Statement::CodeRun(_) => "code-run",
        Statement::NewLog(_) => "new-log",
    }
}
