//! Re-derives the whole log from the signed bytes, by other code than wrote it, as a role that can only read.
//!
//! Leaves from the bytes, tiles and heads from the leaves, keys from the registrar's statements, holdings from movements.

mod history;
mod tree;

use std::collections::BTreeSet;

use store::fsck::{EntryRow, FsckReadError, LogRow, Snapshot};
use trace::{
    hash::{Hash, sha256},
    keys::Kid,
    record::Record,
    tlog::{checkpoint::Checkpoint, note::Note, note::VerifierKey},
};

use history::History;
use tree::Rebuilt;

const PAGE: i64 = 2_000;
/// Misfits reported; the first is the one to look at.
const MISFITS_MAX: usize = 100;

/// Something that does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `<origin> <index>`, a jti, or a lot.
    pub at: String,
    pub what: String,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub logs: usize,
    pub entries: u64,
    pub records: u64,
    pub packs: u64,
    pub checkpoints: u64,
    pub tiles: u64,
    /// In the order in which they were met.
    pub misfits: Vec<Misfit>,
}

impl Report {
    pub const fn is_clean(&self) -> bool {
        self.misfits.is_empty()
    }

    fn misfit(&mut self, at: impl Into<String>, what: impl Into<String>) {
        if self.misfits.len() < MISFITS_MAX {
            self.misfits.push(Misfit { at: at.into(), what: what.into() });
        }
    }
}

/// Checks everything. `registrars` are the thumbprints of the keys whose enrolments count; `progress` is told of every page.
/// Must not be called from within an async runtime.
pub fn check(
    url: &str,
    registrars: &BTreeSet<Kid>,
    mut progress: impl FnMut(&str, u64, u64),
) -> Result<Report, FsckReadError> {
    let mut snapshot = Snapshot::open(url)?;
    let mut report = Report::default();
    let mut history = History::new(registrars.clone());
    for log in snapshot.logs()? {
        report.logs += 1;
        check_log(&mut snapshot, &log, &mut history, &mut report, &mut progress)?;
    }
    let limit = i64::try_from(MISFITS_MAX).unwrap_or(i64::MAX);
    for jti in snapshot.lost_records(limit)? {
        report.misfit(jti, "the record stands in no log and does not wait for one");
    }
    for wrong in snapshot.imbalances(limit)? {
        let what = format!(
            "{} at {} holds {}, but its movements add up to {}",
            wrong.party, wrong.place, wrong.held, wrong.moved
        );
        report.misfit(wrong.lot, what);
    }
    Ok(report)
}

fn check_log(
    snapshot: &mut Snapshot,
    log: &LogRow,
    history: &mut History,
    report: &mut Report,
    progress: &mut impl FnMut(&str, u64, u64),
) -> Result<(), FsckReadError> {
    let mut rebuilt = Rebuilt::default();
    let vkey = log.vkey.parse::<VerifierKey>().ok();
    if vkey.is_none() {
        report.misfit(&log.origin, "the log's verifier key cannot be read");
    }
    loop {
        let from = i64::try_from(rebuilt.size()).unwrap_or(i64::MAX);
        let page = snapshot.entries(log.id, from, PAGE)?;
        let Some(last) = page.last().map(|entry| entry.index) else { break };
        let checkpoints = snapshot.checkpoints(log.id, from, last.saturating_add(1))?;
        let mut checkpoints = checkpoints.into_iter().peekable();
        for entry in page {
            if u64::try_from(entry.index) != Ok(rebuilt.size()) {
                report.misfit(place(log, entry.index), format!("entry {} is missing", rebuilt.size()));
                return Ok(());
            }
            check_entry(log, &entry, history, report);
            append(snapshot, log, &entry, &mut rebuilt, report)?;
            while let Some((_, root, note)) =
                checkpoints.next_if(|(size, ..)| u64::try_from(*size) == Ok(rebuilt.size()))
            {
                check_checkpoint(log, vkey.as_ref(), &root, &note, &rebuilt, report);
            }
        }
        progress(&log.origin, rebuilt.size(), u64::try_from(log.size).unwrap_or(0));
    }
    if u64::try_from(log.size) != Ok(rebuilt.size()) {
        report.misfit(&log.origin, format!("the head says {}, the entries are {}", log.size, rebuilt.size()));
    } else if log.root != rebuilt.root().as_bytes() {
        report.misfit(&log.origin, "the head's root is not that of the entries");
    }
    if u64::try_from(snapshot.tile_count(log.id)?) != Ok(rebuilt.full_tiles()) {
        report.misfit(&log.origin, "tiles that no entries fill");
    }
    Ok(())
}

