//! Compact JWS (RFC 7515) with the one header that this ledger signs: `alg`, `typ`, `kid` and nothing else.

use serde_json::Value;

use crate::{
    b64, json,
    keys::{BadSignature, Kid, PublicKey, SecretKey},
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    #[error("not header.payload.signature in canonical base64url")]
    Frame,
    #[error("the header is not alg, typ and kid alone, or names another algorithm or type")]
    Header,
    #[error("the payload is not strict JSON")]
    Payload(#[source] json::JsonError),
    #[error("the signature does not verify")]
    Signature(#[from] BadSignature),
    #[error("signed by another key than the one asked for")]
    OtherKey,
}

/// Parsed, not yet verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Jws {
    pub kid: Kid,
    pub payload: Value,
    signing_input_len: usize,
    signature: [u8; 64],
}

/// Signs the payload's bytes as given.
pub fn sign(typ: &str, payload: &str, key: &SecretKey) -> String {
    let signing_input = signing_input(typ, payload, key.kid());
    let signature = key.sign(signing_input.as_bytes());
    with_signature(signing_input, &signature)
}

/// What a signature is over (RFC 7515 §5.1); emits the fully specified `Ed25519` (RFC 9864).
pub fn signing_input(typ: &str, payload: &str, kid: Kid) -> String {
    let header = format!(r#"{{"alg":"Ed25519","typ":"{typ}","kid":"{kid}"}}"#);
    let mut input = b64::url(header.as_bytes());
    input.push('.');
    input.push_str(&b64::url(payload.as_bytes()));
    input
}

pub fn with_signature(mut signing_input: String, signature: &[u8; 64]) -> String {
    signing_input.push('.');
    signing_input.push_str(&b64::url(signature));
    signing_input
}

impl Jws {
    pub fn parse(compact: &str, typ: &str) -> Result<Self, JwsError> {
        let (signing_input, signature) = compact.rsplit_once('.').ok_or(JwsError::Frame)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsError::Frame)?;
        let decode = |part: &str| b64::from_url(part).map_err(|_| JwsError::Frame);
        let signature = decode(signature)?.try_into().map_err(|_| JwsError::Frame)?;
        let kid = kid_of(&decode(header)?, typ)?;
        let payload = json::parse(&decode(payload)?).map_err(JwsError::Payload)?;
        Ok(Self { kid, payload, signing_input_len: signing_input.len(), signature })
    }

    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// What was signed of `compact`, the text this was parsed from.
    pub fn signing_input<'text>(&self, compact: &'text str) -> &'text str {
        compact.get(..self.signing_input_len).unwrap_or_default()
    }

    /// Verifies `compact`, the text this was parsed from.
    pub fn verify(&self, compact: &str, key: &PublicKey) -> Result<(), JwsError> {
        if key.kid() != self.kid {
            return Err(JwsError::OtherKey);
        }
        let signing_input = self.signing_input(compact);
        Ok(key.verify_strict(signing_input.as_bytes(), &self.signature)?)
    }
}

fn kid_of(header: &[u8], typ: &str) -> Result<Kid, JwsError> {
    if let Some(kid) = kid_of_own(header, typ) {
        return Ok(kid);
    }
    let header = json::parse(header).map_err(|_| JwsError::Header)?;
    let member = |name: &str| header.get(name).and_then(Value::as_str).ok_or(JwsError::Header);
    // RFC 9864 deprecates the polymorphic `EdDSA`; both mean Ed25519 here.
    if !matches!(member("alg")?, "Ed25519" | "EdDSA") || member("typ")? != typ {
        return Err(JwsError::Header);
    }
    if header.as_object().is_none_or(|members| members.len() != 3) {
        return Err(JwsError::Header);
    }
    member("kid")?.parse().map_err(|_| JwsError::Header)
}

/// Of a header as [`signing_input`] writes it: one spelling of its JSON, for which no parser is needed.
fn kid_of_own(header: &[u8], typ: &str) -> Option<Kid> {
    let header = std::str::from_utf8(header).ok()?;
    let rest = header.strip_prefix(r#"{"alg":"Ed25519","typ":""#)?.strip_prefix(typ)?;
    rest.strip_prefix(r#"","kid":""#)?.strip_suffix(r#""}"#)?.parse().ok()
}
