//! `fsck` over 100,000 signed records and packs, beside SHA-256 and strict Ed25519 alone over the same bytes on the same cores.

mod bulk;

use std::{path::Path, time::Instant};

use demo::postgres::Cluster;
use server::service::fsck::{self, Ask};
use trace::{
    hash::sha256,
    keys::{PublicKey, SecretKey},
    pack::Frame,
    record::Record,
    tlog::policy::Policy,
};

use crate::{Failed, table::Row};
use bulk::{Bulk, Made};

/// Of each kind.
const COUNT: u32 = 100_000;
/// Turns, so that what else the machine does falls on both alike; the middle one counts.
const ROUNDS: usize = 3;

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
    let url = cluster.url("auditor", "suyuan");
    let rows = tokio::task::spawn_blocking(move || {
        let rows = compare(name, &url, &made).map_err(|error| error.to_string());
        drop(cluster);
        rows
    })
    .await??;
    std::fs::remove_dir_all(home)?;
    Ok(rows)
}

fn compare(name: &str, url: &str, made: &Made) -> Result<Vec<Row>, Failed> {
    let threads = fsck::threads();
    let mut trust = Policy::default();
    trust.registrars.push(made.registrar);
    let ask = Ask { database_url: url.to_owned(), trust, threads, ..Ask::default() };
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let report = fsck::check(&ask, |_| {})?;
        ours.push(began.elapsed().as_secs_f64());
        if let Some(misfit) = report.misfits.first() {
            return Err(format!("{}: {}", misfit.at, misfit.what).into());
        }
        alone.push(hash_and_verify(made, threads)?);
    }
    let count = f64::from(u32::try_from(made.signed.len())?);
    let (ours, alone) = (count / middle(ours), count / middle(alone));
    Ok(vec![
        Row::new(
            format!(
                "fsck of {} {name}, {} bytes each, {threads} threads",
                made.signed.len(),
                made.bytes_each()
            ),
            (ours, "/s"),
            (alone, "SHA-256 and strict Ed25519 alone over the same bytes, as many threads"),
        ),
        Row::new("of that".to_owned(), (ours / alone * 100.0, "%"), (80.0, "wanted at least")),
    ])
}

fn middle(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds for the bare arithmetic: nothing is read, and nothing parsed but what the signature stands on.
fn hash_and_verify(made: &Made, threads: usize) -> Result<f64, Failed> {
    let key = SecretKey::from_seed(&bulk::SIGNER).public();
    let prepared: Vec<(&[u8], Vec<u8>, [u8; 64])> =
        made.signed.iter().map(|bytes| parts(bytes)).collect::<Option<_>>().ok_or("not signed bytes")?;
    let share = prepared.len().div_ceil(threads);
    let began = Instant::now();
    let all = std::thread::scope(|scope| {
        let check = |part: &[(&[u8], Vec<u8>, [u8; 64])]| part.iter().all(|signed| holds(signed, &key));
        let running: Vec<_> = prepared.chunks(share).map(|part| scope.spawn(move || check(part))).collect();
        running.into_iter().all(|thread| thread.join().unwrap_or(false))
    });
    if all { Ok(began.elapsed().as_secs_f64()) } else { Err("a signature does not verify".into()) }
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
