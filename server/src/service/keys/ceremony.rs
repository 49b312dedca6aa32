//! Making the key files of a ledger: each a new file of one line with mode 0600, never overwritten.

use std::path::Path;

use trace::{
    b64,
    keys::SecretKey,
    tlog::note::{NoteError, SignerKey},
};

use super::{KeysError, fresh_seed, read_secret, read_seed, write_secret};

#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    #[error("the origin cannot name a log key")]
    Origin(#[source] NoteError),
    #[error("the file holds no signer key")]
    Signer(#[source] NoteError),
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Makes the log's signer key; returns the verifier key for everybody.
pub fn make_log_key(origin: &str, file: &Path) -> Result<String, CeremonyError> {
    let secret = SecretKey::from_seed(&*fresh_seed()?);
    let signer = SignerKey { name: origin.parse().map_err(CeremonyError::Origin)?, secret };
    write_secret(file, &zeroize::Zeroizing::new(signer.to_secret_text()))?;
    Ok(signer.verifier().to_string())
}

/// Makes a seed file (registrar, derivation, key-encryption key, serial master); returns the thumbprint of the Ed25519 key
/// that the seed stands for: public for the first two, without meaning for the others.
pub fn make_seed(file: &Path) -> Result<String, CeremonyError> {
    let seed = fresh_seed()?;
    write_secret(file, &zeroize::Zeroizing::new(b64::url(seed.as_slice())))?;
    Ok(SecretKey::from_seed(&seed).kid().to_string())
}

/// The verifier key of a log key file.
pub fn verifier_key(file: &Path) -> Result<String, CeremonyError> {
    let text = read_secret(file)?;
    let signer: SignerKey = text.trim_end().parse().map_err(CeremonyError::Signer)?;
    Ok(signer.verifier().to_string())
}

/// The thumbprint of a seed file's Ed25519 key: the registrar's stands in every trust file.
pub fn thumbprint(file: &Path) -> Result<String, CeremonyError> {
    Ok(SecretKey::from_seed(&*read_seed(file)?).kid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ceremony_writes_reads_back() {
        let directory = std::env::temp_dir().join(format!("suyuan-ceremony-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        let (log, seed) = (directory.join("log"), directory.join("registrar"));
        let vkey = make_log_key("log.example/demo/2026", &log).unwrap();
        assert_eq!(verifier_key(&log).unwrap(), vkey);
        let kid = make_seed(&seed).unwrap();
        assert_eq!(thumbprint(&seed).unwrap(), kid);
        assert!(make_seed(&seed).is_err(), "never overwritten");
        assert!(make_log_key("two words", &directory.join("other")).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
