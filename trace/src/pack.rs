//! The reading pack: COSE_Sign1 (RFC 9052) around a SenML pack (RFC 8428), in one accepted encoding.
//!
//! One encoding, so that nobody can mint a second leaf from the same pack: untagged, definite lengths, shortest integers,
//! protected `{1: alg, 3: 112, 4: kid, 15: {7: cti}}`, unprotected `{}`, payload attached, no external data.

pub mod carriage;
pub mod device;
pub mod receipt;
pub mod senml;

use ed25519_dalek::Signature;

pub use device::{DeviceName, Topic};

use crate::{
    hash::{Hash, sha256, sha256_of},
    keys::{BadSignature, Kid, PublicKey, SecretKey},
};

/// A pack of one MQTT message; 100 readings take about 1.5 kB.
pub const PACK_BYTES_MAX: usize = 16 * 1024;
/// A counter takes up to 8 bytes, a random or derived number 16.
pub const CTI_BYTES_MAX: usize = 32;

/// Everything between the protected header's start and the kid: `{1: -8, 3: 112, 4: h'…`.
const PROTECTED_EDDSA: [u8; 8] = [0xa4, 0x01, 0x27, 0x03, 0x18, 0x70, 0x04, 0x58];
/// The same with alg −19, the fully specified Ed25519 (RFC 9864).
const PROTECTED_ED25519: [u8; 8] = [0xa4, 0x01, 0x32, 0x03, 0x18, 0x70, 0x04, 0x58];
/// `15: {7: …`: CWT claims (RFC 9597) with the one claim cti.
const CWT_CLAIMS: [u8; 3] = [0x0f, 0xa1, 0x07];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("more than {PACK_BYTES_MAX} bytes")]
    TooLong,
    #[error("not an untagged COSE_Sign1 in the one accepted encoding")]
    Encoding,
    #[error("the protected header is not alg, content type, kid and cti in the one accepted encoding")]
    Protected,
    #[error("a cti of no bytes or of more than {CTI_BYTES_MAX}")]
    Cti,
}

/// A pack taken apart, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'bytes> {
    bytes: &'bytes [u8],
    protected: &'bytes [u8],
    pub kid: Kid,
    /// The pack's number at its device: unique by (device, cti).
    pub cti: &'bytes [u8],
    /// SenML CBOR, see [`senml`].
    pub payload: &'bytes [u8],
    signature: [u8; 64],
}

impl<'bytes> Frame<'bytes> {
    pub fn parse(bytes: &'bytes [u8]) -> Result<Self, FrameError> {
        if bytes.len() > PACK_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let rest = bytes.strip_prefix(&[0x84]).ok_or(FrameError::Encoding)?;
        let (protected, rest) = byte_string(rest).ok_or(FrameError::Encoding)?;
        let rest = rest.strip_prefix(&[0xa0]).ok_or(FrameError::Encoding)?;
        let (payload, rest) = byte_string(rest).ok_or(FrameError::Encoding)?;
        let (signature, rest) = byte_string(rest).ok_or(FrameError::Encoding)?;
        let signature = signature.try_into().map_err(|_| FrameError::Encoding)?;
        if !rest.is_empty() {
            return Err(FrameError::Encoding);
        }
        let (kid, cti) = parse_protected(protected)?;
        Ok(Self { bytes, protected, kid, cti, payload, signature })
    }

    /// The one check that earns a leaf.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        if key.kid() != self.kid {
            return Err(BadSignature);
        }
        key.verify_strict(&to_be_signed(self.protected, self.payload), &self.signature)
    }

    /// The Sig_structure (RFC 9052 §4.4) and the signature over it.
    pub fn signed(&self) -> (Vec<u8>, [u8; 64]) {
        (to_be_signed(self.protected, self.payload), self.signature)
    }

    /// What the log holds: SHA-256 of the COSE_Sign1.
    pub fn entry(&self) -> Hash {
        sha256(self.bytes)
    }

    pub const fn bytes(&self) -> &'bytes [u8] {
        self.bytes
    }
}

