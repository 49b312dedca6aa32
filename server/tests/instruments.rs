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
mod registered;
mod silo;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use farm::{Farm, gln};
use serde_json::json;
use server::service::{
    devices::{self, DeviceForm},
    intake,
};
use silo::PEN;

impl Farm {
    /// The depot's weighbridge weighs through a gateway of the depot.
    async fn weigh(&self, kilograms: i64, at: DateTime<Utc>) {
        let (state, depot) = (&self.state, self.party("depot").await);
        let place = json!({"party": "depot", "slug": "gate", "kind": "depot", "name": "gate",
            "gln": gln(130), "extension": "gate"});
        self.registry().place(&serde_json::from_value(place).unwrap()).await.unwrap();
        let gateway = silo::gateway(&state.store, &state.keys, &depot).await;
        let (kind, place) = ("weighbridge".to_owned(), "gate".to_owned());
        let bridge = DeviceForm { kind, place, ..silo::probe("bridge1", None) };
        devices::register(&state.store, &state.keys, &state.profiles, PEN, &depot, &bridge).await.unwrap();
        let bytes = silo::pack("bridge1", &[1; 16], at, &[("gross", "kg", kilograms)], &gateway);
        let item = silo::item("suyuan/v1/depot/bridge1/up", at, &bytes);
        intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], Utc::now())
            .await
            .unwrap();
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
