//! The inclusion of a pack as a COSE receipt (RFC 9942): for readers who have COSE and no use for our bundle.
//!
//! A tagged COSE_Sign1 in one accepted encoding: protected `{1: -8, 4: kid, 15: {1: origin}, 395: 1, "size": size}`
//! (`RFC9162_SHA256`), unprotected `{396: {-1: [inclusion proof]}}`, and the payload detached: it is the root, which the reader
//! computes. The log's own key signs, which signs heads and nothing else (docs/adr/a-receipt-is-a-head-in-cose.md).
//!
//! The size stands in the protected header because no root tells it: many paths lead to one root in trees of two sizes, so
//! that who carries a receipt could change the size in its proof.

use minicbor::{Decoder, Encoder, data::Tag};

use super::to_be_signed;
use crate::{
    hash::Hash,
    keys::{BadSignature, Kid},
    merkle::{ProofError, inclusion_root, leaf_hash},
    tlog::{
        checkpoint::Checkpoint,
        note::{SignerKey, VerifierKey},
    },
};

/// RFC 9052 §12.
pub const MEDIA_TYPE: &str = "application/cose; cose-type=\"cose-sign1\"";
/// A path of 62 hashes and the longest origin are far below.
pub const RECEIPT_BYTES_MAX: usize = 4 * 1024;

const PATH_HASHES_MAX: usize = 62;
const ORIGIN_BYTES_MAX: usize = 255;
const COSE_SIGN1: u64 = 18;
const EDDSA: i8 = -8;
const CWT_ISS: u8 = 1;
/// `vds`, and the one of RFC 9162 with SHA-256 (RFC 9942 §4).
const VDS: u16 = 395;
const RFC9162_SHA256: u8 = 1;
/// `vdp`, and its proofs of inclusion (RFC 9942 §5.2).
const VDP: u16 = 396;
const INCLUSION: i8 = -1;
const SIZE: &str = "size";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("not a COSE receipt of inclusion in the one accepted encoding")]
    Encoding,
    #[error("a tree of one leaf has no path, and so no receipt (RFC 9942 §5.2)")]
    NoPath,
    #[error("of another log")]
    OtherLog,
    #[error("the receipt proves no place in a log")]
    Proof(#[from] ProofError),
    #[error("the log did not sign this: {0}")]
    Signature(#[from] BadSignature),
}

impl From<minicbor::decode::Error> for ReceiptError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Encoding
    }
}

/// A log's word that an entry stands at `index` in its tree of `size`; not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub origin: String,
    /// Thumbprint of the log's key.
    pub kid: Kid,
    pub size: u64,
    pub index: u64,
    pub path: Vec<Hash>,
    signature: [u8; 64],
}

