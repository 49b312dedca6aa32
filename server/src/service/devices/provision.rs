//! Provisioning: a one-time token becomes a device's key and its MQTT password, and a key hands over to the next one. The end of
//! a device, lost or out of use.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use store::{
    Connection, Store,
    device::{self, Device},
    key, party,
    party::Party,
    provisioning::{self, NewProvisioning},
};
use trace::{
    b64,
    hash::{Hash, sha256},
    keys::{Custody, KeyRole, Kid, PublicKey},
    pack::DeviceName,
    record::statement::{self, Possession, RevocationReason},
};
use uuid::Uuid;

use super::{DeviceError, Signing, is_keeper, password::Password};
use crate::service::{
    account::Member,
    attempts::Allowance,
    keys::{HeldKey, Keys, KeysError, NewKey, fresh_seed, own::is_recent},
};

/// From the keeper's desk to the device on the wall.
const TOKEN_HOURS: i64 = 72;
/// A device has one good key; what is older was replaced or revoked.
const KEYS_MAX: i64 = 20;

/// An installer with a van full of devices behind one address; two requests a device.
pub const OF_ADDRESS: Allowance =
    Allowance { attempts: 120, window: Duration::from_mins(10), remembered: 20_000 };

/// A token as it is shown this once.
pub struct Issued {
    pub token: String,
    pub expires_at: DateTime<Utc>,
}

/// A public key and what its holder signed with it.
#[derive(Debug, Clone)]
pub struct ShownKey {
    pub public: PublicKey,
    /// The challenge's name.
    pub jti: Uuid,
    pub signature: [u8; 64],
}

/// What a device is told once and never again.
#[derive(Debug, Serialize)]
pub struct Provisioned {
    pub party: String,
    pub device: String,
    /// At the MQTT endpoint, with `password`.
    pub user: String,
    pub password: String,
    pub topic: String,
    pub receipt_topic: String,
    /// What the names of its readings begin with.
    pub base_name: String,
    pub kid: Option<Kid>,
}

/// What is to be signed with a new key, and with the one that it replaces.
#[derive(Debug)]
pub struct Challenge {
    pub jti: Uuid,
    pub sign: String,
    pub sign_with_replaced: Option<String>,
}

/// The use cases of a device's credentials.
pub struct Provisioning<'a> {
    pub store: &'a Store,
    pub keys: &'a Keys,
    pub pen: u32,
}

