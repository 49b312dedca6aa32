//! The gateway as a process, against a server that speaks the documented protocol and can be made to fail, and
//! against clients that nobody here wrote: mosquitto and mosquitto_pub.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends where an expectation fails, and says aloud what it skips"
)]

use std::{
    collections::{BTreeMap, HashSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use trace::{
    hash::sha256,
    keys::SecretKey,
    pack::{
        Frame,
        carriage::{Body, Outcome, Status, read_items, write_outcomes},
        senml,
    },
};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const TOKEN: &str = "device-token";
const SEED: [u8; 32] = [5; 32];

/// A dead letter that waits: (id, topic, arrival, payload).
type Letter = (i64, String, i64, Vec<u8>);

/// What the stand-in for the server does with the next posts.
#[derive(Debug, Default)]
struct Behaviour {
    /// Posts that are answered 503 before anything is stored.
    refuse: AtomicUsize,
    /// Posts that are stored and then answered 500: committed, but the gateway cannot know.
    forget: AtomicUsize,
    /// Posts that are answered 200 with one verdict too few.
    short: AtomicUsize,
    delay_ms: AtomicU64,
    register_delay_ms: AtomicU64,
    /// Everything stored, by topic and bytes, in order.
    stored: Mutex<Vec<(String, Vec<u8>)>>,
    oversize: AtomicUsize,
    registers_unchanged: AtomicUsize,
    waiting: Mutex<Vec<Letter>>,
    /// Confirmations that are answered 500 and forgotten.
    unconfirmed: AtomicUsize,
    /// What the gateway said of letters: (id, body).
    confirmed: Mutex<Vec<(i64, serde_json::Value)>>,
    /// When stored items had arrived, as the gateway told.
    arrivals: Mutex<Vec<i64>>,
}

fn count_down(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn packs(request: HttpRequest, body: web::Bytes, state: web::Data<Behaviour>) -> HttpResponse {
    assert_eq!(request.headers().get("authorization").unwrap(), "Bearer gateway-token");
    assert_eq!(request.headers().get("content-type").unwrap(), "application/cbor-seq");
    actix_web::rt::time::sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst))).await;
    if count_down(&state.refuse) {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let mut outcomes: Vec<Outcome> =
        read_items(&body).unwrap().iter().map(|item| state.store(item)).collect();
    if count_down(&state.forget) {
        return HttpResponse::InternalServerError().finish();
    }
    if count_down(&state.short) {
        outcomes.pop();
    }
    HttpResponse::Ok().body(write_outcomes(&outcomes))
}

impl Behaviour {
    fn store(&self, item: &trace::pack::carriage::Item<'_>) -> Outcome {
        let Body::Bytes(bytes) = item.body else {
            self.oversize.fetch_add(1, Ordering::SeqCst);
            return Outcome { status: Status::DeadLetter, cti: None };
        };
        let mut stored = self.stored.lock().unwrap();
        let row = (item.topic.to_owned(), bytes.to_vec());
        let status = if stored.contains(&row) { Status::Duplicate } else { Status::Stored };
        if status == Status::Stored {
            stored.push(row);
            self.arrivals.lock().unwrap().push(item.received_ms);
        }
        let cti = Frame::parse(bytes).ok().map(|frame| frame.cti.to_vec());
        Outcome { status: if cti.is_none() { Status::DeadLetter } else { status }, cti }
    }

    fn len(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}

async fn register(request: HttpRequest, state: web::Data<Behaviour>) -> HttpResponse {
    actix_web::rt::time::sleep(Duration::from_millis(state.register_delay_ms.load(Ordering::SeqCst))).await;
    if request.headers().get("if-none-match").is_some_and(|etag| etag == "\"1\"") {
        state.registers_unchanged.fetch_add(1, Ordering::SeqCst);
        return HttpResponse::NotModified().finish();
    }
    let device = |device: &str, format: &str, signing: &str, map: &str| {
        format!(
            r#"{{"party":"mill","device":"{device}","format":"{format}","signing":"{signing}","kid":null,
                "token_sha256":"{}","repeats":"merge","map":{map}}}"#,
            sha256(TOKEN.as_bytes())
        )
    };
    let devices = [
        device("senml", "senml+json", "gateway", "{}"),
        device("cbor", "senml+cbor", "gateway", "{}"),
        device("cose", "cose", "device", "{}"),
        device("scale", "json", "gateway", r#"{"readings":{"/net":{"n":"net","u":"kg"}},"time":"/at"}"#),
        device("edge", "sparkplug", "gateway", r#"{"node":"g/e","readings":{"t":{"n":"t","u":"Cel"}}}"#),
        device(
            "lora",
            "chirpstack",
            "gateway",
            r#"{"node":"0101010101010101","readings":{"/temp":{"n":"temp","u":"Cel"}}}"#,
        ),
        r#"{"party":"BROKEN"}"#.to_owned(),
    ];
    HttpResponse::Ok().insert_header(("etag", "\"1\"")).body(format!(
        r#"{{"gateways":[],"devices":[{}],"limits":{{"payload_bytes":65536}}}}"#,
        devices.join(",")
    ))
}

async fn replays(state: web::Data<Behaviour>) -> HttpResponse {
    let waiting = state.waiting.lock().unwrap();
    let letters: Vec<serde_json::Value> = waiting
        .iter()
        .map(|(id, topic, received_ms, payload)| {
            serde_json::json!({
                "id": id, "topic": topic, "received_ms": received_ms, "payload": trace::b64::url(payload),
            })
        })
        .collect();
    HttpResponse::Ok().json(serde_json::json!({ "register": "\"1\"", "replays": letters }))
}

async fn confirm(
    state: web::Data<Behaviour>,
    id: web::Path<i64>,
    told: web::Json<serde_json::Value>,
) -> HttpResponse {
    if count_down(&state.unconfirmed) {
        return HttpResponse::InternalServerError().finish();
    }
    state.waiting.lock().unwrap().retain(|letter| letter.0 != *id);
    state.confirmed.lock().unwrap().push((*id, told.0));
    HttpResponse::NoContent().finish()
}

/// The stand-in, on a thread of its own; can be killed and started again on the same port.
struct Server {
    state: web::Data<Behaviour>,
    address: SocketAddr,
    handle: Option<ServerHandle>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            state: web::Data::new(Behaviour::default()),
            address: listener.local_addr().unwrap(),
            handle: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = self.state.clone();
        let (sender, handle) = std::sync::mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(state.clone())
                        .app_data(web::PayloadConfig::new(2 * 1024 * 1024))
                        .route("/api/v1/packs", web::post().to(packs))
                        .route("/api/v1/gateway/register", web::get().to(register))
                        .route("/api/v1/gateway/replays", web::get().to(replays))
                        .route("/api/v1/gateway/replays/{id}", web::post().to(confirm))
                })
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        self.handle = Some(handle.recv().unwrap());
    }

    fn kill(&mut self) {
        let handle = self.handle.take().unwrap();
        actix_web::rt::System::new().block_on(handle.stop(false));
    }

    fn restart(&mut self) {
        let listener = until("the port is free", || TcpListener::bind(self.address).ok());
        self.serve(listener);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.kill();
        }
    }
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory of one test, under the target directory.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            println!("a process of the test had ended: {error}");
        }
    }
}

