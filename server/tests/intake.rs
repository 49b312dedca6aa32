//! Packs against a real database: stored once, told apart, alerted on, and in the queue only after the strict check.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod database;
mod registered;
mod silo;

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use registered::party_of;
use server::service::{
    alerts::silence,
    devices::{self, DeviceForm},
    intake,
    keys::Keys,
    profiles::Profiles,
};
use silo::{PEN, UP};
use store::{Store, alert, dead_letter, party};
use trace::{
    hash::{Hash, sha256},
    keys::SecretKey,
    pack::carriage::{Body, Item, Outcome, Status},
    uplink::Format,
};

const NOW_S: i64 = 1_795_000_000;

struct World {
    store: Store,
    keys: Keys,
    profiles: Profiles,
    depot: party::Party,
    place: party::Place,
    gateway: SecretKey,
    register: intake::Register,
}

async fn world(name: &str) -> Option<World> {
    let url = database::fresh(name).await?;
    let store = Store::open(&url, 8).unwrap();
    let keys = Keys::from_seeds("suyuan", &[1; 32], &[2; 32], &[3; 32]);
    let profiles = Profiles::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles"))).unwrap();
    let mut transaction = store.begin().await.unwrap();
    let operator = party_of(&mut transaction, "operator", "operator", "9520000000004").await;
    keys.found(&mut transaction, &operator).await.unwrap();
    let depot = party_of(&mut transaction, "depot", "depot", "9520123456788").await;
    transaction.commit().await.unwrap();
    let place = silo::build(&store, &depot).await;
    let gateway = silo::gateway(&store, &keys, &operator).await;
    Some(World { store, keys, profiles, depot, place, gateway, register: intake::Register::default() })
}

impl World {
    async fn device(&self, name: &str, key: Option<&SecretKey>) -> devices::Registered {
        let form = silo::probe(name, key.map(|key| silo::key_form(key, &self.keys, &self.depot)));
        devices::register(&self.store, &self.keys, &self.profiles, PEN, &self.depot, &form).await.unwrap()
    }

