//! A log, the dev chains that it is anchored on, and those who do it.

use std::{sync::Arc, time::Duration};

use contracts::{Account, Address, Chain as _, Evm, Head, Rpc, Terms};
use server::{
    jobs::{anchor::Anchorer, sequencer::Sequencer},
    service::{
        chains::{self, Configured},
        keys::{Keys, write_secret},
        ledger::Ledger,
    },
};
use store::{Store, anchor, ledger as rows};
use trace::{
    b64,
    hash::{Hash, sha256},
    keys::SecretKey,
    tlog::{note::SignerKey, policy::Policy},
};

use crate::{
    database,
    node::{Anvil, CHAIN_ID, account},
};

pub const ORIGIN: &str = "log.example/demo/2026";
/// Anchors follow each other at once.
pub const AT_ONCE: Duration = Duration::ZERO;

/// A log that others may anchor.
pub struct World {
    pub ledger: Arc<Ledger>,
    pub sequencer: Sequencer,
    pub entries: u32,
    pub url: String,
}

/// A dev chain with the contract, and how it is configured.
pub struct Dev {
    pub evm: Evm,
    pub chain: Configured,
    pub anvil: Anvil,
}

pub async fn ledger_in(url: &str) -> Arc<Ledger> {
    let store = Store::open(url, 10).unwrap();
    let signer = SignerKey { name: ORIGIN.parse().unwrap(), secret: SecretKey::from_seed(&[1; 32]) };
    let ledger = Ledger::open(store, "log.example", "demo", [signer], Policy::default()).await.unwrap();
    ledger.set_halt(None);
    Arc::new(ledger)
}

/// What an operator writes for a chain, on which `account(2)` publishes.
pub fn told(name: &str, rpc_url: &str, contract: Address, policy: &str) -> Configured {
    let directory = std::env::temp_dir().join(format!("suyuan-chains-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&directory).unwrap();
    let (key, file) = (directory.join("key"), directory.join("chains.toml"));
    write_secret(&key, &b64::url(&[2; 32])).unwrap();
    let text = format!(
        "[[chain]]\nname = \"{name}\"\nrpc_url = \"{rpc_url}\"\nchain_id = {CHAIN_ID}\ncontract = \"{contract}\"\nkey_file = \"{}\"\n{policy}\n",
        key.display()
    );
    std::fs::write(&file, text).unwrap();
    let read = chains::read(&file, &reqwest::Client::new()).unwrap().remove(0);
    std::fs::remove_dir_all(directory).unwrap();
    read
}

pub const FREE: &str = "gas_price_wei = 0\nfinality_blocks = 3";

impl Dev {
    /// Free gas, a block a second.
    pub async fn start() -> Self {
        Self::on(Anvil::start(0).await, "dev", FREE).await
    }

    pub async fn on(anvil: Anvil, name: &str, policy: &str) -> Self {
        let (contract, _) = anvil.contract().await;
        let evm = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
        evm.register(&account(1), 0, ORIGIN, account(2).address()).await.unwrap();
        let chain = told(name, &anvil.url, contract, policy);
        Self { evm, chain, anvil }
    }

    /// The same chain by another URL, or with another policy.
    pub fn told(&self, url: &str, policy: &str) -> Configured {
        told(&self.chain.name, url, self.chain.contract, policy)
    }

    pub async fn call(&self, method: &'static str, params: serde_json::Value) -> serde_json::Value {
        Rpc::new(reqwest::Client::new(), &self.anvil.url).unwrap().call(method, params).await.unwrap()
    }

    /// Transactions of the anchorer's account that stand in blocks.
    pub async fn sent(&self) -> u64 {
        self.evm.nonce(account(2).address()).await.unwrap()
    }

    /// Waits until blocks have taken `count` transactions of the anchorer's account.
    pub async fn mined(&self, count: u64) {
        for _ in 0..100 {
            if self.sent().await >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not mined");
    }

    pub async fn size(&self) -> u64 {
        self.evm.find(ORIGIN, None).await.unwrap().map_or(0, |newest| newest.head.size)
    }
}

/// What a sequencer needs to seal its log: here it never does.
pub fn keys() -> Arc<Keys> {
    Arc::new(Keys::from_seeds("demo", &[1; 32], &[2; 32], &[3; 32]))
}

impl World {
    pub async fn new(name: &str) -> Option<Self> {
        let url = database::fresh(name).await?;
        let ledger = ledger_in(&url).await;
        let sequencer = Sequencer::lead(Arc::clone(&ledger)).await.unwrap().unwrap();
        Some(Self { ledger, sequencer, entries: 0, url })
    }

    pub async fn grow(&mut self, by: u32) {
        let mut conn = self.ledger.store().connection().await.unwrap();
        for number in self.entries..self.entries + by {
            rows::queue(&mut conn, sha256(&number.to_be_bytes()).as_bytes()).await.unwrap();
        }
        self.entries += by;
        self.sequencer.step().await.unwrap().unwrap();
    }

    pub async fn lead<'a>(&'a self, chain: &'a Configured) -> Anchorer<'a> {
        // The connection of one that was just dropped may take a moment to go.
        for _ in 0..200 {
            if let Ok(Some(anchorer)) = Anchorer::lead(&self.ledger, chain).await {
                return anchorer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody else sends on this chain");
    }

    pub async fn newest(&self, chain: &Configured) -> anchor::Anchor {
        let mut conn = self.ledger.store().connection().await.unwrap();
        let contract = chain.contract_text();
        let place = anchor::Place { chain_id: i64::try_from(CHAIN_ID).unwrap(), contract: &contract };
        anchor::newest(&mut conn, place).await.unwrap().unwrap()
    }

    /// Follows until the newest row is in `state`.
    pub async fn until(&self, dev: &Dev, anchorer: &mut Anchorer<'_>, state: &str) -> anchor::Anchor {
        for _ in 0..300 {
            anchorer.follow(&dev.evm).await.unwrap();
            let newest = self.newest(&dev.chain).await;
            if newest.state == state {
                return newest;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {state}: {:?}", self.newest(&dev.chain).await);
    }

    /// The whole log's head, with the proof from the head of `from` entries on.
    pub async fn head_from(&self, from: u64) -> (Head, Vec<Hash>) {
        let mut conn = self.ledger.store().connection().await.unwrap();
        let (size, root, _) = self.ledger.head(&mut conn, self.ledger.open_log().id).await.unwrap();
        let tree = self.ledger.tree();
        let proof = tree.consistency_proof(&mut conn, self.ledger.open_log().id, from, size).await.unwrap();
        (Head { origin: ORIGIN.to_owned(), size, root }, proof)
    }

    /// Anchors the whole log by another account than the anchorer's.
    pub async fn anchored_by(&self, dev: &Dev, other: &Account, from: u64) {
        let (head, proof) = self.head_from(from).await;
        let terms = Terms { nonce: dev.evm.nonce(other.address()).await.unwrap(), gas_price: 0 };
        dev.evm.submit(&dev.evm.ticket(other, terms, &head, &proof).unwrap()).await.unwrap();
        for _ in 0..100 {
            if dev.size().await == head.size {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not anchored by the other");
    }
}

/// As nodes write bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
