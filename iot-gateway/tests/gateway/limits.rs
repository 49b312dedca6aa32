//! How many connections a device may have, how much it may say, and how long it may be silent.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use crate::{
    server::Server,
    site::{Gateway, TOKEN, packet, senml_of, string, until},
};

const V3: u8 = 4;
const V5: u8 = 5;

/// A connection by hand, with what the gateway answered to its CONNECT.
struct Client {
    version: u8,
    stream: TcpStream,
    connack: Vec<u8>,
}

impl Client {
    fn connect(gateway: &Gateway, version: u8, device: &str, client_id: &str, keep_alive: u16) -> Self {
        let mut client = Self::knock(gateway, version, device, client_id, keep_alive);
        let (kind, connack) = client.hear().unwrap();
        assert_eq!(kind, 0x20);
        client.connack = connack;
        client
    }

    /// Says CONNECT and waits for nothing.
    fn knock(gateway: &Gateway, version: u8, device: &str, client_id: &str, keep_alive: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.mqtt)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // Clean start, user name, password.
        let head = [&string(b"MQTT")[..], &[version, 0xc2], &keep_alive.to_be_bytes()].concat();
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let user = format!("mill/{device}");
        let fields = [client_id.as_bytes(), user.as_bytes(), TOKEN.as_bytes()].map(string).concat();
        stream.write_all(&packet(0x10, &[&head, properties, &fields].concat())).unwrap();
        Self { version, stream, connack: Vec::new() }
    }

    /// The next packet; `None` where the connection was ended.
    fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => {
                return None;
            }
            Err(error) => panic!("neither a packet nor an end: {error}"),
        }
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).unwrap();
        Some((head[0], body))
    }

    fn is_let_in(&self) -> bool {
        self.connack[1] == 0
    }

    fn publish(&mut self, device: &str, id: u16, payload: &[u8]) {
        let topic = string(format!("suyuan/v1/mill/{device}/up").as_bytes());
        let properties: &[u8] = if self.version == V5 { &[0] } else { &[] };
        let body = [&topic[..], &id.to_be_bytes(), properties, payload].concat();
        self.stream.write_all(&packet(0x32, &body)).unwrap();
    }
}

/// Whoever stole a device has its open session, too.
#[test]
fn an_open_session_ends_with_the_password_that_opened_it() {
    let server = Server::start();
    let gateway = Gateway::start(&server, "forgotten", &[]);
    let mut thieves = [(V3, "three"), (V5, "five")]
        .map(|(version, client_id)| Client::connect(&gateway, version, "senml", client_id, 60));
    for (id, thief) in (1..).zip(&mut thieves) {
        thief.publish("senml", 1, &senml_of(id));
        assert_eq!(thief.hear().map(|(kind, _)| kind), Some(0x40));
    }
    server.state.passwords.fetch_add(1, Ordering::SeqCst);
    let end = |thief: &mut Client| {
        until("the end of a session", || {
            thief.publish("senml", 2, &senml_of(9));
            let heard = thief.hear();
            heard.as_ref().is_none_or(|(kind, _)| *kind != 0x40).then_some(heard)
        })
    };
    let [third, fifth] = &mut thieves;
    assert_eq!(end(third), None);
    // MQTT 5 §3.14.2.1: not authorized.
    assert_eq!(end(fifth).map(|(kind, body)| (kind, body[0])), Some((0xe0, 0x87)));
    assert_eq!(gateway.metric("unauthenticated_total"), 2);
    assert!(!Client::connect(&gateway, V3, "senml", "back", 60).is_let_in());
}

/// The value of an MQTT 5 property of a CONNACK.
fn property(connack: &[u8], wanted: u8) -> Option<u32> {
    let mut rest = &connack[3..];
    while let Some((&name, after)) = rest.split_first() {
        // MQTT 5 §2.2.2.2: one, two or four bytes.
        let size = match name {
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x21 | 0x22 => 2,
            0x11 | 0x27 => 4,
            other => panic!("property {other:#x} is not one of these tests"),
        };
        if name == wanted {
            return Some(after[..size].iter().fold(0, |value, byte| value << 8 | u32::from(*byte)));
        }
        rest = &after[size..];
    }
    None
}

#[test]
fn a_client_identifier_that_comes_again_takes_the_devices_connection_over_and_nobody_elses() {
    let server = Server::start();
    let gateway = Gateway::start(&server, "takeover", &[]);
    let mut other = Client::connect(&gateway, V3, "cbor", "same", 60);
    for version in [V3, V5] {
        let mut first = Client::connect(&gateway, version, "senml", "same", 60);
        let mut second = Client::connect(&gateway, version, "senml", "same", 60);
        if version == V5 {
            assert_eq!(first.hear(), Some((0xe0, vec![0x8e, 0])), "session taken over");
        }
        assert_eq!(first.hear(), None);
        second.publish("senml", 1, &senml_of(usize::from(version)));
        assert_eq!(second.hear().unwrap().0, 0x40, "the second one lives");
    }
    other.publish("cbor", 1, b"\xff");
    assert_eq!(other.hear().unwrap().0, 0x40);
    // The second of version 3 went when its owner was dropped, or when the first of version 5 came.
    assert!((2..=3).contains(&gateway.metric("taken_over_total")));
    drop(other);
    until("all connections are counted out", || (gateway.metric("connections") == 0).then_some(()));
}

