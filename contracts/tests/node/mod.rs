//! A dev chain of a test's own.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use contracts::{Account, Address, Receipt, Rpc, deploy};

pub const CHAIN_ID: u64 = 31_337;

/// anvil; ends with the test.
pub struct Anvil {
    child: Child,
    pub url: String,
}

impl Anvil {
    /// With a block a second. `base_fee` in wei a unit of gas: 0 is free gas, as on a consortium chain.
    pub async fn start(base_fee: u64) -> Self {
        Self::with_blocks(base_fee, "1").await
    }

    /// With a block each so many seconds.
    pub async fn with_blocks(base_fee: u64, seconds: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts/node_modules/.bin/anvil");
        let child = Command::new(program)
            .args([
                "--port",
                &port,
                "--block-time",
                seconds,
                "--order",
                "fifo",
                "--silent",
                "--gas-price",
                "0",
            ])
            .args(["--block-base-fee-per-gas", &base_fee.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("the dev chain is installed by `npm ci` in contracts/, which `make test` runs first");
        let anvil = Self { child, url: format!("http://127.0.0.1:{port}") };
        for _ in 0..500 {
            if anvil.rpc().call::<serde_json::Value>("eth_chainId", serde_json::json!([])).await.is_ok() {
                return anvil;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the dev chain does not answer");
    }

    pub fn rpc(&self) -> Rpc {
        Rpc::new(reqwest::Client::new(), &self.url).unwrap()
    }

    /// `account(1)` owns it, `account(9)` is the regulator.
    pub async fn contract(&self) -> (Address, Receipt) {
        deploy(&self.rpc(), &account(1), 0, 0, vec![account(9).address()]).await.unwrap()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

pub fn account(number: u8) -> Account {
    Account::from_seed(&[number; 32]).unwrap()
}
