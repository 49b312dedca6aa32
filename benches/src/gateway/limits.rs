//! What this machine does where it does nothing else: verify in batches, verify strictly, copy.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use trace::{
    keys::PublicKey,
    pack::{Frame, verify_batch},
};

use super::{devices::Devices, real};
use crate::{Failed, house::House, machine, table::Row};

const FOR: Duration = Duration::from_secs(2);
/// Of each device.
const PACKS: usize = 40;
const BATCH: usize = 1_000;

type Signed = (Vec<u8>, PublicKey);
type Packs = Vec<Signed>;

pub async fn measured(house: &House, devices: &mut Devices) -> Result<Vec<Row>, Failed> {
    let scripts = devices.script(PACKS, 1).await?;
    let packs: Packs = (0..PACKS)
        .flat_map(|number| {
            scripts.iter().filter_map(move |script| Some((script.packs.get(number)?.clone(), script.public)))
        })
        .collect();
    let size = packs.first().map_or(0, |(pack, _)| pack.len());
    let (packs, cores) = (Arc::new(packs), std::thread::available_parallelism()?.get());
    let (batches, one_batches) = (on(cores, &packs, passes).await?, on(1, &packs, passes).await?);
    let (strict, one_strict) = (on(cores, &packs, holds).await?, on(1, &packs, holds).await?);
    let url = house.stack.database_url("migrator");
    let (copied, settings) =
        tokio::task::block_in_place(|| Ok::<_, Failed>((copied(&url, &packs)?, machine::durability(&url)?)))?;
    Ok(vec![
        Row::new(
            format!("verify alone: batches of {BATCH}, each of {size} bytes, {cores} threads"),
            (batches, "packs/s"),
            (one_batches, "one thread"),
        ),
        Row::new(
            format!("strict verify alone, {cores} threads"),
            (strict, "packs/s"),
            (one_strict, "one thread"),
        ),
        Row::new(
            format!("COPY alone of them, no index, one connection ({settings})"),
            (copied, "packs/s"),
            (100_000.0, "wanted to be stored"),
        ),
    ])
}

/// Packs a second that `check` passes on so many threads.
async fn on(threads: usize, packs: &Arc<Packs>, check: fn(&[Signed]) -> bool) -> Result<f64, Failed> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..threads {
        let packs = Arc::clone(packs);
        running.spawn_blocking(move || {
            let (began, mut done) = (Instant::now(), 0);
            for batch in packs.chunks(BATCH).cycle() {
                if began.elapsed() >= FOR || !check(batch) {
                    break;
                }
                done += batch.len();
            }
            real(done) / began.elapsed().as_secs_f64()
        });
    }
    Ok(running.join_all().await.into_iter().sum())
}

fn passes(batch: &[Signed]) -> bool {
    let frames: Vec<_> =
        batch.iter().filter_map(|(pack, key)| Some((Frame::parse(pack).ok()?, key))).collect();
    frames.len() == batch.len() && verify_batch(&frames)
}

fn holds(batch: &[Signed]) -> bool {
    batch.iter().all(|(pack, key)| Frame::parse(pack).is_ok_and(|frame| frame.verify(key).is_ok()))
}

/// The packs with their keys and hashes, ten times over, commit included.
fn copied(url: &str, packs: &Packs) -> Result<f64, Failed> {
    const TIMES: usize = 10;
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    client
        .batch_execute("create table bench_pack (device_id bigint, entry bytea, kid bytea, bytes bytea)")?;
    let hex = |bytes: &[u8]| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    };
    let mut text = Vec::new();
    for (number, (pack, key)) in packs.iter().enumerate() {
        let entry = trace::hash::sha256(pack);
        let (entry, kid) = (hex(entry.as_bytes()), hex(key.kid().as_bytes()));
        writeln!(text, "{number}\t\\\\x{entry}\t\\\\x{kid}\t\\\\x{}", hex(pack))?;
    }
    let began = Instant::now();
    let mut copy = client.copy_in("copy bench_pack from stdin")?;
    for _ in 0..TIMES {
        copy.write_all(&text)?;
    }
    copy.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    client.batch_execute("drop table bench_pack")?;
    Ok(real(TIMES * packs.len()) / seconds)
}
