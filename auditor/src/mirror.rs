//! `mirror`: copies a log's tiles to disk (C2SP tlog-tiles 0.1.0) and keeps checking that it only grows. Every tile is checked
//! against the signed head before it is kept. What was copied once is compared with every later head, with the chain's and with
//! what the witnesses have seen: a log that shows two histories is caught by whoever holds the other.

mod directory;
mod others;
mod records;
mod source;
mod successor;
mod tree;
mod watch;

use std::{
    fmt::{self, Write as _},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contracts::{ChainError, RpcError};
use trace::{
    causes::Causes,
    hash::Hash,
    merkle::{empty_root, root_at},
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, NoteError},
        policy::Policy,
        tile::TileNodes,
    },
};

use directory::Directory;
pub use others::Asked;
pub use records::{Parts, Why};
pub use source::Source;
use successor::check_sealed;
pub use successor::{Next, Successor};
use tree::Tree;
pub use watch::{WatchError, watch};

const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// Entries that one mirror holds: its leaf tiles are 3 GB then.
const SIZE_MAX: u64 = 100_000_000;
const WITNESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries while a witness knows more than the log shows.
const AHEAD_RETRY: Duration = Duration::from_secs(2);

/// What a mirror cries out over: exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum Alarm {
    #[error("the log shows size {shown}, and had shown {known}: it was rolled back")]
    RolledBack { known: u64, shown: u64 },
    #[error("the log shows another root at size {size} than it had shown: SPLIT VIEW")]
    OtherRoot { size: u64 },
    #[error("{tiles} does not give the head that the log signed, of size {size}")]
    Tiles { tiles: String, size: u64, served: String },
    #[error("the chain {id} has the head of size {size} with another root, {root}: SPLIT VIEW")]
    Chain { id: u64, contract: String, size: u64, root: Hash },
    #[error("the chain {id} has a head of size {size}, the log shows {shown}: it was rolled back")]
    BehindChain { id: u64, contract: String, size: u64, root: Hash, shown: u64 },
    #[error("the witness {name} has seen another history than the log shows up to size {size}: SPLIT VIEW")]
    Witness { name: String, size: u64 },
    #[error("the witness {name} has seen size {known}, the log goes on showing {shown}: it was rolled back")]
    BehindWitness { name: String, known: u64, shown: u64 },
    #[error("the log names another one as the next, and nobody who is trusted vouches for it: {why}")]
    Successor { why: String, served: String },
    #[error("the log was sealed at size {size}, and shows {shown}")]
    GrewAfterSealing { size: u64, shown: u64 },
}

impl Alarm {
    /// What of the evidence no note holds.
    fn detail(&self) -> String {
        match self {
            Self::Tiles { served, .. } => format!("as it was served, in base64:\n\n{served}"),
            Self::Successor { served, .. } => format!("as it was served:\n\n{served}"),
            Self::Chain { id, contract, size, root } | Self::BehindChain { id, contract, size, root, .. } => {
                format!("chain {id} {contract}: size {size}, root {root}\n")
            }
            _ => String::new(),
        }
    }
}

