//! The tree again, by the definition of RFC 9162 §2.1.1 and not by the sequencer's frontier: rows of a tile's width are
//! folded pairwise, the open right edge is split at the largest power of two.

use serde::{Deserialize, Serialize};
use trace::hash::{Hash, sha256_of};

const WIDTH: usize = 256;

/// Per tile level, the hashes of the tile that is not full yet, and how many full ones came before.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rebuilt {
    size: u64,
    rows: Vec<(u64, Vec<Hash>)>,
}

pub(super) struct FullTile {
    pub level: u8,
    pub index: u64,
    pub bytes: Vec<u8>,
}

impl Rebuilt {
    /// From rows that were read elsewhere.
    pub(super) const fn of(size: u64, rows: Vec<(u64, Vec<Hash>)>) -> Self {
        Self { size, rows }
    }

    /// How many tiles of a level are full.
    pub(super) fn full(&self, level: u8) -> u64 {
        self.rows.get(usize::from(level)).map_or(0, |(full, _)| *full)
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn full_tiles(&self) -> u64 {
        self.rows.iter().map(|(full, _)| full).sum()
    }

    /// Appends an entry; returns the tiles that it fills.
    pub(super) fn push(&mut self, entry: &Hash) -> Vec<FullTile> {
        self.size += 1;
        let mut filled = Vec::new();
        let mut hash = sha256_of(&[&[0], entry.as_bytes()]);
        for level in 0_u8.. {
            let row = usize::from(level);
            if self.rows.len() == row {
                self.rows.push((0, Vec::with_capacity(WIDTH)));
            }
            let Some((full, hashes)) = self.rows.get_mut(row) else { break };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                break;
            }
            let bytes = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            filled.push(FullTile { level, index: *full, bytes });
            hash = tree_hash(hashes);
            hashes.clear();
            *full += 1;
        }
        filled
    }

    /// Whether rows of these lengths make a tree of this size: what came from a file may not.
    pub(super) fn is_sound(&self) -> bool {
        let mut left = self.size;
        let rows = self.rows.iter().all(|(full, hashes)| {
            let here = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
            let fits =
                hashes.len() < WIDTH && full.checked_mul(256).and_then(|n| n.checked_add(here)) == Some(left);
            left = *full;
            fits
        });
        rows && left == 0
    }

    pub(super) fn root(&self) -> Hash {
        let mut edge: Option<Hash> = None;
        for (_, hashes) in &self.rows {
            let mut hashes = hashes.clone();
            hashes.extend(edge);
            edge = (!hashes.is_empty()).then(|| tree_hash(&hashes));
        }
        edge.unwrap_or_else(|| sha256_of(&[]))
    }
}

/// MTH(D[n]) over hashes of equal subtrees, the last of which may be smaller.
pub(super) fn tree_hash(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => sha256_of(&[]),
        [only] => *only,
        _ => {
            let half = hashes.len().next_power_of_two() / 2;
            let (left, right) = hashes.split_at(half);
            sha256_of(&[&[1], tree_hash(left).as_bytes(), tree_hash(right).as_bytes()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::{hash::sha256, merkle};

    #[test]
    fn both_ways_to_the_root_meet_at_every_size() {
        let mut rebuilt = Rebuilt::default();
        let mut frontier = merkle::Frontier::default();
        assert_eq!(rebuilt.root(), frontier.root());
        for number in 0..66_200_u32 {
            let entry = sha256(&number.to_be_bytes());
            rebuilt.push(&entry);
            frontier.push(merkle::leaf_hash(&entry));
            if number < 1_100 || number % 257 == 0 || number > 65_500 && number < 65_600 {
                assert_eq!(rebuilt.root(), frontier.root(), "size {}", number + 1);
            }
        }
        assert_eq!(rebuilt.full_tiles(), 258 + 1);
        assert!(rebuilt.is_sound());
        rebuilt.size += 1;
        assert!(!rebuilt.is_sound());
    }
}
