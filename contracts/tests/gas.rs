//! What the contract costs, printed as the table of the README (`cargo test -p contracts --test gas -- --nocapture`) and
//! held below what `chain.md` measured for a simpler one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a test may stop where it stands, and this one prints a table"
)]

mod node;

use contracts::{Account, Chain as _, Evm, Head, Receipt, Terms};
use node::{Anvil, CHAIN_ID, account};
use trace::{
    hash::{Hash, sha256},
    merkle,
};

/// Nodes of a log whose leaves are all equal, so that a tree of any size costs one hash a level.
#[expect(clippy::unnecessary_wraps, reason = "the shape that proofs ask for")]
fn node(level: u8, _: u64) -> Option<Hash> {
    let leaf = merkle::leaf_hash(&sha256(b"the same entry"));
    Some((0..level).fold(leaf, |below, _| merkle::node_hash(&below, &below)))
}

fn head(origin: &str, size: u64) -> Head {
    Head { origin: origin.to_owned(), size, root: merkle::root_at(&node, size).unwrap() }
}

async fn anchored(evm: &Evm, account: &Account, head: &Head, proof: &[Hash]) -> Receipt {
    let terms = Terms { nonce: evm.nonce(account.address()).await.unwrap(), gas_price: 0 };
    let ticket = evm.ticket(account, terms, head, proof).unwrap();
    evm.submit(&ticket).await.unwrap();
    for _ in 0..50 {
        if let Some(receipt) = evm.receipt(ticket.transaction).await.unwrap() {
            assert!(receipt.succeeded, "size {}", head.size);
            return receipt;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("not mined");
}

#[tokio::test]
async fn a_head_costs_less_than_two_records_would() {
    /// Measured in `chain.md`: a hash of each record on chain.
    const RECORD_ON_CHAIN: u64 = 46_089;
    let anvil = Anvil::start(0).await;
    let (contract, deployed) = anvil.contract().await;
    let evm = Evm::connect(anvil.rpc(), CHAIN_ID, contract).await.unwrap();
    println!("| step | hashes in the proof | gas |\n|---|---|---|\n| deployment | | {} |", deployed.gas_used);
    // A minute's records between two anchors.
    for (size, more) in [(1_000, 600), (100_000, 6_000), (1_000_000, 60_000), (10_000_000, 600_000)] {
        let origin = format!("log.example/demo/{size}");
        evm.register(&account(1), 0, &origin, account(2).address()).await.unwrap();
        let first = anchored(&evm, &account(2), &head(&origin, size), &[]).await;
        let proof = merkle::consistency_proof(&node, size, size + more).unwrap();
        let next = anchored(&evm, &account(2), &head(&origin, size + more), &proof).await;
        if size == 1_000 {
            println!("| first head | 0 | {} |", first.gas_used);
        }
        println!(
            "| {size} → {} leaves | {} | {}, {:.2} a record |",
            size + more,
            proof.len(),
            next.gas_used,
            next.gas_used as f64 / more as f64
        );
        assert!(next.gas_used < 2 * RECORD_ON_CHAIN, "{}", next.gas_used);
    }
    println!("| each record's hash on chain instead | | {RECORD_ON_CHAIN} a record |");
}
