//! `fsck` over 100,000 signed records and packs, beside SHA-256 and strict Ed25519 alone over the same bytes on the same cores.

mod bulk;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use demo::postgres::Cluster;
use server::service::fsck::{self, Ask};
use trace::{
    hash::sha256,
    keys::{PublicKey, SecretKey},
    pack::Frame,
    record::Record,
    tlog::policy::Policy,
};

use crate::{Failed, machine, table::Row};
use bulk::{Bulk, Made};

/// Of each kind.
const COUNT: u32 = 100_000;
/// Turns, so that what else the machine does falls on both alike; the middle one counts.
const ROUNDS: usize = 3;
/// For the connections' processes to end: only then does Postgres count what they took.
const FAREWELL: Duration = Duration::from_millis(300);
const BARE: &str = "SHA-256 and strict Ed25519 alone";

pub async fn run(_: &Path) -> Result<Vec<Row>, Failed> {
    let mut rows = Vec::new();
    for (name, records, packs) in [("records", COUNT, 0), ("packs", 0, COUNT)] {
        rows.extend(measure(name, records, packs).await?);
    }
    Ok(rows)
}

async fn measure(name: &'static str, records: u32, packs: u32) -> Result<Vec<Row>, Failed> {
    let home = std::env::temp_dir().join(format!("suyuan-bench-fsck-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let cluster = tokio::task::block_in_place(|| Cluster::start(&home.join("postgres"), &mut |_| {}))?;
    store::migrate(&cluster.url("migrator", "suyuan")).await?;
    let made = Bulk::new(&cluster).await?.make(records, packs).await?;
    let (url, owner) = (cluster.url("auditor", "suyuan"), cluster.url("migrator", "suyuan"));
    let rows = tokio::task::spawn_blocking(move || {
        let compared =
            machine::postmaster(&owner).and_then(|postmaster| compare(name, &url, &postmaster, &made));
        let rows = compared.map_err(|error| error.to_string());
        drop(cluster);
        rows
    })
    .await??;
    std::fs::remove_dir_all(home)?;
    Ok(rows)
}

/// What one turn took: seconds on the wall, and on the cores.
#[derive(Default)]
struct Took {
    wall: Vec<f64>,
    cores: Vec<f64>,
}

fn compare(name: &str, url: &str, postmaster: &str, made: &Made) -> Result<Vec<Row>, Failed> {
    let threads = fsck::threads();
    let mut trust = Policy::default();
    trust.registrars.push(made.registrar);
    let ask = Ask { database_url: url.to_owned(), trust, threads, ..Ask::default() };
    let (mut ours, mut of_postgres, mut alone) = (Took::default(), Vec::new(), Took::default());
    for _ in 0..ROUNDS {
        let before = (machine::core_seconds("self")?, machine::core_seconds(postmaster)?);
        let began = Instant::now();
        let report = fsck::check(&ask, |_| {})?;
        ours.wall.push(began.elapsed().as_secs_f64());
        if let Some(misfit) = report.misfits.first() {
            return Err(format!("{}: {}", misfit.at, misfit.what).into());
        }
        std::thread::sleep(FAREWELL);
        ours.cores.push(machine::core_seconds("self")? - before.0);
        of_postgres.push(machine::core_seconds(postmaster)? - before.1);
        hash_and_verify(made, threads, &mut alone)?;
    }
    let count = f64::from(u32::try_from(made.signed.len())?);
    let (rate, bare) = (count / middle(ours.wall), count / middle(alone.wall));
    let micros = |seconds: Vec<f64>| middle(seconds) / count * 1e6;
    let (own, postgres, bare_cores) = (micros(ours.cores), micros(of_postgres), micros(alone.cores));
    let bytes = made.bytes_each();
    Ok(vec![
        Row::new(
            format!("fsck of {} {name}, {bytes} bytes each, {threads} threads", made.signed.len()),
            (rate, "/s"),
            (bare, "SHA-256 and strict Ed25519 alone over the same bytes, as many threads"),
        ),
        Row::new("of that", (rate / bare * 100.0, "%"), (80.0, "wanted at least")),
        Row::new("on the cores for each of them, fsck itself", (own, "µs"), (bare_cores, BARE)),
        Row::new("on the cores for each of them, Postgres", (postgres, "µs"), (bare_cores, BARE)),
        Row::new(
            "the bare arithmetic's part of all that",
            (bare_cores / (own + postgres) * 100.0, "%"),
            (80.0, "wanted at least; the rate's share where nothing else wants the cores"),
        ),
    ])
}

fn middle(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The bare arithmetic: nothing is read, and nothing parsed but what the signature stands on.
fn hash_and_verify(made: &Made, threads: usize, took: &mut Took) -> Result<(), Failed> {
    let key = SecretKey::from_seed(&bulk::SIGNER).public();
    let prepared: Vec<(&[u8], Vec<u8>, [u8; 64])> =
        made.signed.iter().map(|bytes| parts(bytes)).collect::<Option<_>>().ok_or("not signed bytes")?;
    let share = prepared.len().div_ceil(threads);
    let (before, began) = (machine::core_seconds("self")?, Instant::now());
    let all = std::thread::scope(|scope| {
        let check = |part: &[(&[u8], Vec<u8>, [u8; 64])]| part.iter().all(|signed| holds(signed, &key));
        let running: Vec<_> = prepared.chunks(share).map(|part| scope.spawn(move || check(part))).collect();
        running.into_iter().all(|thread| thread.join().unwrap_or(false))
    });
    took.wall.push(began.elapsed().as_secs_f64());
    took.cores.push(machine::core_seconds("self")? - before);
    if all { Ok(()) } else { Err("a signature does not verify".into()) }
}

fn holds((bytes, message, signature): &(&[u8], Vec<u8>, [u8; 64]), key: &PublicKey) -> bool {
    sha256(bytes) != sha256(b"") && key.verify_strict(message, signature).is_ok()
}

/// The signed bytes, what the signature is over, and the signature.
fn parts(bytes: &[u8]) -> Option<(&[u8], Vec<u8>, [u8; 64])> {
    if let Ok(frame) = Frame::parse(bytes) {
        let (message, signature) = frame.signed();
        return Some((bytes, message, signature));
    }
    let text = std::str::from_utf8(bytes).ok()?;
    Record::parse(text).ok()?;
    let (message, signature) = text.rsplit_once('.')?;
    Some((bytes, message.as_bytes().to_vec(), trace::b64::from_url(signature).ok()?.try_into().ok()?))
}
