//! Ranges of entries, checked by several threads at once and handed on in the order of the log.

use std::{ops::Range, sync::mpsc};

use store::fsck::{Attached, EntryRow, FsckReadError, LogRow, RecordRow, Snapshot};
use trace::{
    hash::{Hash, sha256},
    record::Record,
};

use super::{
    Misfit, attached,
    history::{History, Place},
    pack,
    record::{self, Known},
};

/// Entries that a thread looks at in one go.
const RANGE: i64 = 1_024;
/// Ranges that a thread may be ahead of the tree.
const AHEAD: usize = 2;
/// Readers for each thread that was asked for: while one waits for Postgres, another checks.
const READERS: usize = 2;

/// What was seen of a range: bounded by the range.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the entries in their order; shorter than the range where one is missing.
    pub hashes: Vec<Hash>,
    pub misfits: Vec<Misfit>,
    pub records: u64,
    pub packs: u64,
}

/// What every thread reads.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub url: &'a str,
    /// The snapshot that all look at.
    pub snapshot: &'a str,
    pub threads: usize,
    pub history: &'a History,
    pub known: &'a Known<'a>,
}

impl Reading<'_> {
    /// Calls `each` with the ranges of `indices`, in their order, until it says `false`.
    pub(super) fn ranges(
        self,
        log: &LogRow,
        indices: Range<i64>,
        mut each: impl FnMut(Seen) -> Result<bool, FsckReadError>,
    ) -> Result<(), FsckReadError> {
        let count = usize::try_from((indices.end - indices.start).max(0) / RANGE + 1).unwrap_or(usize::MAX);
        let threads = self.threads.saturating_mul(READERS).clamp(1, count);
        std::thread::scope(|scope| {
            let mut seen = Vec::with_capacity(threads);
            for thread in 0..threads {
                let (send, receive) = mpsc::sync_channel(AHEAD);
                let mine = ranges(indices.clone()).skip(thread).step_by(threads);
                scope.spawn(move || self.look(log, mine, &send));
                seen.push(receive);
            }
            for receive in seen.iter().cycle() {
                // A thread that is done sends no more: the ranges are dealt in turns, so that all are.
                let Ok(seen) = receive.recv() else { break };
                if !each(seen?)? {
                    break;
                }
            }
            // Dropping the receivers ends the threads.
            drop(seen);
            Ok(())
        })
    }

    fn look(
        self,
        log: &LogRow,
        ranges: impl Iterator<Item = (i64, i64)>,
        send: &mpsc::SyncSender<Result<Seen, FsckReadError>>,
    ) {
        let mut snapshot = match Snapshot::join_for_ranges(self.url, self.snapshot) {
            Ok(snapshot) => snapshot,
            Err(error) => return drop(send.send(Err(error))),
        };
        for range in ranges {
            let seen = self.range(&mut snapshot, log, range);
            if send.send(seen).is_err() {
                return;
            }
        }
    }

    fn range(self, snapshot: &mut Snapshot, log: &LogRow, range: (i64, i64)) -> Result<Seen, FsckReadError> {
        let attached = snapshot.attached(log.id, range)?;
        let (mut seen, mut next, mut whole) = (Seen::default(), range.0, true);
        snapshot.entries(log.id, range, |entry| {
            if entry.index < next {
                seen.misfits.push(Misfit::at(log, entry.index, "more than one pack stands behind the entry"));
                return;
            }
            if !whole || entry.index != next {
                if whole {
                    seen.misfits.push(Misfit::at(log, next, "the entry is missing").ending());
                }
                whole = false;
                return;
            }
            next += 1;
            let Some(hash) = Hash::from_slice(entry.hash) else {
                seen.misfits.push(Misfit::at(log, entry.index, "the entry is not 32 bytes").ending());
                whole = false;
                return;
            };
            seen.hashes.push(hash);
            self.entry((log.id, entry.index), &log.ledger, entry, &attached, &mut |what| {
                seen.misfits.push(Misfit::at(log, entry.index, what));
            });
            if entry.record.is_some() {
                seen.records += 1;
            } else if entry.pack.is_some() {
                seen.packs += 1;
            }
        })?;
        if whole && next < range.1 {
            seen.misfits.push(Misfit::at(log, next, "the entry is missing").ending());
        }
        Ok(seen)
    }

    /// The entry is the hash of the bytes that were signed, by a key that was enrolled before, and what is kept of them is
    /// what they say.
    pub(super) fn entry(
        self,
        at: Place,
        ledger: &str,
        entry: &EntryRow<'_>,
        attached: &Attached,
        say: &mut dyn FnMut(String),
    ) {
        match (&entry.record, &entry.pack) {
            (None, None) => say("no signed bytes stand behind the entry".to_owned()),
            (Some(_), Some(_)) => say("both a record and a pack stand behind the entry".to_owned()),
            (None, Some(pack)) => {
                if sha256(pack.bytes).as_bytes() != entry.hash {
                    return say("the entry is not the hash of the pack".to_owned());
                }
                match pack::check(at, pack, self.history) {
                    Ok(wrong) if wrong.is_empty() => {}
                    Ok(wrong) => say(format!("the pack's row says another {}", wrong.join(", "))),
                    Err(what) => say(format!("pack: {what}")),
                }
            }
            (Some(row), None) => self.record(at, ledger, entry.hash, row, Some(attached), &mut |what| {
                say(format!("record {}: {what}", row.jti));
            }),
        }
    }

    /// What hangs on a record is looked at where it is given.
    pub(super) fn record(
        self,
        at: Place,
        ledger: &str,
        hash: &[u8],
        row: &RecordRow<'_>,
        attached: Option<&Attached>,
        say: &mut dyn FnMut(String),
    ) {
        if sha256(row.signed.as_bytes()).as_bytes() != hash {
            return say("the entry is not the hash of the signed bytes".to_owned());
        }
        let record = match Record::parse(row.signed) {
            Ok(record) => record,
            Err(error) => return say(error.to_string()),
        };
        let role = self.history.check_record(at, &record);
        if let Err(what) = &role {
            say(what.clone());
        }
        let (wrong, signed) = record::misfits(row, &record, role.ok(), self.known, ledger);
        if !wrong.is_empty() {
            say(format!("its row says another {}", wrong.join(", ")));
        }
        let Some(attached) = attached else { return };
        let refs = of(&attached.refs, at.1, |row| row.index);
        if let Err(what) = attached::check_refs(&signed, refs) {
            say(what.to_owned());
        }
        let disclosures = of(&attached.disclosures, at.1, |row| row.index);
        if let Err(what) = attached::check_disclosures(&signed, disclosures) {
            say(what);
        }
        let lots = of(&attached.lots, at.1, |row| row.index);
        if let Err(what) = attached::check_lots(&signed, lots) {
            say(what);
        }
    }
}

fn ranges(indices: Range<i64>) -> impl Iterator<Item = (i64, i64)> {
    let next = move |from: &i64| Some(from + RANGE).filter(|from| *from < indices.end);
    let first = Some(indices.start).filter(|from| *from < indices.end);
    std::iter::successors(first, next).map(move |from| (from, (from + RANGE).min(indices.end)))
}

/// The rows of one entry among rows in the order of entries.
fn of<T>(rows: &[T], index: i64, index_of: impl Fn(&T) -> i64) -> &[T] {
    let from = rows.partition_point(|row| index_of(row) < index);
    let to = rows.partition_point(|row| index_of(row) <= index);
    rows.get(from..to).unwrap_or_default()
}
