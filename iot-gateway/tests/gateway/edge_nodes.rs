//! Sparkplug's edge nodes and ChirpStack's devices, on topics of their own.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use trace::{
    keys::SecretKey,
    pack::{Frame, senml},
};

use crate::{
    server::Server,
    site::{Broker, Gateway, Process, SEED, TOKEN, has, has_broker, packet, sent, string, until},
};

/// One metric `t` with alias 7, an Int32; payload time 2017-02-03T17:55:02.122Z.
const NBIRTH: &[u8] = b"\x08\xea\xf2\xf5\xa8\xa0\x2b\x12\x09\x0a\x01t\x10\x07\x20\x03\x50\x05\x18\x00";

/// By alias alone.
const NDATA: &[u8] = b"\x08\xea\xf2\xf5\xa8\xa0\x2b\x12\x04\x10\x07\x50\x06\x18\x01";

const NDEATH: &[u8] = b"\x08\xea\xf2\xf5\xa8\xa0\x2b";

/// Names and values of a stored pack's readings.
fn told(stored: &(String, Vec<u8>)) -> Vec<(String, Option<senml::Value>)> {
    let frame = Frame::parse(&stored.1).unwrap();
    frame.verify(&SecretKey::from_seed(&SEED).public()).unwrap();
    let readings = senml::parse_cbor(frame.payload).unwrap().into_iter();
    readings.map(|reading| (reading.name.rsplit(':').next().unwrap().to_owned(), reading.value)).collect()
}

fn integer(value: i64) -> senml::Value {
    senml::Value::Number(senml::Number::integer(value))
}

#[test]
fn an_edge_node_that_listen_does_not_know_is_asked_for_its_births_and_its_will_is_spoken() {
    let server = Server::start();
    let gateway = Gateway::start(&server, "edge", &[]);
    let mut node = TcpStream::connect(("127.0.0.1", gateway.mqtt)).unwrap();
    node.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // MQTT 3.1.1, user name, password, will of QoS 1, clean session.
    let head = [&string(b"MQTT")[..], &[4, 0xce, 0, 60]].concat();
    let fields = [&b"e"[..], b"spBv1.0/g/NDEATH/e", NDEATH, b"mill/edge", TOKEN.as_bytes()].map(string);
    node.write_all(&packet(0x10, &[head, fields.concat()].concat())).unwrap();
    let mut connack = [0; 4];
    node.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    let topic = string(b"spBv1.0/g/NCMD/e");
    node.write_all(&packet(0x82, &[&[0, 1][..], &topic, &[0]].concat())).unwrap();
    let mut suback = [0; 5];
    node.read_exact(&mut suback).unwrap();
    assert_eq!(suback[..4], [0x90, 3, 0, 1]);
    assert_ne!(suback[4], 0x80);

    let publish =
        |topic: &str, payload: &[u8]| packet(0x30, &[string(topic.as_bytes()), payload.to_vec()].concat());
    node.write_all(&publish("spBv1.0/g/NDATA/e", NDATA)).unwrap();
    let mut command = vec![0; 2];
    node.read_exact(&mut command).unwrap();
    assert_eq!(command[0], 0x30);
    let mut body = vec![0; usize::from(command[1])];
    node.read_exact(&mut body).unwrap();
    let payload = body.strip_prefix(&topic[..]).unwrap();
    assert!(payload.windows(20).any(|part| part == b"Node Control/Rebirth"));

    node.write_all(&publish("spBv1.0/g/NBIRTH/e", NBIRTH)).unwrap();
    node.write_all(&publish("spBv1.0/g/NDATA/e", NDATA)).unwrap();
    until("birth and data are stored", || (server.state.len() >= 3).then_some(()));
    drop(node);
    until("the death is stored", || (server.state.len() >= 4).then_some(()));

    let mut stored = server.state.stored.lock().unwrap().clone();
    assert!(stored.iter().all(|(topic, _)| topic == "suyuan/v1/mill/edge/up"));
    assert_eq!(stored[0].1, NDATA);
    let told: Vec<_> = stored.split_off(1).iter().map(told).collect();
    let online = |value| ("online".to_owned(), Some(senml::Value::Bool(value)));
    assert_eq!(told[0], [online(true), ("t".to_owned(), Some(integer(5)))]);
    assert_eq!(told[1], [("t".to_owned(), Some(integer(6)))]);
    assert_eq!(told[2], [online(false)]);
    assert_eq!(gateway.metric("undecoded_total{reason=\"no-birth\"}"), 1);
    assert_eq!(gateway.metric("sparkplug_rebirths_asked_total"), 1);
    assert!(gateway.terminate());
}

#[test]
fn an_edge_node_owns_its_own_topics_only() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "edges", &[]);
    for (user, topic) in [("mill/edge", "spBv1.0/g/NBIRTH/other"), ("mill/senml", "spBv1.0/g/NBIRTH/e")] {
        let sent = sent(gateway.mqtt, user, topic, NBIRTH);
        assert!(!sent.status.success() || gateway.metric("forbidden_topic_total") > 0);
    }
    until("both are refused", || (gateway.metric("forbidden_topic_total") == 2).then_some(()));
    assert_eq!(server.state.len(), 0);
    assert!(gateway.terminate());
}

#[test]
fn through_a_real_broker_sparkplug_and_chirpstack_come_on_their_own_topics() {
    if !has_broker() {
        return;
    }
    let broker = Broker::start("broker-networks");
    let server = Server::start();
    let gateway = Gateway::start(&server, "networks", &broker.source("networks"));
    let port = broker.port.to_string();
    let mut commands = Process(
        Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-u", "mill/edge", "-P", TOKEN])
            .args(["-t", "spBv1.0/g/NCMD/e", "-C", "1", "-W", "15"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    thread::sleep(Duration::from_millis(500));
    let uplink = br#"{"deduplicationId":"3ac7e3c4","time":"2022-07-18T09:34:15.775023242+00:00","object":{"temp":22.5}}"#;
    let topic = "application/17c82e96/device/0101010101010101/event/up";
    until("the uplink is stored", || {
        assert!(sent(broker.port, "chirpstack", topic, uplink).status.success());
        thread::sleep(Duration::from_millis(100));
        (server.state.len() > 0).then_some(())
    });
    for (verb, payload) in [("NDATA", NDATA), ("NBIRTH", NBIRTH), ("NDATA", NDATA)] {
        assert!(sent(broker.port, "mill/edge", &format!("spBv1.0/g/{verb}/e"), payload).status.success());
    }
    let mut command = Vec::new();
    commands.0.stdout.take().unwrap().read_to_end(&mut command).unwrap();
    assert!(command.windows(20).any(|part| part == b"Node Control/Rebirth"));
    until("all are stored", || (server.state.len() >= 4).then_some(()));

    let stored = server.state.stored.lock().unwrap().clone();
    assert_eq!(stored[0].0, "suyuan/v1/mill/lora/up");
    let temp = senml::Number::parse("22.5").map(senml::Value::Number);
    assert_eq!(told(&stored[0]), [("temp".to_owned(), temp)]);
    let cti = trace::pack::gateway_cti(topic, uplink);
    assert_eq!(Frame::parse(&stored[0].1).unwrap().cti, cti);
    assert_eq!(stored[1], ("suyuan/v1/mill/edge/up".to_owned(), NDATA.to_vec()));
    assert_eq!(told(&stored[2])[1], ("t".to_owned(), Some(integer(5))));
    assert_eq!(told(&stored[3]), [("t".to_owned(), Some(integer(6)))]);
    assert_eq!(server.state.len(), 4);
    assert!(gateway.terminate());
}
