//! A part of the ledger, drawn by lot: each entry with what stands behind it and its way up to the signed head.

use std::collections::{BTreeMap, BTreeSet};

use store::fsck::{FsckReadError, LogRow, Snapshot};
use trace::hash::{Hash, sha256_of};

use super::{
    Ask, FsckError, Misfit, Report,
    entries::Reading,
    keys, learn,
    log::LogCheck,
    record::Known,
    tree::{Rebuilt, tree_hash},
};

/// Entries that are always looked at: whoever changes something changes what is new, if he can choose.
const NEWEST: u64 = 256;
/// Entries, and tiles, that are held at once.
const CHUNK: usize = 256;
/// Hashes of a full tile.
const WIDTH: u64 = 256;

/// What a sampled check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sampled {
    pub report: Report,
    /// Entries that there are: the report says how many of them were looked at.
    pub logged: u64,
}

/// Checks `wanted` entries drawn over all logs, the newest ones, each log's head, and the keys. What is derived from
/// records (lots, balances, edges) is left to [`super::check`]. Must not be called from within an async runtime.
pub fn sample(ask: &Ask, wanted: usize) -> Result<Sampled, FsckError> {
    let mut snapshot = Snapshot::open(&ask.database_url)?;
    let mut sampled = Sampled::default();
    let history = learn(&mut snapshot, &ask.trust)?;
    let known = Known { first_places: snapshot.first_places()?.into_iter().collect(), steps: &ask.steps };
    let name = String::new();
    let reading =
        Reading { url: &ask.database_url, snapshot: &name, threads: 1, history: &history, known: &known };
    let logs = snapshot.logs()?;
    sampled.report.logs = logs.len();
    sampled.logged = logs.iter().map(entries_of).sum();
    let mut drawn = draw(sampled.logged, wanted)?;
    for log in &logs {
        let later = drawn.split_off(&entries_of(log));
        let mut of_log = Sampling {
            log: LogCheck {
                snapshot: &mut snapshot,
                log,
                trust: &ask.trust,
                history: &history,
                report: &mut sampled.report,
            },
            reading,
        };
        of_log.run(&drawn)?;
        drawn = later.into_iter().map(|position| position - entries_of(log)).collect();
    }
    keys::check_keys(&mut snapshot, &history, &mut sampled.report)?;
    Ok(sampled)
}

fn entries_of(log: &LogRow) -> u64 {
    u64::try_from(log.entries).unwrap_or(0)
}

/// Different positions below `all`: the newest, and `wanted` by lot.
fn draw(all: u64, wanted: usize) -> Result<BTreeSet<u64>, FsckError> {
    let mut drawn: BTreeSet<u64> = (all.saturating_sub(NEWEST)..all).collect();
    if drawn.len().saturating_add(wanted) >= usize::try_from(all).unwrap_or(usize::MAX) {
        return Ok((0..all).collect());
    }
    let wanted = drawn.len() + wanted;
    let mut random = [0; 8];
    while drawn.len() < wanted {
        getrandom::fill(&mut random)?;
        drawn.insert(u64::from_be_bytes(random) % all);
    }
    Ok(drawn)
}

struct Sampling<'a> {
    log: LogCheck<'a>,
    reading: Reading<'a>,
}

