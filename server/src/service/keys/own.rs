//! Keys that people hold themselves, each in the browser that it was made in: enrolled by the registrar, never seen by it.

use chrono::{DateTime, TimeDelta, Utc};
use store::{Store, key, key::Key};
use trace::{
    keys::{Custody, KeyRole, Kid, PublicKey},
    record::statement::{Possession, RevocationReason},
};
use uuid::Uuid;

use super::{HeldKey, Keys, KeysError, NewKey};
use crate::service::account::Member;

/// Good keys of one account: a telephone, a tablet, and those that were not given up yet.
const GOOD_KEYS_MAX: usize = 10;
/// Keys that a page lists.
const LISTED_MAX: i64 = 100;
/// From the challenge to its answer: one touch and one password.
const CHALLENGE_MINUTES: i64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum OwnKeyError {
    #[error("no key of this account")]
    NotYours,
    #[error("the account has {GOOD_KEYS_MAX} good keys already")]
    TooMany,
    #[error("the challenge is too old, or was never put")]
    Stale,
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl From<store::StoreError> for OwnKeyError {
    fn from(error: store::StoreError) -> Self {
        Self::Keys(error.into())
    }
}

/// The keys in the browsers of one member.
pub struct OwnKeys<'a> {
    pub store: &'a Store,
    pub keys: &'a Keys,
    pub member: &'a Member,
}

impl OwnKeys<'_> {
    /// What the new key is to sign. Nothing is kept of it: its name says when it was put, and stands in one record at most.
    pub fn challenge(&self, public: &PublicKey) -> Possession {
        self.keys.possession(Uuid::now_v7(), public.kid(), &self.member.party, Custody::Browser)
    }

    pub async fn enrol(&self, jti: Uuid, public: PublicKey, pop: String) -> Result<Kid, OwnKeyError> {
        if !is_recent(jti, Utc::now()) {
            return Err(OwnKeyError::Stale);
        }
        let mut transaction = self.store.begin().await?;
        // Two telephones at once are counted one after the other.
        key::lock_history(&mut transaction).await?;
        let own = key::of_account(&mut transaction, self.member.account_id, LISTED_MAX).await?;
        if own.iter().filter(|key| key.state == "good").count() >= GOOD_KEYS_MAX {
            return Err(OwnKeyError::TooMany);
        }
        let new = NewKey {
            party: &self.member.party,
            role: KeyRole::Record,
            device_id: None,
            base_name: None,
            replaces: None,
        };
        let account = Some(self.member.account_id);
        let held = HeldKey { jti, public, custody: Custody::Browser, pop, account };
        let kid = self.keys.enrol_held(&mut transaction, &new, &held).await?;
        transaction.commit().await?;
        Ok(kid)
    }

    /// Those that sign first, then the newest.
    pub async fn list(&self) -> Result<Vec<Key>, OwnKeyError> {
        let mut conn = self.store.connection().await?;
        Ok(key::of_account(&mut conn, self.member.account_id, LISTED_MAX).await?)
    }

    /// The telephone is lost, and whoever has it now is not its owner: from this moment its key signs nothing.
    pub async fn lose(&self, kid: Kid) -> Result<(), OwnKeyError> {
        let mut transaction = self.store.begin().await?;
        let known = key::by_kid(&mut transaction, kid.as_bytes()).await?;
        if known.is_none_or(|key| key.account_id != Some(self.member.account_id)) {
            return Err(OwnKeyError::NotYours);
        }
        self.keys.revoke(&mut transaction, kid, Utc::now(), RevocationReason::Lost).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// A UUIDv7 of the last minutes (RFC 9562 §5.7).
pub(in crate::service) fn is_recent(jti: Uuid, now: DateTime<Utc>) -> bool {
    let made = jti.get_timestamp().map(|made| made.to_unix()).filter(|_| jti.get_version_num() == 7);
    let made = made.and_then(|(seconds, _)| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    made.is_some_and(|made| made <= now && now - made <= TimeDelta::minutes(CHALLENGE_MINUTES))
}