/// Why a mirror could not look: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error(transparent)]
    Alarm(#[from] Alarm),
    #[error("{alarm}")]
    Raised { alarm: Alarm, evidence: PathBuf },
    #[error("{0} cannot be read or written")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is not what this mirror wrote: the copy is damaged, and says nothing of the log")]
    Damaged(PathBuf),
    #[error("{path} vouches for the next log no more, under this trust file: {why}")]
    KeptSuccessor { path: PathBuf, why: String },
    #[error("another mirror works on {0}")]
    InUse(PathBuf),
    #[error("the copy is of the log {kept}, and {shown} is shown here")]
    OtherLog { kept: String, shown: String },
    #[error("the log does not answer")]
    Http(#[from] reqwest::Error),
    #[error("{url} is answered {status}")]
    Status { url: String, status: u16 },
    #[error("{0} is longer than it may be")]
    TooLong(String),
    #[error("the checkpoint is not one of a log that the trust file names")]
    Checkpoint,
    #[error("a signature on the checkpoint does not verify")]
    Note(#[from] NoteError),
    #[error("what the log gives for signed parts is not in their format")]
    NotParts,
    #[error("the log has {0} entries: more than a mirror holds")]
    TooLarge(u64),
    #[error("no tree of {0} entries can be made from the tiles")]
    NoSuchTree(u64),
    #[error("the witness {name} has seen size {known}, and the log shows {shown}")]
    Ahead { name: String, known: u64, shown: u64 },
    #[error("the node at {0} is of no chain that the trust file names")]
    UnknownChain(String),
    #[error("the trust file's contract {0} is no address")]
    Contract(String),
    #[error("the chain could not be asked")]
    Chain(#[from] ChainError),
    #[error("the chain could not be asked")]
    Rpc(#[from] RpcError),
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    pub head: Checkpoint,
    /// Tiles that were copied.
    pub copied: usize,
    /// Who cosigned the head, and whether the trust file's quorum is met.
    pub witnesses: usize,
    pub enough: bool,
    pub asked: Asked,
    /// The size that the chain has; `None` where no chain was asked, or it has no head.
    pub on_chain: Option<u64>,
    /// What was signed behind the entries, where that was asked for.
    pub parts: Option<Parts>,
    /// The log that follows this one.
    pub next: Next,
}

/// A log's tiles on disk, under the paths that it serves them by.
pub struct Mirror<'a> {
    pub source: Source<'a>,
    pub directory: &'a Path,
    pub trust: &'a Policy,
    /// A node of a chain that the trust file names.
    pub rpc: Option<&'a str>,
    /// Blocks that must stand on that of a head on the chain.
    pub confirmations: u64,
    /// A head that was shown elsewhere, by the log that this one follows.
    pub opened: Option<&'a Checkpoint>,
    /// How long a witness may know more than the log shows: a log shows a head when enough have cosigned it, or after 60 s.
    pub witness_lead: Duration,
    /// API token of a regulator's program: what was signed is copied, too.
    pub records: Option<&'a str>,
}

/// To whom a head was shown before.
enum ShownTo {
    Us,
    Chain { id: u64, contract: String },
}

/// A head that was shown before: the tree must have its root at its size.
struct Earlier {
    size: u64,
    root: Hash,
    to: ShownTo,
}

impl Earlier {
    /// The log shows less.
    fn rolled_back(self, shown: u64) -> Alarm {
        let Self { size, root, to } = self;
        match to {
            ShownTo::Us => Alarm::RolledBack { known: size, shown },
            ShownTo::Chain { id, contract } => Alarm::BehindChain { id, contract, size, root, shown },
        }
    }

    /// The log shows something else.
    fn contradicted(self) -> Alarm {
        let Self { size, root, to } = self;
        match to {
            ShownTo::Us => Alarm::OtherRoot { size },
            ShownTo::Chain { id, contract } => Alarm::Chain { id, contract, size, root },
        }
    }
}

impl Mirror<'_> {
    /// Copies what is new and checks all of it against the newest head. Stopped at any moment, it goes on the next time.
    ///
    /// # Errors
    /// [`MirrorError::Raised`] names the file in which the contradicting notes are kept.
    pub async fn look(&self) -> Result<Looked, MirrorError> {
        let directory = Directory::open(self.directory)?;
        let (begun, mut is_first) = (Instant::now(), true);
        loop {
            let kept = directory.notes()?;
            let note = self.shown().await?;
            match self.compare(&directory, &kept, &note).await {
                // What was anchored since the log was asked is no roll-back.
                Err(MirrorError::Alarm(Alarm::BehindChain { .. })) if is_first => is_first = false,
                Err(MirrorError::Ahead { .. }) if begun.elapsed() < self.witness_lead => {
                    tokio::time::sleep(AHEAD_RETRY.min(self.witness_lead)).await;
                }
                Err(MirrorError::Ahead { name, known, shown }) => {
                    return Err(raise(&directory, Alarm::BehindWitness { name, known, shown }, &kept, &note));
                }
                Err(MirrorError::Alarm(alarm)) => return Err(raise(&directory, alarm, &kept, &note)),
                done => return done,
            }
        }
    }

    async fn shown(&self) -> Result<Note, MirrorError> {
        let text = self.source.get("checkpoint", CHECKPOINT_BYTES_MAX).await?;
        String::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(MirrorError::Checkpoint)
    }

    async fn compare(
        &self,
        directory: &Directory,
        kept: &[Option<Note>; 2],
        note: &Note,
    ) -> Result<Looked, MirrorError> {
        let head = self.open(note)?;
        if head.size > SIZE_MAX {
            return Err(MirrorError::TooLarge(head.size));
        }
        let seen_by = self.trust.witnessed(note)?;
        let [copied_to, begun] =
            kept.each_ref().map(|note| note.as_ref().map(|note| self.open(note)).transpose());
        let (copied_to, begun) = (copied_to?, begun?);
        if let Some(copied_to) = &copied_to {
            directory.check(copied_to)?;
        }
        let mut earlier = Vec::new();
        for known in [copied_to.as_ref(), begun.as_ref(), self.opened].into_iter().flatten() {
            if known.origin != head.origin {
                return Err(MirrorError::OtherLog { kept: known.origin.clone(), shown: head.origin });
            }
            earlier.push(Earlier { size: known.size, root: known.root, to: ShownTo::Us });
        }
        let on_chain = self.on_chain(&head.origin).await?;
        let chain_size = on_chain.as_ref().map(|anchored| anchored.size);
        earlier.extend(on_chain);
        if let Some(at) = earlier.iter().position(|known| known.size > head.size) {
            return Err(earlier.swap_remove(at).rolled_back(head.size).into());
        }
        let mut tree = Tree::open(&self.source, directory, &head).await?;
        for known in earlier {
            if tree.root_at(known.size).await? != known.root {
                return Err(known.contradicted().into());
            }
        }
        let successor = self.kept_successor(&head.origin)?;
        if let Some(successor) = &successor {
            check_sealed(&mut tree, &head, &successor.closed).await?;
        }
        let from = copied_to.as_ref().map_or(0, |known| known.size);
        let mut copied = 0;
        if copied_to.is_none() || from < head.size || begun.is_some() {
            directory.begin(note)?;
            copied = tree.copy(from).await?;
            directory.finish()?;
            for known in [&copied_to, &begun].into_iter().flatten() {
                directory.forget_partial(known.size, head.size)?;
            }
        }
        let next = match successor {
            Some(successor) => Next::Opened(Box::new(successor)),
            None => self.find_successor(directory, &mut tree, &head).await?,
        };
        let asked = self.ask_witnesses(&mut tree, &head, note).await?;
        let parts = self.copy_records(directory, &head).await?;
        let (witnesses, enough) = (seen_by.by.len(), seen_by.enough);
        Ok(Looked { copied, witnesses, enough, asked, on_chain: chain_size, parts, next, head })
    }

    /// A checkpoint that a log of the trust file signed.
    fn open(&self, note: &Note) -> Result<Checkpoint, MirrorError> {
        let mut logs = self.trust.logs.iter();
        logs.find_map(|log| Checkpoint::open(note, &log.key).ok()).ok_or(MirrorError::Checkpoint)
    }
}

/// Keeps all notes that contradict each other in one file.
fn raise(directory: &Directory, alarm: Alarm, kept: &[Option<Note>; 2], shown: &Note) -> MirrorError {
    let mut text = format!("{alarm}\n\nshown:\n\n{shown}\n");
    for note in kept.iter().flatten() {
        // Writing to a string does not fail.
        write!(text, "shown before, and kept:\n\n{note}\n").unwrap_or_default();
    }
    text.push_str(&alarm.detail());
    match directory.evidence(&text) {
        Ok(evidence) => MirrorError::Raised { alarm, evidence },
        Err(error) => {
            tracing::error!(error = %Causes(&error), "the evidence could not be kept");
            alarm.into()
        }
    }
}

/// The root of the first `size` leaves, from tiles.
fn root_of(tile: &impl Fn(u8, u64) -> Option<Vec<Hash>>, size: u64) -> Option<Hash> {
    if size == 0 { Some(empty_root()) } else { root_at(&TileNodes(tile), size).ok() }
}

/// The hashes of a tile of `width`; `None` where it is not one.
fn hashes(tile: &[u8], width: u16) -> Option<Vec<Hash>> {
    let hashes = tile.chunks_exact(32);
    if !hashes.remainder().is_empty() || hashes.len() != usize::from(width) {
        return None;
    }
    hashes.map(Hash::from_slice).collect()
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, copied, witnesses, enough, asked, on_chain, parts, next } = self;
        let quorum = if *enough { "enough" } else { "NOT enough" };
        write!(
            f,
            "{} {} entries, {copied} tiles copied, {witnesses} witnesses ({quorum})",
            head.origin, head.size
        )?;
        if asked.agree + asked.silent > 0 {
            write!(f, ", {} of {} asked agree", asked.agree, asked.agree + asked.silent)?;
        }
        if let Some(size) = on_chain {
            write!(f, ", {size} of them on the chain")?;
        }
        if let Some(parts) = parts {
            write!(f, ", {} signed parts copied, {} refused", parts.copied, parts.refusals)?;
        }
        write!(f, "{next}")
    }
}
