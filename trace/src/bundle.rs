//! The proof bundle: everything that a reader needs to check statements offline, in one text with one canonical form.
//!
//! `formats.md`, "Bundle": one checkpoint with cosignatures per log that it touches; per statement its signed bytes,
//! disclosures, index, inclusion path, key, and the signer's roster line; cosigned `seen` checkpoints; chain locations; last
//! line the SHA-256 of all before (against accident). Enrolments and rosters are statements of the bundle like all others.
//! What is parsed and printed again is the same bytes, else it is no bundle.

mod chain;
mod heads;
mod keys;
mod order;
mod report;
mod text;
mod verify;

#[cfg(test)]
mod tests;

pub use chain::{HeadOnChain, KeyNotice, OnChain};
pub use report::{Checked, Content, Interval, Layer, Outcome, Read, Report, Verdict};
pub use text::BundleError;
pub use verify::verify;

use crate::{
    hash::{Hash, sha256},
    keys::PublicKey,
    roster::LineProof,
    tlog::note::Note,
};

/// Media type of the text.
pub const MEDIA_TYPE: &str = "application/vnd.suyuan.bundle";
/// Bytes of a bundle; a lot's whole story of some hundred statements is a tenth of it.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Statements in a bundle.
pub const ITEMS_MAX: usize = 10_000;
/// Logs that a bundle touches: a ledger opens one or two a year.
pub const LOGS_MAX: usize = 32;
/// Heads that authors had seen, or that first covered a statement.
pub const SEEN_MAX: usize = 10_000;
/// Chain locations: one per log and chain.
pub const ANCHORS_MAX: usize = 256;

/// A bundle as parsed; nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// One per log, by origin.
    pub checkpoints: Vec<Note>,
    pub seen: Vec<SeenProof>,
    pub items: Vec<Item>,
    pub anchors: Vec<Anchor>,
}

/// A cosigned checkpoint that the bundle's checkpoint of that log extends: one that a record names as `seen`, or the first
/// that covers a statement. The one tells after which moment a statement was made, the other before which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenProof {
    pub note: Note,
    pub path: Vec<Hash>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// `header.payload.signature`, and the disclosures that this reader may have.
    Record { signed: String, disclosures: Vec<String> },
    /// A COSE_Sign1.
    Pack(Vec<u8>),
}

impl Signed {
    /// What the log holds.
    pub fn entry(&self) -> Hash {
        match self {
            Self::Record { signed, .. } => sha256(signed.as_bytes()),
            Self::Pack(bytes) => sha256(bytes),
        }
    }
}

/// One statement and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub signed: Signed,
    /// The signer's public key; its thumbprint is the kid, so it needs no other proof of being that key.
    pub key: PublicKey,
    /// Which of the bundle's checkpoints, and the leaf's index under it.
    pub checkpoint: usize,
    pub index: u64,
    pub path: Vec<Hash>,
    /// The signer's line in a roster that is the item of this number.
    pub roster: Option<(usize, LineProof)>,
}

/// Where a head can be found on a chain: checked online only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    pub chain_id: u64,
    /// `0x` and 40 lower-case hexadecimal digits.
    pub contract: String,
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// `0x` and 64 lower-case hexadecimal digits.
    pub transaction: String,
}
