//! One log: the tree from the entries, and tiles, heads, checkpoints and cosignatures against the tree.

use std::collections::BTreeMap;

use store::fsck::{CheckpointRow, CosignatureRow, FsckReadError, LogRow, Snapshot};
use trace::tlog::{
    checkpoint::Checkpoint,
    cosignature,
    note::{Note, SignatureLine, VerifierKey},
    origin::Origin,
    policy::Policy,
};

use super::{
    Progress, Report,
    entries::{Reading, Seen},
    history::History,
    tree::{FullTile, Rebuilt},
};

pub(super) struct LogCheck<'a> {
    pub snapshot: &'a mut Snapshot,
    pub log: &'a LogRow,
    pub trust: &'a Policy,
    pub history: &'a History,
    pub report: &'a mut Report,
}

impl LogCheck<'_> {
    /// The whole log, from what `rebuilt` holds already on. Gives the tree back.
    pub(super) fn run(
        &mut self,
        reading: Reading<'_>,
        mut rebuilt: Rebuilt,
        progress: &mut dyn FnMut(&Progress<'_>, &Rebuilt, bool),
    ) -> Result<Rebuilt, FsckReadError> {
        let (log, vkey) = (self.log, self.verifier());
        let before = self.report.misfits.len();
        let from = i64::try_from(rebuilt.size()).unwrap_or(i64::MAX);
        if from == 0 {
            self.checkpoints((-1, 0), &rebuilt, vkey.as_ref())?;
        }
        reading.ranges(log, from..log.entries, |seen| {
            let whole = self.range(&seen, &mut rebuilt, vkey.as_ref())?;
            let clean = self.report.misfits.len() == before;
            let all = u64::try_from(log.entries).unwrap_or(0);
            progress(&Progress { of: &log.origin, done: rebuilt.size(), all }, &rebuilt, clean);
            Ok(whole)
        })?;
        self.head(&rebuilt)?;
        Ok(rebuilt)
    }

    /// The log's own row. Its key is one that the reader names, or that an earlier log names as its successor's.
    pub(super) fn verifier(&mut self) -> Option<VerifierKey> {
        let log = self.log;
        let vkey = log.vkey.parse::<VerifierKey>().ok();
        let named = vkey.as_ref().is_some_and(|vkey| vkey.name.as_str() == log.origin);
        let ledger = log.origin.parse::<Origin>().is_ok_and(|origin| origin.ledger() == log.ledger);
        if !named || !ledger {
            self.report.misfit(&log.origin, "its origin, ledger and verifier key do not fit together");
        }
        let trusted = self.trust.logs.is_empty()
            || self.trust.logs.iter().any(|listed| Some(&listed.key) == vkey.as_ref())
            || self.history.successors.get(&log.origin) == Some(&log.vkey);
        if !trusted {
            self.report.misfit(&log.origin, "neither the trust file nor an earlier log names this log's key");
        }
        let sealed = match log.state.as_str() {
            "announced" => !log.is_sealed_at && log.entries == 0,
            "open" => !log.is_sealed_at,
            "sealed" => log.is_sealed_at && self.history.ended_logs.contains(&log.id),
            _ => false,
        };
        if !sealed {
            self.report.misfit(&log.origin, "open or sealed against what stands in it");
        }
        vkey
    }

    /// `false` where an entry is missing: nothing after it can be placed.
    fn range(
        &mut self,
        seen: &Seen,
        rebuilt: &mut Rebuilt,
        vkey: Option<&VerifierKey>,
    ) -> Result<bool, FsckReadError> {
        let log = self.log;
        self.report.entries += u64::try_from(seen.hashes.len()).unwrap_or(0);
        self.report.records += seen.records;
        self.report.packs += seen.packs;
        for misfit in &seen.misfits {
            self.report.misfit(&misfit.at, &misfit.what);
        }
        let from = rebuilt.size();
        let to = i64::try_from(from).unwrap_or(i64::MAX);
        let to = to.saturating_add(i64::try_from(seen.hashes.len()).unwrap_or(i64::MAX));
        let mut due = self.due((i64::try_from(from).unwrap_or(i64::MAX), to))?.into_iter().peekable();
        let mut full: BTreeMap<u8, Vec<FullTile>> = BTreeMap::new();
        for hash in &seen.hashes {
            for tile in rebuilt.push(hash) {
                full.entry(tile.level).or_default().push(tile);
            }
            while let Some((row, cosigned)) = due.next_if(|(row, _)| is_size(row.size, rebuilt)) {
                self.checkpoint(&row, &cosigned, rebuilt, vkey);
            }
        }
        for (level, tiles) in full {
            self.tiles(level, &tiles)?;
        }
        let whole = seen.misfits.iter().all(|misfit| !misfit.ends_the_log);
        if !whole {
            self.report.misfit(&log.origin, "the rest of the log was not looked at");
        }
        Ok(whole)
    }

    /// Checkpoints with `from < size <= to` and their cosignatures.
    fn due(&mut self, sizes: (i64, i64)) -> Result<Vec<(CheckpointRow, Vec<CosignatureRow>)>, FsckReadError> {
        let cosigned = self.snapshot.cosignatures(self.log.id, sizes)?;
        let rows = self.snapshot.checkpoints(self.log.id, sizes)?;
        let with = |row: CheckpointRow| {
            let lines = cosigned.iter().filter(|line| line.size == row.size).cloned().collect();
            (row, lines)
        };
        Ok(rows.into_iter().map(with).collect())
    }

    pub(super) fn checkpoints(
        &mut self,
        sizes: (i64, i64),
        rebuilt: &Rebuilt,
        vkey: Option<&VerifierKey>,
    ) -> Result<(), FsckReadError> {
        for (row, cosigned) in self.due(sizes)? {
            self.checkpoint(&row, &cosigned, rebuilt, vkey);
        }
        Ok(())
    }

    fn checkpoint(
        &mut self,
        row: &CheckpointRow,
        cosigned: &[CosignatureRow],
        rebuilt: &Rebuilt,
        vkey: Option<&VerifierKey>,
    ) {
        self.report.checkpoints += 1;
        let at = format!("{} checkpoint {}", self.log.origin, row.size);
        let note = row.note.parse::<Note>().ok();
        let opened = note.as_ref().zip(vkey).and_then(|(note, vkey)| Checkpoint::open(note, vkey).ok());
        match &opened {
            None => self.report.misfit(&at, "not signed by the log"),
            Some(head) if !is_size(row.size, rebuilt) || head.size != rebuilt.size() => {
                self.report.misfit(&at, "its row says another size than its note");
            }
            Some(head) if head.root.as_bytes().as_slice() != row.root => {
                self.report.misfit(&at, "its row says another root than its note");
            }
            Some(head) if head.root != rebuilt.root() => {
                self.report.misfit(&at, "its root is not that of the entries");
            }
            Some(_) if note.as_ref().is_some_and(|note| note.signatures.len() != 1) => {
                self.report.misfit(&at, "others than the log signed its note");
            }
            Some(_) => {}
        }
        let Some(note) = note else { return };
        for line in cosigned {
            self.report.cosignatures += 1;
            if !self.is_cosigned(&note, line) {
                self.report.misfit(&at, format!("the line of {} is not that witness's", line.witness));
            }
        }
    }

    /// By the key that the reader trusts; where no witness is trusted, only that it is a line at all.
    fn is_cosigned(&self, note: &Note, row: &CosignatureRow) -> bool {
        let Ok(line) = row.line.parse::<SignatureLine>() else { return false };
        let witnesses = self.trust.witnesses();
        match witnesses.get(&row.witness) {
            Some(witness) => cosignature::verify_line(&note.text, &line, &witness.key).is_ok(),
            None => witnesses.is_empty(),
        }
    }

    fn tiles(&mut self, level: u8, made: &[FullTile]) -> Result<(), FsckReadError> {
        let (Some(first), Some(last)) = (made.first(), made.last()) else { return Ok(()) };
        let index = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        let range = (index(first.index), index(last.index).saturating_add(1));
        let kept = self.snapshot.tiles(self.log.id, i16::from(level), range)?;
        let kept: BTreeMap<i64, Vec<u8>> = kept.into_iter().collect();
        for tile in made {
            self.report.tiles += 1;
            if kept.get(&index(tile.index)) != Some(&tile.bytes) {
                let at = format!("{} tile {level}/{}", self.log.origin, tile.index);
                self.report.misfit(&at, "missing, or not what the entries make");
            }
        }
        Ok(())
    }

    /// The head is the newest checkpoint, and the tree ends where it does.
    pub(super) fn head(&mut self, rebuilt: &Rebuilt) -> Result<(), FsckReadError> {
        let log = self.log;
        let newest = self.snapshot.newest_checkpoint(log.id)?;
        match (&log.head, newest) {
            (None, _) => self.report.misfit(&log.origin, "it has no head"),
            (Some(head), _) if !is_size(head.size, rebuilt) => {
                let what = format!("the head says {}, the entries are {}", head.size, rebuilt.size());
                self.report.misfit(&log.origin, &what);
            }
            (Some(head), _) if head.root != rebuilt.root().as_bytes() => {
                self.report.misfit(&log.origin, "the head's root is not that of the entries");
            }
            (Some(head), Some(newest)) if (head.size, head.signed_at) != (newest.size, newest.signed_at) => {
                self.report.misfit(&log.origin, "the head is not the newest checkpoint");
            }
            (Some(head), None) if head.size > 0 => {
                self.report.misfit(&log.origin, "no checkpoint was signed of the head");
            }
            _ => {}
        }
        if u64::try_from(self.snapshot.tile_count(log.id)?) != Ok(rebuilt.full_tiles()) {
            self.report.misfit(&log.origin, "tiles that no entries fill");
        }
        if let Some(index) = self.snapshot.beyond(log.id, log.entries)? {
            let at = format!("{} {index}", log.origin);
            self.report.misfit(at, "the entry stands beyond the end of the log");
        }
        if self.snapshot.strays(log.id, log.entries)? > 0 {
            self.report.misfit(&log.origin, "checkpoints of sizes that the log never had");
        }
        Ok(())
    }
}

fn is_size(size: i64, rebuilt: &Rebuilt) -> bool {
    u64::try_from(size) == Ok(rebuilt.size())
}
