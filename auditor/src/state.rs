//! What a witness must not forget: the newest head that it cosigned of each log, one file each.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use trace::{
    hash::sha256,
    merkle::empty_root,
    tlog::{
        checkpoint::{Checkpoint, CheckpointError},
        note::{SignerKey, VerifierKey},
    },
};

/// Says whose state the directory holds.
const OWNER: &str = "witness";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{0} cannot be read or written")]
    File(String, #[source] io::Error),
    #[error("{0} is not a head: the witness cannot know what it signed, and signs nothing")]
    Corrupt(String, #[source] CheckpointError),
    #[error("{0} holds no witness's state: --init makes one, but never again for a key that has cosigned")]
    NoState(String),
    #[error("{0} is the state of another witness")]
    OtherWitness(String),
    #[error("nothing is known of {0}: --init begins with a log that is new to this witness")]
    UnknownLog(String),
    #[error("{0} can be read by others: chmod 600")]
    Mode(String),
    #[error("another witness works on {0}: two on one state could cosign two histories")]
    InUse(String),
    #[error("{0} does not hold a signer key")]
    Key(String, #[source] trace::tlog::note::NoteError),
}

/// A directory with one file per log, named by the SHA-256 of its origin; one process at a time works on it.
pub struct State {
    directory: PathBuf,
    /// Locked until this value, or its process, is gone.
    _lock: File,
}

impl State {
    /// The state that this witness left. One that is gone is never begun anew by itself: it would cosign a second history.
    pub fn open(directory: &Path, witness: &VerifierKey) -> Result<Self, StateError> {
        let name = || directory.display().to_string();
        let owner = match fs::read_to_string(directory.join(OWNER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::NoState(name())),
            other => other.map_err(|error| file_error(directory, error))?,
        };
        if owner.trim_end() != witness.to_string() {
            return Err(StateError::OtherWitness(name()));
        }
        Self::lock(directory)
    }

    /// Makes the state of a new witness; one that is there is opened.
    pub fn init(directory: &Path, witness: &VerifierKey) -> Result<Self, StateError> {
        if !directory.join(OWNER).exists() {
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            let made = fs::create_dir_all(directory)
                .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all());
            made.map_err(|error| file_error(directory, error))?;
            Self::lock(directory)?.write(OWNER, &format!("{witness}\n"))?;
        }
        Self::open(directory, witness)
    }

    fn lock(directory: &Path) -> Result<Self, StateError> {
        let open = OpenOptions::new().create(true).write(true).truncate(false).open(directory.join("lock"));
        let lock = open.map_err(|error| file_error(directory, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.display().to_string())),
            Err(TryLockError::Error(error)) => Err(file_error(directory, error)),
        }
    }

    /// Begins with a log at the empty tree, unless it is known; the newest head of it here.
    pub fn begin(&self, origin: &str) -> Result<Checkpoint, StateError> {
        match self.newest(origin) {
            Err(StateError::UnknownLog(_)) => {
                let empty = Checkpoint { origin: origin.to_owned(), size: 0, root: empty_root() };
                self.advance(&empty)?;
                Ok(empty)
            }
            known => known,
        }
    }

    /// The newest head of the log that was cosigned; the empty tree's where none was.
    pub fn newest(&self, origin: &str) -> Result<Checkpoint, StateError> {
        let path = self.directory.join(file_name(origin));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::UnknownLog(origin.to_owned()));
            }
            other => other.map_err(|error| file_error(&path, error))?,
        };
        let corrupt = |error| StateError::Corrupt(path.display().to_string(), error);
        let head: Checkpoint = text.parse().map_err(corrupt)?;
        if head.origin == origin { Ok(head) } else { Err(corrupt(CheckpointError::OtherOrigin)) }
    }

    /// Durable when it returns: written aside, synced, renamed over, and the directory synced. A crash before the rename
    /// leaves the old head; after it, a head whose cosignature was not sent, which asking again mends.
    pub fn advance(&self, head: &Checkpoint) -> Result<(), StateError> {
        self.write(&file_name(&head.origin), &head.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.directory.join(name);
        let aside = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| file_error(&path, error))
    }
}

/// Origins hold slashes, and may be longer than a file's name.
fn file_name(origin: &str) -> String {
    sha256(origin.as_bytes()).to_string()
}

pub fn read_key(path: &Path) -> Result<SignerKey, StateError> {
    let meta = fs::metadata(path).map_err(|error| file_error(path, error))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(StateError::Mode(path.display().to_string()));
    }
    let text = fs::read_to_string(path).map_err(|error| file_error(path, error))?;
    text.trim_end().parse().map_err(|error| StateError::Key(path.display().to_string(), error))
}

/// Never overwrites: a witness whose key is lost is another witness.
pub fn write_key(path: &Path, key: &SignerKey) -> Result<(), StateError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", key.to_secret_text())?;
        file.sync_all()
    };
    write().map_err(|error| file_error(path, error))
}

fn file_error(path: &Path, error: io::Error) -> StateError {
    StateError::File(path.display().to_string(), error)
}
