//! Heads on a real dev chain: kept before they are sent, followed until they are final, and the guard that asks the chain.

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

use std::{sync::Arc, time::Duration};

use anchoring::{AT_ONCE, Dev, FREE, ORIGIN, World, keys, ledger_in};
use contracts::{Chain as _, Head, Terms};
use node::account;
use serde_json::json;
use server::{
    jobs::{
        anchor::Anchorer,
        sequencer::{self, Guard, Sequencer},
    },
    service::{chains, ledger::Halt},
};
use store::{anchor, ledger as rows};
use trace::hash::{Hash, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_anchored_with_its_proof_and_becomes_final() {
    let Some(mut world) = World::new("anchors_final").await else { return };
    let dev = Dev::start().await;
    world.grow(7).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    assert_eq!(world.until(&dev, &mut anchorer, "final").await.size, 7);
    anchorer.step(AT_ONCE).await.unwrap();
    assert_eq!(world.newest(&dev.chain).await.size, 7, "the same head is not sent twice");
    drop(anchorer);

    world.grow(300).await;
    let mut anchorer = world.lead(&dev.chain).await;
    assert!(Anchorer::lead(&world.ledger, &dev.chain).await.unwrap().is_none(), "one sends on a chain");
    anchorer.step(Duration::from_hours(1)).await.unwrap();
    assert_eq!(world.newest(&dev.chain).await.size, 7, "not before the interval has passed");
    anchorer.step(AT_ONCE).await.unwrap();
    let second = world.until(&dev, &mut anchorer, "anchored").await;
    let found = dev.evm.find(ORIGIN, None).await.unwrap().unwrap();
    assert_eq!((found.head.size, found.head.root.as_bytes().to_vec()), (307, second.root));
    let mut conn = world.ledger.store().connection().await.unwrap();
    let standing = anchor::standing(&mut conn, world.ledger.open_log().id, 1, 10).await.unwrap();
    assert_eq!(standing.iter().map(|row| row.size).collect::<Vec<_>>(), [307, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_sending_neither_loses_nor_doubles_an_anchor() {
    let Some(mut world) = World::new("anchors_crash").await else { return };
    let dev = Dev::start().await;
    world.grow(5).await;
    // Kept, and the process ends before anything is sent.
    let mut before = world.lead(&dev.chain).await;
    let kept = before.prepare(&dev.evm).await.unwrap().unwrap();
    drop(before);
    assert_eq!((kept.sent_at, dev.sent().await), (None, 0));
    let mut after = world.lead(&dev.chain).await;
    let anchored = world.until(&dev, &mut after, "anchored").await;
    assert_eq!((anchored.id, anchored.tx_hash, dev.sent().await), (kept.id, kept.tx_hash, 1));
    drop(after);

    // Sent, and the process ends before it knows.
    world.grow(5).await;
    let mut before = world.lead(&dev.chain).await;
    before.step(AT_ONCE).await.unwrap();
    drop(before);
    assert_eq!(world.newest(&dev.chain).await.state, "pending");
    let mut after = world.lead(&dev.chain).await;
    assert_eq!(world.until(&dev, &mut after, "anchored").await.size, 10);
    assert_eq!(dev.sent().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reorganised_chain_forgot_is_sent_again() {
    let Some(mut world) = World::new("anchors_reorg").await else { return };
    let dev = Dev::start().await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let first = world.until(&dev, &mut anchorer, "anchored").await;
    let depth =
        dev.evm.block_number().await.unwrap() + 1 - u64::try_from(first.block_number.unwrap()).unwrap();
    dev.anvil.reorganise(depth, json!([])).await;
    assert!(dev.evm.find(ORIGIN, None).await.unwrap().is_none(), "the chain forgot it");
    let again = world.until(&dev, &mut anchorer, "final").await;
    assert_eq!((again.id, again.tx_hash), (first.id, first.tx_hash), "the same transaction in another block");
    assert_ne!(again.block_hash, first.block_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_the_chain_has_outgrown_fails_and_the_next_goes() {
    let Some(mut world) = World::new("anchors_outgrown").await else { return };
    let dev = Dev::start().await;
    let other = account(3);
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    world.until(&dev, &mut anchorer, "final").await;
    drop(anchorer);
    dev.evm.add_publisher(&account(2), 0, ORIGIN, other.address()).await.unwrap();

    world.grow(2).await;
    let mut anchorer = world.lead(&dev.chain).await;
    let kept = anchorer.prepare(&dev.evm).await.unwrap().unwrap();
    drop(anchorer);
    world.grow(4).await;
    world.anchored_by(&dev, &other, 3).await;
    let used = dev.sent().await;
    let mut anchorer = world.lead(&dev.chain).await;
    assert!(!anchorer.follow(&dev.evm).await.unwrap(), "nothing waits");
    let failed = world.newest(&dev.chain).await;
    assert_eq!((failed.id, failed.size, failed.state.as_str()), (kept.id, 5, "failed"));
    assert_eq!(failed.reason.as_deref(), Some("the chain has 9 entries already"));
    assert_eq!(dev.sent().await, used, "no gas is spent on it");
    drop(anchorer);

    world.grow(1).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    assert_eq!(world.until(&dev, &mut anchorer, "anchored").await.size, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_is_found_on_the_chain_tells_its_gas() {
    let Some(mut world) = World::new("anchors_found").await else { return };
    let dev = Dev::start().await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    let sent = world.newest(&dev.chain).await;
    // A replacement was kept, and no node ever had it: the first transaction is mined after all.
    let mut conn = world.ledger.store().connection().await.unwrap();
    let dearer = anchor::Signed {
        nonce: sent.nonce,
        raw: &[1],
        tx_hash: &[7; 32],
        gas_price: 9,
        priced_at: chrono::Utc::now(),
    };
    anchor::replace(&mut conn, sent.id, &dearer).await.unwrap();
    dev.mined(1).await;
    let found = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((found.tx_hash, found.gas_price), (sent.tx_hash, 0), "the one that a block took");
    let gas = found.gas_used.expect("it tells its gas");
    let tallies = chains::tallies(&mut conn, &world.ledger, std::slice::from_ref(&dev.chain)).await.unwrap();
    let tally = chains::Tally {
        chain: "dev".to_owned(),
        behind: 0,
        gas: u64::try_from(gas).unwrap(),
        wei: 0,
        final_at: None,
    };
    assert_eq!(tallies, [tally]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_nothing_comes_before_any_more_is_given_up() {
    let Some(mut world) = World::new("anchors_gap").await else { return };
    let dev = Dev::start().await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    let kept = anchorer.prepare(&dev.evm).await.unwrap().unwrap();
    // As after a re-organisation that took other transactions of the account with it.
    let mut conn = world.ledger.store().connection().await.unwrap();
    let head = Head { origin: ORIGIN.to_owned(), size: 3, root: Hash::from_slice(&kept.root).unwrap() };
    let ahead = dev.evm.ticket(&account(2), Terms { nonce: 5, gas_price: 0 }, &head, &[]).unwrap();
    let (raw, tx_hash) = (&ahead.raw, ahead.transaction.as_bytes());
    let signed = anchor::Signed { nonce: 5, raw, tx_hash, gas_price: 0, priced_at: chrono::Utc::now() };
    anchor::replace(&mut conn, kept.id, &signed).await.unwrap();
    let found = world.until(&dev, &mut anchorer, "anchored").await;
    assert_eq!((found.id, found.nonce, dev.sent().await), (kept.id, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_older_than_the_chain_signs_no_more() {
    let Some(mut world) = World::new("anchors_older").await else { return };
    let dev = Dev::start().await;
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    world.until(&dev, &mut anchorer, "anchored").await;
    drop(anchorer);
    // The same history, restored from before the anchor, and nobody asked the chain at the start.
    let restored = ledger_in(&database::fresh("anchors_older_copy").await.unwrap()).await;
    let mut conn = restored.store().connection().await.unwrap();
    rows::queue(&mut conn, sha256(&0_u32.to_be_bytes()).as_bytes()).await.unwrap();
    Sequencer::lead(Arc::clone(&restored)).await.unwrap().unwrap().step().await.unwrap();
    let mut behind = Anchorer::lead(&restored, &dev.chain).await.unwrap().unwrap();
    assert!(behind.step(AT_ONCE).await.is_err());
    assert_eq!(restored.halt(), Some(Halt::Behind { who: "dev".to_owned(), size: 3 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_at_work_stops_when_the_chain_turns_out_to_have_another_history() {
    let Some(mut world) = World::new("anchors_stop").await else { return };
    let dev = Dev::start().await;
    world.grow(8).await;
    // Another copy, of another history: the chain has nothing yet, so that the guard lets it begin.
    let other = ledger_in(&database::fresh("anchors_stop_other").await.unwrap()).await;
    other.set_halt(Some(Halt::Starting));
    let mut conn = other.store().connection().await.unwrap();
    let chains = Arc::new(vec![dev.told(&dev.anvil.url, FREE)]);
    let guard = Guard { http: reqwest::Client::new(), chains, vouched: None };
    let job = tokio::spawn(sequencer::run(Arc::clone(&other), keys(), Duration::from_millis(20), guard));
    rows::queue(&mut conn, sha256(b"another history").as_bytes()).await.unwrap();
    for _ in 0..200 {
        if rows::queue_state(&mut conn).await.unwrap().0 == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((rows::queue_state(&mut conn).await.unwrap().0, other.halt()), (0, None), "it signs");

    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    world.until(&dev, &mut anchorer, "anchored").await;
    let mut beside = Anchorer::lead(&other, &dev.chain).await.unwrap().unwrap();
    assert!(beside.step(AT_ONCE).await.is_err());
    // A step that had begun may end.
    tokio::time::sleep(Duration::from_millis(200)).await;
    rows::queue(&mut conn, sha256(b"and more of it").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rows::queue_state(&mut conn).await.unwrap().0, 1, "nothing more is signed");
    assert_eq!(other.halt(), Some(Halt::Behind { who: "dev".to_owned(), size: 8 }));
    job.abort();
    drop(job.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_down_holds_up_nothing_else() {
    let Some(mut world) = World::new("anchors_down").await else { return };
    let dev = Dev::start().await;
    let nobody = dev.told("http://127.0.0.1:9", FREE);
    world.grow(3).await;
    let mut anchorer = Anchorer::lead(&world.ledger, &nobody).await.unwrap().unwrap();
    assert!(anchorer.step(AT_ONCE).await.is_err());
    drop(anchorer);
    world.grow(3).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    assert_eq!(world.until(&dev, &mut anchorer, "anchored").await.size, 6, "back up, the newest head goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_below_or_beside_what_the_chain_has() {
    let Some(mut world) = World::new("anchors_guard").await else { return };
    let dev = Dev::start().await;
    world.grow(8).await;
    let mut anchorer = world.lead(&dev.chain).await;
    anchorer.step(AT_ONCE).await.unwrap();
    world.until(&dev, &mut anchorer, "anchored").await;

    // An older copy of the database comes back, and the log would grow otherwise from there.
    let restored = ledger_in(&database::fresh("anchors_restored").await.unwrap()).await;
    let mut conn = restored.store().connection().await.unwrap();
    rows::queue(&mut conn, sha256(b"another history").as_bytes()).await.unwrap();
    let chains = Arc::new(vec![dev.told(&dev.anvil.url, FREE)]);
    let guard = Guard { http: reqwest::Client::new(), chains, vouched: None };
    let job = tokio::spawn(sequencer::run(Arc::clone(&restored), keys(), Duration::from_millis(20), guard));
    let refused = Some(Halt::Behind { who: "dev".to_owned(), size: 8 });
    for _ in 0..100 {
        if restored.halt() == refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(restored.halt(), refused);
    assert!(restored.not_ready().await.unwrap()[0].starts_with("dev has seen size 8"));
    assert_eq!(rows::queue_state(&mut conn).await.unwrap().0, 1, "what is accepted waits");
    job.abort();
    drop(job.await);

    // As long as the chain's, but of another history.
    let mut sequencer = loop {
        // The lock of the job goes when Postgres sees its connection closed.
        if let Some(sequencer) = Sequencer::lead(Arc::clone(&restored)).await.unwrap() {
            break sequencer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for number in 0_u32..7 {
        rows::queue(&mut conn, sha256(&number.to_be_bytes()).as_bytes()).await.unwrap();
    }
    sequencer.step().await.unwrap();
    let says = dev.chain.ask_for_head(&restored, &restored.open_log(), sequencer.size()).await.unwrap();
    assert_eq!(says, chains::Says::Beyond { size: 8 });
    restored.set_halt(None);
    let mut beside = Anchorer::lead(&restored, &dev.chain).await.unwrap().unwrap();
    assert!(beside.step(AT_ONCE).await.is_err(), "and it is not anchored");
}
