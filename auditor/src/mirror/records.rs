//! `--records`: what was signed behind every entry, without disclosures, as a regulator's program may read it.

use serde::Deserialize;
use trace::{
    b64,
    hash::{Hash, sha256},
    tlog::{
        checkpoint::Checkpoint,
        tile::{TilePath, extent},
    },
};

use super::{
    Mirror, MirrorError,
    directory::{Directory, full},
    tree::entries,
};

/// An answer ends after 4 MiB of signed bytes and the part that passes them; packs are in base64.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Refusals that are named; all are counted.
const NAMED_MAX: usize = 1_000;

/// Why an entry has no signed part here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("the log does not give what was signed")]
    NotGiven,
    #[error("what is given was not logged: its hash is another")]
    OtherBytes,
}

/// What a copy of the signed parts came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    pub copied: usize,
    /// Index → why, ascending, of the first that were refused.
    pub refused: Vec<(u64, Why)>,
    pub refusals: usize,
    /// Other bytes than were logged were given.
    pub is_alarming: bool,
}

#[derive(Deserialize)]
struct Answer {
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    index: u64,
    record: Option<String>,
    pack: Option<String>,
}

impl Part {
    /// The bytes, and the line that keeps them.
    fn signed(self) -> Option<(Vec<u8>, String)> {
        match self {
            Self { record: Some(record), .. } => {
                Some((record.clone().into_bytes(), format!("record {record}\n")))
            }
            Self { pack: Some(pack), .. } => Some((b64::from_url(&pack).ok()?, format!("pack {pack}\n"))),
            _ => None,
        }
    }
}

impl Mirror<'_> {
    /// Copies the signed parts that are not here yet; a bundle with a refused one is asked for again the next time.
    pub(super) async fn copy_records(
        &self,
        directory: &Directory,
        head: &Checkpoint,
    ) -> Result<Option<Parts>, MirrorError> {
        let Some(token) = self.records else { return Ok(None) };
        let (last, width) = extent(head.size, 0);
        let bundles = (0..last).map(|index| (index, full())).chain((width > 0).then_some((last, width)));
        let mut parts = Parts::default();
        for (index, width) in bundles {
            let path = TilePath::Entries { index, width };
            if directory.has_records(&path) {
                continue;
            }
            let entries = directory.tile(&path)?.and_then(|bytes| entries(&bytes, width));
            let entries = entries.ok_or_else(|| MirrorError::Damaged(directory.path(&path)))?;
            let refusals = parts.refusals;
            let lines = self.signed_behind(token, index * u64::from(full()), &entries, &mut parts).await?;
            if parts.refusals == refusals {
                directory.keep_records(&path, &lines)?;
            }
        }
        Ok(Some(parts))
    }

    /// The lines of a bundle; what was refused is added to `parts`.
    async fn signed_behind(
        &self,
        token: &str,
        first: u64,
        entries: &[Hash],
        parts: &mut Parts,
    ) -> Result<String, MirrorError> {
        let mut lines = String::new();
        let mut given = std::collections::VecDeque::new();
        for (index, entry) in (first..).zip(entries) {
            if given.is_empty() {
                let left = first + u64::try_from(entries.len()).unwrap_or(u64::MAX) - index;
                given = self.give(token, index, left).await?.into();
            }
            let part = given.pop_front_if(|part: &mut Part| part.index == index).and_then(Part::signed);
            let why = match part {
                None => Why::NotGiven,
                Some((bytes, _)) if sha256(&bytes) != *entry => Why::OtherBytes,
                Some((_, line)) => {
                    lines.push_str(&line);
                    parts.copied += 1;
                    continue;
                }
            };
            parts.refusals += 1;
            parts.is_alarming |= why == Why::OtherBytes;
            if parts.refused.len() < NAMED_MAX {
                parts.refused.push((index, why));
            }
        }
        Ok(lines)
    }

    async fn give(&self, token: &str, from: u64, count: u64) -> Result<Vec<Part>, MirrorError> {
        let path = format!("signed?from={from}&count={count}");
        let body = self.source.get_as(Some(token), &path, ANSWER_BYTES_MAX).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| MirrorError::NotParts)?;
        Ok(answer.parts)
    }
}
