//! An acknowledgement says that the server has the message, whatever happens on the way.

use std::{collections::BTreeMap, sync::atomic::Ordering, thread, time::Duration};

use trace::{
    keys::SecretKey,
    pack::{Frame, carriage::Status, senml},
};

use crate::{
    server::Server,
    site::{Gateway, Process, SEED, has, publish, published, scratch, senml_of, until},
};

#[test]
fn mosquitto_pub_is_acknowledged_with_both_versions_once_the_server_has_stored_it() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "versions", &[]);
    for (value, version) in [(1, "mqttv311"), (2, "mqttv5")] {
        let out = published(gateway.mqtt, "senml", &senml_of(value), &["-q", "1", "-V", version]);
        assert!(out.status.success(), "{version}: {}", String::from_utf8_lossy(&out.stderr));
        // The acknowledgement came, so it is there now, not soon.
        assert_eq!(server.state.len(), value);
    }
    let out = published(gateway.mqtt, "scale", br#"{"net":23560.5,"at":1700000000}"#, &["-q", "0"]);
    assert!(out.status.success());
    until("the message without acknowledgement is stored", || (server.state.len() == 3).then_some(()));
    let cbor = [0x81, 0xa3, 0x21, 0x61, b'd', 0x01, 0x61, b'V', 0x02, 0xc4, 0x82, 0x20, 0x18, 0xe7];
    assert!(published(gateway.mqtt, "cbor", &cbor, &["-q", "1"]).status.success());
    let key = SecretKey::from_seed(&SEED).public();
    for (topic, bytes) in server.state.stored.lock().unwrap().iter() {
        let frame = Frame::parse(bytes).unwrap();
        frame.verify(&key).unwrap();
        let readings = senml::parse_cbor(frame.payload).unwrap();
        let device = topic.split('/').nth(3).unwrap();
        assert!(readings[0].name.starts_with(&format!("urn:dev:org:32473-mill:{device}:")), "{readings:?}");
    }
}

#[test]
fn signed_packs_and_nonsense_reach_the_server_as_they_were_sent() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "asis", &[]);
    let reading =
        senml::parse_json(br#"[{"bn":"urn:dev:org:32473-mill:cose:","bt":1700000000,"v":1}]"#).unwrap();
    let payload = senml::write_cbor("urn:dev:org:32473-mill:cose:", &reading).unwrap();
    let signed = trace::pack::sign(&[1], &payload, &SecretKey::from_seed(&[9; 32])).unwrap();
    let nonsense: &[u8] = b"\xff\xfe{not json";
    assert!(published(gateway.mqtt, "cose", &signed, &["-q", "1"]).status.success());
    assert!(published(gateway.mqtt, "senml", nonsense, &["-q", "1"]).status.success());
    let stored = server.state.stored.lock().unwrap().clone();
    assert_eq!(stored[0].1, signed);
    assert_eq!(stored[1].1, nonsense);
    assert_eq!((gateway.metric("passed_on_total"), gateway.metric("dead_letters_total")), (1, 1));
}

#[test]
fn no_device_is_acknowledged_while_the_server_refuses_forgets_or_answers_short() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "failures", &[]);
    server.state.refuse.store(3, Ordering::SeqCst);
    assert!(published(gateway.mqtt, "senml", &senml_of(1), &["-q", "1"]).status.success());
    assert_eq!(gateway.metric("posts_failed_total"), 3);
    // Committed, but the answer was lost: the repeat is a duplicate and is acknowledged all the same.
    server.state.forget.store(1, Ordering::SeqCst);
    assert!(published(gateway.mqtt, "senml", &senml_of(2), &["-q", "1"]).status.success());
    assert_eq!(gateway.metric("duplicates_total"), 1);
    server.state.short.store(1, Ordering::SeqCst);
    assert!(published(gateway.mqtt, "senml", &senml_of(3), &["-q", "1"]).status.success());
    assert_eq!(gateway.metric("posts_failed_total"), 5);
    assert_eq!(server.state.len(), 3);
    // For as long as the server refuses, the device waits.
    server.state.refuse.store(1_000, Ordering::SeqCst);
    let mut waiting = Process(publish(gateway.mqtt, "senml", &senml_of(4), &["-q", "1"]));
    thread::sleep(Duration::from_millis(700));
    assert!(waiting.0.try_wait().unwrap().is_none(), "acknowledged without the server");
    server.state.refuse.store(0, Ordering::SeqCst);
    assert!(until("the device is acknowledged", || waiting.0.try_wait().unwrap()).success());
    assert_eq!(server.state.len(), 4);
}

