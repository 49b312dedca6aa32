//! `TraceLog` on one EVM chain: legacy transactions with everything said (chain id, nonce, gas, gas price), because default
//! fillers fail where `eth_feeHistory` is missing; history through logs; after any error the transaction is looked up.

use std::{fmt, time::Duration};

use alloy::{
    consensus::{SignableTransaction as _, TxLegacy},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::{SolCall, SolConstructor as _, SolEvent as _, SolInterface as _},
};
use serde::Deserialize;
use serde_json::{Value, json};
use trace::hash::{Hash, sha256};

use crate::{
    Anchored, Chain, ChainError, Head,
    abi::TraceLog,
    rpc::{Rpc, RpcError},
};

/// Blocks asked for in one `eth_getLogs`: consortium nodes bound it.
const LOG_BLOCKS: u64 = 5_000;
/// Blocks looked through in one look-up at most.
const LOOK_BACK_MAX: u64 = 50_000_000;
/// An anchor takes 60,000, and with a proof about 2,500 a hash; what is not used is not paid.
const ANCHOR_GAS: u64 = 120_000;
const ANCHOR_GAS_PER_HASH: u64 = 6_000;
/// Registering, or a notice of the longest text.
const CALL_GAS: u64 = 200_000;
const DEPLOY_GAS: u64 = 3_000_000;
const POLL: Duration = Duration::from_millis(200);
const POLLS_MAX: usize = 300;

/// The signer of transactions.
#[derive(Clone)]
pub struct Account(PrivateKeySigner);

impl Account {
    /// # Errors
    /// [`ChainError::Key`] where the 32 bytes are no secret key of secp256k1.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, ChainError> {
        PrivateKeySigner::from_slice(seed).map(Self).map_err(|_| ChainError::Key)
    }

    pub fn address(&self) -> Address {
        self.0.address()
    }
}

/// What a transaction costs and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub nonce: u64,
    /// Wei; 0 on chains with free gas.
    pub gas_price: u128,
}

/// A signed transaction, kept before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub raw: Vec<u8>,
    pub transaction: Hash,
}

/// What became of a transaction that a block took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub succeeded: bool,
    pub block: u64,
    pub block_hash: Hash,
    pub gas_used: u64,
    /// Wei; not every node tells it.
    pub gas_price: Option<u64>,
    pub contract: Option<Address>,
}

/// A regulator's own word, which the platform can neither write nor hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub regulator: Address,
    pub kind: u8,
    pub subject: Hash,
    pub uri: String,
    pub hash: Hash,
    pub block: u64,
    /// Seconds since 1970, of the block.
    pub at: u64,
}

