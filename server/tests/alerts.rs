//! What no single reading says: grain that warms, probes that disagree, inspections that nobody made; each raised once, seen by
//! name, cleared when well back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "a test says what it expects by failing, and does not use all that tests share"
)]

mod chromium;
mod database;
mod farm;
mod house;

use std::time::Duration;

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use chromium::Chromium;
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use farm::Farm;
use server::service::{
    alerts::{
        live::{self, Told},
        overdue, trends,
    },
    capture::{Capture, Request},
    rollups,
};
use store::{
    alert::{self, Alert},
    device, grid, lot, party,
    reading::Reading,
};
use uuid::Uuid;

/// The depot's bin with nine cables of two points, and the farmer's harvest in it as dry paddy.
struct Bin {
    farm: Farm,
    place: party::Place,
    lot: i64,
    probe: i64,
    admin: tokio_postgres::Client,
    first: DateTime<Utc>,
}

impl Bin {
    async fn open(name: &str) -> Option<Self> {
        let farm = Farm::open(name).await?;
        let stated = serde_json::json!({"party": "depot", "slug": "b01", "kind": "bin", "name": "Bin 1",
            "gln": farm::gln(131), "extension": "b01"});
        let place = farm.registry().place(&serde_json::from_value(stated).unwrap()).await.unwrap();
        farm.harvest("W0001").await;
        let url = &farm.state.config.database.database_url;
        let (admin, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let into_bin = format!(
            "update lot set product = 'paddy';
            update holding set place_id = {0}, party_id = {1};
            update movement set place_id = {0}, party_id = {1}",
            place.id, place.party_id
        );
        admin.batch_execute(&into_bin).await.unwrap();
        let first = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap();
        let mut conn = farm.state.store.connection().await.unwrap();
        let lots = lot::holdings_at(&mut conn, place.id).await.unwrap();
        let cables = grid::Grid {
            place_id: place.id,
            valid_from: first - TimeDelta::days(1),
            row_count: 3,
            column_count: 3,
            layer_count: 2,
            row_cm: 450,
            column_cm: 450,
            layer_cm: 150,
            declared_by: None,
        };
        assert!(grid::insert(&mut conn, &cables).await.unwrap());
        drop(conn);
        let mut bin = Self { place, lot: lots[0].1.id, probe: 0, admin, first, farm };
        bin.probe = bin.device("probe1", "probe").await;
        Some(bin)
    }

    async fn device(&self, name: &str, kind: &str) -> i64 {
        let new = device::NewDevice {
            party_id: self.place.party_id,
            name,
            kind,
            profile: "grain",
            format: "senml+json",
            signing: "gateway",
            repeats: "merge",
            token_hash: &[0; 32],
            broker_hash: None,
            place_id: self.place.id,
            mapping: None,
        };
        let device =
            device::insert(&mut self.farm.state.store.connection().await.unwrap(), &new).await.unwrap();
        let stood = "update device set placed_at = placed_at - interval '1 day' where id = $1";
        self.admin.execute(stood, &[&device.id]).await.unwrap();
        device.id
    }

    /// What the strict check leaves behind when a pack passed.
    async fn measure(&self, readings: Vec<Reading>) {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        rollups::add(&mut conn, &readings).await.unwrap();
        let devices: Vec<i64> = readings.iter().map(|reading| reading.device_id).collect();
        alert::ask(&mut conn, &devices).await.unwrap();
    }

    /// One scan of the grid, and a look at it.
    async fn scan(&self, hours: i64, value: impl Fn(i16, i16) -> f64) {
        let at = self.first + TimeDelta::hours(hours);
        let points = (1..=9_i16).flat_map(|cable| [1_i16, 2].map(|layer| (cable, layer)));
        let readings = points.map(|(cable, layer)| {
            reading(self.probe, &format!("c{cable}/d{layer}/temp"), at, value(cable, layer))
        });
        self.measure(readings.collect()).await;
        self.look(hours).await;
    }

    async fn look(&self, hours: i64) {
        let now = self.first + TimeDelta::hours(hours) + TimeDelta::minutes(5);
        while trends::look(&self.farm.state.store, &self.farm.state.profiles, now).await.unwrap() > 0 {}
    }

    async fn alerts(&self) -> Vec<Alert> {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        alert::newest(&mut conn, Some(self.place.party_id), 100).await.unwrap()
    }

    /// The open ones: (rule, subject, figure).
    async fn open_alerts(&self) -> Vec<(String, String, String)> {
        let alerts = self.alerts().await;
        let open = alerts.into_iter().filter(|alert| alert.cleared_at.is_none());
        open.map(|alert| (alert.rule, alert.subject, format!("{:.2} {}", alert.value, alert.unit))).collect()
    }

    async fn overdue(&self, days: i64) -> Vec<(String, String, String)> {
        let now = Utc::now() + TimeDelta::days(days) + TimeDelta::minutes(5);
        overdue::look(&self.farm.state.store, &self.farm.state.profiles, now).await.unwrap();
        self.open_alerts().await
    }

    async fn inspected(&self, at: DateTime<Utc>) {
        let state = &self.farm.state;
        let profile = state.profiles.by_id("grain").unwrap();
        let capture = Capture {
            store: &state.store,
            keys: &state.keys,
            documents: &state.documents,
            serial_master: &state.serial_master,
            seen: None,
        };
        let mut conn = state.store.connection().await.unwrap();
        let lot = lot::by_ids(&mut conn, &[self.lot]).await.unwrap().remove(0);
        drop(conn);
        let form = [
            ("lot", lot.uri),
            ("bin", self.place.uri.clone()),
            ("pests", "0".to_owned()),
            ("at", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let (depot, step) = (self.farm.party("depot").await, profile.step("inspect").unwrap());
        let jti = Uuid::now_v7();
        let request = Request { party: &depot, account: None, profile, step, jti, evidence: &[], own: None };
        capture.take(request, &form).await.unwrap();
    }
}

fn reading(device_id: i64, name: &str, at: DateTime<Utc>, value: f64) -> Reading {
    let (name, unit) = (name.to_owned(), "Cel".to_owned());
    Reading { device_id, at, name, unit, value, cti: vec![1] }
}

fn found(rule: &str, subject: &str, figure: &str) -> (String, String, String) {
    (rule.to_owned(), subject.to_owned(), figure.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_warms_day_after_day_is_raised_once_and_clears_only_when_it_has_slowed_down() {
    let Some(bin) = Bin::open("alerts_point").await else { return };
    let centre = |value: f64| move |cable, layer| if (cable, layer) == (5, 2) { value } else { 20.0 };
    bin.scan(0, centre(20.0)).await;
    bin.scan(24, centre(21.5)).await;
    assert_eq!(bin.open_alerts().await, [], "one warm day is no rise of two");
    bin.scan(48, centre(23.0)).await;
    let raised = found("point-rising", "point:2/2/2", "1.50 CEL-DAY");
    assert_eq!(bin.open_alerts().await, std::slice::from_ref(&raised));
    let alert = bin.alerts().await.remove(0);
    assert_eq!(
        (alert.threshold, alert.lots.as_slice(), alert.device_id),
        (1.0, [bin.lot].as_slice(), Some(bin.probe))
    );
    assert!(alert.source.contains("LS/T 1707.2"), "{}", alert.source);
    bin.look(49).await;
    bin.scan(72, centre(23.7)).await;
    assert_eq!(bin.open_alerts().await, [raised], "0.7 a day is below the limit and not yet well below it");
    bin.scan(96, centre(23.9)).await;
    let alerts = bin.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert!(
        alerts[0].cleared_at.is_some()
            && alerts[0].cleared_value.is_some_and(|rate| (rate - 0.2).abs() < 1e-9)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rise_that_pauses_is_not_as_long_as_one_that_lasts() {
    let Some(bin) = Bin::open("alerts_pause").await else { return };
    let centre = |value: f64| move |cable, layer| if (cable, layer) == (5, 2) { value } else { 20.0 };
    for (hours, value) in [(0, 20.0), (24, 21.5), (48, 21.5), (72, 23.0)] {
        bin.scan(hours, centre(value)).await;
        assert_eq!(bin.open_alerts().await, [], "after {hours} hours");
    }
    // What an outbox kept from the second day changes nothing today.
    let late = reading(bin.probe, "c5/d2/temp", bin.first + TimeDelta::hours(30), 60.0);
    bin.measure(vec![late]).await;
    bin.look(72).await;
    assert_eq!(bin.open_alerts().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_warms_as_a_whole_is_raised_for_the_place() {
    let Some(bin) = Bin::open("alerts_layer").await else { return };
    for day in 0..=3_i32 {
        let warm = 20.0 + 0.6 * f64::from(day);
        bin.scan(24 * i64::from(day), |_, layer| if layer == 2 { warm } else { 20.0 }).await;
    }
    assert_eq!(bin.open_alerts().await, [found("layer-rising", "layer:2", "0.60 CEL-DAY")]);
    assert_eq!(bin.alerts().await[0].device_id, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_differs_from_those_around_it_for_a_day_is_raised_by_two_servers_once() {
    let Some(bin) = Bin::open("alerts_apart").await else { return };
    let corner = |value: f64| move |cable, layer| if (cable, layer) == (1, 1) { value } else { 20.0 };
    bin.scan(0, corner(30.0)).await;
    assert_eq!(bin.open_alerts().await, []);
    let at = bin.first + TimeDelta::hours(24);
    let mut conn = bin.farm.state.store.connection().await.unwrap();
    let warm = |cable: i16, layer: i16| {
        reading(bin.probe, &format!("c{cable}/d{layer}/temp"), at, corner(30.0)(cable, layer))
    };
    let readings: Vec<Reading> = (1..=9).flat_map(|cable| [warm(cable, 1), warm(cable, 2)]).collect();
    rollups::add(&mut conn, &readings).await.unwrap();
    for _ in 0..120 {
        alert::ask(&mut conn, &[bin.probe]).await.unwrap();
    }
    drop(conn);
    tokio::join!(bin.look(24), bin.look(24), bin.look(24));
    assert_eq!(bin.open_alerts().await, [found("point-apart", "point:1/1/1", "10.00 CEL")]);
    assert_eq!(bin.alerts().await.len(), 1);
    bin.scan(48, corner(26.0)).await;
    assert_eq!(bin.open_alerts().await.len(), 1, "6 apart is not well below 8");
    bin.scan(72, corner(24.0)).await;
    assert_eq!(bin.open_alerts().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_probes_of_the_same_air_disagree_for_hours_before_anybody_is_called() {
    let Some(bin) = Bin::open("alerts_air").await else { return };
    let (one, other) = (bin.device("air1", "climate").await, bin.device("air2", "climate").await);
    for hour in 0..=3 {
        let at = bin.first + TimeDelta::hours(hour);
        bin.measure(vec![reading(one, "temp", at, 21.0), reading(other, "temp", at, 27.0)]).await;
        bin.look(hour).await;
        assert_eq!(bin.open_alerts().await.len(), usize::from(hour >= 2), "after {hour} hours");
    }
    assert_eq!(bin.open_alerts().await, [found("air-apart", "devices:air2/air1", "6.00 CEL")]);
    // Alone in its hour, a probe disagrees with nobody: the alert stays until both are heard.
    bin.measure(vec![reading(one, "temp", bin.first + TimeDelta::hours(4), 21.0)]).await;
    bin.look(4).await;
    assert_eq!(bin.open_alerts().await.len(), 1);
    bin.measure(vec![reading(other, "temp", bin.first + TimeDelta::hours(4), 22.0)]).await;
    bin.look(4).await;
    assert_eq!(bin.open_alerts().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_is_overdue_by_the_grains_temperature_until_somebody_inspects() {
    let Some(bin) = Bin::open("alerts_overdue").await else { return };
    let warm = async |days: i64, degrees: f64| {
        let at = bin.first + TimeDelta::days(days);
        bin.measure(vec![reading(bin.probe, "c1/d1/temp", at, degrees)]).await;
    };
    assert_eq!(bin.overdue(8).await, [], "how warm it is, nobody knows");
    warm(8, 14.0).await;
    assert_eq!(bin.overdue(8).await, [], "below 15 degrees the local rule holds");
    warm(9, 20.0).await;
    assert_eq!(bin.overdue(9).await, [], "from 15 to 25 degrees a fortnight is allowed");
    warm(10, 27.0).await;
    let raised = bin.overdue(10).await;
    assert_eq!(raised, [found("inspect", "", "10.00 DAY")]);
    let alert = bin.alerts().await.remove(0);
    assert_eq!((alert.threshold, alert.lots.as_slice()), (7.0, [bin.lot].as_slice()));
    assert!(alert.source.contains("LS/T 1203"), "{}", alert.source);
    let page = bin.farm.page("/alerts", &bin.farm.sign_in("depot").await).await;
    for said in ["粮情检查逾期", "<dt>已过</dt><dd>10.0 天", "7.0 天", "LS/T 1203"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    warm(11, 10.0).await;
    assert_eq!(bin.overdue(11).await, raised, "cold clears nothing");
    bin.inspected(Utc::now()).await;
    // The inspection was ten days before that moment: it clears what is asked by then, and no more.
    assert_eq!(bin.overdue(11).await, raised);
    assert_eq!(bin.overdue(6).await, []);
    warm(12, 16.0).await;
    assert_eq!(bin.overdue(12).await, []);
    warm(16, 16.0).await;
    assert_eq!(bin.overdue(16).await, [found("inspect", "", "16.00 DAY")]);
    bin.admin.batch_execute("update holding set quantity = 0").await.unwrap();
    assert_eq!(bin.overdue(16).await, [], "where nothing lies, nothing is inspected");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_figure_unit_limit_and_source_and_who_has_seen_it_to_the_own_party_alone() {
    let Some(bin) = Bin::open("alerts_page").await else { return };
    let centre = |value: f64| move |cable, layer| if (cable, layer) == (5, 2) { value } else { 20.0 };
    for (hours, value) in [(0, 20.0), (24, 21.5), (48, 23.0)] {
        bin.scan(hours, centre(value)).await;
    }
    let (depot, farmer) = (bin.farm.sign_in("depot").await, bin.farm.sign_in("wei").await);
    let authority = bin.farm.sign_in("authority").await;
    let page = bin.farm.page("/alerts", &depot).await;
    for said in ["测温点升温过快", "第 2 层第 2 排第 2 列", "1.5 ℃/天", "1.0 ℃/天", "LS/T 1707.2"]
    {
        assert!(page.contains(said), "{said}: {page}");
    }
    let id = bin.alerts().await[0].id;
    let acknowledge = async |cookie: &str| {
        let request = TestRequest::post()
            .uri(&format!("/alerts/{id}/acknowledge"))
            .insert_header((header::COOKIE, cookie));
        bin.farm.request(request).await.0
    };
    assert!(!bin.farm.page("/alerts", &farmer).await.contains("测温点升温过快"));
    assert_eq!(acknowledge(&farmer).await, StatusCode::NOT_FOUND);
    assert_eq!(acknowledge(&authority).await, StatusCode::NOT_FOUND);
    assert!(bin.alerts().await[0].acknowledged_at.is_none());
    assert_eq!(acknowledge(&depot).await, StatusCode::SEE_OTHER);
    assert_eq!(acknowledge(&depot).await, StatusCode::SEE_OTHER, "seen twice is seen");
    let page = bin.farm.page("/alerts", &depot).await;
    assert!(page.contains("<dt>知悉</dt><dd>depot · "), "{page}");
    assert!(!page.contains("/acknowledge"));
    let page = bin.farm.page("/alerts", &authority).await;
    assert!(page.contains("<dt>知悉</dt><dd><time"), "{page}");
}

/// What a stream says until it has said nothing for a moment.
async fn heard(stream: &mut reqwest::Response) -> String {
    let mut text = String::new();
    while let Ok(Ok(Some(bytes))) = tokio::time::timeout(Duration::from_millis(500), stream.chunk()).await {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_page_open_is_told_that_something_changed_and_nothing_of_others() {
    let Some(bin) = Bin::open("alerts_live").await else { return };
    let (address, running) = bin.farm.listen();
    let open = async |cookie: &str| {
        let request = reqwest::Client::new().get(format!("{address}/alerts/live"));
        request.header(header::COOKIE.as_str(), cookie).send().await.unwrap()
    };
    let (depot, farmer) = (bin.farm.sign_in("depot").await, bin.farm.sign_in("wei").await);
    assert_eq!(open("").await.status(), StatusCode::UNAUTHORIZED.as_u16());
    let (mut own, mut other) = (open(&depot).await, open(&farmer).await);
    assert_eq!(own.headers()["content-type"], "text/event-stream");
    assert!(heard(&mut own).await.starts_with("retry: ") && heard(&mut other).await.starts_with("retry: "));

    let state = &bin.farm.state;
    let mut told = Told::default();
    live::tell(&state.store, &state.live, &mut told).await.unwrap();
    let centre = |value: f64| move |cable, layer| if (cable, layer) == (5, 2) { value } else { 20.0 };
    for (hours, value) in [(0, 20.0), (24, 21.5), (48, 23.0)] {
        bin.scan(hours, centre(value)).await;
    }
    live::tell(&state.store, &state.live, &mut told).await.unwrap();
    live::tell(&state.store, &state.live, &mut told).await.unwrap();
    assert_eq!(heard(&mut own).await, "event: change\ndata:\n\n", "once, and without a word of what");
    assert_eq!(heard(&mut other).await, "");

    let more: Vec<_> = [open(&depot).await, open(&depot).await, open(&depot).await].into();
    assert!(more.iter().all(|stream| stream.status() == StatusCode::OK.as_u16()));
    assert_eq!(open(&depot).await.status(), StatusCode::TOO_MANY_REQUESTS.as_u16());
    assert_eq!(open(&farmer).await.status(), StatusCode::OK.as_u16(), "others still may");
    drop((own, other, more));
    running.stop(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_an_alert_by_itself_in_a_browser() {
    let Some(mut browser) = Chromium::open() else { return };
    let Some(bin) = Bin::open("alerts_browser").await else { return };
    let (address, running) = bin.farm.listen();
    bin.farm.sign_in("depot").await;
    let port = address.rsplit_once(':').unwrap().1;
    browser.go(&format!("http://localhost:{port}/sign-in?next=/alerts"));
    browser.evaluate(
        "(() => { const form = document.querySelector('form[action=\"/sign-in\"]');
           form.elements.login.value = 'depot'; form.elements.password.value = 'a password that is long';
           form.querySelector('button').click(); return true; })()",
    );
    browser.until("document.querySelector('[data-live]') !== null");
    browser.until("!document.body.innerText.includes('1.5')");
    let state = &bin.farm.state;
    let mut told = Told::default();
    live::tell(&state.store, &state.live, &mut told).await.unwrap();
    let centre = |value: f64| move |cable, layer| if (cable, layer) == (5, 2) { value } else { 20.0 };
    for (hours, value) in [(0, 20.0), (24, 21.5), (48, 23.0)] {
        bin.scan(hours, centre(value)).await;
    }
    live::tell(&state.store, &state.live, &mut told).await.unwrap();
    browser.until("document.body.innerText.includes('LS/T 1707.2')");
    drop(browser);
    running.stop(false).await;
}