impl Sampling<'_> {
    fn run(&mut self, drawn: &BTreeSet<u64>) -> Result<(), FsckReadError> {
        let vkey = self.log.verifier();
        let mut leaves = BTreeMap::new();
        let indices: Vec<i64> = drawn.iter().filter_map(|index| i64::try_from(*index).ok()).collect();
        for chunk in indices.chunks(CHUNK) {
            self.entries(chunk, &mut leaves)?;
        }
        let Some(edge) = self.edge()? else { return Ok(()) };
        self.climb(leaves, &edge)?;
        let size = self.log.log.entries;
        self.log.checkpoints((size.saturating_sub(1), size), &edge, vkey.as_ref())?;
        self.log.head(&edge)
    }

    /// The entries against the bytes behind them; notes their leaves.
    fn entries(&mut self, indices: &[i64], leaves: &mut BTreeMap<u64, Hash>) -> Result<(), FsckReadError> {
        let log = self.log.log;
        let attached = self.log.snapshot.attached_to(log.id, indices)?;
        let (reading, mut misfits) = (self.reading, Vec::new());
        let (mut records, mut packs) = (0, 0);
        self.log.snapshot.listed(log.id, indices, |entry| {
            let mut say = |what: String| misfits.push(Misfit::at(log, entry.index, what));
            let (Some(hash), Ok(index)) = (Hash::from_slice(entry.hash), u64::try_from(entry.index)) else {
                return say("the entry is not 32 bytes".to_owned());
            };
            if leaves.insert(index, sha256_of(&[&[0], hash.as_bytes()])).is_some() {
                return say("more than one pack stands behind the entry".to_owned());
            }
            records += u64::from(entry.record.is_some());
            packs += u64::from(entry.record.is_none() && entry.pack.is_some());
            reading.entry((log.id, entry.index), &log.ledger, entry, &attached, &mut say);
        })?;
        let is_there = |index: &i64| u64::try_from(*index).is_ok_and(|index| leaves.contains_key(&index));
        let missing = indices.iter().filter(|index| !is_there(index));
        misfits.extend(missing.map(|index| Misfit::at(log, *index, "the entry is missing")));
        let report = &mut *self.log.report;
        report.entries += u64::try_from(indices.len()).unwrap_or(0);
        report.records += records;
        report.packs += packs;
        for misfit in misfits {
            report.misfit(misfit.at, misfit.what);
        }
        Ok(())
    }

    /// The open right edge of the tree, from the last entries and the tiles beside it.
    fn edge(&mut self) -> Result<Option<Rebuilt>, FsckReadError> {
        let log = self.log.log;
        let size = entries_of(log);
        let from = i64::try_from(size - size % WIDTH).unwrap_or(i64::MAX);
        let last = self.log.snapshot.hashes(log.id, (from, log.entries))?;
        let mut hashes: Vec<Hash> = last
            .iter()
            .filter_map(|hash| Some(sha256_of(&[&[0], Hash::from_slice(hash)?.as_bytes()])))
            .collect();
        let (mut rows, mut here, mut level) = (Vec::new(), size, 0);
        while here > 0 {
            let full = here / WIDTH;
            if u64::try_from(hashes.len()) != Ok(here % WIDTH) {
                self.log.report.misfit(&log.origin, "an entry or a tile at the end of the log is missing");
                return Ok(None);
            }
            rows.push((full, hashes));
            let beside: Vec<u64> = (full - full % WIDTH..full).collect();
            hashes = self.tiles(level, &beside)?.iter().map(|(_, tile)| tree_hash(tile)).collect();
            (here, level) = (full, level + 1);
        }
        Ok(Some(Rebuilt::of(size, rows)))
    }

    /// From the leaves to where the edge says the same: each full tile on the way is the one that holds them.
    fn climb(&mut self, leaves: BTreeMap<u64, Hash>, edge: &Rebuilt) -> Result<(), FsckReadError> {
        let (mut below, mut level) = (leaves, 0);
        while !below.is_empty() {
            let full = edge.full(level);
            let inside: Vec<u64> =
                below.keys().map(|index| index / WIDTH).filter(|tile| *tile < full).collect();
            let mut tiles = inside;
            tiles.dedup();
            let mut above = BTreeMap::new();
            for chunk in tiles.chunks(CHUNK) {
                let kept: BTreeMap<u64, Vec<Hash>> = self.tiles(level, chunk)?.into_iter().collect();
                for tile in chunk {
                    self.log.report.tiles += 1;
                    let mut held = below.range(tile * WIDTH..(tile + 1) * WIDTH);
                    let hashes = kept.get(tile);
                    let holds = |(index, hash): (&u64, &Hash)| {
                        let at = usize::try_from(index % WIDTH).ok();
                        at.zip(hashes).and_then(|(at, hashes)| hashes.get(at)) == Some(hash)
                    };
                    if held.all(holds) {
                        above.extend(hashes.map(|hashes| (*tile, tree_hash(hashes))));
                    } else {
                        let at = format!("{} tile {level}/{tile}", self.log.log.origin);
                        self.log.report.misfit(at, "missing, or not what the entries make");
                    }
                }
            }
            (below, level) = (above, level + 1);
        }
        Ok(())
    }

    /// Those of the tiles that are there and full.
    fn tiles(&mut self, level: u8, indices: &[u64]) -> Result<Vec<(u64, Vec<Hash>)>, FsckReadError> {
        let indices: Vec<i64> = indices.iter().filter_map(|index| i64::try_from(*index).ok()).collect();
        let kept = self.log.snapshot.listed_tiles(self.log.log.id, i16::from(level), &indices)?;
        let tile = |(index, bytes): (i64, Vec<u8>)| {
            let hashes: Option<Vec<Hash>> = bytes.chunks(Hash::LEN).map(Hash::from_slice).collect();
            let hashes = hashes.filter(|hashes| u64::try_from(hashes.len()) == Ok(WIDTH))?;
            Some((u64::try_from(index).ok()?, hashes))
        };
        Ok(kept.into_iter().filter_map(tile).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_the_newest_and_as_many_others_as_were_wanted() {
        let drawn = draw(1_000_000, 2_000).unwrap();
        assert_eq!(drawn.len(), 2_256);
        assert!((999_744..1_000_000).all(|index| drawn.contains(&index)));
        assert!(drawn.iter().all(|index| *index < 1_000_000));
        let older = drawn.iter().filter(|index| **index < 500_000).count();
        assert!((800..1_200).contains(&older), "{older} of 2,000 in the first half");
        assert_eq!(draw(300, 44).unwrap(), (0..300).collect());
        assert_eq!(draw(0, 44).unwrap(), BTreeSet::new());
    }
}