/// Why the contract reverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The chain has this size already, or more.
    NotGrowing {
        known: u64,
        given: u64,
    },
    /// The head does not extend the last one.
    NotConsistent,
    Closed,
    UnknownOrigin,
    /// The account may not do this (now).
    NotAllowed,
    /// Registered before.
    AlreadyRegistered,
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGrowing { known, given } => write!(f, "size {given} where {known} is anchored"),
            Self::NotConsistent => f.write_str("the head does not extend the anchored one"),
            Self::Closed => f.write_str("the origin is closed"),
            Self::UnknownOrigin => f.write_str("the origin is not registered"),
            Self::NotAllowed => f.write_str("the account may not do this"),
            Self::AlreadyRegistered => f.write_str("the origin is registered already"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Refusal {
    fn decode(data: &[u8]) -> Self {
        use TraceLog::TraceLogErrors as E;
        match TraceLog::TraceLogErrors::abi_decode(data) {
            Ok(E::NotGrowing(sizes)) => Self::NotGrowing { known: sizes.known, given: sizes.given },
            Ok(E::NotConsistent(_)) => Self::NotConsistent,
            Ok(E::OriginClosed(_)) => Self::Closed,
            Ok(E::UnknownOrigin(_)) => Self::UnknownOrigin,
            Ok(E::NotPublisher(_) | E::NotAdministrator(_) | E::NotOwner(_) | E::NotRegulator(_)) => {
                Self::NotAllowed
            }
            Ok(E::AlreadyRegistered(_)) => Self::AlreadyRegistered,
            Ok(other) => Self::Other(format!("{other:?}")),
            Err(_) => Self::Other("it gives no reason".to_owned()),
        }
    }
}

/// One chain with its contract.
#[derive(Debug, Clone)]
pub struct Evm {
    rpc: Rpc,
    chain_id: u64,
    contract: Address,
    /// No block before it is looked at, nor one before the contract's own first.
    since: u64,
    /// No head in a later block is found.
    until: Option<u64>,
}

impl Evm {
    /// # Errors
    /// [`ChainError::OtherChain`] where the node is of another chain than the configuration says.
    pub async fn connect(rpc: Rpc, chain_id: u64, contract: Address) -> Result<Self, ChainError> {
        let found = quantity(&rpc.call("eth_chainId", json!([])).await?)?;
        if found != chain_id {
            return Err(ChainError::OtherChain { url: rpc.url().to_owned(), expected: chain_id, found });
        }
        Ok(Self { rpc, chain_id, contract, since: 0, until: None })
    }

    /// Looks at no block before this one: the first that can hold what is looked for.
    #[must_use]
    pub fn since(&self, block: u64) -> Self {
        Self { since: self.since.max(block), ..self.clone() }
    }

    /// The contract's heads as they stood so many blocks below the newest one. Told by its events: a node need not know a
    /// contract's state at an old block.
    pub async fn below_tip(&self, confirmations: u64) -> Result<Self, ChainError> {
        let until = self.block_number().await?.saturating_sub(confirmations);
        Ok(Self { until: Some(until), ..self.clone() })
    }

    pub const fn contract(&self) -> Address {
        self.contract
    }

    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// An anchor to be kept and then sent. `proof` is the consistency proof (RFC 9162 §2.1.4) from the anchored head, empty
    /// for the first.
    pub fn ticket(
        &self,
        account: &Account,
        terms: Terms,
        head: &Head,
        proof: &[Hash],
    ) -> Result<Ticket, ChainError> {
        let gas = ANCHOR_GAS + ANCHOR_GAS_PER_HASH * u64::try_from(proof.len()).unwrap_or(u64::MAX);
        let call = anchor_call(head, proof).abi_encode();
        sign(account, self.chain_id, terms, gas, TxKind::Call(self.contract), call)
    }

    /// Asks the contract whether it would take the head now.
    ///
    /// # Errors
    /// [`ChainError::Refused`] with its reason.
    pub async fn try_anchor(&self, from: Address, head: &Head, proof: &[Hash]) -> Result<(), ChainError> {
        self.read(Some(from), anchor_call(head, proof)).await.map(drop)
    }

    /// Names who may speak for an origin; the contract's owner does this.
    pub async fn register(
        &self,
        owner: &Account,
        gas_price: u128,
        origin: &str,
        administrator: Address,
    ) -> Result<Receipt, ChainError> {
        self.transact(owner, gas_price, TraceLog::registerCall { origin: key_of(origin), administrator })
            .await
    }

    /// Names a further publisher, who waits out the contract's delay; the origin's administrator does this.
    pub async fn add_publisher(
        &self,
        administrator: &Account,
        gas_price: u128,
        origin: &str,
        publisher: Address,
    ) -> Result<Receipt, ChainError> {
        let call = TraceLog::addPublisherCall { origin: key_of(origin), publisher };
        self.transact(administrator, gas_price, call).await
    }

    /// Writes a regulator's notice: `kind` and `subject` are what [`Evm::notices`] finds it by.
    pub async fn notify(
        &self,
        regulator: &Account,
        gas_price: u128,
        kind: u8,
        subject: Hash,
        uri: &str,
        document: Hash,
    ) -> Result<Receipt, ChainError> {
        let (subject, hash) = (B256::from(subject.0), B256::from(document.0));
        let call = TraceLog::noticeCall { kind, subject, uri: uri.to_owned(), hash };
        self.transact(regulator, gas_price, call).await
    }

    /// Asks first, so that a refusal costs nothing and gives its reason; then sends and waits for the block.
    async fn transact<C: SolCall + Clone>(
        &self,
        account: &Account,
        gas_price: u128,
        call: C,
    ) -> Result<Receipt, ChainError> {
        self.read(Some(account.address()), call.clone()).await?;
        let terms = Terms { nonce: self.nonce(account.address()).await?, gas_price };
        let to = TxKind::Call(self.contract);
        let ticket = sign(account, self.chain_id, terms, CALL_GAS, to, call.abi_encode())?;
        send(&self.rpc, &ticket).await?;
        mined(&self.rpc, ticket.transaction).await
    }

    /// The account's next nonce: how many of its transactions stand in blocks.
    pub async fn nonce(&self, account: Address) -> Result<u64, ChainError> {
        nonce(&self.rpc, account).await
    }

    /// `None`: no block has taken it (yet, or any more).
    pub async fn receipt(&self, transaction: Hash) -> Result<Option<Receipt>, ChainError> {
        receipt(&self.rpc, transaction).await
    }

    pub async fn block_number(&self) -> Result<u64, ChainError> {
        quantity(&self.rpc.call("eth_blockNumber", json!([])).await?)
    }

    /// Hash and time (seconds since 1970) of a block of the chain as it is now.
    pub async fn block(&self, number: u64) -> Result<Option<(Hash, u64)>, ChainError> {
        #[derive(Deserialize)]
        struct Block {
            hash: B256,
            timestamp: Value,
        }
        let block: Option<Block> =
            self.rpc.call("eth_getBlockByNumber", json!([hex_number(number), false])).await?;
        let block = block.map(|block| Ok((hash(block.hash), quantity(&block.timestamp)?)));
        block.transpose()
    }

    /// The regulators' notices of `kind` on `subject`, oldest first.
    pub async fn notices(&self, kind: u8, subject: Hash) -> Result<Vec<Notice>, ChainError> {
        let topics = json!([
            TraceLog::Notice::SIGNATURE_HASH,
            null,
            B256::from(U256::from(kind)),
            B256::from(subject.0)
        ]);
        let mut notices = Vec::new();
        for (from, to) in self.pages_down(self.block_number().await?).await? {
            for log in self.logs(from, to, &topics).await? {
                notices.push(self.notice(&log).await?);
            }
        }
        notices.sort_by_key(|notice| notice.block);
        Ok(notices)
    }

    async fn notice(&self, log: &Log) -> Result<Notice, ChainError> {
        let malformed = |_| ChainError::Malformed("a notice");
        let event =
            TraceLog::Notice::decode_raw_log(log.topics.iter().copied(), &log.data).map_err(malformed)?;
        let block = quantity(&log.block_number)?;
        let (_, at) = self.block(block).await?.ok_or(ChainError::Malformed("a notice's block"))?;
        Ok(Notice {
            regulator: event.regulator,
            kind: event.kind,
            subject: hash(event.subject),
            uri: event.uri,
            hash: hash(event.hash),
            block,
            at,
        })
    }

    /// Ranges of blocks from `newest` down to the first that matters.
    async fn pages_down(&self, newest: u64) -> Result<impl Iterator<Item = (u64, u64)>, ChainError> {
        let first = self.since.max(self.read(None, TraceLog::firstBlockCall {}).await?);
        if newest.saturating_sub(first) > LOOK_BACK_MAX {
            return Err(ChainError::TooManyBlocks { first, newest });
        }
        Ok(pages(first, newest))
    }

    async fn logs(&self, from: u64, to: u64, topics: &Value) -> Result<Vec<Log>, ChainError> {
        // Lower case: some nodes compare the address as text.
        let filter = json!({
            "address": format!("{:#x}", self.contract),
            "fromBlock": hex_number(from),
            "toBlock": hex_number(to),
            "topics": topics,
        });
        Ok(self.rpc.call("eth_getLogs", json!([filter])).await?)
    }

    async fn read<C: SolCall>(&self, from: Option<Address>, call: C) -> Result<C::Return, ChainError> {
        let mut transaction =
            json!({"to": format!("{:#x}", self.contract), "data": Bytes::from(call.abi_encode())});
        if let (Some(members), Some(from)) = (transaction.as_object_mut(), from) {
            members.insert("from".to_owned(), json!(format!("{from:#x}")));
        }
        let answer: Result<Bytes, RpcError> = self.rpc.call("eth_call", json!([transaction, "latest"])).await;
        match answer {
            Ok(bytes) => C::abi_decode_returns(&bytes).map_err(|_| ChainError::Malformed("a call's return")),
            Err(RpcError::Error { data: Some(data), .. }) if data.len() >= 4 => {
                Err(ChainError::Refused(Refusal::decode(&data)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn anchored(log: &Log, origin: &str) -> Result<Anchored, ChainError> {
        let malformed = |_| ChainError::Malformed("an anchor's log");
        let event =
            TraceLog::Anchored::decode_raw_log(log.topics.iter().copied(), &log.data).map_err(malformed)?;
        Ok(Anchored {
            head: Head { origin: origin.to_owned(), size: event.size, root: hash(event.root) },
            block: quantity(&log.block_number)?,
            block_hash: hash(log.block_hash),
            transaction: hash(log.transaction_hash),
        })
    }
}

impl Chain for Evm {
    type Ticket = Ticket;

    async fn submit(&self, ticket: &Ticket) -> Result<(), ChainError> {
        send(&self.rpc, ticket).await
    }

    async fn find(&self, origin: &str, size: Option<u64>) -> Result<Option<Anchored>, ChainError> {
        // The newest block of the origin's head bounds the search; older heads lie before it.
        let newest = self.read(None, TraceLog::headOfCall { origin: key_of(origin) }).await?;
        if newest.size == 0 || size.is_some_and(|size| size > newest.size) {
            return Ok(None);
        }
        let until = self.until.map_or(newest.blockNumber, |until| until.min(newest.blockNumber));
        let holds_newest = until == newest.blockNumber;
        let wanted = size.or(holds_newest.then_some(newest.size));
        if wanted == Some(newest.size) && !holds_newest {
            return Ok(None);
        }
        let topic = wanted.map(|size| B256::from(U256::from(size)));
        let topics = json!([TraceLog::Anchored::SIGNATURE_HASH, key_of(origin), topic]);
        if wanted == Some(newest.size) {
            let logs = self.logs(until, until, &topics).await?;
            // Never `None`: the contract has a head, and its next one needs the proof from there.
            let log = logs.last().ok_or(ChainError::Unsettled { size: newest.size })?;
            return Self::anchored(log, origin).map(Some);
        }
        for (from, to) in self.pages_down(until).await? {
            if let Some(log) = self.logs(from, to, &topics).await?.last() {
                return Self::anchored(log, origin).map(Some);
            }
        }
        Ok(None)
    }
}

/// Puts the contract on a chain; `owner` registers origins from then on. `delay` is in seconds.
pub async fn deploy(
    rpc: &Rpc,
    owner: &Account,
    gas_price: u128,
    delay: u64,
    regulators: Vec<Address>,
) -> Result<(Address, Receipt), ChainError> {
    let chain_id = quantity(&rpc.call("eth_chainId", json!([])).await?)?;
    let constructor = TraceLog::constructorCall { delay, firstRegulators: regulators };
    let code = [TraceLog::BYTECODE.as_ref(), &constructor.abi_encode()].concat();
    if TraceLog::BYTECODE.is_empty() {
        return Err(ChainError::Artefact);
    }
    let terms = Terms { nonce: nonce(rpc, owner.address()).await?, gas_price };
    let ticket = sign(owner, chain_id, terms, DEPLOY_GAS, TxKind::Create, code)?;
    send(rpc, &ticket).await?;
    let receipt = mined(rpc, ticket.transaction).await?;
    let address = receipt.contract.ok_or(ChainError::Malformed("the receipt of a deployment"))?;
    Ok((address, receipt))
}

/// How origins are keyed on chain: SHA-256 of the origin line, without its LF.
fn key_of(origin: &str) -> B256 {
    B256::from(sha256(origin.as_bytes()).0)
}

fn pages(first: u64, newest: u64) -> impl Iterator<Item = (u64, u64)> {
    let page = move |to: u64| (to.saturating_sub(LOG_BLOCKS - 1).max(first), to);
    let newest = (newest >= first).then(|| page(newest));
    std::iter::successors(newest, move |&(from, _)| (from > first).then(|| page(from - 1)))
}

fn anchor_call(head: &Head, proof: &[Hash]) -> TraceLog::anchorCall {
    TraceLog::anchorCall {
        origin: key_of(&head.origin),
        size: head.size,
        root: B256::from(head.root.0),
        proof: proof.iter().map(|hash| B256::from(hash.0)).collect(),
    }
}

fn sign(
    account: &Account,
    chain_id: u64,
    terms: Terms,
    gas_limit: u64,
    to: TxKind,
    input: Vec<u8>,
) -> Result<Ticket, ChainError> {
    let transaction = TxLegacy {
        chain_id: Some(chain_id),
        nonce: terms.nonce,
        gas_price: terms.gas_price,
        gas_limit,
        to,
        value: U256::ZERO,
        input: input.into(),
    };
    let signature =
        account.0.sign_hash_sync(&transaction.signature_hash()).map_err(|_| ChainError::Signature)?;
    let signed = transaction.into_signed(signature);
    Ok(Ticket { raw: signed.encoded_2718(), transaction: hash(*signed.hash()) })
}

/// A node may answer an error for a transaction that is on chain or waits there already: its hash decides.
async fn send(rpc: &Rpc, ticket: &Ticket) -> Result<(), ChainError> {
    let sent: Result<Value, RpcError> =
        rpc.call("eth_sendRawTransaction", json!([Bytes::from(ticket.raw.clone())])).await;
    let Err(error) = sent else { return Ok(()) };
    let known: Result<Value, RpcError> =
        rpc.call("eth_getTransactionByHash", json!([B256::from(ticket.transaction.0)])).await;
    if known.is_ok_and(|known| !known.is_null()) { Ok(()) } else { Err(error.into()) }
}

async fn mined(rpc: &Rpc, transaction: Hash) -> Result<Receipt, ChainError> {
    for _ in 0..POLLS_MAX {
        if let Some(receipt) = receipt(rpc, transaction).await? {
            let reverted = || ChainError::Refused(Refusal::Other("the transaction reverted".to_owned()));
            return receipt.succeeded.then_some(receipt).ok_or_else(reverted);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(ChainError::NotMined(transaction))
}

async fn receipt(rpc: &Rpc, transaction: Hash) -> Result<Option<Receipt>, ChainError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        status: Value,
        block_number: Value,
        block_hash: B256,
        gas_used: Value,
        effective_gas_price: Option<Value>,
        contract_address: Option<String>,
    }
    let answer: Option<Answer> =
        rpc.call("eth_getTransactionReceipt", json!([B256::from(transaction.0)])).await?;
    let Some(answer) = answer else { return Ok(None) };
    Ok(Some(Receipt {
        succeeded: quantity(&answer.status)? == 1,
        block: quantity(&answer.block_number)?,
        block_hash: hash(answer.block_hash),
        gas_used: quantity(&answer.gas_used)?,
        gas_price: answer.effective_gas_price.and_then(|price| quantity(&price).ok()),
        contract: answer.contract_address.and_then(|address| address.parse().ok()),
    }))
}

async fn nonce(rpc: &Rpc, account: Address) -> Result<u64, ChainError> {
    quantity(&rpc.call("eth_getTransactionCount", json!([format!("{account:#x}"), "latest"])).await?)
}

/// A log as this client reads it; its transaction's index, which some nodes encode twice, is not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    topics: Vec<B256>,
    data: Bytes,
    block_number: Value,
    block_hash: B256,
    transaction_hash: B256,
}

fn hash(bytes: B256) -> Hash {
    Hash(bytes.0)
}

fn hex_number(number: u64) -> String {
    format!("{number:#x}")
}

/// A quantity is hexadecimal with `0x`; some nodes answer a JSON number.
fn quantity(value: &Value) -> Result<u64, ChainError> {
    let parsed = match value {
        Value::String(text) => {
            text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
        }
        other => other.as_u64(),
    };
    parsed.ok_or(ChainError::Malformed("a quantity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_each_block_once_and_none_before_the_first() {
        let all = |first, newest| pages(first, newest).collect::<Vec<_>>();
        assert_eq!(all(0, 0), [(0, 0)]);
        assert_eq!(all(7, 12_000), [(7_001, 12_000), (2_001, 7_000), (7, 2_000)]);
        assert_eq!(all(7, 5_006), [(7, 5_006)]);
        assert_eq!(all(6, 5_006), [(7, 5_006), (6, 6)]);
        assert_eq!(all(9, 8), []);
    }
}