    async fn take(&self, items: &[Item<'_>]) -> Vec<Outcome> {
        let now = at(NOW_S);
        intake::take(&self.store, &self.profiles, (&self.register, PEN), items, now).await.unwrap()
    }

    async fn reasons(&self) -> Vec<String> {
        let mut conn = self.store.connection().await.unwrap();
        let mut letters = dead_letter::newest(&mut conn, None, None, 100).await.unwrap();
        letters.reverse();
        letters.into_iter().map(|letter| letter.reason).collect()
    }

    async fn alerts(&self) -> Vec<alert::Alert> {
        alert::newest(&mut self.store.connection().await.unwrap(), Some(self.depot.id), 100).await.unwrap()
    }

    async fn queued(&self) -> i64 {
        store::ledger::queue_state(&mut self.store.connection().await.unwrap()).await.unwrap().0
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// Two points of a device, of which the second is this warm.
fn pack(device: &str, cti: &[u8], degrees: i64, at_s: i64, key: &SecretKey) -> Vec<u8> {
    silo::pack(device, cti, at(at_s), &[("p1/temp", "Cel", 20), ("p2/temp", "Cel", degrees)], key)
}

fn item<'a>(topic: &'a str, bytes: &'a [u8]) -> Item<'a> {
    silo::item(topic, at(NOW_S), bytes)
}

fn statuses(outcomes: &[Outcome]) -> Vec<Status> {
    outcomes.iter().map(|outcome| outcome.status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_stored_once_and_its_leaf_waits_for_the_strict_check() {
    let Some(world) = world("intake_once").await else { return };
    world.device("probe1", None).await;
    let before = world.queued().await;
    let bytes = pack("probe1", &[1; 16], 21, NOW_S - 5, &world.gateway);
    let outcomes = world.take(&[item(UP, &bytes), item(UP, &bytes)]).await;
    assert_eq!(statuses(&outcomes), [Status::Stored, Status::Duplicate]);
    assert_eq!(outcomes[0].cti.as_deref(), Some(&[1; 16][..]));
    assert_eq!(statuses(&world.take(&[item(UP, &bytes)]).await), [Status::Duplicate]);
    assert_eq!(world.queued().await, before, "no leaf before the strict check");
    assert_eq!(intake::check_strictly(&world.store).await.unwrap(), 1);
    assert_eq!(intake::check_strictly(&world.store).await.unwrap(), 0);
    assert_eq!(world.queued().await, before + 1);
    // Converted anew by another gateway: the same message is the same pack, whatever its bytes.
    let again = pack("probe1", &[1; 16], 22, NOW_S - 5, &world.gateway);
    assert_eq!(statuses(&world.take(&[item(UP, &again)]).await), [Status::Duplicate]);
    let now = at(NOW_S);
    let latest =
        devices::latest_at(&mut world.store.connection().await.unwrap(), world.place.id, now).await.unwrap();
    let values: Vec<(&str, f64)> =
        latest.iter().map(|reading| (reading.name.as_str(), reading.value)).collect();
    assert_eq!(values, [("p1/temp", 20.0), ("p2/temp", 21.0)]);
    assert!(world.reasons().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_accepted_is_a_dead_letter_with_its_reason_and_blocks_nothing() {
    let Some(world) = world("intake_letters").await else { return };
    world.device("probe1", None).await;
    let own = SecretKey::from_seed(&[11; 32]);
    world.device("probe2", Some(&own)).await;
    let stranger = SecretKey::from_seed(&[12; 32]);
    let (one, two) = (UP, "suyuan/v1/depot/probe2/up");
    let good = pack("probe1", &[1], 21, NOW_S, &world.gateway);
    let unknown = pack("probe1", &[2], 21, NOW_S, &stranger);
    let misplaced = pack("probe2", &[3], 21, NOW_S, &world.gateway);
    let by_gateway = pack("probe2", &[4], 21, NOW_S, &world.gateway);
    let relative = pack("probe2", &[5], 21, 0, &own);
    let mut forged = pack("probe1", &[6], 21, NOW_S, &world.gateway);
    let last = forged.len() - 1;
    forged[last - 40] ^= 1;
    let invented = silo::pack("probe1", &[8], at(NOW_S), &[("t", "degrees", 21)], &world.gateway);
    let second_good = pack("probe2", &[7], 21, NOW_S, &own);
    let other = pack("probe2", &[7], 25, NOW_S, &own);
    let oversize = Item {
        topic: one,
        received_ms: NOW_S * 1_000,
        body: Body::Oversize { size: 70_000, sha256: Hash([7; 32]) },
    };
    let outcomes = world
        .take(&[
            item(one, b"{}"),
            item("elsewhere", &good),
            item("suyuan/v1/depot/probe9/up", &good),
            item(one, &unknown),
            item(one, &misplaced),
            item(two, &by_gateway),
            item(two, &relative),
            item(one, &forged),
            oversize,
            item(one, &good),
            item(two, &second_good),
            item(two, &other),
            item(one, br#"[{"n":"t","u":"degrees","v":1}]"#),
            item(one, &invented),
            item(two, b"{}"),
            item("spBv1.0/g/NDATA/e", b"{}"),
        ])
        .await;
    assert_eq!(statuses(&outcomes)[9..12], [Status::Stored, Status::Stored, Status::DeadLetter]);
    let letters = statuses(&outcomes).into_iter().enumerate().filter(|(at, _)| !(9..11).contains(at));
    assert!(letters.into_iter().all(|(_, status)| status == Status::DeadLetter));
    assert_eq!(
        world.reasons().await,
        [
            // Not an array of records.
            "not-senml",
            "topic",
            "unknown-device",
            "unknown-key",
            "other-device",
            "wrong-signer",
            "relative-time",
            "signature",
            "oversize",
            "equivocation",
            "unknown-unit",
            "unknown-unit",
            // Who signs itself sends packs, whatever else it sends.
            "not-a-pack",
            "unknown-device",
        ]
    );
    assert_eq!(world.alerts().await[0].rule, "equivocation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_is_checked_when_a_device_is_registered_and_an_edge_node_is_one_partys() {
    let Some(world) = world("intake_maps").await else { return };
    let register = async |device: &str, party: &party::Party, format: &str, map: serde_json::Value| {
        let (format, map) = (Format::of_word(format).unwrap(), serde_json::from_value(map).unwrap());
        let form = DeviceForm { format, map, ..silo::probe(device, None) };
        devices::register(&world.store, &world.keys, &world.profiles, PEN, party, &form)
            .await
            .map_err(|error| error.to_string())
    };
    let depot = &world.depot;
    let node = |node: &str| serde_json::json!({"node": node, "readings": {"T": {"n": "temp", "u": "Cel"}}});
    register("n1", depot, "sparkplug", node("Depot/Line1")).await.unwrap();
    register("n2", depot, "sparkplug", node("Depot/Line1/Probe")).await.unwrap();
    for (format, map, refusal) in [
        ("sparkplug", node("Depot/Line1"), "refused: map by taken"),
        ("sparkplug", serde_json::json!(null), "refused: map by node"),
        ("json", node("Depot/Line2"), "refused: map by format"),
        (
            "json",
            serde_json::json!({"readings": {"/t": {"n": "temp", "u": "degrees"}}}),
            "refused: map by unit",
        ),
    ] {
        assert_eq!(register("n3", depot, format, map).await.unwrap_err(), refusal);
    }
    // Another party's edge node, taken for its device by the operator, who may register for anybody.
    let mut conn = world.store.connection().await.unwrap();
    let operator = party::by_slug(&mut conn, "operator").await.unwrap().unwrap();
    assert_eq!(store::device::parties_at_edge(&mut conn, "Depot/Line1").await.unwrap(), [depot.id]);
    assert!(store::device::parties_at_edge(&mut conn, "Depot/Line").await.unwrap().is_empty());
    assert!(register("n4", &operator, "sparkplug", node("Depot/Line1/Other")).await.is_ok());

    let up = "suyuan/v1/depot/n2/up";
    world.take(&[item(up, b"\x08\x01\x18\x01"), item(up, b"\x08"), item(up, b"\x08\x01")]).await;
    assert_eq!(world.reasons().await, ["no-birth", "not-sparkplug", "stale-death"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_spot_raises_one_alert_that_clears_only_well_below() {
    let Some(world) = world("intake_alerts").await else { return };
    world.device("probe1", None).await;
    for (cti, degrees, open, cleared) in
        [(1_u8, 29, 0, 0), (2, 33, 1, 0), (3, 35, 1, 0), (4, 28, 1, 0), (5, 25, 0, 1), (6, 31, 1, 1)]
    {
        let bytes = pack("probe1", &[cti], degrees, NOW_S - 60 + i64::from(cti), &world.gateway);
        assert_eq!(statuses(&world.take(&[item(UP, &bytes)]).await), [Status::Stored]);
        let alerts = world.alerts().await;
        let are_open = alerts.iter().filter(|alert| alert.cleared_at.is_none()).count();
        assert_eq!((are_open, alerts.len() - are_open), (open, cleared), "at {degrees} degrees");
    }
    // A pack from an outbox is kept and alarms nobody.
    world.device("probe2", None).await;
    let old = pack("probe2", &[1], 50, NOW_S - 3 * 86_400, &world.gateway);
    assert_eq!(statuses(&world.take(&[item("suyuan/v1/depot/probe2/up", &old)]).await), [Status::Stored]);
    assert_eq!(world.alerts().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_register_shows_hashes_only_and_its_tag_changes_with_it() {
    let Some(world) = world("intake_register").await else { return };
    let first = world.device("probe1", None).await;
    let mut conn = world.store.connection().await.unwrap();
    let (register, tag) =
        devices::gateway_register(&mut conn, &world.profiles, "suyuan", &world.depot).await.unwrap();
    assert_eq!(
        devices::gateway_register(&mut conn, &world.profiles, "suyuan", &world.depot).await.unwrap().1,
        tag
    );
    let parsed: serde_json::Value = serde_json::from_str(&register).unwrap();
    assert_eq!(parsed["gateways"], serde_json::json!([world.gateway.kid()]));
    assert_eq!(parsed["devices"][0]["token_sha256"], sha256(first.token.as_bytes()).to_string());
    assert!(!register.contains(&first.token));
    let own = SecretKey::from_seed(&[11; 32]);
    let second = world.device("probe2", Some(&own)).await;
    assert_eq!(second.kid, Some(own.kid()));
    let (register, changed) =
        devices::gateway_register(&mut conn, &world.profiles, "suyuan", &world.depot).await.unwrap();
    assert_ne!(tag, changed);
    assert!(register.contains(&own.kid().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_drawn_by_bucket_and_gaps_stay_gaps() {
    let Some(world) = world("intake_buckets").await else { return };
    world.device("probe1", None).await;
    let start = NOW_S - NOW_S % 60 - 600;
    for (cti, at, degrees) in [(1_u8, 0, 22), (2, 30, 24), (3, 180, 30)] {
        let bytes = pack("probe1", &[cti], degrees, start + at, &world.gateway);
        world.take(&[item(UP, &bytes)]).await;
    }
    while intake::check_strictly(&world.store).await.unwrap() > 0 {}
    let mut conn = world.store.connection().await.unwrap();
    let window = store::reading::Window { from: at(start), to: at(start + 600), bucket_s: 60 };
    let stays = store::stay::at_places(&mut conn, &[world.place.id], (window.from, window.to)).await.unwrap();
    let buckets = store::reading::buckets(&mut conn, &stays, "temp", window).await.unwrap();
    let drawn: Vec<_> = buckets.iter().map(|b| (b.from, b.min, b.mean, b.max, b.count)).collect();
    assert_eq!(drawn, [(at(start), 20.0, 21.5, 24.0, 4), (at(start + 180), 20.0, 25.0, 30.0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_falls_silent_raises_one_alert_that_its_next_reading_clears() {
    let Some(world) = world("intake_silence").await else { return };
    world.device("probe1", None).await;
    let start = Utc::now();
    let (store, profiles) = (&world.store, &world.profiles);
    let look = async |hours: i64, minutes: i64| {
        let now = start + TimeDelta::hours(hours) + TimeDelta::minutes(minutes);
        let looked = silence::look(store, profiles, now).await.unwrap();
        (looked.raised, looked.cleared)
    };
    let send = async |cti: u8, at: DateTime<Utc>, now: DateTime<Utc>| {
        let bytes = pack("probe1", &[cti], 20, at.timestamp(), &world.gateway);
        let item = silo::item(UP, now, &bytes);
        assert_eq!(
            statuses(&intake::take(store, profiles, (&world.register, PEN), &[item], now).await.unwrap()),
            [Status::Stored]
        );
        intake::check_strictly(store).await.unwrap();
    };
    assert_eq!(look(25, 0).await, (0, 0), "one that was just registered has time");
    assert_eq!(look(27, 0).await, (1, 0));
    assert_eq!(look(28, 0).await, (0, 0), "never twice for one silence");
    let alert = world.alerts().await.remove(0);
    assert_eq!((alert.rule.as_str(), alert.unit.as_str(), alert.threshold), ("silent", "MIN", 1560.0));
    assert!((1_619.0..=1_620.0).contains(&alert.value), "{}", alert.value);
    // What an outbox kept from the first hour is no reading of the last day.
    send(1, start + TimeDelta::hours(1), start + TimeDelta::hours(28)).await;
    assert_eq!(look(28, 1).await, (0, 0));
    send(2, start + TimeDelta::hours(28), start + TimeDelta::hours(28)).await;
    assert_eq!(look(28, 2).await, (0, 1));
    assert!(world.alerts().await[0].cleared_at.is_some());
    assert_eq!(look(53, 0).await, (0, 0));
    assert_eq!(look(55, 0).await, (1, 0), "a new silence is a new alert");
    assert_eq!(world.alerts().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_known_at_once_and_a_revoked_key_refused_within_a_second() {
    let Some(world) = world("intake_known").await else { return };
    let own = SecretKey::from_seed(&[11; 32]);
    let up = "suyuan/v1/depot/probe1/up";
    let say = |cti: u8| pack("probe1", &[cti], 21, NOW_S - 5, &own);
    assert_eq!(statuses(&world.take(&[item(up, &say(1))]).await), [Status::DeadLetter]);
    world.device("probe1", Some(&own)).await;
    assert_eq!(statuses(&world.take(&[item(up, &say(1))]).await), [Status::Stored]);
    let mut conn = world.store.connection().await.unwrap();
    assert!(store::key::retire(&mut conn, own.kid().as_bytes(), "revoked", at(NOW_S)).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
    assert_eq!(statuses(&world.take(&[item(up, &say(2))]).await), [Status::DeadLetter]);
    assert_eq!(world.reasons().await, ["unknown-device", "key-not-good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkers_at_the_same_time_give_every_pack_one_leaf_and_count_its_readings_once() {
    let Some(world) = world("intake_checkers").await else { return };
    world.device("probe1", None).await;
    let before = world.queued().await;
    let start = NOW_S - NOW_S % 60 - 600;
    let packs: Vec<Vec<u8>> =
        (0..200_u8).map(|cti| pack("probe1", &[cti], 22, start, &world.gateway)).collect();
    for part in packs.chunks(20) {
        let items: Vec<_> = part.iter().map(|bytes| item("suyuan/v1/depot/probe1/up", bytes)).collect();
        world.take(&items).await;
    }
    let checks = (0..4).map(|_| async {
        let mut checked = 0;
        loop {
            match intake::check_strictly(&world.store).await.unwrap() {
                0 => return checked,
                some => checked += some,
            }
        }
    });
    let checked = futures_util::future::join_all(checks).await;
    assert_eq!(checked.iter().sum::<usize>(), 200);
    assert_eq!(world.queued().await, before + 200);
    let mut conn = world.store.connection().await.unwrap();
    let window = store::reading::Window { from: at(start), to: at(start + 60), bucket_s: 60 };
    let stays = store::stay::at_places(&mut conn, &[world.place.id], (window.from, window.to)).await.unwrap();
    let buckets = store::reading::buckets(&mut conn, &stays, "temp", window).await.unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<i64>(), 400);
}