#[test]
fn a_message_survives_a_server_that_dies_under_its_request() {
    if !has("mosquitto_pub") {
        return;
    }
    let mut server = Server::start();
    let gateway = Gateway::start(&server, "killed", &[]);
    server.state.delay_ms.store(1_500, Ordering::SeqCst);
    let mut waiting = Process(publish(gateway.mqtt, "senml", &senml_of(1), &["-q", "1"]));
    until("the post is under way", || (gateway.metric("posts_total") == 1).then_some(()));
    server.kill();
    assert_eq!(server.state.len(), 0);
    assert!(waiting.0.try_wait().unwrap().is_none());
    server.state.delay_ms.store(0, Ordering::SeqCst);
    server.restart();
    assert!(until("the device is acknowledged", || waiting.0.try_wait().unwrap()).success());
    assert_eq!(server.state.len(), 1);
}

#[test]
fn a_gateway_told_to_stop_answers_for_what_it_took() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "drain", &[]);
    server.state.delay_ms.store(800, Ordering::SeqCst);
    let mut waiting = Process(publish(gateway.mqtt, "senml", &senml_of(1), &["-q", "1"]));
    until("the message is taken", || (gateway.metric("in_flight") == 1).then_some(()));
    assert!(gateway.terminate());
    assert!(until("the device is acknowledged", || waiting.0.try_wait().unwrap()).success());
    assert_eq!(server.state.len(), 1);
}

#[test]
fn an_unchanged_register_is_not_sent_again_and_its_copy_admits_devices_while_the_server_is_away() {
    if !has("mosquitto_pub") {
        return;
    }
    let mut server = Server::start();
    let copy = scratch("copy").join("register.json");
    let more = [("SUYUAN_GATEWAY_REGISTER_FILE", copy.display().to_string())];
    let gateway = Gateway::start(&server, "register", &more);
    until("the register is unchanged", || {
        (server.state.registers_unchanged.load(Ordering::SeqCst) > 0).then_some(())
    });
    drop(gateway);
    server.kill();
    let gateway = Gateway::start(&server, "register", &more);
    let mut waiting = Process(publish(gateway.mqtt, "senml", &senml_of(1), &["-q", "1"]));
    until("the device was admitted", || (gateway.metric("in_flight") == 1).then_some(()));
    server.restart();
    assert!(until("the device is acknowledged", || waiting.0.try_wait().unwrap()).success());
}

#[test]
fn a_dead_letter_is_signed_here_at_its_own_time_and_confirmed_however_often_it_takes() {
    let server = Server::start();
    let up = "suyuan/v1/mill/senml/up";
    let payload = senml_of(7);
    server.state.unconfirmed.store(2, Ordering::SeqCst);
    *server.state.waiting.lock().unwrap() = vec![
        (1, up.to_owned(), 1_700_000_000_123, payload.clone()),
        (2, up.to_owned(), 5, b"not json".to_vec()),
    ];
    let gateway = Gateway::start(&server, "replay", &[]);
    until("both are settled", || server.state.waiting.lock().unwrap().is_empty().then_some(()));
    let cti = trace::pack::gateway_cti(up, &payload);
    let confirmed: BTreeMap<i64, serde_json::Value> =
        server.state.confirmed.lock().unwrap().iter().cloned().collect();
    let of = |id: i64| (confirmed[&id]["status"].as_u64().unwrap(), confirmed[&id]["cti"].as_str());
    assert_eq!(of(1), (u64::from(Status::Duplicate.code()), Some(trace::b64::url(&cti).as_str())));
    assert_eq!(of(2), (u64::from(Status::DeadLetter.code()), None));
    assert!(gateway.metric("replays_total") >= 4, "each was handed over twice");
    let stored = server.state.stored.lock().unwrap();
    let packs: Vec<&(String, Vec<u8>)> =
        stored.iter().filter(|(_, bytes)| Frame::parse(bytes).is_ok()).collect();
    assert_eq!(packs.len(), 1, "stored once");
    assert!(server.state.arrivals.lock().unwrap().contains(&1_700_000_000_123), "it arrived when it arrived");
    assert!(gateway.terminate());
}
