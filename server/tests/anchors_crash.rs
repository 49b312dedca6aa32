//! The anchorer is cut off between any two of its steps, hundreds of times, by a process that ends, a database that drops its
//! connections, a node that forgets what it was sent, and a chain that is re-organised.

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
#[path = "../../contracts/tests/node/heads.rs"]
mod heads;
#[path = "../../contracts/tests/node/mod.rs"]
mod node;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use anchoring::{AT_ONCE, Dev, ORIGIN, World};
use contracts::Anchored;
use heads::heads;
use node::Anvil;
use serde_json::json;
use server::{
    jobs::anchor::{AnchorError, Anchorer},
    service::chains::root_at,
};

const ROUNDS: u32 = 250;
/// Deeper than any re-organisation here.
const POLICY: &str = "gas_price_wei = 0\nfinality_blocks = 8";

/// Polls the future so many times and lets it go wherever it stands then; how often it was polled.
async fn cut_off<F: Future>(future: F, polls: u32) -> (Option<F::Output>, u32) {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|context| {
        if polled >= polls {
            return Poll::Ready((None, polled));
        }
        polled += 1;
        future.as_mut().poll(context).map(|done| (Some(done), polled))
    })
    .await
}

/// Steps until the whole log is anchored.
async fn anchored(world: &World, dev: &Dev, anchorer: &mut Anchorer<'_>) -> Result<(), AnchorError> {
    loop {
        anchorer.step(AT_ONCE).await?;
        let newest = world.newest(&dev.chain).await;
        if newest.size == i64::from(world.entries) && newest.state != "pending" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn heads_of(dev: &Dev) -> Vec<Anchored> {
    heads(&dev.anvil.rpc(), dev.chain.contract, ORIGIN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchorer_cut_off_at_any_moment_doubles_and_loses_nothing() {
    let Some(mut world) = World::new("anchors_cut_off").await else { return };
    let dev = Dev::on(Anvil::with_blocks(0, Duration::from_millis(30)).await, "dev", POLICY).await;
    let (admin, connection) = tokio_postgres::connect(&world.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (mut cut, mut whole, mut usual) = (0, 0, 1_000);
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        world.grow(1 + round % 5).await;
        let mut anchorer = world.lead(&dev.chain).await;
        // A whole one now and then tells how long one is.
        let moment = if round % 8 == 0 { u32::MAX } else { round * 7919 % usual };
        let (done, polls) = cut_off(anchored(&world, &dev, &mut anchorer), moment).await;
        drop(anchorer);
        match done {
            Some(Ok(())) => {
                whole += 1;
                if moment == u32::MAX {
                    usual = usual.min(polls);
                }
            }
            Some(Err(error)) => {
                cut += 1;
                told.push(error.to_string());
            }
            None => cut += 1,
        }
        match round % 16 {
            3 => {
                let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid() and application_name = ''
                        and query ilike '%anchor%'";
                admin.batch_execute(kill).await.unwrap();
            }
            // Then it waits until it is sent again.
            7 if round % 128 == 7 => drop(dev.call("anvil_dropAllTransactions", json!([])).await),
            11 => dev.anvil.reorganise(u64::from(1 + round % 4), json!([])).await,
            _ => {}
        }
    }
    assert!(cut > 150 && whole > 20, "{cut} cut off, {whole} whole: the moments miss the steps; {told:?}");

    let end = Instant::now() + Duration::from_secs(20);
    let mut anchorer = world.lead(&dev.chain).await;
    loop {
        anchorer.step(AT_ONCE).await.unwrap();
        let newest = world.newest(&dev.chain).await;
        if newest.state == "final" && newest.size == i64::from(world.entries) {
            break;
        }
        assert!(Instant::now() < end, "never final: {newest:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("{usual} moments: {cut} cut off, {whole} whole, {} heads", heads_of(&dev).await.len());
    the_log_and_the_outbox_explain_the_chain(&world, &dev, &admin).await;
}

async fn the_log_and_the_outbox_explain_the_chain(world: &World, dev: &Dev, admin: &tokio_postgres::Client) {
    let rows = admin
        .query("select size, state, tx_hash, block_hash, reason from anchor order by id", &[])
        .await
        .unwrap();
    let mut standing = BTreeMap::new();
    let mut reverted = 0;
    for row in &rows {
        let (size, state): (i64, String) = (row.get(0), row.get(1));
        match state.as_str() {
            "final" => {
                let place: (Vec<u8>, Vec<u8>) = (row.get(2), row.get(3));
                assert!(
                    standing.insert(u64::try_from(size).unwrap(), place).is_none(),
                    "a duplicate of {size}"
                );
            }
            "failed" => reverted += u64::from(row.get::<_, Option<String>>(4).as_deref() == Some("reverted")),
            state => panic!("{size} is {state} for ever"),
        }
    }
    let heads = heads_of(dev).await;
    for pair in heads.windows(2) {
        assert!(pair[0].head.size < pair[1].head.size, "sizes grow: {pair:?}");
    }
    assert_eq!(heads.len(), standing.len(), "each head has its row, each row its head");
    for Anchored { head, transaction, block_hash, .. } in &heads {
        let place = (transaction.as_bytes().to_vec(), block_hash.as_bytes().to_vec());
        assert_eq!(standing.get(&head.size), Some(&place), "the row of {}", head.size);
        let root = root_at(&world.ledger, world.ledger.open_log().id, head.size).await.unwrap();
        assert_eq!(head.root, root, "the root of {}", head.size);
    }
    let used = u64::try_from(heads.len()).unwrap() + reverted;
    assert_eq!(dev.sent().await, used, "a nonce was lost, or used for what no row tells of");
}
