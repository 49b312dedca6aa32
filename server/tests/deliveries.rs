//! Alerts told by webhook and by mail: tried until they arrive, under one name, by one server at a time.

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

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use farm::Farm;
use hmac::Mac as _;
use server::{
    service::{
        deliveries::{self, Deliveries, DeliveriesError},
        keys::write_secret,
    },
    web::alerts::letter,
};
use store::{
    alert::{self, NewAlert},
    party,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

const SECRET: [u8; 32] = [5; 32];

/// What a receiver got: head and body.
type Got = (String, String);

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("{name} is missing: {head}")).split_once(':').unwrap().1.trim()
}

/// A receiver of webhooks that gives these answers in turn; 0: none at all.
async fn webhook(answers: Vec<u16>) -> (String, UnboundedReceiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/alerts", listener.local_addr().unwrap());
    let (tell, got) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(receive(stream, answer, tell.clone()));
        }
    });
    (address, got)
}

async fn receive(stream: TcpStream, answer: u16, tell: UnboundedSender<Got>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).await.unwrap();
    }
    let mut body = vec![0; header(&head, "content-length").parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    tell.send((head, String::from_utf8(body).unwrap())).unwrap();
    if answer == 0 {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let text = format!("HTTP/1.1 {answer} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// A mail server (RFC 5321) that answers the ends of its mails so in turn.
async fn mail_server(answers: Vec<&'static str>) -> (String, UnboundedReceiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("smtp://{}", listener.local_addr().unwrap());
    let (tell, got) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 here\r\n").await.unwrap();
            let mut envelope = String::new();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap() > 0 {
                if line.starts_with("DATA") {
                    stream.write_all(b"354 go on\r\n").await.unwrap();
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") {
                        stream.read_line(&mut mail).await.unwrap();
                    }
                    tell.send((envelope.clone(), mail)).unwrap();
                    stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                } else {
                    let said: &[u8] = if line.starts_with("QUIT") { b"221 bye\r\n" } else { b"250 ok\r\n" };
                    stream.write_all(said).await.unwrap();
                }
                envelope.push_str(&line);
                line.clear();
            }
        }
    });
    (address, got)
}

struct Told {
    farm: Farm,
    place: party::Place,
    deliveries: Deliveries,
    files: PathBuf,
}

impl Told {
    /// `to` is what the operator's file says below its `[smtp]`.
    async fn open(name: &str, smtp: &str, to: &str) -> Option<Self> {
        let farm = Farm::open(name).await?;
        let stated = serde_json::json!({"party": "depot", "slug": "b01", "kind": "bin", "name": "Bin 1",
            "gln": farm::gln(131), "extension": "b01"});
        let place = farm.registry().place(&serde_json::from_value(stated).unwrap()).await.unwrap();
        let files = files();
        let deliveries = read(&files, smtp, to).unwrap();
        deliveries.settle(&farm.state.store).await.unwrap();
        Some(Self { farm, place, deliveries, files })
    }

    async fn raise(&self) -> i64 {
        let new = NewAlert {
            party_id: self.place.party_id,
            place_id: self.place.id,
            device_id: None,
            profile: "grain",
            rule: "layer-rising",
            subject: "layer:2",
            metric: "temp",
            unit: "CEL-DAY",
            threshold: 0.5,
            source: "LS/T 1707.2",
            value: 0.8,
            raised_at: Utc::now(),
            lots: &[],
        };
        let mut conn = self.farm.state.store.connection().await.unwrap();
        assert!(alert::raise(&mut conn, &new).await.unwrap());
        assert!(!alert::raise(&mut conn, &new).await.unwrap(), "it is open");
        alert::open_at(&mut conn, self.place.id, &[]).await.unwrap()[0].id
    }

    async fn clear(&self) {
        let mut conn = self.farm.state.store.connection().await.unwrap();
        let open = alert::open_at(&mut conn, self.place.id, &[]).await.unwrap().remove(0);
        assert!(alert::clear(&mut conn, open.id, 0.0, Utc::now()).await.unwrap());
    }

    async fn step(&self, now: DateTime<Utc>) -> bool {
        let state = &self.farm.state;
        let written = |told: &deliveries::Told| letter(state, told);
        deliveries::step(&state.store, &self.deliveries, written, now).await.unwrap()
    }
}

