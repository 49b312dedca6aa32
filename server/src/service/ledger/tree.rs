//! The tree as the database holds it: full tiles and entries; everything between is cut or folded on request.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Mutex,
};

use store::{Connection, StoreError, ledger as rows};
use trace::{
    hash::Hash,
    merkle::{self, Frontier, MakeError},
    tlog::tile,
};

const TILE_WIDTH: u64 = tile::WIDTH;
/// Roots of full tiles kept in memory: 2^18 of them cover 67 million entries in about 25 MB.
const ROOTS_MAX: usize = 1 << 18;

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("the proof cannot be made")]
    Make(#[from] MakeError),
    #[error("the log's rows do not make a tree of {size}")]
    Rows { size: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads one log's tree. Roots of full tiles are remembered: full tiles never change.
#[derive(Debug, Default)]
pub struct TreeReader {
    roots: Mutex<HashMap<(i16, u8, u64), Hash>>,
}

/// What a sequencer holds in memory: the frontier, and per tile level the hashes of the tile that is not full yet.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    pub frontier: Frontier,
    open: Vec<Vec<Hash>>,
}

/// A tile that an append has filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullTile {
    pub level: u8,
    pub index: u64,
    pub hashes: Vec<Hash>,
}

impl Edge {
    /// Appends one leaf hash; returns the tiles that it filled, lowest first.
    pub fn push(&mut self, leaf: Hash) -> Vec<FullTile> {
        let mut completed = vec![(0, self.frontier.size(), leaf)];
        self.frontier.push_noting(leaf, |level, index, hash| {
            if level > 0 && level % tile::HEIGHT == 0 {
                completed.push((level / tile::HEIGHT, index, hash));
            }
        });
        let mut full = Vec::new();
        for (level, index, hash) in completed {
            let row = usize::from(level);
            if self.open.len() <= row {
                self.open.resize(row + 1, Vec::new());
            }
            let Some(open) = self.open.get_mut(row) else { continue };
            open.push(hash);
            if index % TILE_WIDTH == TILE_WIDTH - 1 {
                full.push(FullTile { level, index: index / TILE_WIDTH, hashes: std::mem::take(open) });
            }
        }
        full
    }

    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }
}

