//! One entry's inclusion as a text file, `.tlog-proof` (C2SP tlog-proof, draft of 2026; the version stands in its first line).

use std::{fmt, str::FromStr};

use super::{
    checkpoint::{Checkpoint, CheckpointError},
    decimal,
    note::{Note, NoteError, VerifierKey},
    witness::hash_line,
};
use crate::{
    b64,
    hash::Hash,
    merkle::{ProofError, leaf_hash, verify_inclusion},
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of an inclusion proof: the height of the tallest tree.
pub const PATH_HASHES_MAX: usize = 63;

/// An entry's index, its audit path, and the signed checkpoint of the tree that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    pub index: u64,
    pub path: Vec<Hash>,
    pub checkpoint: Note,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    #[error("not a proof in version 1 of the format")]
    Malformed,
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// Checks that `entry` stands in the log `key` under the signed root.
    pub fn verify(&self, entry: &Hash, key: &VerifierKey) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        verify_inclusion(&checkpoint.root, checkpoint.size, self.index, &leaf_hash(entry), &self.path)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", b64::std(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        let (head, note) = text.split_once("\n\n").ok_or(TlogProofError::Malformed)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(TlogProofError::Malformed);
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let path = lines.map(hash_line).collect::<Option<Vec<Hash>>>();
        match (index, path) {
            (Some(index), Some(path)) if path.len() <= PATH_HASHES_MAX => {
                Ok(Self { index, path, checkpoint: note.parse()? })
            }
            _ => Err(TlogProofError::Malformed),
        }
    }
}