#[test]
fn a_device_has_as_many_connections_as_it_may_and_gets_them_back() {
    let server = Server::start();
    let more = [("SUYUAN_MQTT_DEVICE_CONNECTIONS_MAX", "2".to_owned())];
    let gateway = Gateway::start(&server, "connections", &more);
    let connect = |version, id| Client::connect(&gateway, version, "senml", id, 60);
    let (one, _two) = (connect(V3, "one"), connect(V5, "two"));
    assert_eq!(connect(V3, "three").connack[1], 3, "server unavailable (MQTT 3.1.1 §3.2.2.3)");
    assert_eq!(connect(V5, "three").connack[1], 0x97, "quota exceeded");
    assert!(Client::connect(&gateway, V3, "cbor", "three", 60).is_let_in(), "another device has its own");
    assert_eq!(gateway.metric("too_many_connections_total"), 2);
    assert!(connect(V3, "one").is_let_in(), "one that comes again takes its own place");
    drop(one);
    until("the place is free", || connect(V3, "three").is_let_in().then_some(()));
}

#[test]
fn connections_beyond_all_that_there_may_be_are_refused_until_one_ends() {
    let server = Server::start();
    let more = [("SUYUAN_MQTT_CONNECTIONS_MAX", "2".to_owned())];
    let gateway = Gateway::start(&server, "full", &more);
    let connect = |version, device| Client::connect(&gateway, version, device, "1", 60);
    let (first, _second) = (connect(V3, "senml"), connect(V5, "cbor"));
    assert_eq!(connect(V3, "scale").connack[1], 3, "server unavailable (MQTT 3.1.1 §3.2.2.3)");
    assert_eq!(connect(V5, "scale").connack[1], 0x89, "server busy");
    drop(first);
    until("there is a place", || connect(V3, "scale").is_let_in().then_some(()));
}

#[test]
fn a_device_that_says_more_than_it_may_waits_and_loses_nothing_and_no_other_waits_for_it() {
    let server = Server::start();
    let more = [("SUYUAN_MQTT_DEVICE_MESSAGES_S", "20".to_owned())];
    let gateway = Gateway::start(&server, "pace", &more);
    let mut loud = Client::connect(&gateway, V3, "senml", "loud", 60);
    let began = Instant::now();
    for id in 1..=60 {
        loud.publish("senml", id, &senml_of(usize::from(id)));
    }
    let mut quiet = Client::connect(&gateway, V3, "scale", "quiet", 60);
    quiet.publish("scale", 1, br#"{"net":1,"at":1700000000}"#);
    assert_eq!(quiet.hear().unwrap().0, 0x40);
    assert!(began.elapsed() < Duration::from_secs(2), "the quiet one waited: {:?}", began.elapsed());
    for id in 1..=60_u16 {
        assert_eq!(loud.hear(), Some((0x40, id.to_be_bytes().to_vec())), "each, and in order");
    }
    // A second's worth at once, forty at twenty a second.
    assert!(began.elapsed() >= Duration::from_millis(1_950), "{:?}", began.elapsed());
    assert_eq!(server.state.len(), 61);
    assert!(gateway.metric("paced_total") >= 40);
}

#[test]
fn bytes_are_paced_as_messages_are() {
    let server = Server::start();
    let more = [("SUYUAN_MQTT_DEVICE_BYTES_S", "2048".to_owned())];
    let gateway = Gateway::start(&server, "bytes", &more);
    let mut device = Client::connect(&gateway, V5, "senml", "", 60);
    let began = Instant::now();
    for id in 1..=4_u16 {
        device.publish("senml", id, &vec![b'0' + u8::try_from(id).unwrap(); 1_024]);
    }
    for _ in 1..=4 {
        assert_eq!(device.hear().unwrap().0, 0x40);
    }
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    assert_eq!(server.state.len(), 4);
}

#[test]
fn a_silent_connection_ends_after_one_and_a_half_keep_alives_and_one_that_pings_stays() {
    let server = Server::start();
    let more = [("SUYUAN_MQTT_KEEP_ALIVE_MAX_S", "2".to_owned())];
    let gateway = Gateway::start(&server, "silence", &more);
    let began = Instant::now();
    let mut silent = [
        Client::connect(&gateway, V3, "senml", "none", 0),
        Client::connect(&gateway, V3, "senml", "own", 2),
        Client::connect(&gateway, V5, "senml", "long", 600),
    ];
    let mut alive = Client::connect(&gateway, V3, "senml", "alive", 2);
    assert_eq!(property(&silent[2].connack, 0x13), Some(2), "server keep alive");
    let pinging = thread::spawn(move || {
        while began.elapsed() < Duration::from_secs(8) {
            alive.stream.write_all(&[0xc0, 0]).unwrap();
            assert_eq!(alive.hear(), Some((0xd0, Vec::new())));
            thread::sleep(Duration::from_millis(500));
        }
    });
    for client in &mut silent {
        while let Some((kind, _)) = client.hear() {
            assert_eq!(kind, 0xe0, "nothing but a goodbye");
        }
        assert!(began.elapsed() >= Duration::from_millis(2_500), "{:?}", began.elapsed());
    }
    pinging.join().unwrap();
}

#[test]
fn the_largest_packet_and_the_most_unanswered_messages_are_advertised() {
    let server = Server::start();
    let gateway = Gateway::start(&server, "advertised", &[]);
    let device = Client::connect(&gateway, V5, "senml", "advertised", 60);
    assert_eq!(property(&device.connack, 0x27), Some(64 * 1024 + 1024));
    assert_eq!(property(&device.connack, 0x21), Some(256));
    assert_eq!(property(&device.connack, 0x13), None, "the device's own keep-alive holds");
}
