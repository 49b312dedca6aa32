//! The envelope: the key-encryption key, from a file, seals one root key in the database, which seals everything else. To
//! replace the key-encryption key is to seal that one row again.

use std::path::Path;

use chrono::Utc;
use store::{Connection, root_key};
use zeroize::Zeroizing;

use super::{DataKey, KeysError, SealError, fresh_seed, read_seed};

const CONTEXT: &[u8] = b"suyuan-root-key/1";

pub fn read_kek(file: &Path) -> Result<DataKey, KeysError> {
    Ok(DataKey::from_bytes(*read_seed(file)?))
}

pub async fn open_or_found(conn: &mut Connection, kek: &DataKey) -> Result<DataKey, KeysError> {
    if root_key::sealed(conn).await?.is_none() {
        let sealed = kek.seal(CONTEXT, fresh_seed()?.as_slice())?;
        root_key::found(conn, &sealed, Utc::now()).await?;
    }
    let sealed = root_key::sealed(conn).await?.ok_or(SealError::Damaged)?;
    open(kek, &sealed)
}

/// Seals the root key under `new` instead of `old`. Servers go on with what they have in memory; each needs the new file at
/// its next start.
///
/// # Errors
/// [`KeysError::Seal`] if `old` does not open it: nothing is changed.
pub async fn reseal(conn: &mut Connection, old: &DataKey, new: &DataKey) -> Result<(), KeysError> {
    let sealed = root_key::sealed(conn).await?.ok_or(SealError::Damaged)?;
    let root = open(old, &sealed)?;
    let resealed = new.seal(CONTEXT, root.as_bytes())?;
    if root_key::replace(conn, &sealed, &resealed, Utc::now()).await? {
        Ok(())
    } else {
        Err(SealError::Damaged.into())
    }
}

fn open(kek: &DataKey, sealed: &[u8]) -> Result<DataKey, KeysError> {
    let root = kek.unseal(CONTEXT, sealed)?;
    let root: Zeroizing<[u8; 32]> =
        Zeroizing::new(root.as_slice().try_into().map_err(|_| SealError::Damaged)?);
    Ok(DataKey::from_bytes(*root))
}
