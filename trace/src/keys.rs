//! Ed25519 keys, their RFC 7638 thumbprints, and what a key may be used for.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{
    b64,
    hash::{Hash, sha256},
};

/// RFC 7638 thumbprint of the key's JWK `{"crv":"Ed25519","kty":"OKP","x":…}`: 32 bytes.
pub type Kid = Hash;

/// What a key signs. A key has one role for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    Record,
    Pack,
    Log,
    Registrar,
    Derivation,
}

/// Who holds the secret: shown beside every grade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Custody {
    Platform,
    Browser,
    Device,
    Hsm,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $type {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(UnknownWord) }
            }
        }
    };
}

/// A word outside the closed list of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a word of this list")]
pub struct UnknownWord;

words!(KeyRole { Record = "record", Pack = "pack", Log = "log", Registrar = "registrar", Derivation = "derivation" });
words!(Custody { Platform = "platform", Browser = "browser", Device = "device", Hsm = "hsm" });

/// An Ed25519 public key that is neither of small order nor encoded otherwise than canonically.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    /// Asked for with every signature: worked out once.
    kid: Kid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("not a canonical Ed25519 public key of 32 bytes")]
    Malformed,
    #[error("a key of small order signs for nobody in particular")]
    Weak,
}

/// The signature does not verify strictly (RFC 8032 §5.1.7, cofactorless, canonical S and R, no small order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl PublicKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Malformed)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        // A non-canonical y decompresses, but does not compress to itself.
        if key.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError::Malformed);
        }
        Ok(Self::of(key))
    }

    /// RFC 7638 §3, members of RFC 8037 §2.
    fn of(key: VerifyingKey) -> Self {
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64::url(key.as_bytes()));
        Self { key, kid: sha256(jwk.as_bytes()) }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub const fn kid(&self) -> Kid {
        self.kid
    }

    /// The only check that earns a verdict.
    pub fn verify_strict(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.key.verify_strict(message, &signature).map_err(|_| BadSignature)
    }

    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.key
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", b64::url(self.as_bytes()))
    }
}

/// An Ed25519 seed; wiped when dropped, never printed.
pub struct SecretKey(SigningKey);

impl SecretKey {
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key())
    }

    pub fn kid(&self) -> Kid {
        self.public().kid()
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.kid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037_appendix_a() {
        let x = b64::from_url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let kid = PublicKey::from_bytes(&x).unwrap().kid();
        assert_eq!(kid.to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn small_order_and_non_canonical_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Weak));
        let mut above_p = [0xff; 32];
        above_p[31] = 0x7f;
        assert!(PublicKey::from_bytes(&above_p).is_err());
    }
}
