//! The contract's own list of heads, as any node shows it.

use contracts::{Address, Anchored, Head, Rpc};
use serde_json::{Value, json};
use trace::hash::{Hash, sha256};

/// Every head of the origin that stands on the chain, oldest first.
pub async fn heads(rpc: &Rpc, contract: Address, origin: &str) -> Vec<Anchored> {
    let key = sha256(origin.as_bytes());
    let topics = json!([null, hex(key.as_bytes())]);
    let asked = json!([{"address": contract, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}]);
    let logs: Vec<Value> = rpc.call("eth_getLogs", asked).await.unwrap();
    logs.iter().filter_map(|log| anchored(log, origin)).collect()
}

/// `None` where the contract tells something else of the origin: then an address stands where the size would, or nothing.
fn anchored(log: &Value, origin: &str) -> Option<Anchored> {
    let size = number(log["topics"].get(2)?)?;
    let root = hash(&log["data"])?;
    Some(Anchored {
        head: Head { origin: origin.to_owned(), size, root },
        block: number(&log["blockNumber"])?,
        block_hash: hash(&log["blockHash"])?,
        transaction: hash(&log["transactionHash"])?,
    })
}

fn digits(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix("0x")
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(digits(value)?, 16).ok()
}

fn hash(value: &Value) -> Option<Hash> {
    let digits = digits(value)?;
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    Hash::from_slice(&bytes.collect::<Option<Vec<u8>>>()?)
}

/// As nodes write bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
