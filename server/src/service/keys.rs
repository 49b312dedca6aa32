//! Keys that the platform holds for those who hold none themselves, and the history of all keys.
//!
//! Secrets at rest are sealed under the key-encryption key (a file beside the database, never in it). A person's data
//! key seals what is personal; destroying it erases the person, in backups too.

pub mod ceremony;
pub mod own;
pub mod root;
mod sealed;
pub mod statements;

pub use sealed::{DataKey, SealError};
pub use statements::{HeldKey, NewKey, operator};

use std::{fs, path::Path};

use store::{Connection, StoreError};
use trace::{
    b64,
    hash::Hash,
    keys::{Custody, KeyRole, Kid, PublicKey, SecretKey},
};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Files longer than this are not keys.
const KEY_FILE_BYTES_MAX: u64 = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the key file {path} cannot be read")]
    File { path: String, source: std::io::Error },
    #[error("the key file {path} is not one line of 32 bytes in base64url")]
    FileFormat { path: String },
    #[error("others than its owner can read the key file {path}: chmod 600")]
    FileMode { path: String },
    #[error("the system gave no randomness")]
    Randomness,
    #[error("the party has no key that the platform may sign with")]
    NoKey,
    #[error("a personal disclosure without the person whose it is")]
    NoPerson,
    #[error("a record of that name stands already: the challenge was answered")]
    Used,
    #[error("the key is known already")]
    Known,
    #[error("the key is not good any more")]
    NotGood,
    #[error("not a usable key")]
    Key(#[from] trace::keys::KeyError),
    #[error("the proof of possession does not fit")]
    Possession(#[from] trace::record::statement::StatementError),
    #[error("the author signed something else")]
    OtherWords,
    #[error("the statement could not be issued")]
    Issue(#[from] trace::record::IssueError),
    #[error("a sealed value does not open")]
    Seal(#[from] SealError),
    #[error("the ledger has no operator yet: suyuan operator init")]
    NoOperator,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where the secrets stand.
#[derive(Debug, Clone, Copy)]
pub struct KeyFiles<'a> {
    pub registrar: &'a Path,
    pub derivation: &'a Path,
    pub kek: &'a Path,
}

/// The platform's keys, in memory.
pub struct Keys {
    ledger: String,
    registrar: SecretKey,
    derivation: SecretKey,
    root: DataKey,
    shared: DataKey,
    lookup: Zeroizing<[u8; 32]>,
}

/// A key that the platform signs with for a party.
#[derive(Debug)]
pub struct Signer {
    pub kid: Kid,
    pub custody: Custody,
    pub secret: SecretKey,
}

impl Keys {
    /// Reads the key files, refusing those that others can read, and opens the root key; an empty database gets one.
    ///
    /// # Errors
    /// [`KeysError::Seal`] if the key-encryption key is not the one that the database was founded or resealed under.
    pub async fn open(conn: &mut Connection, ledger: &str, files: KeyFiles<'_>) -> Result<Self, KeysError> {
        let registrar = read_seed(files.registrar)?;
        let derivation = read_seed(files.derivation)?;
        let root = root::open_or_found(conn, &root::read_kek(files.kek)?).await?;
        Ok(Self::from_seeds(ledger, &registrar, &derivation, root.as_bytes()))
    }

    pub fn from_seeds(ledger: &str, registrar: &[u8; 32], derivation: &[u8; 32], root: &[u8; 32]) -> Self {
        Self {
            ledger: ledger.to_owned(),
            registrar: SecretKey::from_seed(registrar),
            derivation: SecretKey::from_seed(derivation),
            root: DataKey::from_bytes(*root),
            shared: DataKey::from_bytes(*sealed::derive(root, "suyuan-shared/1")),
            lookup: sealed::derive(root, "suyuan-lookup/1"),
        }
    }

    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// Signs statements about keys.
    pub const fn registrar(&self) -> &SecretKey {
        &self.registrar
    }

    /// Signs what follows from the server's state.
    pub const fn derivation(&self) -> &SecretKey {
        &self.derivation
    }

    /// Seals disclosures that are not personal.
    pub const fn shared(&self) -> &DataKey {
        &self.shared
    }

    /// The key that the platform signs records with for `party_id`: the newest good one in platform custody.
    pub async fn signer_of(&self, conn: &mut Connection, party_id: i64) -> Result<Signer, KeysError> {
        let keys = store::key::good_of(conn, party_id, KeyRole::Record.as_str()).await?;
        let sealed = keys.iter().find_map(|key| key.sealed.as_ref().map(|sealed| (&key.kid, sealed)));
        let (kid, sealed) = sealed.ok_or(KeysError::NoKey)?;
        let seed = self.root.unseal(kid, sealed)?;
        let seed: Zeroizing<[u8; 32]> =
            Zeroizing::new(seed.as_slice().try_into().map_err(|_| SealError::Damaged)?);
        let secret = SecretKey::from_seed(&seed);
        if secret.kid().as_bytes().as_slice() != kid.as_slice() {
            return Err(SealError::Damaged.into());
        }
        Ok(Signer { kid: secret.kid(), custody: Custody::Platform, secret })
    }

    /// The public key of a kid, whatever its state.
    pub async fn public(&self, conn: &mut Connection, kid: Kid) -> Result<Option<PublicKey>, KeysError> {
        let Some(key) = store::key::by_kid(conn, kid.as_bytes()).await? else { return Ok(None) };
        Ok(Some(PublicKey::from_bytes(&key.public)?))
    }

    /// A fresh data key for a person, and its sealed form for `store::party::insert_person`.
    pub fn new_person_key(&self, person: Uuid) -> Result<(DataKey, Vec<u8>), KeysError> {
        let key = DataKey::from_bytes(*fresh_seed()?);
        let sealed = self.root.seal(person.as_bytes(), key.as_bytes())?;
        Ok((key, sealed))
    }

    /// A person's data key; `None` once erased.
    pub async fn person_key(
        &self,
        conn: &mut Connection,
        person: Uuid,
    ) -> Result<Option<DataKey>, KeysError> {
        let Some(sealed) = store::party::data_key(conn, person).await? else { return Ok(None) };
        Ok(Some(self.open_person_key(person, &sealed)?))
    }

    /// The data keys of those of `people` who are not erased.
    pub async fn person_keys(
        &self,
        conn: &mut Connection,
        people: &[Uuid],
    ) -> Result<std::collections::HashMap<Uuid, DataKey>, KeysError> {
        let sealed = store::party::data_keys(conn, people).await?;
        sealed
            .into_iter()
            .map(|(person, sealed)| Ok((person, self.open_person_key(person, &sealed)?)))
            .collect()
    }

    /// Destroys a person's data key. `false`: it was gone already.
    pub async fn erase_person(&self, conn: &mut Connection, person: Uuid) -> Result<bool, KeysError> {
        Ok(store::party::erase(conn, person, chrono::Utc::now()).await?)
    }

    /// Keyed hash to look up what must not stand in clear: a login that may be a telephone number, an event hash.
    /// `purpose` separates the columns: equal texts in two of them do not show as equal.
    pub fn lookup(&self, purpose: &str, text: &[u8]) -> Hash {
        sealed::keyed_hash(&self.lookup, purpose, text)
    }

    fn open_person_key(&self, person: Uuid, sealed: &[u8]) -> Result<DataKey, KeysError> {
        let bytes = self.root.unseal(person.as_bytes(), sealed)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| SealError::Damaged)?;
        Ok(DataKey::from_bytes(bytes))
    }
}

/// 32 bytes from the operating system.
pub fn fresh_seed() -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|_| KeysError::Randomness)?;
    Ok(seed)
}

