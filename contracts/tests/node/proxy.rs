//! In front of a dev chain: a node with the ways of consortium chains, one that goes down, one where a block comes at the worst
//! moment.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

/// Ends with the test.
pub struct Proxy {
    pub url: String,
    state: Arc<State>,
}

struct State {
    target: String,
    http: reqwest::Client,
    quirky: bool,
    down: AtomicBool,
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
            target: target.to_owned(),
            http: reqwest::Client::new(),
            quirky,
            down: AtomicBool::new(false),
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

    /// Mines a block before `requests` more are answered; `false` where the last one asked for never came.
    pub fn mine_in(&self, requests: i64) -> bool {
        self.state.mine_in.swap(requests, Ordering::SeqCst) < 0
    }
}

impl State {
    async fn forward(&self, request: &Value) -> Value {
        let sent = self.http.post(&self.target).json(request).send().await.unwrap();
        sent.json().await.unwrap()
    }
}

async fn answer(state: web::Data<State>, request: web::Json<Value>) -> HttpResponse {
    if state.down.load(Ordering::SeqCst) {
        return HttpResponse::ServiceUnavailable().finish();
    }
    if state.mine_in.fetch_sub(1, Ordering::SeqCst) == 0 {
        state.forward(&json!({"jsonrpc": "2.0", "id": 1, "method": "anvil_mine", "params": [1]})).await;
    }
    if state.quirky {
        return consortium(&state, &request).await;
    }
    HttpResponse::Ok().json(state.forward(&request).await)
}

async fn consortium(state: &State, request: &Value) -> HttpResponse {
    let method = request["method"].as_str().unwrap_or_default().to_owned();
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
    let mut answer = state.forward(request).await;
    match method.as_str() {
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
