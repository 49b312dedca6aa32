//! Two devices with one key, and a clock that is off: told to the keeper, and over when it is over.
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
mod keeper;
mod registered;
mod silo;

use chrono::{DateTime, TimeDelta, Utc};
use farm::Farm;
use keeper::fitted_out;
use server::service::{alerts::senders, devices, intake};
use silo::{PEN, UP};
use trace::{keys::SecretKey, pack::carriage::Status};

/// The probe signs itself.
async fn signing(farm: &Farm) -> SecretKey {
    fitted_out(farm).await;
    let (state, depot) = (&farm.state, farm.party("depot").await);
    let key = SecretKey::from_seed(&[41; 32]);
    let probe = silo::probe("probe1", Some(silo::key_form(&key, &state.keys, &depot)));
    devices::register(&state.store, &state.keys, &state.profiles, PEN, &depot, &probe).await.unwrap();
    key
}

/// A pack of this number, measured at `at`; whether it was stored.
async fn sends(farm: &Farm, key: &SecretKey, number: u16, at: DateTime<Utc>) -> Status {
    let bytes = silo::pack("probe1", &number.to_be_bytes(), at, &[("p1/temp", "Cel", 21)], key);
    let (state, now) = (&farm.state, Utc::now());
    let item = silo::item(UP, now, &bytes);
    intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], now).await.unwrap()[0].status
}

/// The rules by which alerts are open.
async fn open(farm: &Farm, now: DateTime<Utc>) -> Vec<String> {
    senders::look(&farm.state.store, now).await.unwrap();
    let mut conn = farm.state.store.connection().await.unwrap();
    let device = store::device::by_name(&mut conn, "depot", "probe1").await.unwrap().unwrap();
    let alerts = store::alert::open_of(&mut conn, &[device.id]).await.unwrap();
    alerts.into_iter().map(|alert| alert.rule).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_with_one_key_are_told_apart_by_numbers_that_run_back_and_forth() {
    let Some(farm) = Farm::open("senders_clone").await else { return };
    let key = signing(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let start = Utc::now() - TimeDelta::minutes(50);
    let minute = |minute: u16| start + TimeDelta::minutes(minute.into());
    // An outbox that is emptied late and in no order is no second device; numbers grow in length.
    for number in [250_u16, 251, 258, 255, 252, 257, 256] {
        assert_eq!(sends(&farm, &key, number, minute(number - 250)).await, Status::Stored);
    }
    assert!(open(&farm, Utc::now()).await.is_empty());
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("缺 2 个编号"), "{page}");

    // Its counter was set back once: more than one reason may be behind it.
    assert_eq!(sends(&farm, &key, 100, minute(10)).await, Status::Stored);
    assert!(open(&farm, Utc::now()).await.is_empty());
    // The one goes on at 101, the other at 259.
    for step in 1..=3 {
        sends(&farm, &key, 258 + step, minute(10 + 2 * step)).await;
        sends(&farm, &key, 100 + step, minute(11 + 2 * step)).await;
    }
    assert_eq!(open(&farm, Utc::now()).await, ["counter"]);
    assert_eq!(open(&farm, Utc::now()).await, ["counter"], "raised once");
    let page = farm.page("/alerts", &keeper).await;
    assert!(page.contains("编号来回跳动"), "{page}");

    // The same number with other content: the second device has counted as far as the first.
    assert_eq!(sends(&farm, &key, 260, minute(30)).await, Status::DeadLetter);
    let mut rules = open(&farm, Utc::now()).await;
    rules.sort();
    assert_eq!(rules, ["counter", "equivocation"]);
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("同一编号发了两条不同的消息"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_until_packs_come_with_a_right_one() {
    let Some(farm) = Farm::open("senders_clock").await else { return };
    let key = signing(&farm).await;
    let now = Utc::now();
    assert_eq!(
        sends(&farm, &key, 1, now + TimeDelta::days(3 * 365)).await,
        Status::Stored,
        "kept, and marked"
    );
    assert_eq!(open(&farm, Utc::now()).await, ["clock"]);
    {
        let mut conn = farm.state.store.connection().await.unwrap();
        let alerts = store::alert::newest(&mut conn, None, 1).await.unwrap();
        assert!((alerts[0].value - 3.0 * 365.0 * 1_440.0).abs() < 2.0, "{alerts:?}");
    }
    assert_eq!(sends(&farm, &key, 2, Utc::now()).await, Status::Stored);
    assert_eq!(open(&farm, Utc::now()).await, ["clock"], "off within the hour");
    // An hour later the first is out of sight; what came since is right.
    let committed = "update pack set committed_at = committed_at - interval '2 hours' where mark is not null";
    let (admin, connection) =
        tokio_postgres::connect(&farm.state.config.database.database_url, tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    admin.batch_execute(committed).await.unwrap();
    assert!(open(&farm, Utc::now()).await.is_empty());
}
