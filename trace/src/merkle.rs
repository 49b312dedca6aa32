//! The Merkle tree of RFC 6962 §2 and RFC 9162 §2.1: hashing, proofs and their verification.
//!
//! Leaves are known by their leaf hashes. A proof is made from [`Nodes`], the hashes of complete subtrees, so that the caller
//! decides whether they come from memory or from tiles. Sizes and indices are `u64`; no size above [`SIZE_MAX`] is a tree.

mod frontier;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use frontier::Frontier;

use crate::hash::{Hash, sha256, sha256_of};

/// Far beyond any log; keeps every `1 << level` and every sum within `u64`.
pub const SIZE_MAX: u64 = 1 << 62;

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("index {index} is not in a tree of {size}")]
    IndexBeyondSize { index: u64, size: u64 },
    #[error("a tree of {old} cannot come before one of {new}")]
    SizesNotGrowing { old: u64, new: u64 },
    #[error("a tree of {size} is larger than any log")]
    SizeTooLarge { size: u64 },
    #[error("the proof has {found} hashes where {wanted} belong")]
    Length { wanted: usize, found: usize },
    #[error("the proof leads to another root")]
    OtherRoot,
}

/// A hash that a proof needs is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no hash for the subtree of level {level}, number {index}")]
pub struct MissingNode {
    pub level: u8,
    pub index: u64,
}

/// Why a proof cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    Range(#[from] ProofError),
    #[error(transparent)]
    Missing(#[from] MissingNode),
}

/// Hashes of complete subtrees: `(level, index)` covers the leaves `index << level .. (index + 1) << level`.
pub trait Nodes {
    fn node(&self, level: u8, index: u64) -> Option<Hash>;
}

impl<F: Fn(u8, u64) -> Option<Hash>> Nodes for F {
    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self(level, index)
    }
}

/// `SHA-256(0x00 ‖ entry)`, RFC 9162 §2.1.1: the leaf of the log, whose entries are 32 bytes.
pub fn leaf_hash(entry: &Hash) -> Hash {
    leaf_hash_of(entry.as_bytes())
}

/// `SHA-256(0x00 ‖ bytes)`, for trees over something else than entries.
pub fn leaf_hash_of(bytes: &[u8]) -> Hash {
    sha256_of(&[&[0], bytes])
}

/// `SHA-256(0x01 ‖ left ‖ right)`, RFC 9162 §2.1.1.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256_of(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The root over leaf hashes that are all at hand.
pub fn root(leaf_hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaf_hashes {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// Checks that `leaf` stands at `index` in the tree of `size` leaves with this `root` (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(
    root: &Hash,
    size: u64,
    index: u64,
    leaf: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if inclusion_root(size, index, leaf, proof)? == *root { Ok(()) } else { Err(ProofError::OtherRoot) }
}

/// The root that an audit path leads to: for proofs whose root is signed and not stated.
pub fn inclusion_root(size: u64, index: u64, leaf: &Hash, proof: &[Hash]) -> Result<Hash, ProofError> {
    let siblings = inclusion_siblings(size, index)?;
    check_length(siblings.len(), proof.len())?;
    Ok(siblings.iter().zip(proof).fold(*leaf, |hash, (sibling, other)| match sibling {
        Side::Left => node_hash(other, &hash),
        Side::Right => node_hash(&hash, other),
    }))
}

/// Checks that the tree (`new_size`, `new_root`) extends the tree (`old_size`, `old_root`) (RFC 9162 §2.1.4.2). Every tree
/// extends the empty one; the proof for that, and for equal sizes, is empty.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_sizes(old_size, new_size)?;
    if old_size == 0 || old_size == new_size {
        check_length(0, proof.len())?;
        let old_is_right = old_size > 0 || *old_root == empty_root();
        let new_is_right = old_size < new_size || old_root == new_root;
        return if old_is_right && new_is_right { Ok(()) } else { Err(ProofError::OtherRoot) };
    }
    let ranges = consistency_ranges(old_size, new_size);
    check_length(ranges.len(), proof.len())?;
    // An old tree that is one complete subtree is not repeated in the proof: its root is known.
    let mut hashes = proof.iter().copied();
    let seed =
        if old_size.is_power_of_two() { *old_root } else { hashes.next().ok_or(ProofError::OtherRoot)? };
    let skip = usize::from(!old_size.is_power_of_two());
    let (mut old, mut new) = (seed, seed);
    for (range, hash) in ranges.iter().skip(skip).zip(hashes) {
        if range.end <= old_size {
            old = node_hash(&hash, &old);
            new = node_hash(&hash, &new);
        } else {
            new = node_hash(&new, &hash);
        }
    }
    if old == *old_root && new == *new_root { Ok(()) } else { Err(ProofError::OtherRoot) }
}