impl Receipt {
    /// Signs that what `path` leads to stands at `index` under `head`, a head that the log has signed as a checkpoint, too.
    pub fn sign(
        head: &Checkpoint,
        index: u64,
        path: Vec<Hash>,
        log: &SignerKey,
    ) -> Result<Self, ReceiptError> {
        if path.is_empty() {
            return Err(ReceiptError::NoPath);
        }
        if log.name.as_str() != head.origin {
            return Err(ReceiptError::OtherLog);
        }
        let (origin, kid) = (head.origin.clone(), log.secret.kid());
        let signature =
            log.secret.sign(&to_be_signed(&protected(&origin, &kid, head.size), head.root.as_bytes()));
        Ok(Self { origin, kid, size: head.size, index, path, signature })
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::Encoding);
        }
        let mut decoder = Decoder::new(bytes);
        expect(decoder.tag()?.as_u64() == COSE_SIGN1 && decoder.array()? == Some(4))?;
        let (origin, kid, size) = parse_protected(decoder.bytes()?)?;
        expect(decoder.map()? == Some(1) && decoder.u16()? == VDP)?;
        expect(decoder.map()? == Some(1) && decoder.i8()? == INCLUSION && decoder.array()? == Some(1))?;
        let (index, path) = parse_proof(decoder.bytes()?, size)?;
        decoder.null()?;
        let signature = decoder.bytes()?.try_into().map_err(|_| ReceiptError::Encoding)?;
        let receipt = Self { origin, kid, size, index, path, signature };
        // Whatever else could be read as the same is another text.
        expect(receipt.to_bytes() == bytes)?;
        Ok(receipt)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.path.len() * 34);
        let written = Encoder::new(&mut out)
            .tag(Tag::new(COSE_SIGN1))
            .and_then(|e| e.array(4)?.bytes(&protected(&self.origin, &self.kid, self.size)))
            .and_then(|e| e.map(1)?.u16(VDP)?.map(1)?.i8(INCLUSION)?.array(1)?.bytes(&self.proof()))
            .and_then(|e| e.null()?.bytes(&self.signature))
            .map(|_| ());
        // A Vec takes every write.
        written.unwrap_or_default();
        out
    }

    /// `[tree-size, leaf-index, inclusion-path]`.
    fn proof(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.path.len() * 34);
        let mut encoder = Encoder::new(&mut out);
        let length = u64::try_from(self.path.len()).unwrap_or(u64::MAX);
        let mut written =
            encoder.array(3).and_then(|e| e.u64(self.size)?.u64(self.index)?.array(length)).map(|_| ());
        for hash in &self.path {
            written = written.and_then(|()| encoder.bytes(hash.as_bytes()).map(|_| ()));
        }
        // A Vec takes every write.
        written.unwrap_or_default();
        out
    }

    /// The head under which `entry` stands, as the log with this key signed it.
    pub fn verify(&self, entry: &Hash, log: &VerifierKey) -> Result<Checkpoint, ReceiptError> {
        if log.name.as_str() != self.origin || log.key.kid() != self.kid {
            return Err(ReceiptError::OtherLog);
        }
        let root = inclusion_root(self.size, self.index, &leaf_hash(entry), &self.path)?;
        let signed = to_be_signed(&protected(&self.origin, &self.kid, self.size), root.as_bytes());
        log.key.verify_strict(&signed, &self.signature)?;
        Ok(Checkpoint { origin: self.origin.clone(), size: self.size, root })
    }
}

fn expect(holds: bool) -> Result<(), ReceiptError> {
    if holds { Ok(()) } else { Err(ReceiptError::Encoding) }
}

fn protected(origin: &str, kid: &Kid, size: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + origin.len());
    let written = Encoder::new(&mut out)
        .map(5)
        .and_then(|e| e.u8(1)?.i8(EDDSA)?.u8(4)?.bytes(kid.as_bytes()))
        .and_then(|e| {
            e.u8(15)?.map(1)?.u8(CWT_ISS)?.str(origin)?.u16(VDS)?.u8(RFC9162_SHA256)?.str(SIZE)?.u64(size)
        })
        .map(|_| ());
    // A Vec takes every write.
    written.unwrap_or_default();
    out
}

fn parse_protected(bytes: &[u8]) -> Result<(String, Kid, u64), ReceiptError> {
    let mut decoder = Decoder::new(bytes);
    expect(decoder.map()? == Some(5) && decoder.u8()? == 1 && decoder.i8()? == EDDSA && decoder.u8()? == 4)?;
    let kid = Hash::from_slice(decoder.bytes()?).ok_or(ReceiptError::Encoding)?;
    expect(decoder.u8()? == 15 && decoder.map()? == Some(1) && decoder.u8()? == CWT_ISS)?;
    let origin = decoder.str()?;
    expect(decoder.u16()? == VDS && decoder.u8()? == RFC9162_SHA256 && decoder.str()? == SIZE)?;
    expect(origin.len() <= ORIGIN_BYTES_MAX)?;
    Ok((origin.to_owned(), kid, decoder.u64()?))
}

fn parse_proof(bytes: &[u8], size: u64) -> Result<(u64, Vec<Hash>), ReceiptError> {
    let mut decoder = Decoder::new(bytes);
    expect(decoder.array()? == Some(3) && decoder.u64()? == size)?;
    let index = decoder.u64()?;
    let count = decoder.array()?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=PATH_HASHES_MAX).contains(count)).ok_or(ReceiptError::Encoding)?;
    let mut path = Vec::with_capacity(count);
    for _ in 0..count {
        path.push(Hash::from_slice(decoder.bytes()?).ok_or(ReceiptError::Encoding)?);
    }
    Ok((index, path))
}

