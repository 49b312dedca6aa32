//! What a signed transaction says, read back from its bytes: whoever checks an outbox has nothing else.

use alloy::{
    consensus::{Transaction as _, TxEnvelope},
    eips::eip2718::Decodable2718 as _,
    sol_types::SolCall as _,
};
use trace::hash::{Hash, sha256};

use crate::abi::TraceLog;

/// An anchoring transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub transaction: Hash,
    pub chain_id: u64,
    pub nonce: u64,
    /// Wei.
    pub gas_price: u128,
    /// `0x` and 40 lower-case hexadecimal digits.
    pub contract: String,
    /// SHA-256 of the log's origin.
    origin: Hash,
    pub size: u64,
    pub root: Hash,
}

impl Sent {
    /// `None` for bytes that are no signed call of `anchor` on a contract, or have others after them.
    pub fn read(raw: &[u8]) -> Option<Self> {
        let mut rest = raw;
        let envelope = TxEnvelope::decode_2718(&mut rest).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let call = TraceLog::anchorCall::abi_decode(envelope.input()).ok()?;
        Some(Self {
            transaction: Hash(envelope.tx_hash().0),
            chain_id: envelope.chain_id()?,
            nonce: envelope.nonce(),
            gas_price: envelope.gas_price()?,
            contract: format!("{:#x}", envelope.to()?),
            origin: Hash(call.origin.0),
            size: call.size,
            root: Hash(call.root.0),
        })
    }

    pub fn names(&self, origin: &str) -> bool {
        self.origin == sha256(origin.as_bytes())
    }
}
