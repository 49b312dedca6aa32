//! The ledger: the log's own speed, a bundle's verification, and fsck.

use std::path::Path;

use server::service::fsck;
use tokio::time::Instant;
use trace::{
    bundle::{self, Bundle},
    tlog::policy::Policy,
};

use crate::{Failed, house::House, log, machine, table::Row};

const VERIFICATIONS: u32 = 200;

pub async fn run(root: &Path) -> Result<Vec<Row>, Failed> {
    let mut rows = log::run().await?;
    rows.extend(bundle_and_fsck(root).await?);
    Ok(rows)
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