#[cfg(test)]
mod tests {
    use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable as _, iana};

    use super::*;
    use crate::{hash::sha256, keys::SecretKey, merkle};

    const ORIGIN: &str = "log.example/demo/2026";

    fn log(seed: u8) -> SignerKey {
        SignerKey { name: ORIGIN.parse().unwrap(), secret: SecretKey::from_seed(&[seed; 32]) }
    }

    fn entry(index: u8) -> Hash {
        sha256(&[index])
    }

    /// The receipt of `index` in a log of eleven.
    fn receipt(index: u8) -> Receipt {
        let leaves: Vec<Hash> = (0..11).map(|index| leaf_hash(&entry(index))).collect();
        let nodes = |level: u8, index: u64| {
            let start = usize::try_from(index << level).ok()?;
            leaves.get(start..start + (1 << level)).map(merkle::root)
        };
        let path = merkle::inclusion_proof(&nodes, 11, index.into()).unwrap();
        let head = Checkpoint { origin: ORIGIN.to_owned(), size: 11, root: merkle::root(&leaves) };
        Receipt::sign(&head, index.into(), path, &log(1)).unwrap()
    }

    #[test]
    fn a_receipt_is_read_back_and_shows_the_head_under_which_the_pack_stands() {
        for index in 0..11 {
            let issued = receipt(index);
            let parsed = Receipt::parse(&issued.to_bytes()).unwrap();
            assert_eq!(parsed, issued);
            let head = parsed.verify(&entry(index), &log(1).verifier()).unwrap();
            assert_eq!((head.origin.as_str(), head.size), (ORIGIN, 11));
            assert!(parsed.verify(&entry(index + 1), &log(1).verifier()).is_err());
            assert_eq!(parsed.verify(&entry(index), &log(2).verifier()), Err(ReceiptError::OtherLog));
        }
    }

    #[test]
    fn no_bit_of_a_receipt_can_be_flipped_and_none_be_left_out_or_added() {
        let bytes = receipt(6).to_bytes();
        let holds = |bytes: &[u8]| {
            Receipt::parse(bytes).is_ok_and(|receipt| receipt.verify(&entry(6), &log(1).verifier()).is_ok())
        };
        assert!(holds(&bytes));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(!holds(&flipped), "byte {at}, bit {bit}");
            }
            assert!(Receipt::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(Receipt::parse(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Receipt::parse(&bytes[1..]).is_err(), "untagged");
        assert!(Receipt::parse(&vec![0xd2; RECEIPT_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn another_cose_library_reads_and_verifies_it() {
        let issued = receipt(3);
        let cose = CoseSign1::from_tagged_slice(&issued.to_bytes()).unwrap();
        let alg = coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA);
        assert_eq!(cose.protected.header.alg, Some(alg));
        assert_eq!(cose.protected.header.key_id, issued.kid.as_bytes());
        assert_eq!(cose.payload, None, "detached");
        let head = issued.verify(&entry(3), &log(1).verifier()).unwrap();
        let key = log(1).secret.public();
        cose.verify_detached_signature(head.root.as_bytes(), b"", |signature, data| {
            key.verify_strict(data, signature)
        })
        .unwrap();
        assert_eq!(cose.to_tagged_vec().unwrap(), issued.to_bytes());
        assert!(CoseSign1::from_slice(&issued.to_bytes()).is_err());
    }

    #[test]
    fn a_log_signs_receipts_of_its_own_heads_and_not_of_a_single_leaf() {
        let root = leaf_hash(&entry(0));
        let head = Checkpoint { origin: ORIGIN.to_owned(), size: 1, root };
        assert_eq!(Receipt::sign(&head, 0, vec![], &log(1)), Err(ReceiptError::NoPath));
        let other = Checkpoint { origin: "log.example/demo/2027".to_owned(), ..head };
        assert_eq!(Receipt::sign(&other, 0, vec![root], &log(1)), Err(ReceiptError::OtherLog));
    }
}
