//! The log's own speed: the sequencer on a queue that is being filled, up to ten million leaves; proofs from that tree; and
//! how long a record waits for its checkpoint at a steady rate.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use server::{jobs::sequencer::Sequencer, service::ledger::Ledger};
use store::{Store, ledger as rows};
use tokio::{task::JoinSet, time::Instant};
use trace::{
    hash::sha256,
    keys::SecretKey,
    tlog::{note::SignerKey, policy::Policy},
};

use crate::{
    Failed,
    house::{self, Directory},
    machine,
    table::{Latencies, Row},
};

const ORIGIN: &str = "bench.example/bench/2026";
const MILLION: u64 = 1_000_000;
const LEAVES: u64 = 10 * MILLION;
/// Sizes at which memory is looked at.
const LOOKS: [u64; 3] = [MILLION, 5 * MILLION, LEAVES];
/// Entries that one transaction queues, and that may wait at most: whoever fills is faster than the sequencer.
const FILLED: u64 = 10_000;
const WAITING_MAX: u64 = 200_000;
const PROOFS: u64 = 1_000;

/// The steady rate: each of these connections commits a transaction of so many records with each beat.
const WRITERS: u64 = 10;
const RECORDS: u64 = 20;
const BEAT: Duration = Duration::from_millis(20);
const BEATS: u64 = 1_000;
/// As `suyuan serve` waits between two batches that were not full.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run() -> Result<Vec<Row>, Failed> {
    let home = Directory::make("log")?;
    let cluster = home.path().join("postgres");
    let cluster = tokio::task::block_in_place(|| house::tuned_cluster(&cluster))?;
    store::migrate(&cluster.url("migrator", "suyuan")).await?;
    let store = Store::open(&cluster.url("app", "suyuan"), 24)?;
    let signer = SignerKey { name: ORIGIN.parse()?, secret: SecretKey::from_seed(&[1; 32]) };
    let ledger = Ledger::open(store.clone(), "bench.example", "bench", [signer], Policy::default()).await?;
    let ledger = Arc::new(ledger);
    let mut sequencer = Sequencer::lead(Arc::clone(&ledger)).await?.ok_or("somebody else leads")?;

    let mut measured = grow(&mut sequencer, &store).await?;
    measured.extend(prove(&ledger, &store).await?);
    measured.extend(wait_for_checkpoints(&mut sequencer, &ledger, &store).await?);
    let url = cluster.url("migrator", "suyuan");
    measured.extend(tokio::task::block_in_place(|| limits(&url, home.path()))?);
    drop((sequencer, ledger, store));
    tokio::task::spawn_blocking(move || drop((cluster, home))).await?;
    Ok(measured)
}

/// From nothing to ten million leaves, while the queue is being filled.
async fn grow(sequencer: &mut Sequencer, store: &Store) -> Result<Vec<Row>, Failed> {
    let logged = Arc::new(AtomicU64::new(0));
    let filling = tokio::spawn(fill(store.clone(), Arc::clone(&logged)));
    let empty = machine::resident_mb("self")?;
    let mut memory = Vec::new();
    let (began, mut steps) = (Instant::now(), Latencies::default());
    let (mut since, mut slowest) = ((0, began), f64::INFINITY);
    while sequencer.size() < LEAVES {
        let step = Instant::now();
        let Some(size) = sequencer.step().await? else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        steps.push(step.elapsed());
        logged.store(size, Ordering::Relaxed);
        if size / MILLION > since.0 / MILLION {
            let rate = real(size - since.0) / since.1.elapsed().as_secs_f64();
            let resident = machine::resident_mb("self")?;
            writeln!(std::io::stderr(), "{size} leaves, the last at {rate:.0}/s, {resident:.0} MB resident")?;
            (since, slowest) = ((size, Instant::now()), slowest.min(rate));
            if LOOKS.contains(&(size / MILLION * MILLION)) {
                memory.push((size / MILLION, resident));
            }
        }
    }
    let rate = real(LEAVES) / began.elapsed().as_secs_f64();
    filling.await??;
    let mut measured = vec![
        Row::new(
            "queued rows → signed checkpoint, 0 to 10 M leaves, while the queue is filled",
            (rate, "leaves/s"),
            (100_000.0, "wanted at least"),
        ),
        Row::new("the slowest million of these", (slowest, "leaves/s"), (rate, "all of them")),
        Row::new(
            "one batch of the sequencer, p99",
            (steps.percentile(99), "ms"),
            (1_000.0, "wanted at most"),
        ),
    ];
    measured.extend(memory.into_iter().map(|(millions, resident)| {
        let what = format!("resident at {millions} M leaves, sequencer and filler in one process");
        Row::new(what, (resident, "MB"), (empty, "before the first leaf"))
    }));
    Ok(measured)
}

/// Keeps the queue from running dry, and from growing without end.
async fn fill(store: Store, logged: Arc<AtomicU64>) -> Result<(), store::StoreError> {
    let mut conn = store.connection().await?;
    let mut queued = 0;
    while queued < LEAVES {
        if queued - logged.load(Ordering::Relaxed).min(queued) >= WAITING_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let entries: Vec<Vec<u8>> = (queued..queued + FILLED).map(entry).collect();
        rows::queue_all(&mut conn, &entries).await?;
        queued += FILLED;
    }
    Ok(())
}

