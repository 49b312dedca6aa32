//! Checkpoints: what a log signs of its head (C2SP tlog-checkpoint 1.0.0), without extension lines.

use std::{fmt, str::FromStr};

use super::{
    decimal,
    note::{Note, NoteError, SignerKey, VerifierKey},
};
use crate::{b64, hash::Hash};

/// `origin\nsize\nbase64(root)\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("not an origin, a size and a root on three lines")]
    Malformed,
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("of another log")]
    OtherOrigin,
}

impl Checkpoint {
    /// The checkpoint as a note under the log's own signature.
    pub fn sign(&self, key: &SignerKey) -> Note {
        let text = self.to_string();
        let signatures = vec![key.sign(&text)];
        Note { text, signatures }
    }

    /// Parses the note's text and checks that the log `key` signed it, its name being the origin.
    pub fn open(note: &Note, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint: Self = note.text.parse()?;
        if checkpoint.origin != key.name.as_str() {
            return Err(CheckpointError::OtherOrigin);
        }
        note.verify(key)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, b64::std(self.root.as_bytes()))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, ""] = lines.as_slice() else { return Err(CheckpointError::Malformed) };
        let root = b64::from_std(root).ok().and_then(|bytes| Hash::from_slice(&bytes));
        match (decimal(size), root) {
            (Some(size), Some(root)) if !origin.is_empty() => {
                Ok(Self { origin: (*origin).to_owned(), size, root })
            }
            _ => Err(CheckpointError::Malformed),
        }
    }
}
