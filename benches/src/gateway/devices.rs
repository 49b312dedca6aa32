//! Devices that sign for themselves, registered as their keeper does it, and what they will say: signed beforehand, so that a
//! run measures the others.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use trace::{
    b64,
    keys::{Custody, PublicKey, SecretKey},
    pack::{
        self,
        senml::{self, Number, Reading},
    },
    record::statement::{Possession, prove_possession},
};
use uuid::Uuid;

use crate::{Failed, house::House};

const PARTY: &str = "nanning";
const PEN: u32 = 32_473;
/// Between two readings of one device.
const BEAT_US: i64 = 1_000_000;
const SIGNERS: usize = 4;

pub struct Device {
    pub name: String,
    pub token: String,
    key: SecretKey,
    /// Numbers that it has given out.
    said: u64,
    /// When its next reading is taken, Unix microseconds.
    at_us: i64,
}

pub struct Devices {
    speaking: Vec<Device>,
    /// User name and password of every one, those who speak among them.
    names: Vec<(String, String)>,
}

/// One device's messages of a run.
pub struct Script {
    pub name: String,
    pub token: String,
    pub public: PublicKey,
    pub packs: Arc<Vec<Vec<u8>>>,
}

impl Devices {
    /// Registers `count` devices, of which the first `speaking` will have something to say.
    pub async fn register(house: &House, count: u32, speaking: u32) -> Result<Self, Failed> {
        let (client, cookie) = house.stack.operator_session().await?;
        let base = house.stack.base_url();
        let iss: String = house.asked(&format!("select iss from party where slug = '{PARTY}'"))?;
        let ledger: String = house.stack.origin().split('/').nth(1).unwrap_or_default().to_owned();
        let at_us = chrono::Utc::now().timestamp_micros() - 6 * 3_600 * BEAT_US;
        let (mut all, mut names) = (Vec::new(), Vec::new());
        for number in 0..count {
            let key = SecretKey::from_seed(trace::hash::sha256(&number.to_be_bytes()).as_bytes());
            let (jti, custody) = (Uuid::now_v7(), Custody::Device);
            let (aud, party) = (ledger.clone(), iss.clone());
            let pop = prove_possession(&Possession { aud, jti, kid: key.kid(), party, custody }, &key);
            let name = format!("load{number}");
            let held = json!({"jti": jti, "public": b64::url(key.public().as_bytes()), "custody": custody, "pop": pop});
            let form = json!({"party": PARTY, "device": name, "kind": "climate", "profile": "sugar", "format": "cose",
                "signing": "device", "place": "store", "key": held});
            let request = client.post(format!("{base}/api/v1/devices")).header("Origin", &base);
            let answer: Value = request.header("Cookie", &cookie).json(&form).send().await?.json().await?;
            let token = answer.pointer("/token").and_then(Value::as_str).ok_or_else(|| answer.to_string())?;
            let (name, token) = (format!("{PARTY}/{name}"), token.to_owned());
            names.push((name.clone(), token.clone()));
            if number < speaking {
                all.push(Device { name, token, key, said: 0, at_us });
            }
        }
        Ok(Self { speaking: all, names })
    }

    pub fn names(&self) -> &[(String, String)] {
        &self.names
    }

    /// `each` new packs of `readings` for every device.
    pub async fn script(&mut self, each: usize, readings: usize) -> Result<Vec<Script>, Failed> {
        let (mut signing, mut scripts) = (JoinSet::new(), Vec::new());
        for mut device in self.speaking.drain(..) {
            if signing.len() >= SIGNERS
                && let Some(done) = signing.join_next().await
            {
                scripts.push(done??);
            }
            signing.spawn_blocking(move || {
                let packs: Result<Vec<_>, String> =
                    (0..each).map(|_| device.pack(readings).map_err(|error| error.to_string())).collect();
                packs.map(|packs| (device, packs))
            });
        }
        while let Some(done) = signing.join_next().await {
            scripts.push(done??);
        }
        let mut told = Vec::new();
        for (device, packs) in scripts {
            let (name, token) = (device.name.clone(), device.token.clone());
            told.push(Script { name, token, public: device.key.public(), packs: Arc::new(packs) });
            self.speaking.push(device);
        }
        Ok(told)
    }
}

impl Device {
    fn pack(&mut self, readings: usize) -> Result<Vec<u8>, Failed> {
        let base_name = format!("urn:dev:org:{PEN}-{}:", self.name.replace('/', ":"));
        let mut records = Vec::new();
        for point in 0..readings {
            records.push(Reading {
                name: format!("{base_name}p{point}/temp"),
                unit: Some("Cel".to_owned()),
                time_us: self.at_us,
                value: Some(senml::Value::Number(Number::integer(20))),
                sum: None,
            });
        }
        self.at_us += BEAT_US;
        self.said += 1;
        let mut cti = [0; 16];
        cti.last_chunk_mut::<8>().ok_or("16 bytes")?.copy_from_slice(&self.said.to_be_bytes());
        Ok(pack::sign(&cti, &senml::write_cbor(&base_name, &records)?, &self.key)?)
    }
}
