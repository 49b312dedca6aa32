//! What passes between gateway and server: a CBOR sequence (RFC 8742) up, one status per item down.

use minicbor::{Decoder, Encoder, data::Type};

use crate::hash::Hash;

pub const CONTENT_TYPE: &str = "application/cbor-seq";
pub const ITEMS_MAX: usize = 1_000;
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// An MQTT payload that is longer is not carried.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
const TOPIC_BYTES_MAX: usize = 256;

/// One MQTT message as the gateway passes it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'bytes> {
    pub topic: &'bytes str,
    /// Unix milliseconds at the gateway: beside the signed bytes, never inside.
    pub received_ms: i64,
    pub body: Body<'bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'bytes> {
    /// A pack, or whatever could not be read as a message of the device's format.
    Bytes(&'bytes [u8]),
    /// Too long to carry; only its size and digest are known.
    Oversize { size: u64, sha256: Hash },
}

/// What became of an item; each of the three is acknowledged to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Stored,
    Duplicate,
    DeadLetter,
}

/// The server's word on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    pub cti: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CarriageError {
    #[error("not a CBOR sequence of items, or not an array of statuses")]
    Malformed,
    #[error("more than {ITEMS_MAX} items or {BATCH_BYTES_MAX} bytes")]
    TooMany,
}

impl From<minicbor::decode::Error> for CarriageError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

/// Appends one item to a batch.
pub fn write_item(batch: &mut Vec<u8>, item: &Item<'_>) {
    let mut encoder = Encoder::new(batch);
    // A Vec takes every write.
    let written = encoder.array(3).and_then(|e| e.str(item.topic)).and_then(|e| e.i64(item.received_ms));
    let written = match item.body {
        Body::Bytes(bytes) => written.and_then(|e| e.bytes(bytes)),
        Body::Oversize { size, sha256 } => written
            .and_then(|e| e.map(2))
            .and_then(|e| e.str("size"))
            .and_then(|e| e.u64(size))
            .and_then(|e| e.str("sha256"))
            .and_then(|e| e.bytes(sha256.as_bytes())),
    };
    written.map(|_| ()).unwrap_or_default();
}

/// All items of a batch, in order; definite lengths only.
pub fn read_items(batch: &[u8]) -> Result<Vec<Item<'_>>, CarriageError> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(CarriageError::TooMany);
    }
    let mut decoder = Decoder::new(batch);
    let mut items = Vec::new();
    while decoder.position() < batch.len() {
        if items.len() == ITEMS_MAX {
            return Err(CarriageError::TooMany);
        }
        items.push(read_item(&mut decoder)?);
    }
    Ok(items)
}

fn read_item<'bytes>(decoder: &mut Decoder<'bytes>) -> Result<Item<'bytes>, CarriageError> {
    if decoder.array()? != Some(3) {
        return Err(CarriageError::Malformed);
    }
    let topic = decoder.str()?;
    let received_ms = decoder.i64()?;
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(CarriageError::Malformed);
    }
    let body = match decoder.datatype()? {
        Type::Bytes => Body::Bytes(decoder.bytes()?),
        Type::Map => read_oversize(decoder)?,
        _ => return Err(CarriageError::Malformed),
    };
    Ok(Item { topic, received_ms, body })
}

fn read_oversize<'bytes>(decoder: &mut Decoder<'bytes>) -> Result<Body<'bytes>, CarriageError> {
    if decoder.map()? != Some(2) || decoder.str()? != "size" {
        return Err(CarriageError::Malformed);
    }
    let size = decoder.u64()?;
    if decoder.str()? != "sha256" {
        return Err(CarriageError::Malformed);
    }
    let sha256 = Hash::from_slice(decoder.bytes()?).ok_or(CarriageError::Malformed)?;
    Ok(Body::Oversize { size, sha256 })
}

impl Status {
    pub const fn code(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Duplicate => 1,
            Self::DeadLetter => 2,
        }
    }

    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Stored),
            1 => Some(Self::Duplicate),
            2 => Some(Self::DeadLetter),
            _ => None,
        }
    }
}

/// The server's answer: `[[status, cti or null], …]`, one per item.
pub fn write_outcomes(outcomes: &[Outcome]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(outcomes.len() * 20 + 8);
    let mut encoder = Encoder::new(&mut answer);
    let count = u64::try_from(outcomes.len()).unwrap_or(u64::MAX);
    let mut written = encoder.array(count).map(|_| ());
    for outcome in outcomes {
        let started = encoder.array(2).and_then(|e| e.u8(outcome.status.code()));
        written = written.and(match &outcome.cti {
            Some(cti) => started.and_then(|e| e.bytes(cti)).map(|_| ()),
            None => started.and_then(Encoder::null).map(|_| ()),
        });
    }
    // A Vec takes every write.
    written.unwrap_or_default();
    answer
}

