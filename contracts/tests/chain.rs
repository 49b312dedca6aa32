//! The client against a real dev chain, and against one that answers as consortium nodes do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

mod node;
#[allow(dead_code, reason = "not every test needs all that it can do")]
#[path = "node/proxy.rs"]
mod proxy;

use contracts::{Account, Address, Chain as _, ChainError, Evm, Head, Refusal, Rpc, RpcError, Terms, deploy};
use node::{Anvil, CHAIN_ID, account};
use proxy::Proxy;
use serde_json::{Value, json};
use trace::{
    hash::{Hash, sha256},
    merkle,
};

const ORIGIN: &str = "log.example/demo/2026";

struct Log {
    leaves: Vec<Hash>,
}

impl Log {
    fn of(size: u64) -> Self {
        Self { leaves: (0..size).map(|index| merkle::leaf_hash(&sha256(&index.to_be_bytes()))).collect() }
    }

    fn head(&self, size: usize) -> Head {
        Head {
            origin: ORIGIN.to_owned(),
            size: u64::try_from(size).unwrap(),
            root: merkle::root(&self.leaves[..size]),
        }
    }

    fn proof(&self, from: u64, to: u64) -> Vec<Hash> {
        // A node is the root of the full subtree under it.
        let node = |level: u8, index: u64| {
            let (first, width) = (usize::try_from(index << level).ok()?, 1_usize << level);
            self.leaves.get(first..first + width).map(merkle::root)
        };
        merkle::consistency_proof(&node, from, to).unwrap()
    }
}

async fn registered(anvil: &Anvil) -> Evm {
    let (contract, _) = anvil.contract().await;
    let evm = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
    evm.register(&account(1), 0, ORIGIN, account(2).address()).await.unwrap();
    evm
}

