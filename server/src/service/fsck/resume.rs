//! Where a check stopped: written while nothing was found, read to go on from there.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};
use trace::keys::Kid;

use super::tree::Rebuilt;

/// Format of the file; another one is not read.
const VERSION: u32 = 1;
/// 63 rows of at most 255 hashes for each log of a century.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("the state file cannot be read or written")]
    Io(#[from] io::Error),
    #[error("not a state file of this program: remove it to start from the beginning")]
    Format,
    #[error("the state file was written for other registrars: remove it to start from the beginning")]
    Other,
}

/// The tree of each log as far as everything fitted: what is before is not read again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    registrars: Vec<Kid>,
    logs: BTreeMap<String, Rebuilt>,
}

impl State {
    pub(super) fn new(registrars: Vec<Kid>) -> Self {
        Self { version: VERSION, registrars, logs: BTreeMap::new() }
    }

    /// `None` where there is no file yet.
    pub(super) fn read(file: &Path, registrars: &[Kid]) -> Result<Option<Self>, ResumeError> {
        match std::fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(meta) if meta.len() > BYTES_MAX => return Err(ResumeError::Format),
            Ok(_) => {}
        }
        let state: Self = serde_json::from_slice(&std::fs::read(file)?).map_err(|_| ResumeError::Format)?;
        if state.version != VERSION || !state.logs.values().all(Rebuilt::is_sound) {
            return Err(ResumeError::Format);
        }
        if state.registrars != registrars {
            return Err(ResumeError::Other);
        }
        Ok(Some(state))
    }

    pub(super) fn tree(&self, origin: &str) -> Rebuilt {
        self.logs.get(origin).cloned().unwrap_or_default()
    }

    pub(super) fn keep(&mut self, origin: &str, tree: &Rebuilt) {
        self.logs.insert(origin.to_owned(), tree.clone());
    }

    /// Replaces the file as a whole: a run that is cut off leaves the last one that was written.
    pub(super) fn write(&self, file: &Path) -> Result<(), ResumeError> {
        let text = serde_json::to_vec(self).map_err(|_| ResumeError::Format)?;
        let beside = file.with_extension("new");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, file)?)
    }
}