/// Reads the answer to a batch of `items`; anything but one outcome per item is an error.
pub fn read_outcomes(answer: &[u8], items: usize) -> Result<Vec<Outcome>, CarriageError> {
    let mut decoder = Decoder::new(answer);
    if decoder.array()?.map(usize::try_from) != Some(Ok(items)) || items > ITEMS_MAX {
        return Err(CarriageError::Malformed);
    }
    let mut outcomes = Vec::with_capacity(items);
    for _ in 0..items {
        outcomes.push(read_outcome(&mut decoder)?);
    }
    if decoder.position() != answer.len() {
        return Err(CarriageError::Malformed);
    }
    Ok(outcomes)
}

fn read_outcome(decoder: &mut Decoder<'_>) -> Result<Outcome, CarriageError> {
    if decoder.array()? != Some(2) {
        return Err(CarriageError::Malformed);
    }
    let status = Status::from_code(decoder.u8()?).ok_or(CarriageError::Malformed)?;
    let cti = match decoder.datatype()? {
        Type::Null => {
            decoder.null()?;
            None
        }
        _ => Some(decoder.bytes()?.to_vec()),
    };
    Ok(Outcome { status, cti })
}

/// The receipt to the device, on its `receipt` topic: `[cti, status]`.
pub fn write_receipt(cti: &[u8], status: Status) -> Vec<u8> {
    let mut receipt = Vec::with_capacity(cti.len() + 4);
    let written = Encoder::new(&mut receipt)
        .array(2)
        .and_then(|e| e.bytes(cti))
        .and_then(|e| e.u8(status.code()))
        .map(|_| ());
    // A Vec takes every write.
    written.unwrap_or_default();
    receipt
}

pub fn read_receipt(receipt: &[u8]) -> Result<(Vec<u8>, Status), CarriageError> {
    let mut decoder = Decoder::new(receipt);
    if decoder.array()? != Some(2) {
        return Err(CarriageError::Malformed);
    }
    let cti = decoder.bytes()?.to_vec();
    let status = Status::from_code(decoder.u8()?).ok_or(CarriageError::Malformed)?;
    Ok((cti, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_and_its_answer_are_read_back() {
        let items = [
            Item {
                topic: "suyuan/v1/mill/scale1/up",
                received_ms: 1_795_000_000_000,
                body: Body::Bytes(b"\x84"),
            },
            Item {
                topic: "x",
                received_ms: -1,
                body: Body::Oversize { size: 70_000, sha256: Hash([7; 32]) },
            },
        ];
        let mut batch = Vec::new();
        for item in &items {
            write_item(&mut batch, item);
        }
        assert_eq!(read_items(&batch).unwrap(), items);
        for cut in 1..batch.len() {
            assert!(read_items(&batch[..cut]).map_or(true, |read| read.len() == 1), "cut at {cut}");
        }
        let outcomes = [
            Outcome { status: Status::Stored, cti: Some(vec![1, 2]) },
            Outcome { status: Status::DeadLetter, cti: None },
        ];
        let answer = write_outcomes(&outcomes);
        assert_eq!(read_outcomes(&answer, 2).unwrap(), outcomes);
        assert!(read_outcomes(&answer, 1).is_err());
        assert!(read_outcomes(b"\x80", 2).is_err());
    }

    #[test]
    fn a_batch_is_bounded() {
        let item = Item { topic: "t", received_ms: 0, body: Body::Bytes(b"") };
        let mut batch = Vec::new();
        for _ in 0..=ITEMS_MAX {
            write_item(&mut batch, &item);
        }
        assert_eq!(read_items(&batch), Err(CarriageError::TooMany));
        assert_eq!(read_items(&vec![0; BATCH_BYTES_MAX + 1]), Err(CarriageError::TooMany));
    }

    #[test]
    fn a_receipt_is_read_back() {
        assert_eq!(write_receipt(&[5], Status::Duplicate), [0x82, 0x41, 5, 1]);
        assert_eq!(read_receipt(&[0x82, 0x41, 5, 1]), Ok((vec![5], Status::Duplicate)));
        assert!(read_receipt(&[0x82, 0x41, 5, 3]).is_err());
    }
}
