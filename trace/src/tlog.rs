//! The transparency log's texts and geometry, as C2SP writes them: other people's verifiers, witnesses and mirrors work
//! against them unchanged.

pub mod checkpoint;
pub mod cosignature;
pub mod note;
pub mod origin;
pub mod policy;
pub mod proof;
#[cfg(test)]
mod tests;
pub mod tile;
pub mod witness;

/// A decimal number without sign, leading zeros or white space: the only spelling that these formats allow.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}
