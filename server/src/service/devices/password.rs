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
        Ok(Self { token_hash: sha256(text.as_bytes()), broker_hash: Self::broker_hash_of(&text)?, text })
    }

    /// What mosquitto keeps of a password.
    pub fn broker_hash_of(password: &str) -> Result<String, KeysError> {
        let seed = fresh_seed()?;
        Ok(broker_hash(password, seed.get(..SALT_BYTES).unwrap_or_default()))
    }
}

/// `$7$rounds$salt$hash`, salt and hash in base64.
fn broker_hash(password: &str, salt: &[u8]) -> String {
    let hash = pbkdf2::pbkdf2_hmac_array::<Sha512, HASH_BYTES>(password.as_bytes(), salt, ROUNDS);
    format!("$7${ROUNDS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_mosquitto_passwd_makes_of_the_same_salt() {
        // mosquitto_passwd 2.0.11: `mosquitto_passwd -b file depot/probe1 secret`.
        let made = "$7$101$VdA4C4XInmWTQRd7$P7O8D7hrWGWD0Tkx2gj+c1E1eSjFEZjE6pwlL3QBxiGmV4ul1BVJKqA/z1TtL3pve82mRyhbSqe/CkjlX/Aleg==";
        let salt = STANDARD.decode(made.split('$').nth(3).unwrap()).unwrap();
        assert_eq!(salt.len(), SALT_BYTES);
        assert_eq!(broker_hash("secret", &salt), made);
    }
}
