//! A record that its signer's key does not vouch for is shown as such wherever it is shown.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod database;
mod farm;
mod house;

use chrono::{TimeDelta, Utc};
use farm::{Farm, gtin};
use serde_json::{Value, json};
use trace::{hash::Hash, record::statement::RevocationReason};

const LOST: &str = "签名密钥已挂失";
const REVOKED: &str = "签名密钥已作废";
const UNCONFIRMED: &str = "签名密钥尚未确认";
const GAPS: &str = "记录不全";

impl Farm {
    async fn revoke(&self, since: chrono::DateTime<Utc>, reason: RevocationReason) {
        let farmer = self.party("wei").await;
        let mut conn = self.state.store.connection().await.unwrap();
        let key = store::key::good_of(&mut conn, farmer.id, "record").await.unwrap().remove(0);
        let kid = Hash::from_slice(&key.kid).unwrap();
        self.state.keys.revoke(&mut conn, kid, since, reason).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_key_that_was_lost_before_it_is_shown_as_such_on_every_page() {
    let Some(mut farm) = Farm::open("standing").await else { return };
    let [farmer, depot, regulator] =
        [farm.sign_in("wei").await, farm.sign_in("depot").await, farm.sign_in("authority").await];
    let jti = farm.harvest("W0001").await;
    let scan = format!("/01/{}/10/W0001", gtin());
    let lot = format!("/lots/{}/W0001", gtin());
    let receipt = format!("/receipts/{jti}");
    farm.log().await;
    let page = farm.page(&scan, "").await;
    assert!(page.contains(UNCONFIRMED) && !page.contains(GAPS), "before the first roster: {page}");
    assert!(farm.page(&receipt, &farmer).await.contains(UNCONFIRMED));

    // Stated before the roster, effective before the record.
    farm.revoke(Utc::now() - TimeDelta::hours(1), RevocationReason::Compromised).await;
    farm.log_roster().await;
    let page = farm.page(&scan, "").await;
    assert!(page.contains(LOST) && page.contains(GAPS), "{page}");
    let down = format!("{lot}/trace?direction=down");
    for (path, cookie) in [
        (receipt.as_str(), &farmer),
        (&lot, &farmer),
        (&lot, &regulator),
        (&format!("{lot}/trace"), &regulator),
        (&down, &regulator),
        ("/exceptions", &regulator),
        ("/exceptions", &farmer),
    ] {
        let page = farm.page(path, cookie).await;
        assert!(page.contains(LOST) && !page.contains(UNCONFIRMED), "{path}: {page}");
    }
    assert!(
        !farm.page("/exceptions", &depot).await.contains(LOST),
        "others' exceptions are not theirs to see"
    );

    let epcis: Value = serde_json::from_str(&farm.get(&scan, "application/ld+json", "").await).unwrap();
    assert_eq!(epcis["epcisBody"]["eventList"][0]["gx:signerKey"], "lost");
    let linkset: Value =
        serde_json::from_str(&farm.get(&scan, "application/linkset+json", "").await).unwrap();
    let links = &linkset["linkset"][0]["https://ref.gs1.org/voc/epcis"];
    assert_eq!(links[0]["signer-key"], json!(["lost"]));
    let id = format!("https://id.gs1.org/01/{}/10/W0001", gtin());
    let trace = farm.get(&format!("/api/v1/trace?id={id}"), "application/json", &regulator).await;
    let trace: Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["lots"][0]["record"]["signer_key"], "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_stays_good_when_its_key_is_retired_after_it_and_falls_when_that_reaches_back() {
    let Some(mut farm) = Farm::open("standing_after").await else { return };
    let scan = format!("/01/{}/10/W0001", gtin());
    farm.harvest("W0001").await;
    farm.log_roster().await;
    let whole = farm.page(&scan, "").await;
    assert!(whole.contains("记录完整") && !whole.contains(UNCONFIRMED), "{whole}");

    farm.revoke(Utc::now() + TimeDelta::seconds(2), RevocationReason::Retired).await;
    farm.log_roster().await;
    assert!(farm.page(&scan, "").await.contains("记录完整"));
    let regulator = farm.sign_in("authority").await;
    assert!(!farm.page("/exceptions", &regulator).await.contains(REVOKED));

    let Some(mut farm) = Farm::open("standing_back").await else { return };
    farm.harvest("W0001").await;
    farm.log_roster().await;
    farm.revoke(Utc::now() - TimeDelta::hours(1), RevocationReason::Retired).await;
    farm.log_roster().await;
    let page = farm.page(&scan, "").await;
    assert!(
        page.contains(REVOKED) && page.contains(GAPS),
        "what reaches back to before the roster counts: {page}"
    );
}
