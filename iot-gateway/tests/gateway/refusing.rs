//! What is refused, how it is told, and that it is counted.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use crate::{
    server::Server,
    site::{Gateway, TOKEN, has, packet, published},
};

#[test]
fn strangers_other_peoples_topics_and_payloads_over_the_limit_are_refused_and_counted() {
    if !has("mosquitto_pub") {
        return;
    }
    let server = Server::start();
    let gateway = Gateway::start(&server, "refused", &[]);
    let port = gateway.mqtt.to_string();
    let run = |arguments: &[&str]| {
        Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-m", "[]"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let own = "suyuan/v1/mill/senml/up";
    for version in ["mqttv311", "mqttv5"] {
        let (v, q) = (["-V", version], ["-q", "1", "-t", own]);
        assert!(!run(&[&v[..], &q, &["-u", "mill/senml", "-P", "wrong"]].concat()).status.success());
        assert!(!run(&[&v[..], &q, &["-u", "mill/nobody", "-P", TOKEN]].concat()).status.success());
        assert!(!run(&[&v[..], &q].concat()).status.success());
    }
    assert_eq!(gateway.metric("unauthenticated_total"), 6);

    let alien = ["-q", "1", "-t", "suyuan/v1/mill/scale/up", "-u", "mill/senml", "-P", TOKEN];
    let out = run(&[&["-V", "mqttv5"][..], &alien].concat());
    assert!(String::from_utf8_lossy(&out.stderr).contains("Not authorized"), "{out:?}");
    assert_eq!(gateway.metric("forbidden_topic_total"), 1);

    let long = vec![b'x'; 64 * 1024 + 1];
    let out = published(gateway.mqtt, "senml", &long, &["-q", "1", "-V", "mqttv5", "--repeat", "1"]);
    assert!(!String::from_utf8_lossy(&out.stderr).is_empty(), "{out:?}");
    assert_eq!(gateway.metric("oversized_total"), 1);
    assert_eq!(server.state.len(), 0);
    // The largest that is allowed goes through.
    assert!(published(gateway.mqtt, "senml", &long[1..], &["-q", "1", "-V", "mqttv5"]).status.success());
    assert_eq!(server.state.len(), 1);
}

/// MQTT 5 by hand: what a device really reads when its payload is too large.
#[test]
fn a_payload_over_the_limit_is_answered_with_reason_0x95() {
    let server = Server::start();
    let gateway = Gateway::start(&server, "reason", &[]);
    for payload_bytes in [64 * 1024 + 1, 3 * 1024 * 1024] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.mqtt)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let text =
            |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let connect =
            [&text("MQTT")[..], &[5, 0xc2, 0, 30, 0], &text("raw"), &text("mill/senml"), &text(TOKEN)];
        stream.write_all(&packet(0x10, &connect.concat())).unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x20);
        let mut connack = vec![0; usize::from(head[1])];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack[1], 0);
        let publish = [&text("suyuan/v1/mill/senml/up")[..], &[0, 1, 0], &vec![b'x'; payload_bytes]].concat();
        if let Err(error) = stream.write_all(&packet(0x32, &publish)) {
            println!("the gateway closed before it had read all of {payload_bytes}: {error}");
        }
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[2]), (0xe0, 0x95), "{answer:x?} to {payload_bytes} bytes");
    }
    assert_eq!(gateway.metric("oversized_total"), 2);
}
