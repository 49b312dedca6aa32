//! Base64 in the two dialects that the formats use, canonical only: stray bits and wrong padding are refused.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// The text is not the one encoding of any bytes (alphabet, padding or stray bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64")]
pub struct NotCanonical;

/// RFC 4648 §5 without padding: JOSE, hashes in JSON.
pub fn url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict inverse of [`url`].
pub fn from_url(text: &str) -> Result<Vec<u8>, NotCanonical> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotCanonical)
}

/// RFC 4648 §4 with padding: C2SP notes, checkpoints, proofs.
pub fn std(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Strict inverse of [`std`](fn@std).
pub fn from_std(text: &str) -> Result<Vec<u8>, NotCanonical> {
    STANDARD.decode(text).map_err(|_| NotCanonical)
}

#[cfg(test)]
mod tests {
    #[test]
    fn stray_bits_and_padding_are_refused() {
        assert_eq!(super::from_url("AA").as_deref(), Ok(&[0][..]));
        assert!(super::from_url("AB").is_err());
        assert!(super::from_url("AA==").is_err());
        assert!(super::from_std("AA").is_err());
        assert!(super::from_std("AB==").is_err());
    }
}