struct Gateway {
    process: Process,
    mqtt: u16,
    admin: u16,
}

impl Gateway {
    fn start(server: &Server, name: &str, more: &[(&str, String)]) -> Self {
        let at = scratch(name);
        std::fs::write(at.join("token"), "gateway-token\n").unwrap();
        std::fs::write(at.join("key"), trace::b64::url(&SEED)).unwrap();
        let (mqtt, admin) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_suyuan-gateway"));
        command
            .arg("run")
            .env("SUYUAN_SERVER_URL", format!("http://{}", server.address))
            .env("SUYUAN_GATEWAY_TOKEN_FILE", at.join("token"))
            .env("SUYUAN_GATEWAY_KEY_FILE", at.join("key"))
            .env("SUYUAN_MQTT_LISTEN", format!("127.0.0.1:{mqtt}"))
            .env("SUYUAN_GATEWAY_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("SUYUAN_GATEWAY_REGISTER_INTERVAL_S", "1")
            .envs(more.iter().map(|(name, value)| (name, value)));
        let process = Process(command.spawn().unwrap());
        let gateway = Self { process, mqtt, admin };
        until("the gateway lives", || TcpStream::connect(("127.0.0.1", admin)).ok());
        if !more.iter().any(|(name, _)| *name == "SUYUAN_GATEWAY_SOURCE") {
            until("the gateway listens", || TcpStream::connect(("127.0.0.1", mqtt)).ok());
        }
        gateway
    }

    fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let name = format!("suyuan_gateway_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    /// SIGTERM, and the process's own end.
    fn terminate(mut self) -> bool {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        until("the gateway ends", || self.process.0.try_wait().unwrap()).success()
    }
}

fn publish(port: u16, device: &str, payload: &[u8], more: &[&str]) -> Child {
    let mut child = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", &format!("mill/{device}"), "-P", TOKEN])
        .args(["-t", &format!("suyuan/v1/mill/{device}/up"), "-s"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(payload).unwrap();
    child
}

fn published(port: u16, device: &str, payload: &[u8], more: &[&str]) -> Output {
    publish(port, device, payload, more).wait_with_output().unwrap()
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        println!("SKIPPED: {program} is not installed");
    }
    found.status.success()
}

fn senml_of(value: usize) -> Vec<u8> {
    format!(r#"[{{"n":"t","u":"Cel","t":1700000000,"v":{value}}}]"#).into_bytes()
}

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

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        packet.push(u8::try_from(length % 128).unwrap() | more);
        length /= 128;
        if length == 0 {
            return [packet, body.to_vec()].concat();
        }
    }
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

/// The site's broker, as `deploy/mosquitto.conf` has it, with passwords and the ACL of this test.
struct Broker {
    _process: Process,
    port: u16,
}

impl Broker {
    fn start(name: &str) -> Self {
        let (at, port) = (scratch(name), free_port());
        let shipped =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mosquitto.conf"));
        let acl = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mosquitto.acl");
        let networks = "user chirpstack\ntopic write application/#\nuser mill/edge\ntopic write spBv1.0/g/+/e\n\
                        topic read spBv1.0/g/NCMD/e\n";
        std::fs::write(at.join("acl"), format!("{}\n{networks}", std::fs::read_to_string(acl).unwrap()))
            .unwrap();
        let passwords = at.join("passwords");
        std::fs::write(&passwords, "").unwrap();
        for (user, password) in
            [("gateway", "gw"), ("mill/senml", TOKEN), ("mill/edge", TOKEN), ("chirpstack", TOKEN)]
        {
            let made =
                Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, password]).status();
            assert!(made.unwrap().success());
        }
        // Paths and address of this test; every limit is the shipped one.
        let own = BTreeMap::from([
            ("listener", format!("{port} 127.0.0.1")),
            ("password_file", passwords.display().to_string()),
            ("acl_file", at.join("acl").display().to_string()),
            ("persistence_location", format!("{}/", at.display())),
        ]);
        let conf: String = shipped
            .unwrap()
            .lines()
            .map(|line| {
                let word = line.split(' ').next().unwrap();
                own.get(word).map_or_else(|| format!("{line}\n"), |value| format!("{word} {value}\n"))
            })
            .chain([String::from("user root\n")])
            .collect();
        std::fs::write(at.join("conf"), conf).unwrap();
        let mut command = Command::new(MOSQUITTO);
        let process = Process(command.arg("-c").arg(at.join("conf")).stderr(Stdio::null()).spawn().unwrap());
        until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, port }
    }

    fn source(&self, name: &str) -> Vec<(&'static str, String)> {
        let password = scratch(name).join("broker-password");
        std::fs::write(&password, "gw\n").unwrap();
        vec![
            ("SUYUAN_GATEWAY_SOURCE", "subscribe".to_owned()),
            ("MQTT_URL", format!("mqtt://127.0.0.1:{}", self.port)),
            ("SUYUAN_MQTT_USER", "gateway".to_owned()),
            ("SUYUAN_MQTT_PASSWORD_FILE", password.display().to_string()),
            ("SUYUAN_MQTT_CLIENT_ID", name.to_owned()),
        ]
    }
}

fn has_broker() -> bool {
    if !Path::new(MOSQUITTO).exists() {
        println!("SKIPPED: {MOSQUITTO} is not installed");
    }
    Path::new(MOSQUITTO).exists() && has("mosquitto_pub") && has("mosquitto_passwd")
}

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

fn string(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
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

fn sent(port: u16, user: &str, topic: &str, payload: &[u8]) -> Output {
    let mut child = Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-u",
            user,
            "-P",
            TOKEN,
            "-q",
            "1",
            "-t",
            topic,
            "-s",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(payload).unwrap();
    child.wait_with_output().unwrap()
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
