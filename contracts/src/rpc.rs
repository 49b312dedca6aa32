//! JSON-RPC 2.0 over HTTP, bounded in time and bytes.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer is a page of logs.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{0} is no http or https URL")]
    Url(String),
    #[error("the node does not answer")]
    Transport(#[from] reqwest::Error),
    #[error("the node answers status {0}")]
    Status(u16),
    #[error("the node answers more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the node's answer to {0} is no JSON-RPC")]
    Malformed(&'static str),
    /// `data` is what the contract reverted with, wherever this node puts it.
    #[error("the node answers error {code}: {message}")]
    Error { code: i64, message: String, data: Option<Vec<u8>> },
}

/// One node.
#[derive(Debug, Clone)]
pub struct Rpc {
    http: reqwest::Client,
    url: reqwest::Url,
}

impl Rpc {
    pub fn new(http: reqwest::Client, url: &str) -> Result<Self, RpcError> {
        let parsed: reqwest::Url = url.parse().map_err(|_| RpcError::Url(url.to_owned()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(RpcError::Url(url.to_owned()));
        }
        Ok(Self { http, url: parsed })
    }

    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let sent = self.http.post(self.url.clone()).timeout(TIMEOUT).json(&request).send().await?;
        let status = sent.status();
        let body = within(sent).await?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            return Err(if status.is_success() {
                RpcError::Malformed(method)
            } else {
                RpcError::Status(status.as_u16())
            });
        };
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(refused(error));
        }
        let result = answer.get_mut("result").map(Value::take).ok_or(RpcError::Malformed(method))?;
        serde_json::from_value(result).map_err(|_| RpcError::Malformed(method))
    }
}

async fn within(mut answer: reqwest::Response) -> Result<Vec<u8>, RpcError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(RpcError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Codes differ from node to node and are only shown. Revert data is the error's `data`, or `data.data`, or the
/// hexadecimal tail of its text.
fn refused(error: &Value) -> RpcError {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let message = error.get("message").and_then(text).unwrap_or_default();
    let data = error.get("data").and_then(|data| data.as_str().or_else(|| data.get("data")?.as_str()));
    let data = data.or_else(|| message.rsplit_once("0x").map(|(_, tail)| tail));
    RpcError::Error {
        code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
        data: data.and_then(|data| alloy::primitives::hex::decode(data.trim()).ok()),
        message,
    }
}