/// The entry is the hash of the bytes that were signed, and these are signed by a key that was enrolled before.
fn check_entry(log: &LogRow, entry: &EntryRow, history: &mut History, report: &mut Report) {
    report.entries += 1;
    let at = place(log, entry.index);
    let signed = match (&entry.record, &entry.pack) {
        (Some(record), _) => record.signed.as_bytes(),
        (None, Some(pack)) => &pack[..],
        (None, None) => {
            report.misfit(at, "no signed bytes stand behind the entry");
            return;
        }
    };
    if sha256(signed).as_bytes() != entry.hash.as_slice() {
        report.misfit(&at, "the entry is not the hash of the signed bytes");
        return;
    }
    let Some(row) = &entry.record else {
        report.packs += 1;
        if let Err(what) = history.check_pack(signed) {
            report.misfit(at, what);
        }
        return;
    };
    report.records += 1;
    match Record::parse(&row.signed) {
        Err(error) => report.misfit(at, format!("record {}: {error}", row.jti)),
        Ok(record) => {
            let claims = record.claims();
            let is_row = claims.jti.to_string() == row.jti
                && claims.iss == row.iss
                && record.kid().as_bytes().as_slice() == row.kid.as_slice();
            if !is_row {
                report.misfit(&at, format!("record {}: its row says something else than its bytes", row.jti));
            }
            if let Err(what) = history.check_record(&record) {
                report.misfit(&at, format!("record {}: {what}", row.jti));
            }
        }
    }
}

fn append(
    snapshot: &mut Snapshot,
    log: &LogRow,
    entry: &EntryRow,
    rebuilt: &mut Rebuilt,
    report: &mut Report,
) -> Result<(), FsckReadError> {
    let Some(hash) = Hash::from_slice(&entry.hash) else {
        report.misfit(place(log, entry.index), "the entry is not 32 bytes");
        return Ok(());
    };
    for full in rebuilt.push(&hash) {
        report.tiles += 1;
        let index = i64::try_from(full.index).unwrap_or(i64::MAX);
        if snapshot.tile(log.id, i16::from(full.level), index)?.as_deref() != Some(&full.bytes[..]) {
            report.misfit(
                place(log, entry.index),
                format!("tile {}/{} is missing or not what the entries make", full.level, full.index),
            );
        }
    }
    Ok(())
}

fn check_checkpoint(
    log: &LogRow,
    vkey: Option<&VerifierKey>,
    root: &[u8],
    note: &str,
    rebuilt: &Rebuilt,
    report: &mut Report,
) {
    report.checkpoints += 1;
    let at = format!("{} checkpoint {}", log.origin, rebuilt.size());
    let opened =
        note.parse::<Note>().ok().zip(vkey).and_then(|(note, vkey)| Checkpoint::open(&note, vkey).ok());
    match opened {
        None => report.misfit(at, "not signed by the log"),
        Some(head) if head.size != rebuilt.size() || head.root.as_bytes() != root => {
            report.misfit(at, "its row says something else than its note");
        }
        Some(head) if head.root != rebuilt.root() => report.misfit(at, "its root is not that of the entries"),
        Some(_) => {}
    }
}

fn place(log: &LogRow, index: i64) -> String {
    format!("{} {index}", log.origin)
}
