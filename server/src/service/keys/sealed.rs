//! Sealing: XChaCha20-Poly1305 with random nonces of 192 bits, so that one key may seal without counting.
//!
//! Sealed bytes are `1 ‖ nonce (24) ‖ ciphertext and tag`; the context is authenticated, so that a value cannot be moved
//! from one row to another.

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use trace::hash::Hash;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the system gave no randomness")]
    Randomness,
    #[error("sealed under another key, for another place, or damaged")]
    Damaged,
}

/// A symmetric key; wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

impl DataKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Randomness)?;
        let sealed = self
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: context })
            .map_err(|_| SealError::Damaged)?;
        let mut bytes = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    pub fn unseal(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(SealError::Damaged) };
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
        let plain = self
            .cipher()
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: context })
            .map_err(|_| SealError::Damaged)?;
        Ok(Zeroizing::new(plain))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.0))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// HMAC-SHA256(key, purpose ‖ 0 ‖ text).
pub(super) fn keyed_hash(key: &[u8; 32], purpose: &str, text: &[u8]) -> Hash {
    // HMAC takes keys of every length: the error cannot happen, and the zero key would be seen by every test.
    let Ok(mut mac) = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key) else { return Hash([0; 32]) };
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(text);
    Hash(mac.finalize().into_bytes().into())
}

pub(super) fn derive(key: &[u8; 32], purpose: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(keyed_hash(key, purpose, &[]).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_anywhere_does_not_open() {
        let key = DataKey::from_bytes([9; 32]);
        let sealed = key.seal(b"row 1", b"secret").unwrap();
        assert_eq!(*key.unseal(b"row 1", &sealed).unwrap(), b"secret");
        assert_eq!(key.unseal(b"row 2", &sealed), Err(SealError::Damaged));
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(key.unseal(b"row 1", &flipped), Err(SealError::Damaged), "byte {at}");
        }
        assert_eq!(key.unseal(b"row 1", &[]), Err(SealError::Damaged));
    }
}
