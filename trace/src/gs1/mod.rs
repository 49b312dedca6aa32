//! GS1 identification keys, their Digital Link URIs and their EPC URNs.
//!
//! GS1 General Specifications §3 (application identifiers, AI), §7.9 (check digit), §7.11 (character sets);
//! GS1 Digital Link Standard: URI Syntax 1.4; EPC Tag Data Standard 2.1 §6 and §7 (pure identity URNs).
//! A key is parsed once, at the edge; whoever holds one of these types holds a checked value.

mod ai;
mod digital_link;
mod handle;
mod key;
mod percent;
mod text;
mod urn;

pub use digital_link::{CANONICAL_HOST, DigitalLink, DigitalLinkError, Key};
pub use handle::{Handle, HandleError};
pub use key::{
    Component, CouponNumber, Gdti, Gln, Grai, Gsin, Gsrn, Gtin, LotId, NotThisKey, PartyId, Pgln, Piece,
    Place, Sgtin, Sscc,
};
pub use text::{
    ComponentPart, ComponentSerial, ConsignmentNumber, Giai, GlnExtension, LotNumber, ModelNumber, Serial,
    ServiceInstance, ThirdPartySerial, Variant,
};
pub use urn::{UrnError, key_from_urn, urn_of};

/// Why a text is not the key that it was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("has {found} characters where the key has {expected}")]
    Length { expected: usize, found: usize },
    #[error("has {found} characters where {least} to {most} are allowed")]
    LengthRange { least: usize, most: usize, found: usize },
    #[error("has a character other than a digit at position {at}")]
    NotADigit { at: usize },
    #[error("ends in the check digit {found} where {expected} is right")]
    CheckDigit { expected: u8, found: u8 },
    #[error("has a character outside its set at position {at}")]
    Character { at: usize },
    #[error("does not begin with the digits of a company prefix")]
    CompanyPrefix,
    #[error("has wrong check characters at its end")]
    CheckPair,
    #[error("counts piece {piece} of {total}")]
    PieceOfTotal { piece: u8, total: u8 },
    #[error("must begin with the digit zero")]
    LeadingZero,
}

/// The check digit (modulo 10, weights 3 and 1 from the right) that follows `body`.
/// `None` where `body` holds anything but digits. General Specifications §7.9.1.
pub fn check_digit(body: &str) -> Option<u8> {
    let mut sum = 0_u32;
    for (from_right, byte) in body.bytes().rev().enumerate() {
        if !byte.is_ascii_digit() {
            return None;
        }
        let weight = if from_right % 2 == 0 { 3 } else { 1 };
        sum = (sum + u32::from(byte - b'0') * weight) % 10;
    }
    u8::try_from((10 - sum) % 10).ok()
}

/// Accepts digits of which the last is the right check digit.
pub fn verify_check_digit(digits: &str) -> Result<(), KeyError> {
    if let Some(at) = digits.bytes().position(|byte| !byte.is_ascii_digit()) {
        return Err(KeyError::NotADigit { at });
    }
    let too_short = KeyError::LengthRange { least: 2, most: usize::MAX, found: digits.len() };
    let (body, last) = digits.split_at_checked(digits.len().wrapping_sub(1)).ok_or(too_short)?;
    let found = last.bytes().next().ok_or(too_short)? - b'0';
    match check_digit(body) {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(KeyError::CheckDigit { expected, found }),
        None => Err(too_short),
    }
}

#[cfg(test)]
mod tests;