/// A salt for one disclosure.
pub fn fresh_salt() -> Result<[u8; 16], KeysError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| KeysError::Randomness)?;
    Ok(salt)
}

/// Reads a secret text file that only its owner may read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display().to_string();
    let failed = |source| KeysError::File { path: shown.clone(), source };
    let meta = fs::metadata(path).map_err(failed)?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(KeysError::FileMode { path: shown });
    }
    if meta.len() > KEY_FILE_BYTES_MAX {
        return Err(KeysError::FileFormat { path: shown });
    }
    Ok(Zeroizing::new(fs::read_to_string(path).map_err(failed)?))
}

/// A seed file: one line, base64url of 32 bytes.
pub fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let text = read_secret(path)?;
    let malformed = || KeysError::FileFormat { path: path.display().to_string() };
    let bytes = Zeroizing::new(b64::from_url(text.trim_end()).map_err(|_| malformed())?);
    Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| malformed())?))
}

/// Writes a secret to a new file with mode 0600; refuses to overwrite.
pub fn write_secret(path: &Path, line: &str) -> Result<(), KeysError> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let failed = |source| KeysError::File { path: path.display().to_string(), source };
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{line}").map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("suyuan-key-{}", Uuid::now_v7()));
        write_secret(&path, &b64::url(&[7; 32])).unwrap();
        assert_eq!(*read_seed(&path).unwrap(), [7; 32]);
        assert!(write_secret(&path, "again").is_err(), "a key is never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_seed(&path), Err(KeysError::FileMode { .. })));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn equal_texts_for_two_purposes_look_different() {
        let keys = Keys::from_seeds("demo", &[1; 32], &[2; 32], &[3; 32]);
        assert_eq!(keys.lookup("login", b"13800000000"), keys.lookup("login", b"13800000000"));
        assert_ne!(keys.lookup("login", b"13800000000"), keys.lookup("phone", b"13800000000"));
    }

    #[test]
    fn a_person_key_opens_only_for_its_person() {
        let keys = Keys::from_seeds("demo", &[1; 32], &[2; 32], &[3; 32]);
        let (person, other) = (Uuid::now_v7(), Uuid::now_v7());
        let (key, sealed) = keys.new_person_key(person).unwrap();
        let opened = keys.open_person_key(person, &sealed).unwrap();
        let text = key.seal(b"name", "甘蔗农".as_bytes()).unwrap();
        assert_eq!(opened.unseal(b"name", &text).unwrap().as_slice(), "甘蔗农".as_bytes());
        assert!(opened.unseal(b"telephone", &text).is_err());
        assert!(keys.open_person_key(other, &sealed).is_err());
    }
}
