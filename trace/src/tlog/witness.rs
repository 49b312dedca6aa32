//! What a log sends a witness, and what it may answer (C2SP tlog-witness 1.0.0, `add-checkpoint`).

use std::{fmt, str::FromStr};

use super::{
    decimal,
    note::{Note, NoteError},
};
use crate::{b64, hash::Hash};

/// Hashes of a consistency proof in a request.
pub const PROOF_HASHES_MAX: usize = 63;
/// Bytes of a request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Content type of a 409's body, the size that the witness knows.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// `old <size>`, the consistency proof from there, a blank line, the signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    pub old_size: u64,
    pub proof: Vec<Hash>,
    pub checkpoint: Note,
}

/// A request that is not in its format: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("longer than a request may be")]
    TooLong,
    #[error("does not begin with the old size")]
    OldSize,
    #[error("the consistency proof is not in its format")]
    Proof,
    #[error("the checkpoint is not a signed note")]
    Note(#[from] NoteError),
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", b64::std(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = RequestError;

    fn from_str(body: &str) -> Result<Self, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        let (head, note) = body.split_once("\n\n").ok_or(RequestError::Proof)?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old_size = old_size.ok_or(RequestError::OldSize)?;
        let proof = lines.map(hash_line).collect::<Option<Vec<Hash>>>().ok_or(RequestError::Proof)?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(RequestError::Proof);
        }
        Ok(Self { old_size, proof, checkpoint: note.parse()? })
    }
}

/// 32 bytes in canonical base64 on a line of their own.
pub(super) fn hash_line(line: &str) -> Option<Hash> {
    Hash::from_slice(&b64::from_std(line).ok()?)
}
