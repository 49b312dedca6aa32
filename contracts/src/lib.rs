//! `TraceLog`'s bindings, and the client of the EVM chains it lives on (`chain.md`, "The contract", "Chains").
//!
//! A chain is a witness: it takes a later head of a log only with the proof that it extends the last one.

mod abi;
mod evm;
mod rpc;
mod sent;

pub use alloy::primitives::Address;
use trace::hash::Hash;

pub use self::{
    evm::{Account, Evm, Notice, Receipt, Refusal, Terms, Ticket, deploy},
    rpc::{Rpc, RpcError},
    sent::Sent,
};

/// What a regulator's notice is about: of a recall the subject is the SHA-256 of the lot's Digital Link, of a revoked key its
/// thumbprint.
pub mod notice {
    pub const RECALL: u8 = 1;
    pub const KEY_REVOKED: u8 = 2;
}

/// The head of a log, as a chain takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The origin line.
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// A head that stands on a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    pub head: Head,
    pub block: u64,
    pub block_hash: Hash,
    pub transaction: Hash,
}

/// What an adapter for a chain of another kind has to bring: submit a head, find a head.
pub trait Chain {
    /// What is kept before it is sent, so that sending again is the same transaction.
    type Ticket;

    /// Sends. Sending the same ticket again is harmless, also after an error whose outcome is unknown.
    fn submit(&self, ticket: &Self::Ticket) -> impl Future<Output = Result<(), ChainError>> + Send;

    /// Where the head of this size stands, if it does; the newest one of the origin where no size is given.
    fn find(
        &self,
        origin: &str,
        size: Option<u64>,
    ) -> impl Future<Output = Result<Option<Anchored>, ChainError>> + Send;
}

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("the node at {url} is of chain {found}, not {expected}")]
    OtherChain { url: String, expected: u64, found: u64 },
    #[error("the contract refuses: {0}")]
    Refused(Refusal),
    #[error("the node answered what was not asked: {0}")]
    Malformed(&'static str),
    #[error("the block of the head of {size} entries does not show it: the chain is being re-organised")]
    Unsettled { size: u64 },
    #[error("no block took the transaction {0} within a minute")]
    NotMined(Hash),
    #[error("the blocks {first} to {newest} are more than are looked through")]
    TooManyBlocks { first: u64, newest: u64 },
    #[error("no secret key of secp256k1")]
    Key,
    #[error("the transaction could not be signed")]
    Signature,
    #[error("the committed artefact holds no bytecode")]
    Artefact,
    #[error(transparent)]
    Rpc(#[from] RpcError),
}
