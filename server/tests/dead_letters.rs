//! Dead letters: a keeper reads them in plain words, mends the cause and has them tried again.
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
mod registered;
mod silo;

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use chrono::{DateTime, TimeDelta, Utc};
use farm::Farm;
use serde_json::{Value, json};
use server::service::{devices, intake};
use silo::{PEN, UP};
use store::{dead_letter, party};
use trace::{
    keys::SecretKey,
    pack::{
        self,
        carriage::{Outcome, Status},
    },
};

struct World {
    farm: Farm,
    depot: party::Party,
    gateway: SecretKey,
    token: String,
    now: DateTime<Utc>,
}

async fn world(name: &str) -> Option<World> {
    let farm = Farm::open(name).await?;
    let depot = farm.party("depot").await;
    silo::build(&farm.state.store, &depot).await;
    let gateway = silo::gateway(&farm.state.store, &farm.state.keys, &depot).await;
    let scopes = vec!["gateway".to_owned()];
    let token = farm.state.accounts.issue_token(depot.id, "gateway", &scopes, None).await.unwrap();
    let now = DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap();
    Some(World { farm, depot, gateway, token, now })
}

impl World {
    async fn register(&self, key: Option<&SecretKey>) {
        let state = &self.farm.state;
        let form = silo::probe("probe1", key.map(|key| silo::key_form(key, &state.keys, &self.depot)));
        devices::register(&state.store, &state.keys, &state.profiles, PEN, &self.depot, &form).await.unwrap();
    }

    fn pack(&self, cti: &[u8], key: &SecretKey) -> Vec<u8> {
        silo::pack("probe1", cti, self.now - TimeDelta::seconds(5), &[("temp", "Cel", 40)], key)
    }

