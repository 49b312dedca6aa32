//! A device gets its key and password for a one-time token, hands over to its next key, and is refused once it is lost.
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

use actix_web::{http::StatusCode, test::TestRequest};
use chrono::Utc;
use farm::Farm;
use keeper::{fitted_out, post, register, shown};
use serde_json::{Value, json};
use server::service::intake;
use silo::{PEN, UP};
use trace::{
    b64,
    hash::sha256,
    keys::{Custody, SecretKey},
    pack::carriage::Status,
    record::statement::{Possession, possession_input},
};

/// Redeems as a program does.
async fn ask(farm: &Farm, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = TestRequest::post()
        .uri(&format!("/api/v1/devices/{path}"))
        .peer_addr("192.0.2.7:40000".parse().unwrap())
        .set_json(body);
    let (status, answer) = farm.request(request).await;
    (status, serde_json::from_str(&answer).unwrap())
}

fn key_of(key: &SecretKey) -> String {
    b64::url(key.public().as_bytes())
}

fn signature(challenge: &Value, member: &str, key: &SecretKey) -> String {
    b64::url(&key.sign(challenge[member].as_str().unwrap().as_bytes()))
}

/// Challenge and answer, with the key that the device made.
async fn redeem(farm: &Farm, token: &str, key: &SecretKey) -> (StatusCode, Value) {
    let asked = json!({"token": token, "key": key_of(key)});
    let (status, challenge) = ask(farm, "provision/challenge", &asked).await;
    if status != StatusCode::OK {
        return (status, challenge);
    }
    let body = json!({"token": token, "key": key_of(key), "jti": challenge["jti"],
        "signature": signature(&challenge, "sign", key)});
    ask(farm, "provision", &body).await
}

/// The page's new token.
async fn token(farm: &Farm, cookie: &str) -> String {
    let (status, page) = post(farm, cookie, "/devices/depot/probe1/token", &[]).await;
    assert_eq!(status, StatusCode::CREATED, "{page}");
    shown(&page, "一次性口令").to_owned()
}

