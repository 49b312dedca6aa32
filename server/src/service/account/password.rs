//! Passwords: argon2id (RFC 9106) in memory that is taken once and used again, because 19 MiB for each hash would otherwise
//! stay with every thread that ever made one.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{Error, Output, ParamsString, Salt, SaltString},
};
use zeroize::Zeroizing;

use super::AccountError;

/// More at once wait: each needs its 19 MiB.
const HASHES_AT_ONCE: usize = 2;

/// Hashes passwords, a few at a time.
pub struct Passwords {
    turns: tokio::sync::Semaphore,
    memory: Arc<Memory>,
}

/// Blocks that no hash is using now; at most as many as there are turns.
#[derive(Default)]
struct Memory(Mutex<Vec<Vec<Block>>>);

impl Memory {
    /// The output of `argon` in borrowed blocks.
    fn hash(&self, argon: &Argon2<'_>, password: &[u8], salt: &[u8]) -> Result<Output, Error> {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = idle().pop().unwrap_or_default();
        blocks.resize(argon.params().block_count(), Block::default());
        let length = argon.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let hashed = Output::init_with(length, |out| {
            Ok(argon.hash_password_into_with_memory(password, salt, out, &mut blocks)?)
        });
        idle().push(blocks);
        hashed
    }
}

impl Passwords {
    pub fn new() -> Self {
        Self { turns: tokio::sync::Semaphore::new(HASHES_AT_ONCE), memory: Arc::default() }
    }

    /// A PHC string with a salt of its own.
    pub async fn hash(&self, password: &str) -> Result<String, AccountError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let salt_text = SaltString::encode_b64(&salt)?;
        self.in_turn(password, move |memory, password| {
            let argon = Argon2::default();
            let hash = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(argon.params())?,
                salt: Some(salt_text.as_salt()),
                hash: Some(memory.hash(&argon, password, &salt)?),
            };
            Ok(hash.to_string())
        })
        .await
    }

    /// Compares in constant time.
    pub async fn verify(&self, password: &str, expected: String) -> Result<bool, AccountError> {
        self.in_turn(password, move |memory, password| {
            let expected = PasswordHash::new(&expected)?;
            let (Some(salt), Some(hash)) = (expected.salt, expected.hash) else {
                return Err(Error::Password);
            };
            let mut bytes = [0; Salt::MAX_LENGTH];
            let salt = salt.decode_b64(&mut bytes)?;
            let params = Params::try_from(&expected)?;
            let argon = Argon2::new(Algorithm::try_from(expected.algorithm)?, Version::V0x13, params);
            Ok(memory.hash(&argon, password, salt)? == hash)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        password: &str,
        work: impl FnOnce(&Memory, &[u8]) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, AccountError> {
        let password = Zeroizing::new(password.to_owned());
        let turn = self.turns.acquire().await;
        let memory = Arc::clone(&self.memory);
        let done = tokio::task::spawn_blocking(move || work(&memory, password.as_bytes())).await?;
        drop(turn);
        Ok(done?)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher as _, PasswordVerifier as _};

    use super::*;

    #[tokio::test]
    async fn what_is_hashed_here_verifies_elsewhere_and_the_other_way_round() {
        let passwords = Passwords::new();
        let ours = passwords.hash("a long password").await.unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(Argon2::default().verify_password(b"a long password", &parsed).is_ok());
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let theirs = Argon2::default().hash_password(b"a long password", &salt).unwrap().to_string();
        assert!(passwords.verify("a long password", theirs.clone()).await.unwrap());
        assert!(!passwords.verify("a wrong password", theirs).await.unwrap());
        assert!(passwords.verify("a long password", "no hash".to_owned()).await.is_err());
    }

    #[tokio::test]
    async fn memory_is_bounded_by_the_turns() {
        let passwords = Passwords::new();
        let many = (0..6).map(|_| passwords.hash("a long password"));
        assert!(futures_util::future::join_all(many).await.iter().all(Result::is_ok));
        assert!(passwords.memory.0.lock().unwrap().len() <= HASHES_AT_ONCE);
    }
}
