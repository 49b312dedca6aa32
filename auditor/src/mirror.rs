//! `mirror`: copies a log's tiles to disk (C2SP tlog-tiles 0.1.0), re-computes its heads from them, and keeps checking that it
//! only grows. What was copied once is compared with every later head: a log that shows two histories is caught by whoever
//! holds the first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use contracts::{Chain as _, ChainError, Evm, Rpc, RpcError};
use trace::{
    causes::Causes,
    hash::Hash,
    merkle::{Frontier, leaf_hash},
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, NoteError},
        policy::Policy,
        tile::{TileId, TilePath, WIDTH, extent, tile_root},
    },
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// A bundle of 256 entries of 32 bytes after their lengths.
const TILE_BYTES_MAX: usize = 256 * 34;
const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// Entries that one mirror holds: its leaf tiles are 3 GB then.
const SIZE_MAX: u64 = 100_000_000;
/// C2SP tlog-tiles: an entry stands after its length as a big-endian `uint16`; ours are all of 32 bytes.
const ENTRY_LENGTH: [u8; 2] = [0, 32];

/// What a mirror cries out over: exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum Alarm {
    #[error("the log shows size {shown}, and had shown {known}: it was rolled back")]
    RolledBack { known: u64, shown: u64 },
    #[error("the log shows another root at size {size} than it had shown: SPLIT VIEW")]
    OtherRoot { size: u64 },
    #[error("{path} does not give the head that the log signed, of size {size}")]
    Tile { path: String, size: u64 },
    #[error("the chain has the head of size {size} with another root: SPLIT VIEW")]
    Chain { size: u64 },
    #[error("the chain has a head of size {chain}, the log shows {shown}: it was rolled back")]
    BehindChain { chain: u64, shown: u64 },
}

/// Why a mirror could not look: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error(transparent)]
    Alarm(#[from] Alarm),
    #[error("{0} cannot be read or written")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is not what a mirror writes")]
    Damaged(PathBuf),
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
    #[error("the log has {0} entries: more than a mirror holds")]
    TooLarge(u64),
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
    pub witnesses: usize,
    /// Whether the trust file's quorum is met.
    pub enough: bool,
    /// The size that the chain has; `None` where no chain was asked, or it has no head.
    pub on_chain: Option<u64>,
}

/// A log's tiles on disk, under the paths that it serves them by.
pub struct Mirror<'a> {
    /// The log's tile prefix, without a final slash.
    pub url: &'a str,
    pub directory: &'a Path,
    pub trust: &'a Policy,
    pub http: reqwest::Client,
    /// A node of a chain that the trust file names.
    pub rpc: Option<&'a str>,
}

/// A head that was shown before, here or elsewhere: the entries must have its root at its size.
struct Earlier {
    size: u64,
    root: Hash,
    by_chain: bool,
}

impl Earlier {
    const fn alarm(&self) -> Alarm {
        let size = self.size;
        if self.by_chain { Alarm::Chain { size } } else { Alarm::OtherRoot { size } }
    }
}

/// A level of tiles above the leaves: its full tiles are counted, the last one is being filled.
#[derive(Default)]
struct Level {
    full: u64,
    hashes: Vec<Hash>,
}

