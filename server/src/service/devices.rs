//! Registering devices and gateways, the gateways' register, and what devices last measured.

pub mod broker;
pub mod file;
mod password;
pub mod place;
pub mod provision;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    Connection, Store, StoreError,
    device::{Device, NewDevice},
    party::Party,
    reading::Reading,
};
use trace::{
    b64,
    hash::{Hash, sha256},
    keys::{Custody, KeyRole, Kid, PublicKey},
    pack::{
        DeviceName,
        carriage::{BATCH_BYTES_MAX, ITEMS_MAX, PAYLOAD_BYTES_MAX},
        device::party_base_name,
    },
    uplink::{Format, Map, MapError, Repeats, sparkplug},
};
use uuid::Uuid;

use crate::service::{
    keys::{HeldKey, Keys, KeysError, NewKey},
    profiles::Profiles,
};
use password::Password;

/// Older readings are not offered to pre-fill a form.
const LATEST_WITHIN: TimeDelta = TimeDelta::days(30);

/// Of a device's own map: the register, which every gateway reads, has all of them.
const MAP_BYTES_MAX: usize = 16 * 1024;

/// A device as its keeper states it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceForm {
    pub party: String,
    pub device: String,
    pub kind: String,
    pub profile: String,
    pub format: Format,
    pub signing: Signing,
    /// Absent: as the profile says of this kind.
    #[serde(default)]
    pub repeats: Option<Repeats>,
    /// Slug of a place of the party.
    pub place: String,
    /// What of its messages is a reading, and its node on a network of its own. Absent: the profile's of this kind.
    pub map: Option<Map>,
    /// The device's own key, where the device signs. Absent: it is provisioned with a one-time token.
    pub key: Option<KeyForm>,
}

/// A key that its holder keeps, with the proof of possession over the enrolment `jti`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyForm {
    pub jti: Uuid,
    /// 32 bytes, base64url.
    pub public: Hash,
    pub custody: Custody,
    pub pop: String,
}

/// Who signs a device's packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    Device,
    Gateway,
}

impl Signing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Gateway => "gateway",
        }
    }
}

/// What is told once and never again.
#[derive(Debug, Serialize)]
pub struct Registered {
    pub party: String,
    pub device: String,
    /// The MQTT password; only its hash is kept.
    pub token: String,
    pub kid: Option<Kid>,
}

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("refused: {field} by {rule}")]
    Refused { field: &'static str, rule: &'static str },
    #[error("the caller keeps no such party or device")]
    NotYours,
    #[error("the token is not known, has expired, or was used")]
    Token,
    #[error("the challenge is too old, or was never put")]
    Stale,
    #[error("the device is out of use")]
    Retired,
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

const fn refused(field: &'static str, rule: &'static str) -> DeviceError {
    DeviceError::Refused { field, rule }
}

/// Registers a device for a party: by that party itself or by the operator.
pub async fn register(
    store: &Store,
    keys: &Keys,
    profiles: &Profiles,
    pen: u32,
    caller: &Party,
    form: &DeviceForm,
) -> Result<Registered, DeviceError> {
    let name = DeviceName::new(&form.party, &form.device).map_err(|_| refused("device", "name"))?;
    let mut transaction = store.begin().await?;
    let party = store::party::by_slug(&mut transaction, &form.party).await?.ok_or(DeviceError::NotYours)?;
    if party.id != caller.id && caller.role != "operator" {
        return Err(DeviceError::NotYours);
    }
    let profile = profiles.by_id(&form.profile).ok_or(refused("profile", "unknown"))?;
    if !profile.device_kinds().contains(&form.kind) {
        return Err(refused("kind", "unknown"));
    }
    let signs_itself = form.signing == Signing::Device;
    if signs_itself != (form.format == Format::Cose) || (!signs_itself && form.key.is_some()) {
        return Err(refused("signing", "format"));
    }
    let usual = profile.device_map(&form.kind, form.format);

    check_map(&mut transaction, party.id, form.format, form.map.as_ref()).await?;
    let repeats = form.repeats.or(usual.and_then(|usual| usual.repeats)).unwrap_or_default();
    let mapping = form.map.as_ref().map(kept_map).transpose()?;
    let place = store::party::place_by_slug(&mut transaction, party.id, &form.place)
        .await?
        .ok_or(refused("place", "unknown"))?;
    let password = Password::fresh()?;
    let new = NewDevice {
        party_id: party.id,
        name: name.device(),
        kind: &form.kind,
        profile: &form.profile,
        format: form.format.as_str(),
        signing: form.signing.as_str(),
        repeats: repeats.as_str(),
        token_hash: password.token_hash.as_bytes(),
        broker_hash: Some(&password.broker_hash),
        place_id: place.id,
        mapping: mapping.as_ref(),
    };
    let device = store::device::insert(&mut transaction, &new).await.map_err(name_taken)?;
    let kid = match &form.key {
        None => None,
        Some(held) => {
            let base_name = name.base_name(pen);
            Some(enrol(&mut transaction, keys, &party, Some(device.id), base_name, held).await?)
        }
    };
    transaction.commit().await?;
    Ok(Registered {
        party: form.party.clone(),
        device: form.device.clone(),
        token: password.text.to_string(),
        kid,
    })
}

/// Whether `party` decides about the device: it is its own, or it runs the ledger.
fn is_keeper(party: &Party, device: &Device) -> bool {
    device.party_id == party.id || party.role == "operator"
}