/// The audit path of the leaf `index` in the tree of the first `size` leaves, from the leaf upwards (RFC 9162 §2.1.3.1).
pub fn inclusion_proof(nodes: &impl Nodes, size: u64, index: u64) -> Result<Vec<Hash>, MakeError> {
    check_index(size, index)?;
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(middle..high);
            high = middle;
        } else {
            path.push(low..middle);
            low = middle;
        }
    }
    path.into_iter().rev().map(|range| range_root(nodes, &range).map_err(Into::into)).collect()
}

/// The proof that the tree of the first `new_size` leaves extends that of the first `old_size` (RFC 9162 §2.1.4.1).
pub fn consistency_proof(nodes: &impl Nodes, old_size: u64, new_size: u64) -> Result<Vec<Hash>, MakeError> {
    check_sizes(old_size, new_size)?;
    if old_size == 0 || old_size == new_size {
        return Ok(Vec::new());
    }
    let ranges = consistency_ranges(old_size, new_size);
    ranges.iter().map(|range| range_root(nodes, range).map_err(Into::into)).collect()
}

/// The root of the first `size` leaves.
pub fn root_at(nodes: &impl Nodes, size: u64) -> Result<Hash, MakeError> {
    check_sizes(0, size)?;
    if size == 0 {
        return Ok(empty_root());
    }
    Ok(range_root(nodes, &(0..size))?)
}

/// The complete subtrees that `range` falls into, left to right: `(level, index)`. `range.start` must be a multiple of the
/// largest of them, as it is for every node of a tree.
pub fn subtrees(range: &Range<u64>) -> Vec<(u8, u64)> {
    let mut found = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let level = (range.end - start).ilog2();
        found.push((u8::try_from(level).unwrap_or(u8::MAX), start >> level));
        start += 1 << level;
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// On which side each hash of an audit path stands, from the leaf upwards.
fn inclusion_siblings(size: u64, index: u64) -> Result<Vec<Side>, ProofError> {
    check_index(size, index)?;
    let mut sides = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            sides.push(Side::Right);
            high = middle;
        } else {
            sides.push(Side::Left);
            low = middle;
        }
    }
    sides.reverse();
    Ok(sides)
}

/// The ranges whose roots make the proof, from the old tree's right edge upwards. The first is the largest complete subtree
/// at that edge, left out where it is the whole old tree.
fn consistency_ranges(old_size: u64, new_size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let (mut low, mut high) = (0, new_size);
    while old_size < high {
        let middle = low + split(high - low);
        if old_size <= middle {
            ranges.push(middle..high);
            high = middle;
        } else {
            ranges.push(low..middle);
            low = middle;
        }
    }
    if low > 0 {
        ranges.push(low..high);
    }
    ranges.reverse();
    ranges
}

fn range_root(nodes: &impl Nodes, range: &Range<u64>) -> Result<Hash, MissingNode> {
    let mut folded: Option<Hash> = None;
    for (level, index) in subtrees(range).into_iter().rev() {
        let hash = nodes.node(level, index).ok_or(MissingNode { level, index })?;
        folded = Some(folded.map_or(hash, |right| node_hash(&hash, &right)));
    }
    Ok(folded.unwrap_or_else(empty_root))
}

/// The largest power of two smaller than `width`, which is at least 2 (RFC 9162 §2.1.1: k).
fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

fn check_index(size: u64, index: u64) -> Result<(), ProofError> {
    check_sizes(0, size)?;
    if index < size { Ok(()) } else { Err(ProofError::IndexBeyondSize { index, size }) }
}

fn check_sizes(old: u64, new: u64) -> Result<(), ProofError> {
    if new > SIZE_MAX {
        return Err(ProofError::SizeTooLarge { size: new });
    }
    if old > new { Err(ProofError::SizesNotGrowing { old, new }) } else { Ok(()) }
}

fn check_length(wanted: usize, found: usize) -> Result<(), ProofError> {
    if wanted == found { Ok(()) } else { Err(ProofError::Length { wanted, found }) }
}
