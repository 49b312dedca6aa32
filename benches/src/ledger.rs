//! The log's own speed: the sequencer on a queue that is being filled, proofs from a large tree, a bundle, and fsck.

use std::{path::Path, sync::Arc, time::Duration};

use demo::postgres::Cluster;
use server::{
    jobs::sequencer::Sequencer,
    service::{fsck, ledger::Ledger},
};
use store::{Store, ledger as rows};
use tokio::time::Instant;
use trace::{
    bundle::{self, Bundle},
    hash::sha256,
    keys::SecretKey,
    tlog::{note::SignerKey, policy::Policy},
};

use crate::{
    Failed,
    house::House,
    machine,
    table::{Latencies, Row},
};

const ORIGIN: &str = "bench.example/bench/2026";
const LEAVES: u64 = 1_000_000;
const PROOFS: u64 = 1_000;
const VERIFICATIONS: u32 = 200;

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let mut rows = log().await?;
    rows.extend(bundle_and_fsck(root).await?);
    Ok(rows)
}

async fn log() -> Result<Vec<Row>, Failed> {
    let home = std::env::temp_dir().join(format!("suyuan-bench-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let cluster = tokio::task::block_in_place(|| Cluster::start(&home.join("postgres"), &mut |_| {}))?;
    store::migrate(&cluster.url("migrator", "suyuan")).await?;
    let store = Store::open(&cluster.url("app", "suyuan"), 8)?;
    let signer = SignerKey { name: ORIGIN.parse()?, secret: SecretKey::from_seed(&[1; 32]) };
    let ledger = Ledger::open(store.clone(), "bench.example", "bench", signer, Policy::default()).await?;
    let ledger = Arc::new(ledger);
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await?.ok_or("somebody else leads")?;

    let filling = tokio::spawn(fill(store.clone()));
    let (began, mut steps) = (Instant::now(), Latencies::default());
    while sequencer.size() < LEAVES {
        let step = Instant::now();
        if sequencer.step().await?.is_some() {
            steps.push(step.elapsed());
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let queueing = filling.await?.map_err(|error| error.to_string())?;
    let rate = 1e6 / seconds;

    let mut conn = store.connection().await?;
    let (mut inclusion, mut consistency) = (Latencies::default(), Latencies::default());
    for number in 0..PROOFS {
        let index = number * (LEAVES / PROOFS);
        let began = Instant::now();
        ledger.tree().inclusion_proof(&mut conn, ledger.log_id(), LEAVES, index).await?;
        inclusion.push(began.elapsed());
        let began = Instant::now();
        ledger.tree().consistency_proof(&mut conn, ledger.log_id(), index.max(1), LEAVES).await?;
        consistency.push(began.elapsed());
    }
    drop(conn);
    drop((sequencer, ledger, store));
    tokio::task::spawn_blocking(move || drop(cluster)).await?;
    std::fs::remove_dir_all(home)?;
    Ok(vec![
        Row::new(
            "queued rows → signed checkpoint, while the queue is filled",
            (rate, "leaves/s"),
            (1e6 / queueing, "rows/s that the filling alone took in the same run"),
        ),
        Row::new(
            "one batch of the sequencer, p99",
            (steps.percentile(99), "ms"),
            (1_000.0, "wanted at most"),
        ),
        Row::new(
            "inclusion proof at 1,000,000 leaves, p99",
            (inclusion.percentile(99), "ms"),
            (5.0, "wanted at most"),
        ),
        Row::new(
            "consistency proof at 1,000,000 leaves, p99",
            (consistency.percentile(99), "ms"),
            (5.0, "wanted at most"),
        ),
    ])
}

/// Seconds that queueing all leaves took.
async fn fill(store: Store) -> Result<f64, store::StoreError> {
    let mut conn = store.connection().await?;
    let began = Instant::now();
    for batch in 0..LEAVES / 10_000 {
        let entry = |number: u64| sha256(&(batch * 10_000 + number).to_be_bytes()).as_bytes().to_vec();
        let entries: Vec<Vec<u8>> = (0..10_000).map(entry).collect();
        rows::queue_all(&mut conn, &entries).await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn bundle_and_fsck(root: &Path) -> Result<Vec<Row>, Failed> {
    let house = House::open(root, "fsck").await?;
    let report = house.season().await?;
    let commodity = report.commodities.first().ok_or("no goods")?;
    let file = house.stack.valid_bundle(&commodity.lot_path, commodity.name).await?;
    let trust: Policy = std::fs::read_to_string(house.stack.write_trust()?)?.parse()?;
    let text = std::fs::read_to_string(file)?;
    let (began, mut statements) = (Instant::now(), 0);
    for _ in 0..VERIFICATIONS {
        let parsed: Bundle = text.parse()?;
        statements = parsed.items.len();
        if bundle::verify(&parsed, &trust).verdict != bundle::Verdict::Valid {
            return Err("the bundle is not valid".into());
        }
    }
    let verify = began.elapsed().as_secs_f64() * 1e3 / f64::from(VERIFICATIONS);
    let ask = fsck::Ask {
        database_url: house.stack.database_url("auditor"),
        trust: trust.clone(),
        threads: fsck::threads(),
        ..fsck::Ask::default()
    };
    let (checked, seconds) = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let report = fsck::check(&ask, |_| {});
        (report.map_err(|error| error.to_string()), began.elapsed().as_secs_f64())
    })
    .await?;
    let checked = checked?;
    if !checked.is_clean() {
        return Err("fsck found what does not fit".into());
    }
    let strict = machine::strict_verifications(2_100);
    let alone = |statements: f64| statements / strict * 1e3;
    let (in_bundle, in_log) =
        (f64::from(u32::try_from(statements)?), f64::from(u32::try_from(checked.entries)?));
    house.close().await?;
    Ok(vec![
        Row::new(
            format!("verify a bundle of {statements} statements"),
            (verify, "ms"),
            (alone(in_bundle), "their strict Ed25519 and SHA-256 alone, one core (and 10 ms wanted at most)"),
        ),
        Row::new(
            format!("fsck of a season, {} entries", checked.entries),
            (seconds * 1e3, "ms"),
            (alone(in_log), "their strict Ed25519 and SHA-256 alone, one core"),
        ),
    ])
}