/// The map must be one of its format; a Sparkplug edge node is one party's, with every device behind it.
async fn check_map(
    conn: &mut Connection,
    party_id: i64,
    format: Format,
    map: Option<&Map>,
) -> Result<(), DeviceError> {
    map.unwrap_or(&Map::default()).check(format).map_err(|error| match error {
        MapError::Unit => refused("map", "unit"),
        MapError::Node => refused("map", "node"),
        MapError::Name | MapError::Factor | MapError::Member => refused("map", "format"),
    })?;
    let Some(node) = map.and_then(|map| map.node.as_deref()).filter(|_| format == Format::Sparkplug) else {
        return Ok(());
    };
    let owners = store::device::parties_at_edge(conn, sparkplug::edge_of(node)).await?;
    if owners.iter().all(|owner| *owner == party_id) { Ok(()) } else { Err(refused("map", "taken")) }
}

/// A map as the database keeps it and every gateway reads it again.
fn kept_map(map: &Map) -> Result<Value, DeviceError> {
    let kept = serde_json::to_value(map).map_err(|_| refused("map", "format"))?;
    if kept.to_string().len() > MAP_BYTES_MAX || has_nul(&kept) {
        Err(refused("map", "map"))
    } else {
        Ok(kept)
    }
}

/// A NUL is the one character that Postgres keeps in no text, in JSON neither.
pub(super) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn name_taken(error: StoreError) -> DeviceError {
    match error.constraint() {
        Some("device_party_id_name_key") => refused("device", "taken"),
        Some("device_node") => refused("map", "taken"),
        _ => error.into(),
    }
}

/// Enrols a gateway's pack key for the party whose gateway it is; an operator's carries every party's devices.
pub async fn enrol_gateway(
    store: &Store,
    keys: &Keys,
    pen: u32,
    party: &Party,
    held: &KeyForm,
) -> Result<Kid, DeviceError> {
    let base_name = match party.role.as_str() {
        "operator" => format!("urn:dev:org:{pen}-"),
        _ => party_base_name(pen, &party.slug),
    };
    let mut transaction = store.begin().await?;
    let kid = enrol(&mut transaction, keys, party, None, base_name, held).await?;
    transaction.commit().await?;
    Ok(kid)
}

async fn enrol(
    conn: &mut Connection,
    keys: &Keys,
    party: &Party,
    device_id: Option<i64>,
    base_name: String,
    held: &KeyForm,
) -> Result<Kid, DeviceError> {
    let public = PublicKey::from_bytes(held.public.as_bytes()).map_err(KeysError::from)?;
    let new = NewKey { party, role: KeyRole::Pack, device_id, base_name: Some(base_name), replaces: None };
    let held = HeldKey { jti: held.jti, public, custody: held.custody, pop: held.pop.clone(), account: None };
    Ok(keys.enrol_held(conn, &new, &held).await?)
}

/// The register that a party's gateways keep, and its entity tag: equal content has an equal tag.
pub async fn gateway_register(
    conn: &mut Connection,
    profiles: &Profiles,
    ledger: &str,
    party: &Party,
) -> Result<(String, String), StoreError> {
    let keys = store::device::pack_keys(conn).await?;
    let kid_of = |device_id: Option<i64>| {
        let own = keys.iter().filter(move |(_, of)| *of == device_id);
        own.map(|(kid, _)| b64::url(kid))
    };
    let gateways: Vec<String> = kid_of(None).collect();
    let devices = store::device::all(conn).await?;
    let devices: Vec<Value> = devices
        .iter()
        .map(|(party, device)| row(profiles, party, device, kid_of(Some(device.id)).next().as_deref()))
        .collect();
    let register = json!({
        "ledger": ledger,
        "party": party.iss,
        "gateways": gateways,
        "devices": devices,
        "limits": {
            "payload_bytes": PAYLOAD_BYTES_MAX,
            "batch_items": ITEMS_MAX,
            "batch_bytes": BATCH_BYTES_MAX,
        },
    })
    .to_string();
    let tag = format!("\"{}\"", sha256(register.as_bytes()));
    Ok((register, tag))
}

/// What a device's messages mean: its own map, or else what its profile says of its kind.
pub fn map_of(profiles: &Profiles, device: &Device) -> Option<Value> {
    let usual = || {
        let profile = profiles.by_id(&device.profile)?;
        let usual = profile.device_map(&device.kind, Format::of_word(&device.format)?)?;
        serde_json::to_value(&usual.map).ok()
    };
    device.mapping.clone().or_else(usual)
}

fn row(profiles: &Profiles, party: &str, device: &Device, kid: Option<&str>) -> Value {
    let mut row = json!({
        "party": party,
        "device": device.name,
        "format": device.format,
        "signing": device.signing,
        "kid": kid,
        "token_sha256": b64::url(&device.token_hash),
        "repeats": device.repeats,
    });
    if let (Some(map), Some(members)) = (map_of(profiles, device), row.as_object_mut()) {
        members.insert("map".to_owned(), map);
    }
    row
}

/// What the devices at a place last measured, newest of each name: a weighbridge form starts with it.
pub async fn latest_at(
    conn: &mut Connection,
    place_id: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Reading>, StoreError> {
    let devices = store::device::at_place(conn, place_id).await?;
    let ids: Vec<i64> = devices.iter().map(|device| device.id).collect();
    let mut latest = store::reading::latest(conn, &ids, now - LATEST_WITHIN).await?;
    // What it measured before it was brought here says nothing of this place.
    latest.retain(|reading| {
        devices.iter().any(|device| device.id == reading.device_id && reading.at >= device.placed_at)
    });
    Ok(latest)
}
