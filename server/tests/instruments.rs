//! What an instrument just sent stands in the form, with the instrument's name and the reading's time.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use farm::{Farm, gln};
use serde_json::json;
use server::service::{
    devices::{self, KeyForm},
    intake,
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

impl Farm {
    /// The depot's weighbridge weighs through a gateway of the depot.
    async fn weigh(&self, kilograms: i64, at: DateTime<Utc>) {
        let (depot, gateway) = (self.party("depot").await, SecretKey::from_seed(&[8; 32]));
        let (state, pen) = (&self.state, self.state.config.identifiers.pen);
        let place = json!({"party": "depot", "slug": "gate", "kind": "depot", "name": "gate",
            "gln": gln(130), "extension": "gate"});
        self.registry().place(&serde_json::from_value(place).unwrap()).await.unwrap();
        let (jti, custody, party) = (Uuid::now_v7(), Custody::Device, depot.iss.clone());
        let aud = state.keys.ledger().to_owned();
        let pop = prove_possession(&Possession { aud, jti, kid: gateway.kid(), party, custody }, &gateway);
        let key = KeyForm { jti, public: Hash(*gateway.public().as_bytes()), custody, pop };
        devices::enrol_gateway(&state.store, &state.keys, pen, &depot, &key).await.unwrap();
        let bridge = json!({"party": "depot", "device": "bridge1", "kind": "weighbridge", "profile": "grain",
            "format": "senml+json", "signing": "gateway", "place": "gate", "map": null, "key": null});
        let bridge = serde_json::from_value(bridge).unwrap();
        devices::register(&state.store, &state.keys, &state.profiles, pen, &depot, &bridge).await.unwrap();
        let base_name = format!("urn:dev:org:{pen}-depot:bridge1:");
        let reading = Reading {
            name: format!("{base_name}gross"),
            unit: Some("kg".to_owned()),
            time_us: at.timestamp_micros(),
            value: Some(Value::Number(Number::integer(kilograms))),
            sum: None,
        };
        let bytes = pack::sign(&[1; 16], &write_cbor(&base_name, &[reading]).unwrap(), &gateway).unwrap();
        let received_ms = at.timestamp_millis();
        let item = Item { topic: "suyuan/v1/depot/bridge1/up", received_ms, body: Body::Bytes(&bytes) };
        intake::take(&state.store, &state.profiles, pen, &[item], Utc::now()).await.unwrap();
        assert_eq!(intake::check_strictly(&state.store).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_names_the_instrument_that_filled_it_in_and_when_that_measured() {
    let Some(farm) = Farm::open("instruments").await else { return };
    let clerk = farm.sign_in("depot").await;
    let at = Utc::now() - TimeDelta::minutes(5);
    farm.weigh(15_980, at).await;
    let page = farm.page("/work/grain/purchase", &clerk).await;
    let local = at.with_timezone(&chrono::FixedOffset::east_opt(8 * 3600).unwrap());
    let time = format!("<time datetime=\"{}\">", local.to_rfc3339_opts(SecondsFormat::Secs, false));
    assert!(page.contains("name=\"gross\" value=\"15980\""), "{page}");
    assert!(page.contains("bridge1") && page.contains(&time), "{time}: {page}");
    let typed = farm.page("/work/grain/purchase?gross=15000", &clerk).await;
    assert!(!typed.contains("bridge1"), "what somebody typed is no instrument's: {typed}");
}
