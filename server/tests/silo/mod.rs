//! The depot's bin, what measures in it and the gateway that signs for that: their keys, forms and packs.

use chrono::{DateTime, Utc};
use serde_json::json;
use server::service::{
    devices::{self, DeviceForm, KeyForm},
    keys::Keys,
};
use store::{
    Store,
    party::{Party, Place},
};
use trace::{
    hash::Hash,
    keys::{Custody, SecretKey},
    pack::{
        self,
        carriage::{Body, Item},
        senml::{Number, Reading, Value, write_cbor},
    },
    record::statement::{Possession, prove_possession},
};
use uuid::Uuid;

use crate::registered::place_of;

pub const PEN: u32 = 32473;

/// The topic of the depot's `probe1`.
pub const UP: &str = "suyuan/v1/depot/probe1/up";

/// Puts `bin1` there.
pub async fn build(store: &Store, depot: &Party) -> Place {
    place_of(&mut store.connection().await.unwrap(), depot, "bin", "bin1").await
}

/// The key of a gateway of the party.
pub async fn gateway(store: &Store, keys: &Keys, party: &Party) -> SecretKey {
    let gateway = SecretKey::from_seed(&[9; 32]);
    devices::enrol_gateway(store, keys, PEN, party, &key_form(&gateway, keys, party)).await.unwrap();
    gateway
}

/// What who holds `secret` states to have it enrolled.
pub fn key_form(secret: &SecretKey, keys: &Keys, party: &Party) -> KeyForm {
    let (jti, custody) = (Uuid::now_v7(), Custody::Device);
    let (aud, party) = (keys.ledger().to_owned(), party.iss.clone());
    let pop = prove_possession(&Possession { aud, jti, kid: secret.kid(), party, custody }, secret);
    KeyForm { jti, public: Hash(*secret.public().as_bytes()), custody, pop }
}

/// A probe of the depot's in `bin1`, that signs with the key, or has the gateway sign.
pub fn probe(name: &str, key: Option<KeyForm>) -> DeviceForm {
    let (format, signing) = if key.is_some() { ("cose", "device") } else { ("senml+json", "gateway") };
    let form = json!({
        "party": "depot", "device": name, "kind": "probe", "profile": "grain", "format": format,
        "signing": signing, "place": "bin1", "map": null, "key": null,
    });
    DeviceForm { key, ..serde_json::from_value(form).unwrap() }
}

/// One pack of a device of the depot's: name, unit and whole value of each reading.
pub fn pack(
    device: &str,
    cti: &[u8],
    at: DateTime<Utc>,
    readings: &[(&str, &str, i64)],
    key: &SecretKey,
) -> Vec<u8> {
    let base_name = format!("urn:dev:org:{PEN}-depot:{device}:");
    let read = |&(name, unit, value): &(&str, &str, i64)| Reading {
        name: format!("{base_name}{name}"),
        unit: Some(unit.to_owned()),
        time_us: at.timestamp_micros(),
        value: Some(Value::Number(Number::integer(value))),
        sum: None,
    };
    let readings: Vec<Reading> = readings.iter().map(read).collect();
    pack::sign(cti, &write_cbor(&base_name, &readings).unwrap(), key).unwrap()
}

/// As the broker handed it over.
pub fn item<'a>(topic: &'a str, received: DateTime<Utc>, bytes: &'a [u8]) -> Item<'a> {
    Item { topic, received_ms: received.timestamp_millis(), body: Body::Bytes(bytes) }
}