fn parse_protected(protected: &[u8]) -> Result<(Kid, &[u8]), FrameError> {
    let rest = protected
        .strip_prefix(&PROTECTED_EDDSA)
        .or_else(|| protected.strip_prefix(&PROTECTED_ED25519))
        .and_then(|rest| rest.strip_prefix(&[0x20]))
        .ok_or(FrameError::Protected)?;
    let (kid, rest) = rest.split_at_checked(Hash::LEN).ok_or(FrameError::Protected)?;
    let kid = Hash::from_slice(kid).ok_or(FrameError::Protected)?;
    let rest = rest.strip_prefix(&CWT_CLAIMS).ok_or(FrameError::Protected)?;
    let (cti, rest) = byte_string(rest).ok_or(FrameError::Protected)?;
    if !rest.is_empty() {
        return Err(FrameError::Protected);
    }
    if cti.is_empty() || cti.len() > CTI_BYTES_MAX {
        return Err(FrameError::Cti);
    }
    Ok((kid, cti))
}

/// A definite byte string whose length is written in the fewest bytes (RFC 8949 §4.2.1), up to 64 KiB.
fn byte_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (len, rest) = match first {
        0x40..=0x57 => (usize::from(first - 0x40), rest),
        0x58 => {
            let (&len, rest) = rest.split_first()?;
            (usize::from(len), rest)
        }
        0x59 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    let is_shortest = match first {
        0x58 => len >= 24,
        0x59 => len > 0xff,
        _ => true,
    };
    if is_shortest { rest.split_at_checked(len) } else { None }
}

/// The writing counterpart; a pack's parts are all shorter than 64 KiB.
fn push_byte_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), FrameError> {
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(len @ 0..24), _) => out.push(0x40 | len),
        (Ok(len), _) => out.extend_from_slice(&[0x58, len]),
        (_, Ok(len)) => {
            out.push(0x59);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => return Err(FrameError::TooLong),
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// `Sig_structure` of RFC 9052 §4.4: `["Signature1", protected, h'', payload]`.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(protected.len() + payload.len() + 24);
    out.extend_from_slice(b"\x84\x6aSignature1");
    // Both came out of, or go into, a frame of at most 16 KiB.
    push_byte_string(&mut out, protected).unwrap_or_default();
    out.push(0x40);
    push_byte_string(&mut out, payload).unwrap_or_default();
    out
}

/// Signs a SenML CBOR payload under the number `cti`; emits alg −8.
pub fn sign(cti: &[u8], payload: &[u8], key: &SecretKey) -> Result<Vec<u8>, FrameError> {
    if cti.is_empty() || cti.len() > CTI_BYTES_MAX {
        return Err(FrameError::Cti);
    }
    if payload.len() > PACK_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let mut protected = PROTECTED_EDDSA.to_vec();
    protected.push(0x20);
    protected.extend_from_slice(key.kid().as_bytes());
    protected.extend_from_slice(&CWT_CLAIMS);
    push_byte_string(&mut protected, cti)?;
    let mut out = Vec::with_capacity(payload.len() + 160);
    out.push(0x84);
    push_byte_string(&mut out, &protected)?;
    out.push(0xa0);
    push_byte_string(&mut out, payload)?;
    push_byte_string(&mut out, &key.sign(&to_be_signed(&protected, payload)))?;
    if out.len() > PACK_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(out)
}

/// The number of a pack that a gateway signs: the same whichever gateway received the message.
pub fn gateway_cti(topic: &str, payload: &[u8]) -> [u8; 16] {
    let Hash(digest) = sha256_of(&[topic.as_bytes(), payload]);
    let mut cti = [0; 16];
    cti.copy_from_slice(digest.split_at(16).0);
    cti
}

/// Whether all signatures pass as a batch: faster, and laxer than [`Frame::verify`].
///
/// A small-order point added to R passes now and then, so that a passed batch earns an acknowledgement and never a leaf.
/// `false` says only that some signature fails: verify one by one to learn which.
pub fn verify_batch(packs: &[(Frame<'_>, &PublicKey)]) -> bool {
    if packs.iter().any(|(frame, key)| frame.kid != key.kid()) {
        return false;
    }
    let messages: Vec<Vec<u8>> =
        packs.iter().map(|(frame, _)| to_be_signed(frame.protected, frame.payload)).collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let signatures: Vec<Signature> =
        packs.iter().map(|(frame, _)| Signature::from_bytes(&frame.signature)).collect();
    let keys: Vec<_> = packs.iter().map(|(_, key)| *key.verifying_key()).collect();
    ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok()
}

#[cfg(test)]
mod tests;