impl Provisioning<'_> {
    /// A new token for a device; the one before it is given up.
    pub async fn issue(
        &self,
        member: &Member,
        name: (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<Issued, DeviceError> {
        let mut transaction = self.store.begin().await?;
        let device = keepers(&mut transaction, &member.party, name).await?;
        if device.retired_at.is_some() {
            return Err(DeviceError::Retired);
        }
        let token = b64::url(fresh_seed()?.as_slice());
        let expires_at = now + TimeDelta::hours(TOKEN_HOURS);
        let token_hash = sha256(token.as_bytes());
        let new = NewProvisioning {
            token_hash: token_hash.as_bytes(),
            device_id: device.id,
            created_by: Some(member.account_id),
            created_at: now,
            expires_at,
        };
        provisioning::withdraw(&mut transaction, device.id, now).await?;
        provisioning::insert(&mut transaction, &new).await?;
        transaction.commit().await?;
        Ok(Issued { token, expires_at })
    }

    /// What the new key is to sign. Nothing is kept of it; the token is not used up.
    pub async fn challenge(
        &self,
        token: &str,
        public: &PublicKey,
        now: DateTime<Utc>,
    ) -> Result<Challenge, DeviceError> {
        let mut conn = self.store.connection().await?;
        let found = open_token(&mut conn, token, now).await?;
        let (_, device) = device::by_id(&mut conn, found.device_id).await?.ok_or(DeviceError::Token)?;
        let party = party::by_id(&mut conn, device.party_id).await?;
        let possession = self.possession(Uuid::now_v7(), public, &party);
        let sign = statement::possession_input(&possession);
        Ok(Challenge { jti: possession.jti, sign, sign_with_replaced: None })
    }

    /// Uses a token up: the device's key is enrolled in the place of its last one, and it gets a new password.
    pub async fn redeem(
        &self,
        token: &str,
        shown: Option<&ShownKey>,
        now: DateTime<Utc>,
    ) -> Result<Provisioned, DeviceError> {
        let mut transaction = self.store.begin().await?;
        let found = open_token(&mut transaction, token, now).await?;
        let device = device::lock(&mut transaction, found.device_id).await?.ok_or(DeviceError::Token)?;
        // Somebody may have used it while the device was not ours alone.
        let found = open_token(&mut transaction, token, now).await?;
        let party = party::by_id(&mut transaction, device.party_id).await?;
        if (device.signing == Signing::Device.as_str()) != shown.is_some() {
            return Err(DeviceError::Refused { field: "key", rule: "other-signing" });
        }
        let name = name_of(&party, &device)?;
        let kid = match shown {
            None => None,
            Some(shown) => {
                let replaces = good_key(&mut transaction, device.id).await?;
                let pop = signed(&statement::possession_input(&self.asked(shown, &party)), &shown.signature);
                Some(self.enrol(&mut transaction, &party, &device, (shown, pop), replaces, now).await?)
            }
        };
        let password = Password::fresh()?;
        let token_hash = password.token_hash.as_bytes();
        device::set_password(&mut transaction, device.id, token_hash, &password.broker_hash).await?;
        let kid_bytes = kid.as_ref().map(Hash::as_bytes).map(<[u8; 32]>::as_slice);
        provisioning::redeem(&mut transaction, &found.token_hash, kid_bytes, now).await?;
        transaction.commit().await?;
        Ok(Provisioned {
            user: name.to_string(),
            password: password.text.to_string(),
            topic: name.up().to_string(),
            receipt_topic: name.receipt().to_string(),
            base_name: name.base_name(self.pen),
            party: party.slug,
            device: device.name,
            kid,
        })
    }

    /// What the new key and the one that it shall replace are to sign.
    pub async fn rotation_challenge(&self, replaced: Kid, new: &PublicKey) -> Result<Challenge, DeviceError> {
        let mut conn = self.store.connection().await?;
        let (device, _) = owner(&mut conn, replaced).await?;
        let party = party::by_id(&mut conn, device.party_id).await?;
        let possession = self.possession(Uuid::now_v7(), new, &party);
        Ok(Challenge {
            jti: possession.jti,
            sign: statement::possession_input(&possession),
            sign_with_replaced: Some(statement::handover_input(&possession, replaced)),
        })
    }

    /// The device's key gives its place to the next one, and says so itself.
    pub async fn rotate(
        &self,
        replaced: Kid,
        replaced_signature: &[u8; 64],
        shown: &ShownKey,
        now: DateTime<Utc>,
    ) -> Result<Kid, DeviceError> {
        let mut transaction = self.store.begin().await?;
        let (device, _) = owner(&mut transaction, replaced).await?;
        let device = device::lock(&mut transaction, device.id).await?.ok_or(DeviceError::NotYours)?;
        // Its key may have changed while it was not ours alone.
        let (_, old) = owner(&mut transaction, replaced).await?;
        if device.lost_at.is_some() || device.retired_at.is_some() {
            return Err(DeviceError::Keys(KeysError::NotGood));
        }
        let party = party::by_id(&mut transaction, device.party_id).await?;
        let possession = self.asked(shown, &party);
        let handover = signed(&statement::handover_input(&possession, replaced), replaced_signature);
        statement::verify_handover(&handover, &possession, &old).map_err(KeysError::from)?;
        let pop = signed(&statement::possession_input(&possession), &shown.signature);
        let kid = self.enrol(&mut transaction, &party, &device, (shown, pop), Some(replaced), now).await?;
        transaction.commit().await?;
        Ok(kid)
    }

    /// Somebody else may have it: from now on its packs are refused and its keys are revoked, until it is provisioned anew.
    pub async fn lose(
        &self,
        member: &Member,
        name: (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<(), DeviceError> {
        let mut transaction = self.store.begin().await?;
        let device = keepers(&mut transaction, &member.party, name).await?;
        // Lost for the second time, it may have been given a token since the first.
        device::lose(&mut transaction, device.id, now).await?;
        self.end_keys(&mut transaction, device.id, RevocationReason::Lost, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// It is taken down: from now on its packs are refused for good.
    pub async fn retire(
        &self,
        member: &Member,
        name: (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<(), DeviceError> {
        let mut transaction = self.store.begin().await?;
        let device = keepers(&mut transaction, &member.party, name).await?;
        if device::retire(&mut transaction, device.id, now).await? {
            self.end_keys(&mut transaction, device.id, RevocationReason::Retired, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn end_keys(
        &self,
        conn: &mut Connection,
        device_id: i64,
        reason: RevocationReason,
        now: DateTime<Utc>,
    ) -> Result<(), DeviceError> {
        provisioning::withdraw(conn, device_id, now).await?;
        if let Some(kid) = good_key(conn, device_id).await? {
            self.keys.revoke(conn, kid, now, reason).await?;
        }
        Ok(())
    }

    async fn enrol(
        &self,
        conn: &mut Connection,
        party: &Party,
        device: &Device,
        (shown, pop): (&ShownKey, String),
        replaces: Option<Kid>,
        now: DateTime<Utc>,
    ) -> Result<Kid, DeviceError> {
        if !is_recent(shown.jti, now) {
            return Err(DeviceError::Stale);
        }
        let base_name = Some(name_of(party, device)?.base_name(self.pen));
        let new = NewKey { party, role: KeyRole::Pack, device_id: Some(device.id), base_name, replaces };
        let (jti, public) = (shown.jti, shown.public);
        let held = HeldKey { jti, public, custody: Custody::Device, pop, account: None };
        Ok(self.keys.enrol_held(conn, &new, &held).await?)
    }

    fn asked(&self, shown: &ShownKey, party: &Party) -> Possession {
        self.possession(shown.jti, &shown.public, party)
    }

    fn possession(&self, jti: Uuid, public: &PublicKey, party: &Party) -> Possession {
        self.keys.possession(jti, public.kid(), party, Custody::Device)
    }
}

fn name_of(party: &Party, device: &Device) -> Result<DeviceName, DeviceError> {
    DeviceName::new(&party.slug, &device.name)
        .map_err(|_| DeviceError::Refused { field: "device", rule: "name" })
}

/// A compact JWS from what was signed and its signature.
fn signed(input: &str, signature: &[u8; 64]) -> String {
    format!("{input}.{}", b64::url(signature))
}

/// The device, locked, if the party keeps it or runs the ledger.
pub(super) async fn keepers(
    conn: &mut Connection,
    caller: &Party,
    (party, name): (&str, &str),
) -> Result<Device, DeviceError> {
    let device = device::by_name(conn, party, name).await?.ok_or(DeviceError::NotYours)?;
    if !is_keeper(caller, &device) {
        return Err(DeviceError::NotYours);
    }
    device::lock(conn, device.id).await?.ok_or(DeviceError::NotYours)
}

async fn open_token(
    conn: &mut Connection,
    token: &str,
    now: DateTime<Utc>,
) -> Result<provisioning::Provisioning, DeviceError> {
    let hash = sha256(token.as_bytes());
    provisioning::open(conn, hash.as_bytes(), now).await?.ok_or(DeviceError::Token)
}

async fn good_key(conn: &mut Connection, device_id: i64) -> Result<Option<Kid>, DeviceError> {
    let keys = key::of_device(conn, device_id, KEYS_MAX).await?;
    Ok(keys.iter().find(|key| key.state == "good").and_then(|key| Hash::from_slice(&key.kid)))
}

/// The device whose good key this is.
async fn owner(conn: &mut Connection, kid: Kid) -> Result<(Device, PublicKey), DeviceError> {
    let key = key::by_kid(conn, kid.as_bytes()).await?.ok_or(DeviceError::NotYours)?;
    let device_id = key.device_id.ok_or(DeviceError::NotYours)?;
    if key.state != "good" {
        return Err(DeviceError::Keys(KeysError::NotGood));
    }
    let (_, device) = device::by_id(conn, device_id).await?.ok_or(DeviceError::NotYours)?;
    Ok((device, PublicKey::from_bytes(&key.public).map_err(KeysError::from)?))
}
