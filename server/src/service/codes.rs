//! Serial numbers: which lot a scanned one marks, and which ones a lot has.

use chrono::{DateTime, Datelike as _, Utc};
use store::{
    Connection, StoreError,
    code::{self, CodeRun},
    lot::{self, Lot},
};
use trace::{
    profile::build::Codes,
    serial::{Epoch, Serial, SerialError, SerialKey},
};

/// Serial numbers listed at once: a sheet of labels.
const LISTED_MAX: i64 = 1_000;

/// What a serial number is.
#[derive(Debug)]
pub enum Found {
    /// Ours, and on this lot.
    Lot(Box<Lot>),
    /// Taken back, and why.
    Void(String),
    /// Known without a query: no key of ours makes it.
    NeverIssued,
    /// It authenticates, but no run holds its index: a key leaked or a row is lost.
    NoRun,
}

/// The master of one key epoch, so that a sealed year's can be handed over without the others.
pub fn epoch_master(master: &[u8; 32], epoch: Epoch) -> [u8; 32] {
    let mut label = *b"suyuan-serial-master/1/?";
    if let Some(last) = label.last_mut() {
        *last = u8::try_from(epoch.as_char()).unwrap_or(b'?');
    }
    trace::hash::sha256_of(&[master, &label]).0
}

/// One of Crockford's 32 characters a year, so that a key epoch comes again only after 32 years: 2026 is A.
pub fn key_epoch(now: DateTime<Utc>) -> Result<Epoch, StoreError> {
    const CROCKFORD: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let at = usize::try_from(now.year().rem_euclid(32)).unwrap_or_default();
    let character = CROCKFORD.get(at..=at).unwrap_or_default();
    Epoch::parse(character).map_err(|_| StoreError::Corrupt("a key epoch"))
}

/// Keeps the run of codes that the record `entry` puts on `marked`.
pub async fn record_run(
    conn: &mut Connection,
    master: &[u8; 32],
    codes: &Codes,
    marked: &Lot,
    entry: &[u8],
) -> Result<(), StoreError> {
    let corrupt = |_: SerialError| StoreError::Corrupt("a code run");
    let epoch = Epoch::parse(&codes.epoch.to_string()).map_err(corrupt)?;
    let key = key_of(master, epoch, &marked.gtin).map_err(corrupt)?;
    let count = |number: u64| i64::try_from(number).map_err(|_| StoreError::Corrupt("a code run"));
    let run = CodeRun {
        gtin: marked.gtin.clone(),
        key_epoch: codes.epoch,
        first: count(codes.first)?,
        count: count(codes.count)?,
        lot_id: marked.id,
        entry: entry.to_vec(),
    };
    code::insert(conn, &run, key.digest().as_bytes()).await
}

/// Looks a serial number up as it was scanned or typed.
pub async fn find(
    conn: &mut Connection,
    master: &[u8; 32],
    gtin: &str,
    serial: &str,
) -> Result<Found, StoreError> {
    let Ok(serial) = Serial::parse(serial) else { return Ok(Found::NeverIssued) };
    let epoch = serial.epoch();
    let Ok(key) = key_of(master, epoch, gtin) else { return Ok(Found::NeverIssued) };
    let Ok(index) = key.index(&serial) else { return Ok(Found::NeverIssued) };
    let index = i64::try_from(index).map_err(|_| StoreError::Corrupt("a serial's index"))?;
    if let Some(reason) = code::void_reason(conn, gtin, epoch.as_char(), index).await? {
        return Ok(Found::Void(reason));
    }
    let Some(run) = code::holding_index(conn, gtin, epoch.as_char(), index).await? else {
        tracing::error!(gtin, "a serial number authenticates, but no run holds its index");
        return Ok(Found::NoRun);
    };
    let marked = lot::by_ids(conn, &[run.lot_id]).await?.into_iter().next();
    Ok(Found::Lot(Box::new(marked.ok_or(StoreError::Corrupt("a code run's lot"))?)))
}

/// The first serial numbers of a lot, in the order of their runs.
pub async fn serials_of(
    conn: &mut Connection,
    master: &[u8; 32],
    lot_id: i64,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let mut serials = Vec::new();
    let mut left = limit.clamp(0, LISTED_MAX);
    for CodeRun { gtin, key_epoch, first, count, .. } in code::runs_of_lot(conn, lot_id).await? {
        let corrupt = |_: SerialError| StoreError::Corrupt("a code run");
        let epoch = Epoch::parse(&key_epoch.to_string()).map_err(corrupt)?;
        let key = key_of(master, epoch, &gtin).map_err(corrupt)?;
        let here = count.min(left);
        for index in first..first.saturating_add(here) {
            let index = u64::try_from(index).map_err(|_| StoreError::Corrupt("a code run"))?;
            serials.push(key.serial(index).map_err(corrupt)?.as_str().to_owned());
        }
        left -= here;
    }
    Ok(serials)
}

fn key_of(master: &[u8; 32], epoch: Epoch, gtin: &str) -> Result<SerialKey, SerialError> {
    SerialKey::derive(&epoch_master(master, epoch), epoch, gtin)
}
