//! Behind a site's own broker.

use std::{
    collections::HashSet,
    io::Read as _,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use trace::pack::carriage::Status;

use crate::{
    server::Server,
    site::{Broker, Gateway, Process, TOKEN, has_broker, published, senml_of, until},
};

#[test]
fn through_a_real_broker_every_message_is_stored_once_and_its_receipt_comes_back() {
    if !has_broker() {
        return;
    }
    let broker = Broker::start("broker-receipt");
    let server = Server::start();
    let gateway = Gateway::start(&server, "receipt", &broker.source("receipt"));
    let port = broker.port.to_string();
    let mut listener = Process(
        Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-u", "mill/senml", "-P", TOKEN, "-q", "1"])
            .args(["-t", "suyuan/v1/mill/senml/receipt", "-C", "1", "-F", "%x", "-W", "15"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    thread::sleep(Duration::from_millis(500));
    let payload = senml_of(1);
    let stored = || {
        // Until the gateway has subscribed for the first time nobody keeps the message: publish again.
        assert!(published(broker.port, "senml", &payload, &["-q", "1"]).status.success());
        thread::sleep(Duration::from_millis(100));
        (server.state.len() > 0).then_some(())
    };
    until("the message is stored", stored);
    let mut receipt = String::new();
    listener.0.stdout.take().unwrap().read_to_string(&mut receipt).unwrap();
    let cti = trace::pack::gateway_cti("suyuan/v1/mill/senml/up", &payload);
    let expected = trace::pack::carriage::write_receipt(&cti, Status::Stored);
    let received: Vec<u8> = receipt
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(received, expected);
    assert_eq!(server.state.len(), 1);
    assert!(gateway.terminate());
}

#[test]
fn what_a_killed_gateway_had_not_acknowledged_is_delivered_again_and_stored_once() {
    if !has_broker() {
        return;
    }
    let broker = Broker::start("broker-kill");
    let server = Server::start();
    let gateway = Gateway::start(&server, "kill", &broker.source("kill"));
    let first = senml_of(1_000);
    until("the gateway has subscribed", || {
        assert!(published(broker.port, "senml", &first, &["-q", "1"]).status.success());
        thread::sleep(Duration::from_millis(100));
        (server.state.len() > 0).then_some(())
    });
    // The server commits, but no answer gets back: nothing may be acknowledged to the broker.
    server.state.forget.store(usize::MAX, Ordering::SeqCst);
    for value in 0..50 {
        assert!(published(broker.port, "senml", &senml_of(value), &["-q", "1"]).status.success());
    }
    until("some are committed", || (server.state.len() > 1).then_some(()));
    drop(gateway);
    server.state.forget.store(0, Ordering::SeqCst);
    // The new one has no register yet when it could have the first message: it must not take that for a stranger's.
    server.state.register_delay_ms.store(700, Ordering::SeqCst);
    let gateway = Gateway::start(&server, "kill", &broker.source("kill"));
    until("all are stored", || (server.state.len() == 51).then_some(()));
    until("all are answered for", || (gateway.metric("in_flight") == 0).then_some(()));
    let stored = server.state.stored.lock().unwrap();
    assert_eq!(stored.iter().collect::<HashSet<_>>().len(), 51);
}

#[test]
fn the_broker_lets_a_device_reach_its_own_topics_only() {
    if !has_broker() {
        return;
    }
    let broker = Broker::start("broker-acl");
    let server = Server::start();
    let gateway = Gateway::start(&server, "acl", &broker.source("acl"));
    until("the gateway has subscribed", || {
        assert!(published(broker.port, "senml", &senml_of(1), &["-q", "1"]).status.success());
        thread::sleep(Duration::from_millis(100));
        (server.state.len() > 0).then_some(())
    });
    let alien = Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &broker.port.to_string(),
            "-u",
            "mill/senml",
            "-P",
            TOKEN,
            "-V",
            "mqttv5",
        ])
        .args(["-q", "1", "-t", "suyuan/v1/mill/scale/up", "-m", "x"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&alien.stderr).contains("Not authorized"), "{alien:?}");
    assert!(published(broker.port, "senml", &senml_of(2), &["-q", "1"]).status.success());
    until("the second is stored", || (server.state.len() == 2).then_some(()));
    // Over 64 KiB: told of, not carried, acknowledged, and the next one still comes.
    assert!(published(broker.port, "senml", &vec![b'x'; 70_000], &["-q", "1"]).status.success());
    assert!(published(broker.port, "senml", &senml_of(3), &["-q", "1"]).status.success());
    until("the third is stored", || (server.state.len() == 3).then_some(()));
    assert_eq!(server.state.oversize.load(Ordering::SeqCst), 1);
    assert_eq!(gateway.metric("dead_letters_total"), 1);
    assert!(Arc::new(gateway).metric("reconnects_total") == 0);
}
