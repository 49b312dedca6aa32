//! MQTT passwords: made here, told once, kept as hashes. One is for our own gateway, one for a site's mosquitto.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::Sha512;
use trace::{
    b64,
    hash::{Hash, sha256},
};
use zeroize::Zeroizing;

use crate::service::keys::{KeysError, fresh_seed};

/// What mosquitto 2.0 counts by itself. More would buy nothing: the password is 32 random bytes.
const ROUNDS: u32 = 101;
/// As `mosquitto_passwd` makes them.
const SALT_BYTES: usize = 12;
const HASH_BYTES: usize = 64;

/// A password with what is kept of it.
pub struct Password {
    pub text: Zeroizing<String>,
    /// SHA-256: what the gateways' register says.
    pub token_hash: Hash,
    /// PBKDF2-SHA512 in the form of mosquitto's `password_file`.
    pub broker_hash: String,
}

impl Password {
    pub fn fresh() -> Result<Self, KeysError> {
        let text = Zeroizing::new(b64::url(fresh_seed()?.as_slice()));
        let seed = fresh_seed()?;
        let salt = seed.get(..SALT_BYTES).unwrap_or_default();
        let broker_hash = broker_hash(&text, salt);
        Ok(Self { token_hash: sha256(text.as_bytes()), broker_hash, text })
    }
}

/// `$7$rounds$salt$hash`, salt and hash in base64.
fn broker_hash(password: &str, salt: &[u8]) -> String {
    let hash = pbkdf2::pbkdf2_hmac_array::<Sha512, HASH_BYTES>(password.as_bytes(), salt, ROUNDS);
    format!("$7${ROUNDS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
}
