//! What a place's instruments measured becomes one record a window: of every window, whatever becomes of the others.

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

use chrono::{DateTime, TimeDelta, Utc};
use farm::Farm;
use server::service::conditions;

const WINDOW_S: i32 = 60;
/// More than one look takes.
const WINDOWS: i32 = 230;

/// A probe where the harvest lies, with one pack of one reading in each window; `start` is the first window's.
async fn measured(admin: &tokio_postgres::Client, start: DateTime<Utc>) {
    admin
        .batch_execute("update record set event_time = now() - interval '2 days' where step = 'harvest'")
        .await
        .unwrap();
    admin
        .execute(
            "insert into device (party_id, name, kind, profile, format, signing, token_hash, place_id)
            select party_id, 'probe1', 'probe', 'grain', 'cose', 'device', 'x', place_id from movement limit 1",
            &[],
        )
        .await
        .unwrap();
    for window in 0..WINDOWS {
        pack(
            admin,
            start + TimeDelta::seconds((window * WINDOW_S).into()) + TimeDelta::seconds(5),
            20.0,
            true,
        )
        .await;
    }
}

/// One pack with one reading; one that is not `good` was refused by the strict check.
async fn pack(admin: &tokio_postgres::Client, at: DateTime<Utc>, value: f64, good: bool) {
    admin
        .execute(
            "with device as (select id from device where name = 'probe1'),
            made as (insert into pack (device_id, cti, entry, kid, bytes, readings, first_at, last_at, received_at)
                select id, decode(md5(random()::text), 'hex'),
                    sha256((random()::text)::bytea), 'k', 'b', 1, $1::timestamptz, $1::timestamptz, now() from device returning *),
            queued as (insert into pending (entry) select entry from made where $3::boolean)
            insert into reading (device_id, at, name, unit, value, cti)
            select device_id, $1::timestamptz, 'urn:dev:org:32473-wei:probe1:temp', 'CEL', $2::float8, cti from made",
            &[&at, &value, &good],
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_window_is_stated_whatever_becomes_of_the_others() {
    let Some(mut farm) = Farm::open("conditions").await else { return };
    farm.harvest("W0001").await;
    let url = &farm.state.config.database.database_url;
    let (admin, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // On the boundary of a window.
    let start = DateTime::from_timestamp((Utc::now().timestamp() / 60 - 300) * 60, 0).unwrap();
    let at = |window: i64, second: i64| start + TimeDelta::seconds(window * 60 + second);
    measured(&admin, start).await;
    pack(&admin, at(3, 7), f64::INFINITY, true).await;
    pack(&admin, at(5, 7), 4321.5, false).await;
    for second in 10..30 {
        pack(&admin, at(7, second), 21.0, true).await;
    }
    farm.log().await;

    let state = &farm.state;
    let made = conditions::summarise(
        &state.store,
        &state.keys,
        &state.profiles,
        None,
        WINDOW_S,
        Utc::now() - TimeDelta::days(3),
        Utc::now(),
    )
    .await
    .unwrap();
    assert_eq!(made, usize::try_from(WINDOWS).unwrap() - 1, "all but the one that cannot be stated");

    let rows = admin
        .query(
            "select r.public::text, (select count(*) from record_ref f where f.entry = r.entry and rel = 'evidence')
            from record r where step = 'conditions'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), made);
    assert!(
        rows.iter().all(|row| !row.get::<_, String>(0).contains("4321.5")),
        "a refused pack's reading counts"
    );
    let named: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
    assert!(named.iter().all(|named| (1..=8).contains(named)), "a window without evidence: {named:?}");
    assert!(named.contains(&8), "of many packs some are named");
}
