//! The geometry of tiles (C2SP tlog-tiles 0.1.0): 256 hashes wide, eight levels of the tree high.

use std::{fmt, str::FromStr};

use super::decimal;
use crate::{
    hash::Hash,
    merkle::{Frontier, Nodes},
};

/// Hashes in a full tile, and levels of the tree from one tile level to the next.
pub const WIDTH: u64 = 256;
pub const HEIGHT: u8 = 8;
const LEVEL_MAX: u8 = 63;
/// Digits of a tile's number; no log has more tiles.
const NUMBER_DIGITS_MAX: usize = 18;

/// Which tile: `width` is below 256 for a partial one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    pub level: u8,
    pub index: u64,
    /// 1 to 256 hashes.
    pub width: u16,
}

/// What `/tile/…` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePath {
    Hashes(TileId),
    /// The entries under the level-0 tile of this number.
    Entries {
        index: u64,
        width: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct NotATilePath;

/// How many full tiles, and hashes in the partial one after them, a tree of `size` leaves has at `level`.
pub fn extent(size: u64, level: u8) -> (u64, u16) {
    let hashes = size.checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0);
    (hashes / WIDTH, u16::try_from(hashes % WIDTH).unwrap_or(0))
}

/// The tile that holds the complete subtree `(level, index)` of the tree, the position of its leftmost hash in it, and how
/// many of the tile's hashes it covers.
pub fn holding(level: u8, index: u64) -> (u8, u64, std::ops::Range<usize>) {
    let tile_level = level / HEIGHT;
    let within = level % HEIGHT;
    let first = index << within;
    let start = usize::try_from(first % WIDTH).unwrap_or(0);
    (tile_level, first / WIDTH, start..start + (1 << within))
}

/// Nodes of a tree read from its tiles: `read(level, index)` gives the hashes of a tile, full or partial.
pub struct TileNodes<F>(pub F);

impl<F: Fn(u8, u64) -> Option<Vec<Hash>>> Nodes for TileNodes<F> {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let (tile_level, tile_index, covered) = holding(level, index);
        let hashes = (self.0)(tile_level, tile_index)?;
        Some(crate::merkle::root(hashes.get(covered)?))
    }
}

/// The hash of a full tile as one node of the level above.
pub fn tile_root(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.push(*hash);
    }
    frontier.root()
}

impl TilePath {
    const fn number_and_width(&self) -> (u64, u16) {
        match *self {
            Self::Hashes(TileId { index, width, .. }) | Self::Entries { index, width } => (index, width),
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashes(id) => write!(f, "tile/{}/", id.level)?,
            Self::Entries { .. } => f.write_str("tile/entries/")?,
        }
        let (index, width) = self.number_and_width();
        let mut groups = vec![format!("{:03}", index % 1000)];
        let mut rest = index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if u64::from(width) < WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = NotATilePath;

    /// `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, in its one spelling.
    fn from_str(path: &str) -> Result<Self, NotATilePath> {
        let rest = path.strip_prefix("tile/").ok_or(NotATilePath)?;
        let (level, rest) = rest.split_once('/').ok_or(NotATilePath)?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                let width = decimal(width).and_then(|width| u16::try_from(width).ok());
                (number, width.filter(|&width| width > 0 && u64::from(width) < WIDTH).ok_or(NotATilePath)?)
            }
            None => (rest, u16::try_from(WIDTH).map_err(|_| NotATilePath)?),
        };
        let digits: String =
            number.split('/').map(|group| group.strip_prefix('x').unwrap_or(group)).collect();
        if digits.len() > NUMBER_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotATilePath);
        }
        let index = digits.parse().map_err(|_| NotATilePath)?;
        let parsed = if level == "entries" {
            Self::Entries { index, width }
        } else {
            let level = decimal(level).and_then(|level| u8::try_from(level).ok());
            let level = level.filter(|&level| level <= LEVEL_MAX).ok_or(NotATilePath)?;
            Self::Hashes(TileId { level, index, width })
        };
        if parsed.to_string() == path { Ok(parsed) } else { Err(NotATilePath) }
    }
}
