//! In front of a dev chain: a node with the ways of consortium chains, one that goes down, one where a block comes at the worst
//! moment, one that holds a request up while something else is done, one that is killed and comes back elsewhere.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Ends with the test.
pub struct Proxy {
    pub url: String,
    state: Arc<State>,
}

/// Where a request is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Before the node hears of it.
    There,
    /// After the node has found something, before who asked hears of it.
    Back,
}

/// A request that is held up, or will be; dropped, it goes on.
pub struct Held {
    pub reached: oneshot::Receiver<()>,
    swallow: oneshot::Sender<()>,
}

impl Held {
    /// The request, or its answer, never arrives.
    pub fn swallow(self) {
        self.swallow.send(()).unwrap_or_default();
    }
}

struct Barrier {
    method: &'static str,
    way: Way,
    /// Those that still pass.
    pass: u32,
    reached: oneshot::Sender<()>,
    swallowed: oneshot::Receiver<()>,
}

struct State {
    target: Mutex<String>,
    barrier: Mutex<Option<Barrier>>,
    http: reqwest::Client,
    quirky: bool,
    down: AtomicBool,
    counts_ahead: AtomicBool,
    /// Requests until a block is mined.
    mine_in: AtomicI64,
}

impl Proxy {
    /// What FISCO BCOS and Besu answer otherwise than geth (`chain.md`, "Chains").
    pub fn quirky(target: &str) -> Self {
        Self::start(target, true)
    }

    pub fn plain(target: &str) -> Self {
        Self::start(target, false)
    }

    fn start(target: &str, quirky: bool) -> Self {
        let state = Arc::new(State {
            target: Mutex::new(target.to_owned()),
            barrier: Mutex::new(None),
            http: reqwest::Client::new(),
            quirky,
            down: AtomicBool::new(false),
            counts_ahead: AtomicBool::new(false),
            mine_in: AtomicI64::new(-1),
        });
        let data = web::Data::from(Arc::clone(&state));
        let server =
            HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(answer)))
                .workers(1)
                .disable_signals()
                .bind("127.0.0.1:0")
                .unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self { url: format!("http://{address}"), state }
    }

    pub fn go_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// An account's transactions count before the block that takes them is shown, as while a node takes a block in.
    pub fn count_ahead(&self, ahead: bool) {
        self.state.counts_ahead.store(ahead, Ordering::SeqCst);
    }

    /// The node has another place from now on.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.state.target.lock().unwrap());
    }

    /// Holds a request for `method` up, the first after so many others.
    pub fn hold(&self, method: &'static str, way: Way, pass: u32) -> Held {
        let ((tell, reached), (swallow, swallowed)) = (oneshot::channel(), oneshot::channel());
        *self.state.barrier.lock().unwrap() = Some(Barrier { method, way, pass, reached: tell, swallowed });
        Held { reached, swallow }
    }

    /// Mines a block before `requests` more are answered; `false` where the last one asked for never came.
    pub fn mine_in(&self, requests: i64) -> bool {
        self.state.mine_in.swap(requests, Ordering::SeqCst) < 0
    }
}

impl State {
    /// `None` where no node is there.
    async fn forward(&self, request: &Value) -> Option<Value> {
        let target = self.target.lock().unwrap().clone();
        let sent = self.http.post(target).json(request).send().await.ok()?;
        sent.json().await.ok()
    }

    /// `false`: it ends here.
    async fn pass(&self, method: &str, way: Way) -> bool {
        let Some(barrier) = self.reach(method, way) else { return true };
        // Whoever no longer waits lets it go on at once.
        barrier.reached.send(()).unwrap_or_default();
        barrier.swallowed.await.is_err()
    }

    fn reach(&self, method: &str, way: Way) -> Option<Barrier> {
        let mut standing = self.barrier.lock().unwrap();
        let barrier = standing.as_mut().filter(|barrier| (barrier.method, barrier.way) == (method, way))?;
        if barrier.pass == 0 {
            return standing.take();
        }
        barrier.pass -= 1;
        None
    }
}

async fn answer(state: web::Data<State>, mut request: web::Json<Value>) -> HttpResponse {
    if state.down.load(Ordering::SeqCst) {
        return HttpResponse::ServiceUnavailable().finish();
    }
    if state.mine_in.fetch_sub(1, Ordering::SeqCst) == 0 {
        state.forward(&json!({"jsonrpc": "2.0", "id": 1, "method": "anvil_mine", "params": [1]})).await;
    }
    if state.counts_ahead.load(Ordering::SeqCst) && request["method"] == "eth_getTransactionCount" {
        request["params"][1] = json!("pending");
    }
    let method = request["method"].as_str().unwrap_or_default();
    if !state.pass(method, Way::There).await {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let Some(answer) = state.forward(&request).await else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    if !answer["result"].is_null() && !state.pass(method, Way::Back).await {
        return HttpResponse::ServiceUnavailable().finish();
    }
    if state.quirky { consortium(&request, answer) } else { HttpResponse::Ok().json(answer) }
}

fn consortium(request: &Value, mut answer: Value) -> HttpResponse {
    let method = request["method"].as_str().unwrap_or_default();
    let refused = |code: i64, message: &str, data: Value| {
        HttpResponse::Ok().json(
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message, "data": data}}),
        )
    };
    if method == "eth_feeHistory" || method == "eth_maxPriorityFeePerGas" {
        return refused(-32601, "the method does not exist", Value::Null);
    }
    if method == "eth_getLogs" {
        let address = request["params"][0]["address"].as_str().unwrap_or_default();
        if address != address.to_ascii_lowercase() {
            return HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": 1, "result": []}));
        }
    }
    match method {
        // On chain, and yet an error.
        "eth_sendRawTransaction" => {
            return refused(-32000, "transaction already in block chain", Value::Null);
        }
        "eth_call" if !answer["error"].is_null() => {
            let data = answer["error"]["data"].clone();
            return refused(-32016, "Execution reverted", json!({"data": data}));
        }
        "eth_getTransactionReceipt" | "eth_getTransactionByHash" => {
            if let Some(result) = answer["result"].as_object_mut() {
                result.insert("transactionIndex".to_owned(), json!("0x307830"));
                result.remove("effectiveGasPrice");
            }
        }
        "eth_chainId" | "eth_blockNumber" => {
            let number = answer["result"].as_str().unwrap_or_default().trim_start_matches("0x").to_owned();
            answer["result"] = json!(u64::from_str_radix(&number, 16).unwrap());
        }
        _ => {}
    }
    HttpResponse::Ok().json(answer)
}
