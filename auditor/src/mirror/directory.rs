//! The copy on disk: tiles under the paths that the log serves them by, the newest head, and what was raised.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use trace::{
    hash::{Hash, sha256},
    tlog::{
        checkpoint::Checkpoint,
        note::Note,
        tile::{TileId, TilePath, WIDTH, extent},
    },
};

use super::{MirrorError, hashes};

/// The head up to which everything stands here.
pub const CHECKPOINT: &str = "checkpoint";
/// A newer head, seen and found consistent, whose tiles are being copied.
const NEXT: &str = "checkpoint.next";
/// The bundle that vouches for the log after this one.
pub const NEW_LOG: &str = "new-log";

/// A mirror's directory, for one process at a time.
pub struct Directory {
    path: PathBuf,
    /// Locked until this value, or its process, is gone.
    _lock: File,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let open = || -> io::Result<File> {
            fs::create_dir_all(path)?;
            OpenOptions::new().create(true).write(true).truncate(false).open(path.join("lock"))
        };
        let lock = open().map_err(|error| MirrorError::File(path.to_owned(), error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(MirrorError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(MirrorError::File(path.to_owned(), error)),
        }
    }

    pub fn path(&self, tile: &TilePath) -> PathBuf {
        self.path.join(tile.to_string())
    }

    /// The notes that were kept, the newest last: of the copy, and of one that was not finished.
    pub fn notes(&self) -> Result<[Option<Note>; 2], MirrorError> {
        let read = |name: &str| {
            let path = self.path.join(name);
            let Some(bytes) = read(&path)? else { return Ok(None) };
            let note = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            note.map(Some).ok_or(MirrorError::Damaged(path))
        };
        Ok([read(CHECKPOINT)?, read(NEXT)?])
    }

    /// Keeps a head before its tiles: were this process to end, the log is still held to it.
    pub fn begin(&self, note: &Note) -> Result<(), MirrorError> {
        self.write(&self.path.join(NEXT), note.to_string().as_bytes())
    }

    /// All tiles of the head that was begun are here.
    pub fn finish(&self) -> Result<(), MirrorError> {
        let path = self.path.join(CHECKPOINT);
        let rename = || -> io::Result<()> {
            fs::rename(self.path.join(NEXT), &path)?;
            File::open(&self.path)?.sync_all()
        };
        rename().map_err(|error| MirrorError::File(path.clone(), error))
    }

    pub fn tile(&self, tile: &TilePath) -> Result<Option<Vec<u8>>, MirrorError> {
        read(&self.path(tile))
    }

    pub fn keep(&self, tile: &TilePath, bytes: &[u8]) -> Result<(), MirrorError> {
        self.write(&self.path(tile), bytes)
    }

    pub fn keep_successor(&self, bundle: &str) -> Result<(), MirrorError> {
        self.write(&self.path.join(NEW_LOG), bundle.as_bytes())
    }

    /// Whether all that was signed behind a bundle's entries is here.
    pub fn has_records(&self, entries: &TilePath) -> bool {
        self.records(entries).exists()
    }

    /// Keeps a line for each of a bundle's entries.
    pub fn keep_records(&self, entries: &TilePath, lines: &str) -> Result<(), MirrorError> {
        self.write(&self.records(entries), lines.as_bytes())
    }

    /// `records/001` of `tile/entries/001`.
    fn records(&self, entries: &TilePath) -> PathBuf {
        let path = entries.to_string();
        self.path.join("records").join(path.strip_prefix("tile/entries/").unwrap_or(&path))
    }

    /// Takes away the partial tiles of a head that `newer` replaced, and what was signed behind them.
    pub fn forget_partial(&self, older: u64, newer: u64) -> Result<(), MirrorError> {
        let standing = partial_tiles(newer);
        for tile in partial_tiles(older).into_iter().filter(|tile| !standing.contains(tile)) {
            for path in [self.path(&tile), self.records(&tile)] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(MirrorError::File(path, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The root that the partial tiles here give at a head's size: what a later head is compared with is what was copied.
    ///
    /// # Errors
    /// [`MirrorError::Damaged`] where the copy does not give the head that it was made under.
    pub fn check(&self, head: &Checkpoint) -> Result<(), MirrorError> {
        let tile = |level, index| {
            let (_, width) = extent(head.size, level);
            hashes(&read(&self.path(&TilePath::Hashes(TileId { level, index, width }))).ok()??, width)
        };
        if super::root_of(&tile, head.size) == Some(head.root) {
            return Ok(());
        }
        let last = partial_tiles(head.size).first().map(|tile| self.path(tile));
        Err(MirrorError::Damaged(last.unwrap_or_else(|| self.path.join(CHECKPOINT))))
    }

    /// Keeps what shows that the log, or who else signed it, contradicts itself. The same text is one file.
    pub fn evidence(&self, text: &str) -> Result<PathBuf, MirrorError> {
        let name: String = sha256(text.as_bytes()).to_string().chars().take(16).collect();
        let path = self.path.join("evidence").join(format!("{name}.txt"));
        self.write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Aside, synced, then in place: what stands here is whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), MirrorError> {
        let aside = path.with_extension("new");
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
            let mut file = File::create(&aside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        write().map_err(|error| MirrorError::File(path.to_owned(), error))
    }
}

/// The tiles that are not full in a tree of `size`, with the entries under the lowest.
pub fn partial_tiles(size: u64) -> Vec<TilePath> {
    let mut tiles = Vec::new();
    for level in (0..).take_while(|level| extent(size, *level) != (0, 0)) {
        let (index, width @ 1..) = extent(size, level) else { continue };
        tiles.push(TilePath::Hashes(TileId { level, index, width }));
        if level == 0 {
            tiles.push(TilePath::Entries { index, width });
        }
    }
    tiles
}

/// A file's bytes where it is there at all.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, MirrorError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MirrorError::File(path.to_owned(), error)),
    }
}

/// How many hashes of a full tile there are.
pub fn full() -> u16 {
    u16::try_from(WIDTH).unwrap_or(u16::MAX)
}

/// The bytes of a tile.
pub fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
