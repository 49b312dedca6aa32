//! The tree behind a signed head, from the log's tiles: each is checked from the head downwards before it is believed or kept.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use trace::{
    b64,
    hash::Hash,
    merkle::{self, leaf_hash},
    tlog::{
        checkpoint::Checkpoint,
        tile::{TileId, TileNodes, TilePath, extent, tile_root},
    },
};

use super::{
    Alarm, MirrorError,
    directory::{Directory, bytes_of, full},
    hashes, root_of,
    source::Source,
};

/// Eight levels of 256 are more entries than there can be.
const LEVEL_MAX: u8 = 7;
/// Tiles that are asked for at the same time.
const FETCHED_AT_ONCE: usize = 8;
/// A bundle of 256 entries of 32 bytes after their lengths.
const TILE_BYTES_MAX: usize = 256 * 34;
/// C2SP tlog-tiles: an entry stands after its length as a big-endian `uint16`; ours are all of 32 bytes.
const ENTRY_LENGTH: [u8; 2] = [0, 32];

pub struct Tree<'a> {
    source: &'a Source<'a>,
    directory: &'a Directory,
    head: &'a Checkpoint,
    /// What was checked so far, but for what [`Tree::copy`] keeps: a few tiles for each level.
    checked: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl<'a> Tree<'a> {
    /// The partial tiles of each level, which together give the head.
    pub async fn open(
        source: &'a Source<'a>,
        directory: &'a Directory,
        head: &'a Checkpoint,
    ) -> Result<Self, MirrorError> {
        let mut checked = BTreeMap::new();
        let mut served = Vec::new();
        for level in (0..=LEVEL_MAX).take_while(|level| extent(head.size, *level) != (0, 0)) {
            let (index, width @ 1..) = extent(head.size, level) else { continue };
            let path = TilePath::Hashes(TileId { level, index, width });
            let bytes = source.get(&path.to_string(), TILE_BYTES_MAX).await?;
            let tile = hashes(&bytes, width);
            served.push((path, bytes));
            let Some(tile) = tile else { return Err(spoilt(head, &served)) };
            checked.insert((level, index), tile);
        }
        let tree = Self { source, directory, head, checked };
        if tree.root(head.size) == Some(head.root) {
            return Ok(tree);
        }
        Err(spoilt(head, &served))
    }

    fn root(&self, size: u64) -> Option<Hash> {
        root_of(&|level, index| self.checked.get(&(level, index)).cloned(), size)
    }

    /// The root at an earlier size.
    pub async fn root_at(&mut self, size: u64) -> Result<Hash, MirrorError> {
        self.check_along(size).await?;
        self.root(size).ok_or(MirrorError::NoSuchTree(size))
    }

    /// The proof that the head extends the tree of an earlier size.
    pub async fn proof_from(&mut self, size: u64) -> Result<Vec<Hash>, MirrorError> {
        self.check_along(size).await?;
        self.check_along(size.saturating_sub(1)).await?;
        let nodes = TileNodes(|level, index| self.checked.get(&(level, index)).cloned());
        merkle::consistency_proof(&nodes, size, self.head.size).map_err(|_| MirrorError::NoSuchTree(size))
    }

    /// Checks the tiles in which a tree of `size` ends.
    async fn check_along(&mut self, size: u64) -> Result<(), MirrorError> {
        for level in (0..=LEVEL_MAX).take_while(|level| extent(self.head.size, *level) != (0, 0)) {
            let (index, _) = extent(size, level);
            if index < extent(self.head.size, level).0 {
                self.check(level, index).await?;
            }
        }
        Ok(())
    }

    /// Checks a full tile against the one above it, and that one first.
    async fn check(&mut self, level: u8, index: u64) -> Result<(), MirrorError> {
        let mut unchecked = vec![(level, index)];
        while let Some(&(level, index)) = unchecked.last() {
            let above = (level + 1, index >> 8);
            if self.checked.contains_key(&(level, index)) {
                unchecked.pop();
                continue;
            }
            let Some(parent) = self.checked.get(&above) else {
                unchecked.push(above);
                continue;
            };
            let (tile, _) = self.read(level, index, child(parent, index)).await?;
            self.checked.insert((level, index), tile);
            unchecked.pop();
        }
        Ok(())
    }

    /// A full tile with this root, from disk, else from the log. `true`: from the log.
    async fn read(
        &self,
        level: u8,
        index: u64,
        expected: Option<Hash>,
    ) -> Result<(Vec<Hash>, bool), MirrorError> {
        let path = TilePath::Hashes(TileId { level, index, width: full() });
        let fits = |bytes: &[u8]| hashes(bytes, full()).filter(|tile| Some(tile_root(tile)) == expected);
        if let Some(bytes) = self.directory.tile(&path)? {
            let tile = fits(&bytes).ok_or_else(|| MirrorError::Damaged(self.directory.path(&path)))?;
            return Ok((tile, false));
        }
        let bytes = self.source.get(&path.to_string(), TILE_BYTES_MAX).await?;
        fits(&bytes).map(|tile| (tile, true)).ok_or_else(|| spoilt(self.head, &[(path, bytes)]))
    }

    /// Keeps what is new since a tree of `from`, from the top level down to the entries; how many tiles were fetched.
    pub async fn copy(&self, from: u64) -> Result<usize, MirrorError> {
        let mut copied = 0;
        let levels: Vec<u8> =
            (0..=LEVEL_MAX).take_while(|level| extent(self.head.size, *level).0 > 0).collect();
        for level in levels.into_iter().rev() {
            let new = extent(from, level).0..extent(self.head.size, level).0;
            let tiles = stream::iter(new).map(|index| self.copy_tile(level, index)).buffered(FETCHED_AT_ONCE);
            copied += tiles.try_fold(0, async |sum, new| Ok(sum + usize::from(new))).await?;
        }
        for ((level, index), tile) in &self.checked {
            let (level, index) = (*level, *index);
            if let (last, width @ 1..) = extent(self.head.size, level)
                && last == index
            {
                self.directory.keep(&TilePath::Hashes(TileId { level, index, width }), &bytes_of(tile))?;
                copied += 1;
            }
        }
        let (last, width) = extent(self.head.size, 0);
        let bundles = (extent(from, 0).0..last).map(|index| (index, full()));
        let bundles = bundles.chain((width > 0).then_some((last, width)));
        let bundles = stream::iter(bundles).map(|(index, width)| self.copy_entries(index, width));
        copied += bundles
            .buffered(FETCHED_AT_ONCE)
            .try_fold(0, async |sum, new| Ok(sum + usize::from(new)))
            .await?;
        Ok(copied)
    }

    async fn copy_tile(&self, level: u8, index: u64) -> Result<bool, MirrorError> {
        let path = TilePath::Hashes(TileId { level, index, width: full() });
        let (tile, new) = if let Some(tile) = self.checked.get(&(level, index)) {
            (tile.clone(), self.directory.tile(&path)?.is_none())
        } else {
            // All tiles of the level above are here by now.
            let parent = self.kept(level + 1, index >> 8)?;
            self.read(level, index, child(&parent, index)).await?
        };
        if new {
            self.directory.keep(&path, &bytes_of(&tile))?;
        }
        Ok(new)
    }

    async fn copy_entries(&self, index: u64, width: u16) -> Result<bool, MirrorError> {
        let path = TilePath::Entries { index, width };
        let expected = self.kept(0, index)?;
        let fits = |bytes: &[u8]| {
            entries(bytes, width)
                .is_some_and(|entries| entries.iter().map(leaf_hash).eq(expected.iter().copied()))
        };
        if let Some(bytes) = self.directory.tile(&path)? {
            let is_whole = fits(&bytes);
            return is_whole.then_some(false).ok_or_else(|| MirrorError::Damaged(self.directory.path(&path)));
        }
        let bytes = self.source.get(&path.to_string(), TILE_BYTES_MAX).await?;
        if !fits(&bytes) {
            return Err(spoilt(self.head, &[(path, bytes)]));
        }
        self.directory.keep(&path, &bytes)?;
        Ok(true)
    }

    /// A tile that was checked and, where it is full, kept.
    fn kept(&self, level: u8, index: u64) -> Result<Vec<Hash>, MirrorError> {
        if let Some(tile) = self.checked.get(&(level, index)) {
            return Ok(tile.clone());
        }
        let path = TilePath::Hashes(TileId { level, index, width: full() });
        let tile = self.directory.tile(&path)?.and_then(|bytes| hashes(&bytes, full()));
        tile.ok_or_else(|| MirrorError::Damaged(self.directory.path(&path)))
    }
}

/// The root of the tile of this number, in the tile above it.
fn child(parent: &[Hash], index: u64) -> Option<Hash> {
    usize::try_from(index % u64::from(full())).ok().and_then(|at| parent.get(at)).copied()
}

/// The entries of a bundle of `width`; `None` where it is not one.
pub fn entries(bundle: &[u8], width: u16) -> Option<Vec<Hash>> {
    let entries = bundle.chunks_exact(34);
    if !entries.remainder().is_empty() || entries.len() != usize::from(width) {
        return None;
    }
    entries.map(|entry| Hash::from_slice(entry.strip_prefix(&ENTRY_LENGTH)?)).collect()
}

/// Tiles that do not give the head; where it cannot be said which of them, all.
fn spoilt(head: &Checkpoint, served: &[(TilePath, Vec<u8>)]) -> MirrorError {
    let tiles = served.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>().join(" ");
    let served: Vec<String> =
        served.iter().map(|(path, bytes)| format!("{path}\n{}\n", b64::std(bytes))).collect();
    let served = served.concat();
    Alarm::Tiles { tiles, size: head.size, served }.into()
}
