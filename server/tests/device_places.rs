//! A device that is moved: what it measured stays with the place where it stood then.
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

use actix_web::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use farm::Farm;
use keeper::{fitted_out, post, register};
use server::service::{capture::local_offset, devices, intake};
use silo::{PEN, UP};
use store::{condition, party, reading, stay};
use trace::{keys::SecretKey, pack::carriage::Status};

/// The probe measured `degrees` at `at`, and the pack comes now.
async fn measured(farm: &Farm, gateway: &SecretKey, cti: u8, at: DateTime<Utc>, degrees: i64) {
    let bytes = silo::pack("probe1", &[cti], at, &[("p1/temp", "Cel", degrees)], gateway);
    let (state, now) = (&farm.state, Utc::now());
    let item = silo::item(UP, now, &bytes);
    let outcomes =
        intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], now).await.unwrap();
    assert_eq!(outcomes[0].status, Status::Stored);
    while intake::check_strictly(&state.store).await.unwrap() > 0 {}
}

async fn place_id(farm: &Farm, slug: &str) -> i64 {
    let depot = farm.party("depot").await;
    let mut conn = farm.state.store.connection().await.unwrap();
    party::place_by_slug(&mut conn, depot.id, slug).await.unwrap().unwrap().id
}

/// As a browser sends a moment of the clock on the wall.
fn typed(at: DateTime<Utc>) -> String {
    at.with_timezone(&local_offset()).format("%Y-%m-%dT%H:%M").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_belong_to_the_place_that_was_valid_at_their_time() {
    let Some(farm) = Farm::open("device_places").await else { return };
    let gateway = fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    register(&farm, &keeper, "probe1", "senml+json", "").await;
    let minute = |ago: i64| {
        let now = Utc::now().timestamp();
        DateTime::from_timestamp(now - now % 60 - ago * 60, 0).unwrap()
    };
    let moved_at = minute(60);
    measured(&farm, &gateway, 1, moved_at - TimeDelta::minutes(30), 21).await;
    let fields = [("place", "bin2"), ("position", "3-2"), ("at", &typed(moved_at))];
    let (status, page) = post(&farm, &keeper, "/devices/depot/probe1/place", &fields).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    measured(&farm, &gateway, 2, moved_at, 30).await;
    // From the outbox: hot, and measured in the first bin.
    measured(&farm, &gateway, 3, moved_at - TimeDelta::seconds(1), 48).await;

    let mut conn = farm.state.store.connection().await.unwrap();
    let (first, second) = (place_id(&farm, "bin1").await, place_id(&farm, "bin2").await);
    let (from, to) = (minute(300), minute(0));
    let mut drawn = Vec::new();
    let mut summed = Vec::new();
    let mut packs = Vec::new();
    for place in [first, second] {
        let stays = stay::at_places(&mut conn, &[place], (from, to)).await.unwrap();
        let window = reading::Window { from, to, bucket_s: 60 };
        let buckets = reading::buckets(&mut conn, &stays, "temp", window).await.unwrap();
        drawn.push(buckets.iter().map(|bucket| bucket.mean).collect::<Vec<_>>());
        let summaries = condition::summaries(&mut conn, place, from, to).await.unwrap();
        summed.push(summaries.iter().map(|summary| (summary.min, summary.max)).collect::<Vec<_>>());
        packs.push(condition::packs(&mut conn, place, from, to).await.unwrap().len());
    }
    assert_eq!(drawn, [vec![21.0, 48.0], vec![30.0]]);
    assert_eq!(summed, [[(21.0, 48.0)], [(30.0, 30.0)]]);
    assert_eq!(packs, [2, 1]);
    let found = condition::measured(&mut conn, 60, (from, Utc::now()), None, 10).await.unwrap();
    let places: Vec<i64> = found.iter().map(|measured| measured.place_id).collect();
    assert_eq!(places, [first, first, second], "{found:?}");
    assert!(
        devices::latest_at(&mut conn, first, Utc::now()).await.unwrap().is_empty(),
        "nothing stands there"
    );
    let latest = devices::latest_at(&mut conn, second, Utc::now()).await.unwrap();
    assert_eq!(latest.iter().map(|reading| reading.value).collect::<Vec<_>>(), [30.0]);
    let alerts = store::alert::newest(&mut conn, None, 10).await.unwrap();
    let hot: Vec<_> = alerts.iter().filter(|alert| alert.value > 40.0).map(|alert| alert.place_id).collect();
    assert_eq!(hot, [first], "{alerts:?}");

    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("放置记录") && page.contains("bin2 3-2") && page.contains("bin1"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_by_field_and_is_its_keepers_alone() {
    let Some(farm) = Farm::open("device_moves").await else { return };
    fitted_out(&farm).await;
    let [keeper, other] = [farm.sign_in("depot").await, farm.sign_in("wei").await];
    register(&farm, &keeper, "probe1", "senml+json", "").await;
    let path = "/devices/depot/probe1/place";
    let (hour_ago, later) =
        (typed(Utc::now() - TimeDelta::hours(1)), typed(Utc::now() + TimeDelta::minutes(5)));
    let two_hours_ago = typed(Utc::now() - TimeDelta::hours(2));
    let (status, _) = post(&farm, &other, path, &[("place", "bin2")]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = post(&farm, &keeper, path, &[("place", "bin2"), ("at", &hour_ago)]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let long = "x".repeat(41);
    for (fields, words) in [
        ([("place", "p1"), ("at", "")], "没有这个"),
        ([("place", "bin1"), ("at", later.as_str())], "晚于现在"),
        ([("place", "bin1"), ("at", "yesterday")], "时间"),
        ([("place", "bin1"), ("at", two_hours_ago.as_str())], "早于"),
        ([("place", "bin1"), ("position", long.as_str())], "40"),
    ] {
        let (status, page) = post(&farm, &keeper, path, &fields).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}: {page}");
        assert!(page.contains(words), "{fields:?}: {page}");
    }
    let mut conn = farm.state.store.connection().await.unwrap();
    let kept = store::device::by_name(&mut conn, "depot", "probe1").await.unwrap().unwrap();
    assert_eq!(
        stay::of_device(&mut conn, kept.id, 10).await.unwrap().len(),
        2,
        "refused, and nothing changed"
    );
}