fn entry(number: u64) -> Vec<u8> {
    sha256(&number.to_be_bytes()).as_bytes().to_vec()
}

async fn prove(ledger: &Ledger, store: &Store) -> Result<Vec<Row>, Failed> {
    let mut conn = store.connection().await?;
    let (mut inclusion, mut consistency) = (Latencies::default(), Latencies::default());
    for number in 0..PROOFS {
        let index = number * (LEAVES / PROOFS) + number;
        let began = Instant::now();
        ledger.tree().inclusion_proof(&mut conn, ledger.open_log().id, LEAVES, index).await?;
        inclusion.push(began.elapsed());
        let began = Instant::now();
        ledger.tree().consistency_proof(&mut conn, ledger.open_log().id, index.max(1), LEAVES).await?;
        consistency.push(began.elapsed());
    }
    Ok(vec![
        Row::new(
            "inclusion proof at 10 M leaves, p99",
            (inclusion.percentile(99), "ms"),
            (5.0, "wanted at most"),
        ),
        Row::new(
            "consistency proof at 10 M leaves, p99",
            (consistency.percentile(99), "ms"),
            (5.0, "wanted at most"),
        ),
    ])
}

/// Ten thousand records a second, committed by several connections; the sequencer waits between batches as it does in
/// `suyuan serve`. Measured is each record's way from its own commit to the commit of a checkpoint that covers it.
async fn wait_for_checkpoints(
    sequencer: &mut Sequencer,
    ledger: &Ledger,
    store: &Store,
) -> Result<Vec<Row>, Failed> {
    let (first, all) = (sequencer.size(), WRITERS * RECORDS * BEATS);
    let start = Instant::now() + Duration::from_millis(100);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(store.clone(), writer, start));
    }
    let mut heads: Vec<(u64, Instant)> = Vec::new();
    let until = start + BEAT * u32::try_from(BEATS)? + PATIENCE;
    while sequencer.size() < first + all && Instant::now() < until {
        let began = Instant::now();
        if let Some(size) = sequencer.step().await? {
            heads.push((size, Instant::now()));
        }
        let pause = CHECKPOINT_INTERVAL.saturating_sub(began.elapsed()).max(CHECKPOINT_INTERVAL / 4);
        tokio::time::sleep(pause).await;
    }
    let rate = real(sequencer.size() - first) / start.elapsed().as_secs_f64();
    let mut committed = HashMap::new();
    while let Some(written) = writers.join_next().await {
        committed.extend(written??);
    }
    let (mut conn, mut index, mut waited) = (store.connection().await?, first, Latencies::default());
    for (size, signed) in heads {
        let (from, count) = (i64::try_from(index)?, i64::try_from(size - index)?);
        for entry in rows::entries_from(&mut conn, ledger.open_log().id, from, count).await? {
            let at = committed.remove(&entry).ok_or("an entry stands in the log that nobody wrote")?;
            waited.push(signed.saturating_duration_since(at));
        }
        index = size;
    }
    if !committed.is_empty() {
        return Err(format!("{} records never came into the log", committed.len()).into());
    }
    Ok(vec![
        Row::new(
            format!(
                "record committed → in a signed checkpoint, at {rate:.0} records/s beside 10 M leaves, p50"
            ),
            (waited.percentile(50), "ms"),
            (real(u64::try_from(CHECKPOINT_INTERVAL.as_millis())?), "the checkpoints' interval"),
        ),
        Row::new(
            format!("the same, p99 of {}", waited.len()),
            (waited.percentile(99), "ms"),
            (1_000.0, "wanted at most"),
        ),
    ])
}

/// One connection's share of the steady rate: each entry, and when its transaction was committed.
async fn write(
    store: Store,
    writer: u64,
    start: Instant,
) -> Result<Vec<(Vec<u8>, Instant)>, store::StoreError> {
    let mut conn = store.connection().await?;
    let mut committed = Vec::new();
    for beat in 0..BEATS {
        let at = start + BEAT * u32::try_from(beat).unwrap_or(u32::MAX);
        tokio::time::sleep_until(at).await;
        let number = LEAVES + (writer * BEATS + beat) * RECORDS;
        let entries: Vec<Vec<u8>> = (number..number + RECORDS).map(entry).collect();
        rows::queue_all(&mut conn, &entries).await?;
        let now = Instant::now();
        committed.extend(entries.into_iter().map(|entry| (entry, now)));
    }
    Ok(committed)
}

/// What this machine takes where nothing but the bytes is done.
fn limits(url: &str, home: &std::path::Path) -> Result<Vec<Row>, Failed> {
    let settings = machine::durability(url)?;
    let mut synced = machine::syncs(home)?;
    Ok(vec![
        Row::new(
            "COPY of 1 M entries alone, no index, one transaction",
            (machine::copied_rows(url)?, "rows/s"),
            (100_000.0, "leaves/s wanted"),
        ),
        Row::new(
            "leaf and node hashes of a growing tree alone, one core",
            (machine::tree_hashes(), "leaves/s"),
            (100_000.0, "leaves/s wanted"),
        ),
        Row::new(
            format!("8 kB written and synced to this disk, p50 ({settings})"),
            (synced.percentile(50), "ms"),
            (synced.percentile(99), "p99"),
        ),
    ])
}

fn real(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
