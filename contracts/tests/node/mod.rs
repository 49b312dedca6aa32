//! A dev chain of a test's own.

#![allow(dead_code, reason = "no test uses all of it")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use contracts::{Account, Address, Receipt, Rpc, deploy};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, oneshot},
    task::JoinHandle,
    time::timeout,
};

pub const CHAIN_ID: u64 = 31_337;
/// For the dev chain's start.
const PATIENCE: Duration = Duration::from_secs(20);

/// anvil; ends with the test.
///
/// Its blocks are asked for from here: anvil mines on its own while it re-organises itself, and a block that comes in between
/// leaves a chain with a hole, whose state knows nothing of transactions that stand in its blocks (1.7.1).
pub struct Anvil {
    child: Child,
    pub url: String,
    /// Held while blocks are added or taken back.
    blocks: Arc<Mutex<()>>,
    miner: JoinHandle<()>,
}

impl Anvil {
    /// With a block a second. `base_fee` in wei a unit of gas: 0 is free gas, as on a consortium chain.
    pub async fn start(base_fee: u64) -> Self {
        Self::with_blocks(base_fee, Duration::from_secs(1)).await
    }

    /// With a block after each `pause`.
    pub async fn with_blocks(base_fee: u64, pause: Duration) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts/node_modules/.bin/anvil");
        // The kernel gives the port: one that looked free a moment ago may be another test's by now.
        let mut child = Command::new(program)
            .args(["--port", "0", "--no-mining", "--order", "fifo", "--gas-price", "0"])
            .args(["--block-base-fee-per-gas", &base_fee.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the dev chain is installed by `npm ci` in contracts/, which `make test` runs first");
        let told = address_told(child.stdout.take().unwrap());
        let Ok(Ok(address)) = timeout(PATIENCE, told).await else {
            child.kill().unwrap_or_default();
            panic!("the dev chain does not listen");
        };
        let (url, blocks) = (format!("http://{address}"), Arc::default());
        let miner = tokio::spawn(mine(rpc_at(&url), Arc::clone(&blocks), pause));
        Self { child, url, blocks, miner }
    }

    /// Replaces the newest `depth` blocks by as many others. `transactions`: raw ones in hex, with the block of the new ones,
    /// counted from 0, that takes each.
    pub async fn reorganise(&self, depth: u64, transactions: Value) {
        let _held = self.blocks.lock().await;
        self.rpc().call::<Value>("anvil_reorg", json!([depth, transactions])).await.unwrap();
    }

    /// From now on blocks come when the test says so.
    pub async fn rest(&self) {
        let _held = self.blocks.lock().await;
        self.miner.abort();
    }

    /// Its blocks, for [`Self::load`]; a node that is killed forgets what waits for one. It rests from now on.
    pub async fn state(&self) -> Value {
        self.rest().await;
        self.rpc().call("anvil_dumpState", json!([])).await.unwrap()
    }

    /// Has the blocks of another one from now on, and goes on from there.
    pub async fn load(&self, state: &Value) {
        let _held = self.blocks.lock().await;
        assert_eq!(self.rpc().call::<Value>("anvil_loadState", json!([state])).await.unwrap(), true);
    }

    pub fn rpc(&self) -> Rpc {
        rpc_at(&self.url)
    }

    /// `account(1)` owns it, `account(9)` is the regulator.
    pub async fn contract(&self) -> (Address, Receipt) {
        deploy(&self.rpc(), &account(1), 0, 0, vec![account(9).address()]).await.unwrap()
    }
}

fn rpc_at(url: &str) -> Rpc {
    Rpc::new(reqwest::Client::new(), url).unwrap()
}

async fn mine(rpc: Rpc, blocks: Arc<Mutex<()>>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let _held = blocks.lock().await;
        // While the test stops it there is no answer.
        drop(rpc.call::<Value>("evm_mine", json!([])).await);
    }
}

/// Where the dev chain says that it listens. The rest is read, too: nobody may hold it up by not listening.
fn address_told(said: ChildStdout) -> oneshot::Receiver<String> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut tell = Some(tell);
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("Listening on ")
                && let Some(tell) = tell.take()
            {
                // A test that waits no more has said so.
                tell.send(address.to_owned()).unwrap_or_default();
            }
        }
    });
    told
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.miner.abort();
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

pub fn account(number: u8) -> Account {
    Account::from_seed(&[number; 32]).unwrap()
}