impl Mirror<'_> {
    /// Copies what is new and checks all of it against the newest head. Stopped at any moment, it goes on the next time.
    pub async fn look(&self) -> Result<Looked, MirrorError> {
        let text = self.get("checkpoint", CHECKPOINT_BYTES_MAX).await?;
        let note: Note =
            String::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(MirrorError::Checkpoint)?;
        let head = self.open(&note).ok_or(MirrorError::Checkpoint)?;
        if head.size > SIZE_MAX {
            return Err(MirrorError::TooLarge(head.size));
        }
        let seen_by = self.trust.witnessed(&note)?;
        let mut earlier = Vec::new();
        if let Some(known) = self.known(&head.origin)? {
            if head.size < known.size {
                return Err(Alarm::RolledBack { known: known.size, shown: head.size }.into());
            }
            earlier.push(Earlier { size: known.size, root: known.root, by_chain: false });
        }
        let on_chain = self.on_chain(&head.origin).await?;
        if let Some((size, root)) = on_chain {
            if size > head.size {
                return Err(Alarm::BehindChain { chain: size, shown: head.size }.into());
            }
            earlier.push(Earlier { size, root, by_chain: true });
        }
        let copied = self.copy(&head, &earlier).await?;
        // The head last: until it stands here, nothing of what was copied counts.
        self.write("checkpoint", note.to_string().as_bytes())?;
        let witnesses = seen_by.by.len();
        Ok(Looked {
            head,
            copied,
            witnesses,
            enough: seen_by.enough,
            on_chain: on_chain.map(|(size, _)| size),
        })
    }

    /// The head of the last look.
    fn known(&self, origin: &str) -> Result<Option<Checkpoint>, MirrorError> {
        let path = self.directory.join("checkpoint");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| MirrorError::File(path.clone(), error))?,
        };
        let head = text.parse().ok().and_then(|note| self.open(&note)).filter(|head| head.origin == origin);
        head.map(Some).ok_or(MirrorError::Damaged(path))
    }

    /// A checkpoint that a log of the trust file signed.
    fn open(&self, note: &Note) -> Option<Checkpoint> {
        self.trust.logs.iter().find_map(|log| Checkpoint::open(note, &log.key).ok())
    }

    /// Reads every bundle of entries, from disk where it is there, and checks tiles of hashes and heads against them.
    async fn copy(&self, head: &Checkpoint, earlier: &[Earlier]) -> Result<usize, MirrorError> {
        let (mut frontier, mut copied) = (Frontier::default(), 0);
        let mut above: Vec<Level> = Vec::new();
        let (full, partial) = extent(head.size, 0);
        let widths = (0..full).map(|index| (index, 256)).chain((partial > 0).then_some((full, partial)));
        for (index, width) in widths {
            let path = TilePath::Entries { index, width };
            let (bytes, fresh) = self.tile(&path).await?;
            let leaves = leaves(&bytes, width).ok_or_else(|| spoilt(&path, head))?;
            copied +=
                usize::from(fresh) + self.same(TileId { level: 0, index, width }, &leaves, head).await?;
            for leaf in &leaves {
                frontier.push(*leaf);
                let mut shown = earlier.iter().filter(|shown| shown.size == frontier.size());
                if let Some(shown) = shown.find(|shown| shown.root != frontier.root()) {
                    return Err(shown.alarm().into());
                }
            }
            if u64::from(width) == WIDTH {
                copied += self.climb(&mut above, tile_root(&leaves), head).await?;
            }
        }
        if frontier.root() != head.root {
            return Err(Alarm::Tile { path: "tile/entries".to_owned(), size: head.size }.into());
        }
        for (level, Level { full, hashes }) in (1..).zip(&above) {
            if let Ok(width @ 1..) = u16::try_from(hashes.len()) {
                copied += self.same(TileId { level, index: *full, width }, hashes, head).await?;
            }
        }
        Ok(copied)
    }

    /// A full tile is one hash of the level above; what fills a tile there is compared with the log's own, and climbs on.
    async fn climb(
        &self,
        above: &mut Vec<Level>,
        hash: Hash,
        head: &Checkpoint,
    ) -> Result<usize, MirrorError> {
        let (mut copied, mut carried) = (0, Some(hash));
        for level in 1.. {
            let Some(hash) = carried.take() else { break };
            let at = usize::from(level) - 1;
            if above.len() <= at {
                above.push(Level::default());
            }
            let Some(Level { full, hashes }) = above.get_mut(at) else { break };
            hashes.push(hash);
            if u64::try_from(hashes.len()).is_ok_and(|len| len == WIDTH) {
                copied += self.same(TileId { level, index: *full, width: 256 }, hashes, head).await?;
                carried = Some(tile_root(hashes));
                hashes.clear();
                *full += 1;
            }
        }
        Ok(copied)
    }

    /// The log's tile is these hashes. One that is on disk was compared before.
    async fn same(&self, id: TileId, hashes: &[Hash], head: &Checkpoint) -> Result<usize, MirrorError> {
        let path = TilePath::Hashes(id);
        let (bytes, fresh) = self.tile(&path).await?;
        let expected = hashes.iter().flat_map(|hash| hash.0);
        if expected.eq(bytes.iter().copied()) { Ok(usize::from(fresh)) } else { Err(spoilt(&path, head)) }
    }

    /// From disk, else from the log; only full tiles are kept, because they never change. `true`: it was copied.
    async fn tile(&self, path: &TilePath) -> Result<(Vec<u8>, bool), MirrorError> {
        let file = self.path(path);
        match fs::read(&file) {
            Ok(bytes) => return Ok((bytes, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(MirrorError::File(file, error)),
        }
        let bytes = self.get(&path.to_string(), TILE_BYTES_MAX).await?;
        let is_full = match path {
            TilePath::Hashes(TileId { width, .. }) | TilePath::Entries { width, .. } => {
                u64::from(*width) == WIDTH
            }
        };
        if is_full {
            self.write(&path.to_string(), &bytes)?;
        }
        Ok((bytes, is_full))
    }

    async fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, MirrorError> {
        let url = format!("{}/{path}", self.url.trim_end_matches('/'));
        let mut answer = self.http.get(&url).timeout(TIMEOUT).send().await?;
        if !answer.status().is_success() {
            return Err(MirrorError::Status { url, status: answer.status().as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > bytes_max {
                return Err(MirrorError::TooLong(url));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The newest head of the origin on the chain that the node is of: size and root.
    async fn on_chain(&self, origin: &str) -> Result<Option<(u64, Hash)>, MirrorError> {
        let Some(url) = self.rpc else { return Ok(None) };
        let rpc = Rpc::new(self.http.clone(), url)?;
        for chain in &self.trust.chains {
            let contract =
                chain.contract.parse().map_err(|_| MirrorError::Contract(chain.contract.clone()))?;
            match Evm::connect(rpc.clone(), chain.id, contract).await {
                Err(ChainError::OtherChain { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(evm) => {
                    let newest = evm.find(origin, None).await?;
                    return Ok(newest.map(|anchored| (anchored.head.size, anchored.head.root)));
                }
            }
        }
        Err(MirrorError::UnknownChain(url.to_owned()))
    }

    fn path(&self, path: &TilePath) -> PathBuf {
        self.directory.join(path.to_string())
    }

    /// Aside, synced, then in place: what stands here is whole.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), MirrorError> {
        let file = self.directory.join(path);
        let aside = file.with_extension("new");
        let write = || -> io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or(self.directory))?;
            fs::write(&aside, bytes)?;
            fs::File::open(&aside)?.sync_all()?;
            fs::rename(&aside, &file)
        };
        write().map_err(|error| MirrorError::File(file.clone(), error))
    }
}

fn spoilt(path: &TilePath, head: &Checkpoint) -> MirrorError {
    Alarm::Tile { path: path.to_string(), size: head.size }.into()
}

/// The leaf hashes of a bundle of `width` entries; `None` where it is not one.
fn leaves(bundle: &[u8], width: u16) -> Option<Vec<Hash>> {
    let entries = bundle.chunks_exact(34);
    if !entries.remainder().is_empty() || entries.len() != usize::from(width) {
        return None;
    }
    entries.map(|entry| Some(leaf_hash(&Hash::from_slice(entry.strip_prefix(&ENTRY_LENGTH)?)?))).collect()
}

/// Looks once, or again and again; prints a line for each look. Exit status: 0 grows as it should, 1 alarm.
pub fn run(
    mirror: &Mirror<'_>,
    every: Option<Duration>,
    out: &mut impl io::Write,
) -> Result<ExitCode, MirrorRunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        match runtime.block_on(mirror.look()) {
            Ok(looked) => {
                let Looked { head, copied, witnesses, enough, on_chain } = looked;
                let quorum = if enough { "enough" } else { "NOT enough" };
                let chain =
                    on_chain.map_or_else(String::new, |size| format!(", {size} of them on the chain"));
                writeln!(
                    out,
                    "ok         {} {} entries, {copied} tiles copied, {witnesses} witnesses ({quorum}){chain}",
                    head.origin, head.size
                )?;
            }
            Err(MirrorError::Alarm(alarm)) => {
                writeln!(out, "ALARM      {alarm}")?;
                return Ok(ExitCode::from(1));
            }
            // Nobody is there now: with a next look to come, this one is only told.
            Err(error) if every.is_some() => writeln!(out, "unchecked  {}", Causes(&error))?,
            Err(error) => return Err(error.into()),
        }
        let Some(every) = every else { return Ok(ExitCode::SUCCESS) };
        std::thread::sleep(every);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MirrorRunError {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Io(#[from] io::Error),
}