    /// A message that arrived just now.
    async fn take(&self, bytes: &[u8]) -> Outcome {
        let (state, item) = (&self.farm.state, silo::item(UP, self.now, bytes));
        intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], self.now)
            .await
            .unwrap()
            .remove(0)
    }

    /// All of them, the oldest first.
    async fn letters(&self) -> Vec<dead_letter::DeadLetter> {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let mut letters = dead_letter::newest(&mut conn, None, None, 100).await.unwrap();
        letters.reverse();
        letters
    }

    async fn outcome(&self) -> Option<String> {
        self.letters().await.remove(0).outcome
    }

    async fn replay(&self, id: i64, cookie: &str) -> StatusCode {
        let request = TestRequest::post()
            .uri(&format!("/dead-letters/{id}/replay"))
            .insert_header((header::COOKIE, cookie))
            .insert_header((header::ACCEPT, "text/html"));
        self.farm.request(request).await.0
    }

    async fn waiting(&self) -> Value {
        let request = TestRequest::get()
            .uri("/api/v1/gateway/replays")
            .insert_header((header::AUTHORIZATION, format!("Bearer {}", self.token)));
        let (status, body) = self.farm.request(request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn confirm(&self, id: i64, status: Status, cti: Option<&[u8]>) -> StatusCode {
        let told = json!({"status": status.code(), "cti": cti.map(trace::b64::url)});
        let request = TestRequest::post()
            .uri(&format!("/api/v1/gateway/replays/{id}"))
            .insert_header((header::AUTHORIZATION, format!("Bearer {}", self.token)))
            .set_json(told);
        self.farm.request(request).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_pack_is_read_in_plain_words_and_stands_once_its_device_is_registered() {
    let Some(world) = world("letters_signed").await else { return };
    let own = SecretKey::from_seed(&[11; 32]);
    world.take(&world.pack(&[1], &own)).await;
    let letter = world.letters().await.remove(0);
    let [keeper, other, regulator] = [
        world.farm.sign_in("depot").await,
        world.farm.sign_in("wei").await,
        world.farm.sign_in("authority").await,
    ];
    let page = world.farm.page("/dead-letters", &keeper).await;
    assert!(page.contains("设备没有登记") && page.contains(UP) && page.contains("重试"), "{page}");
    assert!(!world.farm.page("/dead-letters", &other).await.contains(UP));
    let looked = world.farm.page("/dead-letters", &regulator).await;
    assert!(looked.contains(UP) && !looked.contains("/replay"), "a regulator looks on: {looked}");
    assert!(world.farm.page("/day", &keeper).await.contains(">未接收的消息</span>"), "the look is told");

    assert_eq!(world.replay(letter.id, &other).await, StatusCode::NOT_FOUND);
    assert_eq!(world.replay(letter.id, &regulator).await, StatusCode::NOT_FOUND);
    assert_eq!(world.replay(letter.id, &keeper).await, StatusCode::SEE_OTHER);
    assert_eq!(world.outcome().await.as_deref(), Some("unknown-device"), "the cause is not mended");
    assert!(world.farm.page("/dead-letters", &keeper).await.contains("仍未接收：设备没有登记"));

    world.register(Some(&own)).await;
    assert_eq!(world.replay(letter.id, &keeper).await, StatusCode::SEE_OTHER);
    assert_eq!(world.outcome().await.as_deref(), Some("stored"));
    let page = world.farm.page("/dead-letters", &keeper).await;
    assert!(page.contains("重试后已接收") && !page.contains("/replay"), "{page}");
    assert_eq!(world.replay(letter.id, &keeper).await, StatusCode::SEE_OTHER);
    assert_eq!(world.outcome().await.as_deref(), Some("stored"), "pressed twice is pressed once");
    assert_eq!(intake::check_strictly(&world.farm.state.store).await.unwrap(), 1, "and its leaf follows");
    assert_eq!(world.take(&world.pack(&[1], &own)).await.status, Status::Duplicate);
    assert_eq!(world.letters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_must_sign_waits_for_it_and_its_word_alone_settles_nothing() {
    let Some(world) = world("letters_gateway").await else { return };
    let payload = br#"[{"n":"temp","u":"Cel","v":40}]"#;
    world.take(payload).await;
    let id = world.letters().await[0].id;
    let keeper = world.farm.sign_in("depot").await;
    assert!(world.farm.page("/dead-letters", &keeper).await.contains("&#34;n&#34;:&#34;temp&#34;"));
    world.register(None).await;
    assert_eq!(world.waiting().await, json!({"register": null, "replays": []}));
    assert_eq!(world.replay(id, &keeper).await, StatusCode::SEE_OTHER);
    assert!(world.farm.page("/dead-letters", &keeper).await.contains("等网关处理"));
    let waiting = world.waiting().await;
    assert!(waiting["register"].is_string());
    assert_eq!(
        waiting["replays"],
        json!([{"id": id, "topic": UP, "received_ms": world.now.timestamp_millis(),
            "payload": trace::b64::url(payload)}])
    );
    let cti = pack::gateway_cti(UP, payload);
    assert_eq!(world.confirm(id, Status::Stored, Some(&cti)).await, StatusCode::CONFLICT, "no such pack");
    assert_eq!(world.outcome().await, None);
    assert_eq!(world.take(&world.pack(&cti, &world.gateway)).await.status, Status::Stored);
    assert_eq!(world.confirm(id, Status::Stored, Some(&cti)).await, StatusCode::NO_CONTENT);
    assert_eq!(world.outcome().await.as_deref(), Some("stored"));
    assert_eq!(world.confirm(id, Status::DeadLetter, None).await, StatusCode::NO_CONTENT, "said twice");
    assert_eq!(world.outcome().await.as_deref(), Some("stored"));
    assert_eq!(world.waiting().await["replays"], json!([]));
    assert_eq!(world.confirm(id + 1, Status::Stored, None).await, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_still_passes_on_unread_stays_one_letter_and_a_new_message_makes_its_own() {
    let Some(world) = world("letters_again").await else { return };
    let payload = br#"[{"n":"temp","u":"Cel","v":21}]"#;
    world.take(payload).await;
    let id = world.letters().await[0].id;
    let keeper = world.farm.sign_in("depot").await;
    world.register(None).await;
    world.replay(id, &keeper).await;
    world.take(payload).await;
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].outcome.as_deref()), (1, Some("not-a-pack")));
    assert_eq!(world.confirm(id, Status::DeadLetter, None).await, StatusCode::NO_CONTENT);
    assert_eq!(world.outcome().await.as_deref(), Some("not-a-pack"), "the server's own word stays");

    world.replay(id, &keeper).await;
    let later = silo::item(UP, world.now + TimeDelta::milliseconds(1), payload);
    let state = &world.farm.state;
    intake::take(&state.store, &state.profiles, (&state.register, PEN), &[later], world.now).await.unwrap();
    let letters = world.letters().await;
    assert_eq!(letters.len(), 2, "the device sent it once more");
    assert!(letters[0].replay_wanted_at.is_some(), "which says nothing of the letter that waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_gateway_could_read_fails_at_once_with_what_its_decoder_says() {
    let Some(world) = world("letters_unreadable").await else { return };
    world.take(b"no json at all").await;
    let id = world.letters().await[0].id;
    let keeper = world.farm.sign_in("depot").await;
    world.register(None).await;
    assert_eq!(world.replay(id, &keeper).await, StatusCode::SEE_OTHER);
    assert_eq!(world.outcome().await.as_deref(), Some("not-json"));
    assert_eq!(world.waiting().await["replays"], json!([]));
    assert!(world.farm.page("/dead-letters", &keeper).await.contains("仍未接收：内容不是 JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_turned_page_by_page() {
    let Some(world) = world("letters_pages").await else { return };
    for number in 0..120_u8 {
        world.take(&[number]).await;
    }
    let keeper = world.farm.sign_in("depot").await;
    let (mut path, mut seen) = ("/dead-letters".to_owned(), 0);
    loop {
        let page = world.farm.page(&path, &keeper).await;
        seen += page.matches("id=\"letter-").count();
        let Some((_, next)) = page.split_once("/dead-letters?before=") else { break };
        let before = next.split('"').next().unwrap();
        path = format!("/dead-letters?before={before}");
    }
    assert_eq!(seen, 120);
}