impl TreeReader {
    /// The first `width` hashes of a tile; `None` where the log has fewer.
    pub async fn tile(
        &self,
        conn: &mut Connection,
        log_id: i16,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Option<Vec<Hash>>, TreeError> {
        let hashes = self.widest(conn, log_id, level, index).await?;
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        Ok((hashes.len() >= width).then(|| hashes.into_iter().take(width).collect()))
    }

    pub async fn inclusion_proof(
        &self,
        conn: &mut Connection,
        log_id: i16,
        size: u64,
        index: u64,
    ) -> Result<Vec<Hash>, TreeError> {
        self.prove(conn, log_id, |nodes| merkle::inclusion_proof(&nodes, size, index)).await
    }

    pub async fn consistency_proof(
        &self,
        conn: &mut Connection,
        log_id: i16,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, TreeError> {
        self.prove(conn, log_id, |nodes| merkle::consistency_proof(&nodes, old_size, new_size)).await
    }

    /// The root of the first `size` entries, from the rows.
    pub async fn root(&self, conn: &mut Connection, log_id: i16, size: u64) -> Result<Hash, TreeError> {
        self.prove(conn, log_id, |nodes| merkle::root_at(&nodes, size)).await
    }

    /// The right edge of the tree of `size`: what a sequencer starts from.
    pub async fn edge(&self, conn: &mut Connection, log_id: i16, size: u64) -> Result<Edge, TreeError> {
        let frontier = self
            .prove(conn, log_id, |nodes| {
                // Asks for every node that it needs even while the first answers are made up.
                Frontier::of(&nodes, size)
                    .ok_or(MakeError::Missing(merkle::MissingNode { level: 0, index: size }))
            })
            .await?;
        let mut open = Vec::new();
        let mut count = size;
        let mut level = 0;
        while count > 0 {
            let width = count % TILE_WIDTH;
            let hashes = if width == 0 {
                Vec::new()
            } else {
                let index = count / TILE_WIDTH;
                self.tile(conn, log_id, level, index, width).await?.ok_or(TreeError::Rows { size })?
            };
            open.push(hashes);
            count /= TILE_WIDTH;
            level += 1;
        }
        Ok(Edge { frontier, open })
    }

    /// Runs `make` once to learn which nodes it asks for, fetches these, and runs it again.
    async fn prove<T>(
        &self,
        conn: &mut Connection,
        log_id: i16,
        make: impl Fn(&dyn Fn(u8, u64) -> Option<Hash>) -> Result<T, MakeError> + Send,
    ) -> Result<T, TreeError> {
        let asked = Mutex::new(Vec::new());
        let learn = |level: u8, index: u64| {
            if let Ok(mut asked) = asked.lock() {
                asked.push((level, index));
            }
            Some(Hash([0; 32]))
        };
        make(&learn)?;
        let asked = asked.into_inner().unwrap_or_default();
        let mut known = HashMap::with_capacity(asked.len());
        let mut tiles: HashMap<(u8, u64), Vec<Hash>> = HashMap::new();
        for (level, index) in asked {
            let (tile_level, tile_index, covered) = tile::holding(level, index);
            let tile = match tiles.entry((tile_level, tile_index)) {
                Entry::Occupied(read) => read.into_mut(),
                Entry::Vacant(unread) => {
                    unread.insert(self.widest(conn, log_id, tile_level, tile_index).await?)
                }
            };
            if let Some(hashes) = tile.get(covered) {
                known.insert((level, index), merkle::root(hashes));
            }
        }
        Ok(make(&|level, index| known.get(&(level, index)).copied())?)
    }

    /// As many hashes of a tile as the log has.
    async fn widest(
        &self,
        conn: &mut Connection,
        log_id: i16,
        level: u8,
        index: u64,
    ) -> Result<Vec<Hash>, TreeError> {
        let Ok(row_index) = i64::try_from(index) else { return Ok(Vec::new()) };
        if let Some(data) = rows::tile(conn, log_id, i16::from(level), row_index).await? {
            return Ok(hashes_of(&data));
        }
        let Some(first) = index.checked_mul(TILE_WIDTH) else { return Ok(Vec::new()) };
        match level.checked_sub(1) {
            None => self.leaves_from(conn, log_id, first).await,
            Some(below) => self.roots_from(conn, log_id, below, first).await,
        }
    }

    async fn leaves_from(
        &self,
        conn: &mut Connection,
        log_id: i16,
        first: u64,
    ) -> Result<Vec<Hash>, TreeError> {
        let Ok(first) = i64::try_from(first) else { return Ok(Vec::new()) };
        let entries = rows::entries_from(conn, log_id, first, 256).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| Hash::from_slice(entry))
            .map(|e| merkle::leaf_hash(&e))
            .collect())
    }

    /// Roots of the full tiles of `level` from number `first`, at most a tile's worth.
    async fn roots_from(
        &self,
        conn: &mut Connection,
        log_id: i16,
        level: u8,
        first: u64,
    ) -> Result<Vec<Hash>, TreeError> {
        let mut roots = self.remembered(log_id, level, first);
        let known = u64::try_from(roots.len()).unwrap_or(TILE_WIDTH);
        let Ok(next) = i64::try_from(first + known) else { return Ok(roots) };
        if known < TILE_WIDTH {
            let rest = i64::try_from(TILE_WIDTH - known).unwrap_or(0);
            let tiles = rows::tiles_from(conn, log_id, i16::from(level), next, rest).await?;
            for (wanted, (index, data)) in (next..).zip(tiles) {
                if index != wanted {
                    break;
                }
                let root = merkle::root(&hashes_of(&data));
                self.remember(log_id, level, index, root);
                roots.push(root);
            }
        }
        Ok(roots)
    }

    fn remembered(&self, log_id: i16, level: u8, first: u64) -> Vec<Hash> {
        let Ok(roots) = self.roots.lock() else { return Vec::new() };
        (first..first + TILE_WIDTH).map_while(|index| roots.get(&(log_id, level, index)).copied()).collect()
    }

    fn remember(&self, log_id: i16, level: u8, index: i64, root: Hash) {
        let (Ok(mut roots), Ok(index)) = (self.roots.lock(), u64::try_from(index)) else { return };
        if roots.len() >= ROOTS_MAX {
            roots.clear();
        }
        roots.insert((log_id, level, index), root);
    }
}

/// A tile's bytes as hashes.
pub fn hashes_of(data: &[u8]) -> Vec<Hash> {
    data.chunks_exact(Hash::LEN).filter_map(Hash::from_slice).collect()
}

/// Hashes as a tile's bytes.
pub fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Drops what is known already and what repeats; keeps the order.
pub fn fresh_only(entries: Vec<Vec<u8>>, known: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut seen: HashSet<Vec<u8>> = known.iter().cloned().collect();
    entries.into_iter().filter(|entry| seen.insert(entry.clone())).collect()
}