async fn anchor(evm: &Evm, account: &Account, head: &Head, proof: &[Hash]) -> contracts::Ticket {
    evm.try_anchor(account.address(), head, proof).await.unwrap();
    let terms = Terms { nonce: evm.nonce(account.address()).await.unwrap(), gas_price: 0 };
    let ticket = evm.ticket(account, terms, head, proof).unwrap();
    evm.submit(&ticket).await.unwrap();
    evm.submit(&ticket).await.expect("sending again is harmless");
    for _ in 0..50 {
        if let Some(receipt) = evm.receipt(ticket.transaction).await.unwrap() {
            assert!(receipt.succeeded);
            return ticket;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("not mined");
}

#[tokio::test]
async fn a_chain_takes_heads_that_extend_each_other_and_no_others() {
    let anvil = Anvil::start(0).await;
    let evm = registered(&anvil).await;
    let (log, publisher) = (Log::of(20), account(2));
    assert_eq!(evm.find(ORIGIN, None).await.unwrap(), None);
    anchor(&evm, &publisher, &log.head(7), &[]).await;
    let ticket = anchor(&evm, &publisher, &log.head(20), &log.proof(7, 20)).await;
    evm.submit(&ticket).await.expect("what a block took is harmless to send");

    let newest = evm.find(ORIGIN, None).await.unwrap().unwrap();
    assert_eq!((newest.head, newest.transaction), (log.head(20), ticket.transaction));
    let first = evm.find(ORIGIN, Some(7)).await.unwrap().unwrap();
    assert_eq!(first.head, log.head(7));
    assert_eq!(evm.find(ORIGIN, Some(8)).await.unwrap(), None);
    assert_eq!(evm.find("log.example/other/2026", None).await.unwrap(), None);

    let refused = |error| match error {
        ChainError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    let from = publisher.address();
    let again = evm.try_anchor(from, &log.head(20), &[]).await.unwrap_err();
    assert_eq!(refused(again), Refusal::NotGrowing { known: 20, given: 20 });
    let more = Log::of(30);
    let forked = Head { root: sha256(b"another history"), ..more.head(30) };
    let forked = evm.try_anchor(from, &forked, &more.proof(20, 30)).await.unwrap_err();
    assert_eq!(refused(forked), Refusal::NotConsistent);
    let thief = evm.try_anchor(account(3).address(), &more.head(30), &more.proof(20, 30)).await.unwrap_err();
    assert_eq!(refused(thief), Refusal::NotAllowed);
    let elsewhere = Head { origin: "log.example/other/2026".to_owned(), ..log.head(7) };
    assert_eq!(refused(evm.try_anchor(from, &elsewhere, &[]).await.unwrap_err()), Refusal::UnknownOrigin);
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused_and_a_dead_one_is_an_error() {
    let anvil = Anvil::start(0).await;
    let other = Evm::connect(anvil.rpc(), 1, Address::ZERO).await.unwrap_err();
    assert!(matches!(other, ChainError::OtherChain { expected: 1, found: CHAIN_ID, .. }));
    let rpc = anvil.rpc();
    drop(anvil);
    let dead = Evm::connect(rpc, CHAIN_ID, Address::ZERO).await.unwrap_err();
    assert!(matches!(dead, ChainError::Rpc(RpcError::Transport(_))));
}

#[tokio::test]
async fn a_chain_with_a_gas_price_takes_what_is_paid_for() {
    // Public chains: an account with money, and a price above the base fee.
    let anvil = Anvil::start(1_000_000_000).await;
    let rich = account(5);
    let balance: Value = anvil
        .rpc()
        .call("anvil_setBalance", json!([format!("{:#x}", rich.address()), "0xde0b6b3a7640000"]))
        .await
        .unwrap();
    assert!(balance.is_null());
    let poor = deploy(&anvil.rpc(), &account(6), 3_000_000_000, 0, vec![rich.address()]).await;
    assert!(poor.is_err(), "who cannot pay is told so");
    deploy(&anvil.rpc(), &rich, 3_000_000_000, 0, vec![rich.address()]).await.unwrap();
}

#[tokio::test]
async fn a_search_ends_at_the_first_block_that_matters() {
    let anvil = Anvil::start(0).await;
    let evm = registered(&anvil).await;
    let (log, publisher) = (Log::of(9), account(2));
    anchor(&evm, &publisher, &log.head(4), &[]).await;
    let first = evm.find(ORIGIN, Some(4)).await.unwrap().unwrap();
    anchor(&evm, &publisher, &log.head(9), &log.proof(4, 9)).await;

    assert_eq!(evm.find(ORIGIN, Some(4)).await.unwrap(), Some(first));
    assert_eq!(evm.find(ORIGIN, Some(5)).await.unwrap(), None, "never anchored");
    let newest = evm.find(ORIGIN, None).await.unwrap().unwrap();
    let bounded = evm.since(newest.block);
    assert_eq!(bounded.find(ORIGIN, Some(9)).await.unwrap(), Some(newest));
    assert_eq!(bounded.find(ORIGIN, Some(4)).await.unwrap(), None, "it stands before the blocks looked at");
}

#[tokio::test]
async fn the_ways_of_consortium_nodes_are_understood() {
    let anvil = Anvil::start(0).await;
    let proxy = Proxy::quirky(&anvil.url);
    let rpc = Rpc::new(reqwest::Client::new(), &proxy.url).unwrap();
    let (contract, _) = deploy(&rpc, &account(1), 0, 0, vec![account(9).address()]).await.unwrap();
    let evm = Evm::connect(rpc, CHAIN_ID, contract).await.unwrap();
    evm.register(&account(1), 0, ORIGIN, account(2).address()).await.unwrap();
    let log = Log::of(9);
    anchor(&evm, &account(2), &log.head(4), &[]).await;
    anchor(&evm, &account(2), &log.head(9), &log.proof(4, 9)).await;
    assert_eq!(evm.find(ORIGIN, None).await.unwrap().unwrap().head, log.head(9));
    let refused = evm.try_anchor(account(2).address(), &log.head(9), &[]).await.unwrap_err();
    assert!(matches!(refused, ChainError::Refused(Refusal::NotGrowing { known: 9, given: 9 })));
}

#[tokio::test]
async fn notices_are_the_regulators_alone() {
    let anvil = Anvil::start(0).await;
    let evm = registered(&anvil).await;
    let (subject, document) = (sha256(b"a key"), sha256(b"the decision"));
    let notify =
        async |who: &Account| evm.notify(who, 0, 2, subject, "https://regulator.example/17", document).await;
    assert!(matches!(notify(&account(2)).await, Err(ChainError::Refused(Refusal::NotAllowed))));
    notify(&account(9)).await.unwrap();
    let notices = evm.notices(2, subject).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].regulator, notices[0].hash), (account(9).address(), document));
    assert!(notices[0].at > 1_700_000_000);
    assert!(evm.notices(1, subject).await.unwrap().is_empty());
    assert!(evm.notices(2, document).await.unwrap().is_empty());
}