fn files() -> PathBuf {
    let files = std::env::temp_dir().join(format!("suyuan-told-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&files).unwrap();
    files
}

fn read(files: &std::path::Path, smtp: &str, to: &str) -> Result<Deliveries, DeliveriesError> {
    let (secret, server) = (files.join("secret"), files.join("smtp"));
    for file in [&secret, &server] {
        drop(std::fs::remove_file(file));
    }
    write_secret(&secret, &trace::b64::url(&SECRET)).unwrap();
    write_secret(&server, smtp).unwrap();
    let text = format!(
        "[smtp]\nfrom = \"Suyuan <alerts@suyuan.example>\"\nurl_file = \"{}\"\n{}",
        server.display(),
        to.replace("SECRET", &secret.display().to_string())
    );
    let file = files.join("alerts.toml");
    std::fs::write(&file, text).unwrap();
    Deliveries::read(Some(&file))
}

fn to_webhook(url: &str) -> String {
    format!("[[to]]\nparty = \"depot\"\nwebhook = \"{url}\"\nsecret_file = \"SECRET\"\n")
}

fn later(minutes: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::minutes(minutes)
}

const NO_MAIL: &str = "smtp://localhost:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_twice_gets_one_message_three_times_and_never_again() {
    let (url, mut got) = webhook(vec![500, 302, 200, 200]).await;
    let Some(told) = Told::open("told_webhook", NO_MAIL, &to_webhook(&url)).await else { return };
    let id = told.raise().await;
    assert!(told.step(later(0)).await);
    assert!(!told.step(later(0)).await, "the next try has its time");
    assert!(told.step(later(10)).await);
    assert!(told.step(later(30)).await);
    assert!(!told.step(later(600)).await, "it has arrived");
    let mut tries = Vec::new();
    for _ in 0..3 {
        tries.push(got.recv().await.unwrap());
    }
    let (head, body) = &tries[0];
    let key = header(head, "idempotency-key");
    for (head, other) in &tries {
        assert_eq!((header(head, "idempotency-key"), header(head, "webhook-id"), other), (key, key, body));
        let signed = format!("{key}.{}.{body}", header(head, "webhook-timestamp"));
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&SECRET).unwrap();
        mac.update(signed.as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(header(head, "webhook-signature"), expected);
    }
    let said: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&said["what"], &said["unit"]), (&"raised".into(), &"CEL-DAY".into()));
    assert_eq!((&said["value"], &said["cleared_at"]), (&0.8.into(), &serde_json::Value::Null));

    // Seeing it is nobody's message; its end is one of its own.
    let account = told.farm.sign_in("depot").await;
    let request = actix_web::test::TestRequest::post()
        .uri(&format!("/alerts/{id}/acknowledge"))
        .insert_header(("cookie", account));
    told.farm.request(request).await;
    assert!(!told.step(later(600)).await);
    let mut conn = told.farm.state.store.connection().await.unwrap();
    assert!(alert::clear(&mut conn, id, 0.1, Utc::now()).await.unwrap());
    assert!(!alert::clear(&mut conn, id, 0.1, Utc::now()).await.unwrap());
    drop(conn);
    let (one, other, third) = tokio::join!(told.step(later(1)), told.step(later(1)), told.step(later(1)));
    assert_eq!([one, other, third].iter().filter(|sent| **sent).count(), 1, "by one server");
    let (head, body) = got.recv().await.unwrap();
    assert_ne!(header(&head, "idempotency-key"), key);
    assert!(body.contains("\"what\":\"cleared\"") && body.contains("\"cleared_value\":0.1"), "{body}");
    assert!(got.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_between_sending_and_noting_sends_again_under_the_same_name() {
    let (url, mut got) = webhook(vec![0, 200]).await;
    let Some(told) = Told::open("told_killed", NO_MAIL, &to_webhook(&url)).await else { return };
    told.raise().await;
    // The receiver has it, and the server is gone before it could note that.
    let (head, body) = tokio::select! {
        _ = told.step(later(0)) => panic!("nobody answers"),
        got = got.recv() => got.unwrap(),
    };
    assert!(told.step(later(0)).await);
    let (again, same) = got.recv().await.unwrap();
    assert_eq!((header(&head, "idempotency-key"), body), (header(&again, "idempotency-key"), same));
    assert!(!told.step(later(600)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_alert_waits_for_its_beginning() {
    let (url, mut got) = webhook(vec![503, 200, 200]).await;
    let Some(told) = Told::open("told_order", NO_MAIL, &to_webhook(&url)).await else { return };
    told.raise().await;
    assert!(told.step(later(0)).await);
    told.clear().await;
    assert!(!told.step(later(0)).await, "the beginning has not arrived yet");
    assert!(told.step(later(10)).await && told.step(later(10)).await);
    let mut order = Vec::new();
    for _ in 0..3 {
        let said: serde_json::Value = serde_json::from_str(&got.recv().await.unwrap().1).unwrap();
        order.push(said["what"].as_str().unwrap().to_owned());
    }
    assert_eq!(order, ["raised", "raised", "cleared"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_in_its_readers_language_and_keeps_its_message_id_over_tries() {
    let (server, mut got) = mail_server(vec!["451 later", "250 taken"]).await;
    let to = "[[to]]\nparty = \"depot\"\nmail = \"Keeper <keeper@depot.example>\"\nlanguage = \"en\"\n";
    let Some(told) = Told::open("told_mail", &server, to).await else { return };
    told.raise().await;
    assert!(told.step(later(0)).await && told.step(later(10)).await);
    assert!(!told.step(later(600)).await);
    let ((envelope, first), (_, second)) = (got.recv().await.unwrap(), got.recv().await.unwrap());
    assert_eq!(first, second);
    assert!(envelope.contains("RCPT TO:<keeper@depot.example>"), "{envelope}");
    assert!(header(&first, "message-id").ends_with("@suyuan.example>"), "{first}");
    assert_eq!(header(&first, "subject"), "Alert: A layer is warming, Bin 1");
    for said in ["Measured: 0.8 =C2=B0C a day", "layer 2", "LS/T 1707.2", "/alerts"] {
        assert!(first.contains(said), "{said}: {first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_arrives_is_given_up_and_what_was_never_raised_is_not_told() {
    let Some(told) = Told::open("told_never", NO_MAIL, &to_webhook("http://127.0.0.1:1/")).await else {
        return;
    };
    let mut transaction = told.farm.state.store.begin().await.unwrap();
    let new = NewAlert {
        party_id: told.place.party_id,
        place_id: told.place.id,
        device_id: None,
        profile: "grain",
        rule: "inspect",
        subject: "",
        metric: "inspect",
        unit: "DAY",
        threshold: 7.0,
        source: "",
        value: 8.0,
        raised_at: Utc::now(),
        lots: &[],
    };
    alert::raise(&mut transaction, &new).await.unwrap();
    drop(transaction);
    assert!(!told.step(later(600)).await);
    told.raise().await;
    let mut tries = 0;
    while told.step(later(120 * (tries + 1))).await {
        tries += 1;
    }
    assert_eq!(tries, 16);
    // Whoever is not in the file any more is told nothing more.
    told.clear().await;
    read(&told.files, NO_MAIL, "").unwrap().settle(&told.farm.state.store).await.unwrap();
    assert!(!told.step(later(10_000)).await);
}

#[test]
fn a_file_that_would_send_in_clear_or_to_nobody_is_refused() {
    let files = files();
    let refused = |smtp: &str, to: &str| read(&files, smtp, to).err().unwrap().to_string();
    for url in [
        "http://example.com/",
        "ftp://example.com/",
        "https://user@example.com/",
        "http://127.0.0.1.example.com/",
    ] {
        let told = refused(NO_MAIL, &to_webhook(url));
        assert!(told.contains("is an https URL") && !told.contains(url), "{told}");
    }
    for server in ["smtp://mail.example:25", "smtp://mail.example:587?tls=opportunistic"] {
        assert!(refused(server, "").contains("is reached with TLS"), "{server}");
    }
    assert!(read(&files, "smtps://user:secret@mail.example", &to_webhook("https://example.com/")).is_ok());
    assert!(read(&files, "smtp://mail.example:587?tls=required", "").is_ok());
    assert!(refused(NO_MAIL, "[[to]]\nparty = \"depot\"\n").contains("webhook with secret_file, or mail"));
    std::fs::remove_dir_all(files).unwrap();
}
