//! The stand-in for the server.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use trace::{
    hash::sha256,
    pack::{
        Frame,
        carriage::{Body, Outcome, Status, read_items, write_outcomes},
    },
};

use crate::site::{TOKEN, until};

/// A dead letter that waits: (id, topic, arrival, payload).
pub type Letter = (i64, String, i64, Vec<u8>);

/// What the stand-in for the server does with the next posts.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// Posts that are answered 503 before anything is stored.
    pub refuse: AtomicUsize,
    /// Posts that are stored and then answered 500: committed, but the gateway cannot know.
    pub forget: AtomicUsize,
    /// Posts that are answered 200 with one verdict too few.
    pub short: AtomicUsize,
    pub delay_ms: AtomicU64,
    pub register_delay_ms: AtomicU64,
    /// Everything stored, by topic and bytes, in order.
    pub stored: Mutex<Vec<(String, Vec<u8>)>>,
    pub oversize: AtomicUsize,
    pub registers_unchanged: AtomicUsize,
    /// How often all devices were given new passwords.
    pub passwords: AtomicUsize,
    pub waiting: Mutex<Vec<Letter>>,
    /// Confirmations that are answered 500 and forgotten.
    pub unconfirmed: AtomicUsize,
    /// What the gateway said of letters: (id, body).
    pub confirmed: Mutex<Vec<(i64, serde_json::Value)>>,
    /// When stored items had arrived, as the gateway told.
    pub arrivals: Mutex<Vec<i64>>,
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

    pub fn len(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}

async fn register(request: HttpRequest, state: web::Data<Behaviour>) -> HttpResponse {
    actix_web::rt::time::sleep(Duration::from_millis(state.register_delay_ms.load(Ordering::SeqCst))).await;
    let passwords = state.passwords.load(Ordering::SeqCst);
    let tag = format!("\"{}\"", 1 + passwords);
    if request.headers().get("if-none-match").is_some_and(|etag| etag == tag.as_str()) {
        state.registers_unchanged.fetch_add(1, Ordering::SeqCst);
        return HttpResponse::NotModified().finish();
    }
    let device = |device: &str, format: &str, signing: &str, map: &str| {
        format!(
            r#"{{"party":"mill","device":"{device}","format":"{format}","signing":"{signing}","kid":null,
                "token_sha256":"{}","repeats":"merge","map":{map}}}"#,
            sha256(if passwords == 0 { TOKEN.as_bytes() } else { b"another" })
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
    HttpResponse::Ok().insert_header(("etag", tag)).body(format!(
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
pub struct Server {
    pub state: web::Data<Behaviour>,
    pub address: SocketAddr,
    handle: Option<ServerHandle>,
}

impl Server {
    pub fn start() -> Self {
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

    pub fn kill(&mut self) {
        let handle = self.handle.take().unwrap();
        actix_web::rt::System::new().block_on(handle.stop(false));
    }

    pub fn restart(&mut self) {
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
