//! The right edge of a growing tree: all that appending needs.

use super::{Hash, Nodes, empty_root, node_hash, subtrees};

/// The complete subtrees of a tree of `size` leaves, left to right: at most 64 hashes whatever the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a stored tree; `None` where a node is missing.
    pub fn of(nodes: &impl Nodes, size: u64) -> Option<Self> {
        let peaks = subtrees(&(0..size)).into_iter().map(|(level, index)| nodes.node(level, index));
        Some(Self { size, peaks: peaks.collect::<Option<_>>()? })
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf by its leaf hash; returns its index.
    pub fn push(&mut self, leaf: Hash) -> u64 {
        self.push_noting(leaf, |_, _, _| {})
    }

    /// Appends one leaf and tells each subtree `(level, index, hash)` that it completes, the leaf itself first.
    pub fn push_noting(&mut self, leaf: Hash, mut completed: impl FnMut(u8, u64, Hash)) -> u64 {
        let index = self.size;
        let mut hash = leaf;
        completed(0, index, hash);
        // Each trailing one bit of the index is a left sibling that waits for this subtree.
        for level in 0..index.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            let level = u8::try_from(level + 1).unwrap_or(u8::MAX);
            completed(level, index >> level, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
        index
    }

    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(last, |right, left| node_hash(&left, &right))
    }
}
