//! Every look of a regulator at what is not public is told to whom it was at, by whichever door it came.
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

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use chrono::Utc;
use farm::{Farm, gtin};
use server::service::{devices, intake};
use silo::{PEN, UP};

impl Farm {
    async fn by_token(&self, path: &str, token: &str) -> (StatusCode, String) {
        let request =
            TestRequest::get().uri(path).insert_header((header::AUTHORIZATION, format!("Bearer {token}")));
        self.request(request).await
    }

    /// How often the party's day tells of a look at `subject`.
    async fn looks(&self, cookie: &str, subject: &str) -> usize {
        let told = format!("<span class=\"mono\">{subject}</span>");
        self.page("/day", cookie).await.matches(&told).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_opens_what_is_sealed_is_a_look_at_whose_it_was() {
    let Some(mut farm) = Farm::open("looks_proof").await else { return };
    let [maker, depot, regulator] =
        [farm.sign_in("wei").await, farm.sign_in("depot").await, farm.sign_in("authority").await];
    let jti = farm.harvest("W0001").await;
    farm.log_roster().await;
    let (record, lot) = (format!("/proof/{jti}"), format!("/proof/lot/01/{}/10/W0001", gtin()));
    for cookie in ["", &maker, &depot] {
        farm.get(&record, "*/*", cookie).await;
    }
    assert_eq!(farm.looks(&maker, &format!("proof {jti}")).await, 0, "only an authority is watched");
    farm.get(&record, "*/*", &regulator).await;
    assert_eq!(farm.looks(&maker, &format!("proof {jti}")).await, 1);
    farm.get(&lot, "*/*", &regulator).await;
    assert_eq!(farm.looks(&maker, &format!("proof 01/{}/10/W0001", gtin())).await, 1);
    assert_eq!(farm.looks(&depot, &format!("proof {jti}")).await, 0, "nothing of the depot's was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dead_letters_that_a_program_reads_are_looked_at_as_on_their_pages() {
    let Some(farm) = Farm::open("looks_rest").await else { return };
    let [keeper, other, regulator] =
        [farm.sign_in("depot").await, farm.sign_in("wei").await, farm.sign_in("authority").await];
    let (state, depot, now) = (&farm.state, farm.party("depot").await, Utc::now());
    intake::take(&state.store, &state.profiles, (&state.register, PEN), &[silo::item(UP, now, b"{}")], now)
        .await
        .unwrap();
    let place = silo::build(&state.store, &depot).await;
    let probe = silo::probe("probe1", None);
    devices::register(&state.store, &state.keys, &state.profiles, PEN, &depot, &probe).await.unwrap();
    let mut conn = state.store.connection().await.unwrap();
    let device = store::device::by_name(&mut conn, "depot", "probe1").await.unwrap().unwrap();
    let alert = store::alert::NewAlert {
        party_id: depot.id,
        place_id: place.id,
        device_id: Some(device.id),
        profile: "grain",
        rule: "hot",
        subject: "",
        metric: "temp",
        unit: "Cel",
        threshold: 30.0,
        source: "",
        value: 35.0,
        raised_at: now,
        lots: &[],
    };
    store::alert::raise(&mut conn, &alert).await.unwrap();
    drop(conn);
    let scopes = ["read".to_owned()];
    let authority = farm.party("authority").await;
    let token = state.accounts.issue_token(authority.id, "reader", &scopes, None).await.unwrap();
    for (path, subject) in [("/api/v1/alerts", "告警"), ("/api/v1/dead-letters", "未接收的消息")] {
        let (status, body) = farm.by_token(path, &token).await;
        assert!(status == StatusCode::OK && body.contains("\"id\":"), "{path}: {body}");
        assert_eq!(farm.looks(&keeper, subject).await, 1, "{path} by a token");
        farm.get(path, "application/json", &regulator).await;
        assert_eq!(farm.looks(&keeper, subject).await, 2, "{path} in a session");
        farm.get(path, "application/json", &keeper).await;
        assert_eq!(farm.looks(&keeper, subject).await, 2, "one's own are nobody's look");
        assert_eq!(farm.looks(&other, subject).await, 0);
    }
}