/// What becomes of a pack that `key` signed just now: `stored`, or why not.
async fn sends(farm: &Farm, key: &SecretKey, cti: u8) -> String {
    let now = Utc::now();
    let bytes = silo::pack("probe1", &[cti], now, &[("p1/temp", "Cel", 21)], key);
    let item = silo::item(UP, now, &bytes);
    let state = &farm.state;
    let outcomes =
        intake::take(&state.store, &state.profiles, (&state.register, PEN), &[item], now).await.unwrap();
    if outcomes[0].status == Status::Stored {
        return "stored".to_owned();
    }
    let mut conn = state.store.connection().await.unwrap();
    let letters = store::dead_letter::newest(&mut conn, None, None, 1).await.unwrap();
    letters[0].reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_documentation_enrol_a_device() {
    let Some(farm) = Farm::open("provisioning_lines").await else { return };
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let (status, page) = register(&farm, &keeper, "probe1", "cose", "").await;
    assert_eq!(status, StatusCode::CREATED, "{page}");
    let (server, handle) = farm.listen();
    assert!(page.contains("<svg") && page.contains("/api/v1/devices/provision"), "{page}");

    let text = include_str!("../../docs/devices.md");
    let lines = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let at = std::env::temp_dir().join(format!("suyuan-device-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&at).unwrap();
    let ran = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", lines])
        .envs([("SERVER", server.as_str()), ("TOKEN", shown(&page, "一次性口令"))])
        .current_dir(&at)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{told} {}", String::from_utf8_lossy(&ran.stderr));
    let told: Value = serde_json::from_str(&told).unwrap();
    let pem = std::fs::read_to_string(at.join("device.pem")).unwrap();
    std::fs::remove_dir_all(&at).unwrap();
    handle.stop(false).await;

    // RFC 8410 §7: the last 32 bytes of the document are the seed.
    let inner: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64_standard(&inner);
    let key = SecretKey::from_seed(der.last_chunk::<32>().unwrap());
    assert_eq!(told["kid"], json!(key.kid()));
    assert_eq!(
        (&told["user"], &told["topic"]),
        (&json!("depot/probe1"), &json!("suyuan/v1/depot/probe1/up"))
    );
    assert_eq!(sends(&farm, &key, 1).await, "stored");
    let mut conn = farm.state.store.connection().await.unwrap();
    let kept = store::device::by_name(&mut conn, "depot", "probe1").await.unwrap().unwrap();
    assert_eq!(kept.token_hash, sha256(told["password"].as_str().unwrap().as_bytes()).as_bytes());
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains(&key.kid().to_string()) && page.contains("上一个口令使用于"), "{page}");
}

fn base64_standard(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_for_a_while_and_for_a_usable_key() {
    let Some(farm) = Farm::open("provisioning_token").await else { return };
    fitted_out(&farm).await;
    let [keeper, other, regulator] =
        [farm.sign_in("depot").await, farm.sign_in("wei").await, farm.sign_in("authority").await];
    let (_, page) = register(&farm, &keeper, "probe1", "cose", "").await;
    let first = shown(&page, "一次性口令").to_owned();
    for stranger in [&other, &regulator] {
        let (status, _) = post(&farm, stranger, "/devices/depot/probe1/token", &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = post(&farm, stranger, "/devices/depot/probe1/end", &[("why", "lost")]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let key = SecretKey::from_seed(&[21; 32]);
    let second = token(&farm, &keeper).await;
    assert_eq!(redeem(&farm, &first, &key).await.0, StatusCode::CONFLICT, "withdrawn for the second");
    assert_eq!(redeem(&farm, "AAAA", &key).await.0, StatusCode::CONFLICT);
    assert_eq!(ask(&farm, "provision", &json!({"token": second})).await.0, StatusCode::UNPROCESSABLE_ENTITY);

    // The neutral point, a point of order 8 (RFC 8032 §5.1, y = …), and y = p, which is 0 written otherwise.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xed, 0x7f);
    for weak in [[0; 32], neutral, not_canonical] {
        let asked = json!({"token": second, "key": b64::url(&weak)});
        assert_eq!(ask(&farm, "provision/challenge", &asked).await.0, StatusCode::BAD_REQUEST, "{weak:?}");
        let body = json!({"token": second, "key": b64::url(&weak), "jti": uuid::Uuid::now_v7(),
            "signature": b64::url(&[0; 64])});
        assert_eq!(ask(&farm, "provision", &body).await.0, StatusCode::BAD_REQUEST, "{weak:?}");
    }
    // A signature by another key than the one that is shown.
    let (_, challenge) =
        ask(&farm, "provision/challenge", &json!({"token": second, "key": key_of(&key)})).await;
    let body = json!({"token": second, "key": key_of(&key), "jti": challenge["jti"],
        "signature": signature(&challenge, "sign", &SecretKey::from_seed(&[22; 32]))});
    assert_eq!(ask(&farm, "provision", &body).await.0, StatusCode::BAD_REQUEST);

    assert_eq!(redeem(&farm, &second, &key).await.0, StatusCode::CREATED);
    let (status, _) = redeem(&farm, &second, &SecretKey::from_seed(&[23; 32])).await;
    assert_eq!(status, StatusCode::CONFLICT, "used");

    let third = token(&farm, &keeper).await;
    let late = Utc::now() + chrono::TimeDelta::hours(73);
    let provisioning = server::service::devices::provision::Provisioning {
        store: &farm.state.store,
        keys: &farm.state.keys,
        pen: PEN,
    };
    assert!(provisioning.redeem(&third, None, late).await.is_err(), "expired");
    assert_eq!(redeem(&farm, &third, &key).await.0, StatusCode::CONFLICT, "that key was enrolled before");

    let mut refused = 0;
    for _ in 0..120 {
        let (status, _) = ask(&farm, "provision", &json!({"token": "AAAA"})).await;
        refused += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0, "one network asks 120 times in ten minutes at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_hands_over_to_its_next_key_and_is_refused_once_it_is_lost() {
    let Some(mut farm) = Farm::open("provisioning_rotate").await else { return };
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let (_, page) = register(&farm, &keeper, "probe1", "cose", "").await;
    let [old, new, thief, found] = [31, 32, 33, 34].map(|seed| SecretKey::from_seed(&[seed; 32]));
    redeem(&farm, shown(&page, "一次性口令"), &old).await;
    assert_eq!(sends(&farm, &old, 1).await, "stored");

    let asked = json!({"replaces": old.kid(), "key": key_of(&new)});
    let (status, challenge) = ask(&farm, "rotate/challenge", &asked).await;
    assert_eq!(status, StatusCode::OK, "{challenge}");
    let body = |by_old: &SecretKey, by_new: &SecretKey| {
        json!({"replaces": old.kid(), "key": key_of(&new), "jti": challenge["jti"],
            "signature": signature(&challenge, "sign", by_new),
            "replaced_signature": signature(&challenge, "sign_with_replaced", by_old)})
    };
    for refused in [body(&thief, &new), body(&old, &thief), body(&new, &new)] {
        assert_eq!(ask(&farm, "rotate", &refused).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(ask(&farm, "rotate", &body(&old, &new)).await.0, StatusCode::CREATED);
    assert_eq!(ask(&farm, "rotate", &body(&old, &new)).await.0, StatusCode::CONFLICT, "replaced already");
    assert_eq!(sends(&farm, &old, 2).await, "key-not-good");
    assert_eq!(sends(&farm, &new, 2).await, "stored");

    let (status, _) = post(&farm, &keeper, "/devices/depot/probe1/end", &[("why", "lost")]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(sends(&farm, &new, 3).await, "device-lost");
    let register = {
        let mut conn = farm.state.store.connection().await.unwrap();
        let depot = farm.party("depot").await;
        server::service::devices::gateway_register(&mut conn, &farm.state.profiles, "suyuan", &depot)
            .await
            .unwrap()
            .0
    };
    assert!(!register.contains("probe1"), "a gateway knows it no more: {register}");
    let counted = farm.get("/metrics", "text/plain", "").await;
    assert!(counted.contains(r#"suyuan_dead_letters_total{reason="device-lost"} "#), "{counted}");
    let letters = farm.page("/dead-letters", &keeper).await;
    assert!(letters.contains("设备已标为丢失") && letters.contains("签名的密钥已更换或作废"), "{letters}");
    let page = farm.page("/devices/depot/probe1", &keeper).await;
    assert!(page.contains("丢失于") && page.contains("已作废") && page.contains("已更换"), "{page}");

    farm.log_roster().await;
    let asked = token(&farm, &keeper).await;
    assert_eq!(redeem(&farm, &asked, &found).await.0, StatusCode::CREATED);
    assert_eq!(sends(&farm, &found, 4).await, "stored");
    assert_eq!(sends(&farm, &new, 5).await, "key-not-good", "who has the lost one has nothing");

    post(&farm, &keeper, "/devices/depot/probe1/end", &[("why", "retired")]).await;
    assert_eq!(sends(&farm, &found, 6).await, "device-retired");
    let (status, _) = post(&farm, &keeper, "/devices/depot/probe1/token", &[]).await;
    assert_eq!(status, StatusCode::CONFLICT, "it does not come back");
}

/// Registers a device that signs itself; its token.
async fn waiting(farm: &Farm, keeper: &str, name: &str) -> String {
    let (status, page) = register(farm, keeper, name, "cose", "").await;
    assert_eq!(status, StatusCode::CREATED, "{page}");
    shown(&page, "一次性口令").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_shown_for_many_devices_at_once_is_one_devices_and_an_answered_challenge_nobodys() {
    let Some(farm) = Farm::open("provisioning_race").await else { return };
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    let mut tokens = Vec::new();
    for name in ["probe1", "probe2", "probe3", "probe4", "probe5"] {
        tokens.push(waiting(&farm, &keeper, name).await);
    }
    let key = SecretKey::from_seed(&[41; 32]);
    let mut answers =
        futures_util::future::join_all(tokens.iter().map(|token| redeem(&farm, token, &key))).await;
    answers.sort_by_key(|(status, _)| *status);
    let (statuses, told): (Vec<StatusCode>, Vec<Value>) = answers.into_iter().unzip();
    let conflict = StatusCode::CONFLICT;
    assert_eq!(statuses, [StatusCode::CREATED, conflict, conflict, conflict, conflict], "{told:?}");

    let left: Vec<&String> = {
        let mut left = Vec::new();
        for token in &tokens {
            let asked = json!({"token": token, "key": key_of(&key)});
            if ask(&farm, "provision/challenge", &asked).await.0 == StatusCode::OK {
                left.push(token);
            }
        }
        left
    };
    let [one, other] = [42, 43].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let asked = json!({"token": left[0], "key": key_of(&one)});
    let (_, challenge) = ask(&farm, "provision/challenge", &asked).await;
    let body = |token: &str, key: &SecretKey, sign: &str| {
        json!({"token": token, "key": key_of(key), "jti": challenge["jti"],
            "signature": b64::url(&key.sign(sign.as_bytes()))})
    };
    let answer = body(left[0], &one, challenge["sign"].as_str().unwrap());
    assert_eq!(ask(&farm, "provision", &answer).await.0, StatusCode::CREATED);
    // The other device makes itself the question that was put to the first.
    let possession = Possession {
        aud: farm.state.keys.ledger().to_owned(),
        jti: challenge["jti"].as_str().unwrap().parse().unwrap(),
        kid: other.kid(),
        party: farm.party("depot").await.iss,
        custody: Custody::Device,
    };
    let answer = body(left[1], &other, &possession_input(&possession));
    assert_eq!(ask(&farm, "provision", &answer).await.0, StatusCode::CONFLICT);
    assert_eq!(redeem(&farm, left[1], &other).await.0, StatusCode::CREATED, "its token is good as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_lost_for_the_second_time_has_no_token_either() {
    let Some(farm) = Farm::open("provisioning_lost_twice").await else { return };
    fitted_out(&farm).await;
    let keeper = farm.sign_in("depot").await;
    waiting(&farm, &keeper, "probe1").await;
    let lost = async || post(&farm, &keeper, "/devices/depot/probe1/end", &[("why", "lost")]).await.0;
    assert_eq!(lost().await, StatusCode::SEE_OTHER);
    let sent = token(&farm, &keeper).await;
    assert_eq!(lost().await, StatusCode::SEE_OTHER);
    let thief = SecretKey::from_seed(&[51; 32]);
    assert_eq!(redeem(&farm, &sent, &thief).await.0, StatusCode::CONFLICT);
}
