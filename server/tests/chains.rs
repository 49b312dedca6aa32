//! Several chains at once, each with its own policy and its own troubles; fees; and what may come between two look-ups.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    dead_code,
    reason = "a test may stop where it stands, says loudly what it skips, and does not use all that tests share"
)]

mod anchoring;
mod database;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;
#[path = "../../contracts/tests/node/proxy.rs"]
mod proxy;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anchoring::{AT_ONCE, Dev, FREE, ORIGIN, World, hex};
use contracts::{Evm, Rpc, Terms};
use node::{Anvil, CHAIN_ID, account};
use proxy::Proxy;
use serde_json::json;
use server::jobs;

/// What a public chain asks for.
const GWEI: u64 = 1_000_000_000;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(25);
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A chain where gas is paid for, blocks come when the test says so, and the anchorer's account has money.
async fn paid(policy: &str) -> Dev {
    let anvil = Anvil::with_blocks(0, Duration::from_millis(200)).await;
    let dev = Dev::on(anvil, "paid", policy).await;
    dev.call("anvil_setBalance", json!([format!("{:#x}", account(2).address()), "0xde0b6b3a7640000"])).await;
    dev.anvil.rest().await;
    dev
}

async fn mine(dev: &Dev) {
    dev.call("anvil_mine", json!([1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_down_or_reorganised_leaves_the_others_alone() {
    let Some(mut world) = World::new("chains_many").await else { return };
    // A chain is told from another by its id and the contract's address: the dev chains have one id.
    let start = async |name: &str, place: u8, policy: &str| {
        let anvil = Anvil::with_blocks(0, Duration::from_millis(200)).await;
        for _ in 1..place {
            anvil.contract().await;
        }
        Dev::on(anvil, name, policy).await
    };
    let hourly = format!("{FREE}\ninterval_s = 3600");
    let own = start("own", 1, FREE).await;
    let consortium = start("consortium", 2, FREE).await;
    let failing = start("failing", 3, FREE).await;
    let slow = start("slow", 4, &hourly).await;
    let quirks = Proxy::quirky(&consortium.anvil.url);
    let switch = Proxy::plain(&failing.anvil.url);
    let chains = vec![
        own.told(&own.anvil.url, FREE),
        consortium.told(&quirks.url, FREE),
        failing.told(&switch.url, FREE),
        slow.told(&slow.anvil.url, &hourly),
    ];

    world.grow(3).await;
    let interval = Duration::from_millis(200);
    let job = tokio::spawn(jobs::anchor::run(Arc::clone(&world.ledger), Arc::new(chains), interval));
    for dev in [&own, &consortium, &failing, &slow] {
        until("the first head stands everywhere", async || dev.size().await == 3).await;
    }
    switch.go_down(true);
    world.grow(4).await;
    for dev in [&own, &consortium] {
        until("the others go on", async || dev.size().await == 7).await;
    }
    assert_eq!((failing.size().await, slow.size().await), (3, 3), "one is down, one is not due for an hour");

    // A chain forgets the newest head, and nobody else notices.
    until("in the outbox as anchored", async || {
        let row = world.newest(&own.chain).await;
        row.size == 7 && row.state != "pending"
    })
    .await;
    let before = world.newest(&own.chain).await;
    let depth =
        own.evm.block_number().await.unwrap() + 1 - u64::try_from(before.block_number.unwrap()).unwrap();
    if before.state == "anchored" {
        own.anvil.reorganise(depth, json!([])).await;
    }
    world.grow(2).await;
    until("the reorganised chain catches up", async || own.size().await == 9).await;
    until("the other does not wait", async || consortium.size().await == 9).await;

    switch.go_down(false);
    until("the newest head goes, and none between", async || failing.size().await == 9).await;
    assert_eq!(failing.sent().await, 2);
    for dev in [&own, &consortium, &failing] {
        until("all is final", async || {
            let row = world.newest(&dev.chain).await;
            (row.size, row.state.as_str()) == (9, "final")
        })
        .await;
    }
    job.abort();
    drop(job.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_rises_by_an_eighth_until_a_block_takes_it_and_never_beyond_its_bound() {
    let policy = format!(
        "gas_price_wei = {GWEI}\ngas_price_max_wei = {}\nreplace_after_s = 1\nfinality_blocks = 1",
        GWEI * 13 / 10
    );
    let Some(mut world) = World::new("chains_fees").await else { return };
    let dev = paid(&policy).await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let first = world.newest(&dev.chain).await;
    let mut prices = vec![first.gas_price];
    let end = Instant::now() + Duration::from_millis(4_500);
    while Instant::now() < end {
        anchorer.step(AT_ONCE).await.unwrap();
        let row = world.newest(&dev.chain).await;
        assert_eq!((row.id, row.nonce, row.state.as_str()), (first.id, first.nonce, "pending"));
        if prices.last() != Some(&row.gas_price) {
            prices.push(row.gas_price);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(prices, [1_000_000_000, 1_125_000_001, 1_265_625_002], "the next would be too much");
    mine(&dev).await;
    let taken = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((taken.id, taken.gas_price), (first.id, 1_265_625_002));
    assert_ne!(taken.tx_hash, first.tx_hash);
    assert_eq!(dev.sent().await, 1, "one of them was taken");
    mine(&dev).await;
    world.until(&dev, &mut anchorer, "final").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_transaction_may_be_taken_after_its_replacement_was_sent() {
    let policy = format!("gas_price_wei = {GWEI}\nreplace_after_s = 1\nfinality_blocks = 1");
    let Some(mut world) = World::new("chains_replaced").await else { return };
    let dev = paid(&policy).await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let first = world.newest(&dev.chain).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let second = world.newest(&dev.chain).await;
    assert_ne!(second.tx_hash, first.tx_hash);
    // The block's maker had never heard of the second.
    dev.call("anvil_dropAllTransactions", json!([])).await;
    dev.call("eth_sendRawTransaction", json!([hex(&first.raw)])).await;
    mine(&dev).await;
    let taken = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((taken.tx_hash, taken.gas_price), (first.tx_hash, first.gas_price));
    assert!(taken.gas_used.is_some());
}

/// The race that a block between the look-ups of nonce and receipt once lost: an anchor that stands was called failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_between_any_two_look_ups_fails_no_anchor() {
    let policy = "gas_price_wei = 0\nfinality_blocks = 0";
    let Some(mut world) = World::new("chains_between").await else { return };
    let dev = paid(policy).await;
    let proxy = Proxy::plain(&dev.anvil.url);
    let rpc = Rpc::new(reqwest::Client::new(), &proxy.url).unwrap();
    let through = Evm::connect(rpc, CHAIN_ID, dev.chain.contract).await.unwrap();
    let mut every_moment = false;
    for requests in 0..40 {
        world.grow(1).await;
        let mut anchorer = world.lead(&dev.chain).await;
        anchorer.step(AT_ONCE).await.unwrap();
        proxy.mine_in(requests);
        anchorer.follow(&through).await.unwrap();
        let row = world.newest(&dev.chain).await;
        assert_ne!(row.state, "failed", "a block before request {requests}: {row:?}");
        if !proxy.mine_in(-1) {
            every_moment = true;
            break;
        }
        assert_eq!(world.until(&dev, &mut anchorer, "final").await.size, row.size);
    }
    assert!(every_moment, "more requests than looked at");
}

/// anvil, and whoever asks several nodes in turn: the account's next nonce is told, and the block that took the last one is not
/// there yet. The anchor that stands a moment later was once called failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_a_node_tells_before_the_block_gives_no_anchor_up() {
    let Some(mut world) = World::new("chains_ahead").await else { return };
    let dev = paid("gas_price_wei = 0\nfinality_blocks = 0").await;
    let proxy = Proxy::plain(&dev.anvil.url);
    let rpc = Rpc::new(reqwest::Client::new(), &proxy.url).unwrap();
    let through = Evm::connect(rpc, CHAIN_ID, dev.chain.contract).await.unwrap();
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let sent = world.newest(&dev.chain).await;
    proxy.count_ahead(true);
    for _ in 0..3 {
        assert!(anchorer.follow(&through).await.unwrap(), "it waits");
    }
    proxy.count_ahead(false);
    mine(&dev).await;
    let taken = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((taken.id, taken.tx_hash, dev.sent().await), (sent.id, sent.tx_hash, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_whose_nonce_another_transaction_took_fails_when_that_is_final_and_the_next_goes() {
    let Some(mut world) = World::new("chains_taken").await else { return };
    let dev = paid("gas_price_wei = 0\nfinality_blocks = 2").await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    let kept = anchorer.prepare(&dev.evm).await.unwrap().unwrap();
    // The operator uses the account for something else.
    dev.call("evm_setAutomine", json!([true])).await;
    dev.evm.add_publisher(&account(2), 0, ORIGIN, account(3).address()).await.unwrap();
    dev.call("evm_setAutomine", json!([false])).await;
    let began = Instant::now();
    assert!(anchorer.follow(&dev.evm).await.unwrap(), "the chain may be re-organised yet");
    mine(&dev).await;
    assert!(anchorer.follow(&dev.evm).await.unwrap(), "one block is not two");
    mine(&dev).await;
    let failed = world.until(&dev, &mut anchorer, "failed").await;
    assert!(began.elapsed() > Duration::from_secs(2), "two blocks may come within a moment");
    assert_eq!(failed.id, kept.id);
    assert_eq!(failed.reason.as_deref(), Some("its nonce was used by another transaction"));

    anchorer.step(AT_ONCE).await.unwrap();
    mine(&dev).await;
    let next = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((next.size, next.nonce, dev.sent().await), (3, 1, 2));
}

/// What a re-organised chain took again and reverted is not final, however deep its block lies.
#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_a_reorganised_chain_reverts_fails_with_its_gas() {
    let Some(mut world) = World::new("chains_reverted").await else { return };
    let dev = paid("gas_price_wei = 0\nfinality_blocks = 2").await;
    let other = account(3);
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    mine(&dev).await;
    world.until(&dev, &mut anchorer, "anchored").await;
    drop(anchorer);
    dev.call("evm_setAutomine", json!([true])).await;
    dev.evm.add_publisher(&account(2), 0, ORIGIN, other.address()).await.unwrap();
    dev.call("evm_setAutomine", json!([false])).await;
    mine(&dev).await;

    world.grow(2).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.follow(&dev.evm).await.unwrap();
    anchorer.step(AT_ONCE).await.unwrap();
    mine(&dev).await;
    let taken = world.until(&dev, &mut anchorer, "anchored").await;
    drop(anchorer);
    // In the chain's other history somebody else's later head comes first.
    world.grow(4).await;
    let (head, proof) = world.head_from(3).await;
    let theirs = dev.evm.ticket(&other, Terms { nonce: 0, gas_price: 0 }, &head, &proof).unwrap();
    let depth =
        dev.evm.block_number().await.unwrap() + 1 - u64::try_from(taken.block_number.unwrap()).unwrap();
    dev.anvil.reorganise(depth.max(1), json!([[hex(&theirs.raw), 0], [hex(&taken.raw), 0]])).await;
    for _ in 0..5 {
        mine(&dev).await;
    }
    assert_eq!(dev.size().await, 9);
    let mut anchorer = world.lead(&dev.chain).await;
    for _ in 0..3 {
        anchorer.follow(&dev.evm).await.unwrap();
        assert_ne!(world.newest(&dev.chain).await.state, "final");
    }
    let failed = world.newest(&dev.chain).await;
    assert_eq!((failed.id, failed.reason.as_deref()), (taken.id, Some("reverted")));
    assert!(failed.gas_used.is_some(), "that was paid for as well");
}
