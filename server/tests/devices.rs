//! Devices as their keeper sees them: registered by a form, heard or silent, with a clock that can be believed or not.
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

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use chrono::{DateTime, Utc};
use farm::Farm;
use keeper::{fitted_out, post, register, shown};
use serde_json::json;
use server::service::{intake, registry::RegistryError};
use silo::{PEN, UP};
use trace::{hash::sha256, keys::SecretKey, pack::carriage::Status};

/// One pack with a battery and a temperature, measured at `at_s`.
async fn measured(farm: &Farm, gateway: &SecretKey, cti: u8, at_s: i64) {
    let at = DateTime::from_timestamp(at_s, 0).unwrap();
    let readings = [("battery", "%EL", 83), ("p1/temp", "Cel", 21)];
    let bytes = silo::pack("probe1", &[cti], at, &readings, gateway);
    let (state, now) = (&farm.state, Utc::now());
    let item = silo::item(UP, now, &bytes);
    let outcomes =
        intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], now).await.unwrap();
    assert_eq!(outcomes[0].status, Status::Stored);
    while intake::check_strictly(&state.store).await.unwrap() > 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_registered_by_the_form_gets_its_password_once_and_is_its_keepers_business_alone() {
    let Some(farm) = Farm::open("devices_form").await else { return };
    fitted_out(&farm).await;
    let [keeper, other, regulator] =
        [farm.sign_in("depot").await, farm.sign_in("wei").await, farm.sign_in("authority").await];
    assert!(farm.page("/devices", &keeper).await.contains("还没有登记设备"));
    let (status, page) = register(&farm, &keeper, "probe1", "senml+json", "").await;
    assert_eq!(status, StatusCode::CREATED, "{page}");
    let token = shown(&page, "密码");
    let kept = {
        let mut conn = farm.state.store.connection().await.unwrap();
        store::device::by_name(&mut conn, "depot", "probe1").await.unwrap().unwrap()
    };
    assert_eq!(kept.token_hash, sha256(token.as_bytes()).as_bytes(), "{page}");

    for (name, map) in [("probe1", ""), ("Probe 2", ""), ("probe2", "{")] {
        let (status, page) = register(&farm, &keeper, name, "senml+json", map).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {map}: {page}");
    }
    assert_eq!(
        register(&farm, &other, "probe2", "senml+json", "").await.0,
        StatusCode::UNPROCESSABLE_ENTITY,
        "no such place"
    );

    let list = farm.page("/devices", &keeper).await;
    assert!(list.contains("/devices/depot/probe1") && !list.contains(token), "{list}");
    assert!(!farm.page("/devices", &other).await.contains("probe1"));
    assert!(farm.page("/devices", &regulator).await.contains("probe1"));
    let file =
        TestRequest::get().uri("/devices/depot/probe1").insert_header((header::COOKIE, other.as_str()));
    assert_eq!(farm.request(file).await.0, StatusCode::NOT_FOUND);
    farm.page("/devices/depot/probe1", &regulator).await;
    assert!(farm.page("/day", &keeper).await.contains("device depot/probe1"), "the look is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_file_tells_last_readings_battery_and_a_clock_that_is_off() {
    let Some(farm) = Farm::open("devices_file").await else { return };
    let gateway = fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    register(&farm, &keeper, "probe1", "senml+json", "").await;
    let now = Utc::now().timestamp();
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("30 天内没有测量") && page.contains("由网关代签"), "{page}");
    assert!(
        page.contains("登记以后的每个整点小时都没有缺测"),
        "it was not silent before it was there: {page}"
    );

    measured(&farm, &gateway, 1, now - 5).await;
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(
        page.contains("83 ")
            && page.contains("p1/temp")
            && page.contains("21 ℃")
            && !page.contains("时间不可信"),
        "{page}"
    );
    let list = farm.page("/devices", &keeper).await;
    assert!(list.contains("电量"), "{list}");

    measured(&farm, &gateway, 2, now + 86_400).await;
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("最近 30 天有 1 个数据包的时间不可信"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_says_what_no_text_can_hold_or_too_much_of_it_is_refused_by_field() {
    let Some(farm) = Farm::open("devices_nul").await else { return };
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let endless = format!(r#"{{"only":{{"/b":"{}"}}}}"#, "x".repeat(20_000));
    for map in [
        r#"{"readings":{"/a\u0000":{"n":"x"}}}"#,
        r#"{"readings":{"/a":{"n":"x"}},"only":{"/b":["\u0000"]}}"#,
        r#"{"readings":{"/a":{"n":"x"}},"only":{"/b":{"\u0000":1}}}"#,
        &endless,
    ] {
        let (status, page) = register(&farm, &keeper, "scale1", "json", map).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{map}: {page}");
        assert!(page.contains("映射太长，或含有不允许的字符"), "{page}");
    }
    let fields = [("device", "scale1"), ("kind", "grain/probe"), ("format", "json"), ("place", "bin1\0")];
    let (status, page) = post(&farm, &keeper, "/devices", &fields).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
    register(&farm, &keeper, "scale1", "json", "").await;
    let (status, page) = post(&farm, &keeper, "/devices/depot/scale1/place", &[("place", "\0")]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
    let (_, page) = register(&farm, &keeper, "node1", "sparkplug", r#"{"node":"+/+"}"#).await;
    assert!(page.contains("Sparkplug 节点写作"), "{page}");

    // What the operator states, likewise.
    let place =
        json!({"party": "depot\0", "slug": "b9", "kind": "bin", "name": "Bin 9", "gln": farm::gln(139)});
    let place = serde_json::from_value(place).unwrap();
    assert!(matches!(farm.registry().place(&place).await, Err(RegistryError::Refused(_))));
    for (field, value) in [("details", json!({"a": "\0"})), ("uri", json!("\0")), ("kind", json!("\0"))] {
        let mut permit = json!({"party": "wei", "profile": "timber", "kind": "felling", "number": "1",
            "allowed": "1", "unit": "MTQ", "valid_from": "2026-01-01", "valid_until": "2026-12-31"});
        permit[field] = value;
        let permit = serde_json::from_value(permit).unwrap();
        assert!(matches!(farm.registry().permit(&permit).await, Err(RegistryError::Refused(_))), "{field}");
    }
}
