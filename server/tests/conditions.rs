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
use serde_json::{Value, json};
use server::service::conditions;

const WINDOW_S: i32 = 60;
/// More than one look takes.
const WINDOWS: i32 = 230;

/// A farm with a harvest, and its database.
async fn harvested(name: &str) -> Option<(Farm, tokio_postgres::Client)> {
    let farm = Farm::open(name).await?;
    farm.harvest("W0001").await;
    let url = &farm.state.config.database.database_url;
    let (admin, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    Some((farm, admin))
}

/// How many windows were stated by somebody who looks at `now`.
async fn summarised(farm: &Farm, now: DateTime<Utc>) -> usize {
    let state = &farm.state;
    let since = now - TimeDelta::days(3);
    conditions::summarise(&state.store, &state.keys, &state.profiles, None, WINDOW_S, since, now)
        .await
        .unwrap()
}

/// The boundary of a window some hours ago.
fn boundary() -> DateTime<Utc> {
    DateTime::from_timestamp((Utc::now().timestamp() / 60 - 300) * 60, 0).unwrap()
}

/// A probe where the harvest lies, with one pack of one reading in each of the windows from `start` on.
async fn measured(admin: &tokio_postgres::Client, start: DateTime<Utc>, windows: i32) {
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
    for window in 0..windows {
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
    let Some((mut farm, admin)) = harvested("conditions").await else { return };
    let start = boundary();
    let at = |window: i64, second: i64| start + TimeDelta::seconds(window * 60 + second);
    measured(&admin, start, WINDOWS).await;
    pack(&admin, at(3, 7), f64::INFINITY, true).await;
    pack(&admin, at(5, 7), 4321.5, false).await;
    for second in 10..30 {
        pack(&admin, at(7, second), 21.0, true).await;
    }
    farm.log().await;

    let made = summarised(&farm, Utc::now()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_packs_come_late_is_stated_anew_and_corrects_what_stood() {
    let Some((mut farm, admin)) = harvested("conditions_late").await else { return };
    let start = boundary();
    measured(&admin, start, 2).await;
    farm.log().await;
    assert_eq!(summarised(&farm, Utc::now()).await, 2);
    farm.log().await;
    let mut standing = stated(&admin, start).await.pop().unwrap();
    let mut now = Utc::now();
    for (again, value) in [(1, 30.0), (2, 35.5)] {
        let at = start + TimeDelta::seconds(9 + again);
        pack(&admin, at, value, true).await;
        admin.execute("update pack set committed_at = $1 where first_at = $2", &[&now, &at]).await.unwrap();
        farm.log().await;
        assert_eq!(summarised(&farm, now).await, 0, "more may come");
        let settled = now + TimeDelta::seconds(WINDOW_S.into());
        now = settled + TimeDelta::seconds(1);
        assert_eq!(summarised(&farm, settled).await, 1, "the other window is as it was");
        farm.log().await;
        assert_eq!(summarised(&farm, settled).await, 0);

        let all = stated(&admin, start).await;
        assert_eq!(all.len(), 1 + 2 * usize::try_from(again).unwrap());
        let correction = all.iter().find(|one| one.corrects.as_ref() == Some(&standing.entry)).unwrap();
        let declared = &correction.event["errorDeclaration"];
        assert_eq!(correction.event["eventID"], standing.event["eventID"]);
        assert_eq!(declared["reason"], "incorrect_data");
        let by = declared["correctiveEventIDs"][0].clone();
        standing = all.into_iter().find(|one| one.event["eventID"] == by).unwrap();
        let element = &standing.event["sensorElementList"][0];
        assert_eq!(element["sensorReport"][0]["maxValue"].as_f64(), Some(value));
        assert_eq!(element["gx:pack-count"], json!(1 + again));
    }
}

struct Stated {
    entry: Vec<u8>,
    corrects: Option<Vec<u8>>,
    event: Value,
}

/// What was stated of the window that begins at `start`, and what corrects it.
async fn stated(admin: &tokio_postgres::Client, start: DateTime<Utc>) -> Vec<Stated> {
    let end = start + TimeDelta::seconds(WINDOW_S.into());
    let rows = admin
        .query(
            "select entry, corrects, (public -> 'event')::text from record where step = 'conditions' and event_time = $1
            order by accepted_at, corrects nulls first",
            &[&end],
        )
        .await
        .unwrap();
    let stated = rows.iter().map(|row| Stated {
        entry: row.get(0),
        corrects: row.get(1),
        event: row.get::<_, String>(2).parse().unwrap(),
    });
    stated.collect()
}
