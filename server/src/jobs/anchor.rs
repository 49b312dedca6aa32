//! Puts the newest witnessed head on each chain, and follows each transaction until it is final.
//!
//! One transaction is under way on a chain at a time. Its row is committed before it is sent, so that a crash at any moment
//! leaves either nothing or a transaction that can be sent again. A chain that is down holds nothing else up.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use contracts::{Anchored, Chain as _, ChainError, Evm, Head, Receipt, Refusal, Terms, Ticket};
use store::{
    Session, StoreError,
    anchor::{self as rows, Anchor, Block, NewAnchor, Place, Signed},
};
use trace::{causes::Causes, hash::Hash};

use crate::service::{
    chains::{Configured, root_at},
    ledger::{Halt, Ledger, LedgerError, Log, SEALED_IS_RECENT, to_hash, to_u64},
};

/// How often open transactions are looked at.
const FOLLOW: Duration = Duration::from_secs(1);
/// Between two tries where another process sends, or the chain does not answer.
const RETRY: Duration = Duration::from_secs(5);
/// A node, or two that are asked in turn, may tell an account's nonce before the block that used it; longer than that lasts.
const NONCE_AHEAD: Duration = Duration::from_secs(3);
/// A transaction that no block has taken for so long is sent again as it is: a node that was killed has forgotten it.
const SEND_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(3);

#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error(
        "the chain's head of {size} entries is none of this log's: a split view, or an old copy of the database"
    )]
    SplitView { size: u64 },
    #[error("a number that the database cannot hold")]
    Number,
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All chains, side by side, for ever.
pub async fn run(ledger: Arc<Ledger>, chains: Arc<Vec<Configured>>, interval: Duration) {
    let anchored = chains.iter().map(|chain| run_one(&ledger, chain, interval));
    futures_util::future::join_all(anchored).await;
}

async fn run_one(ledger: &Ledger, chain: &Configured, interval: Duration) {
    let interval = chain.interval.unwrap_or(interval);
    loop {
        match lead(ledger, chain, interval).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(chain = chain.name, error = %Causes(&error), "not anchored");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// `Ok` where another process sends on this chain, or sequences: who signs heads is who anchors them, so that what a chain
/// turns out to have stops the signing.
async fn lead(ledger: &Ledger, chain: &Configured, interval: Duration) -> Result<(), AnchorError> {
    if ledger.halt() == Some(Halt::Following) {
        return Ok(());
    }
    let Some(mut anchorer) = Anchorer::lead(ledger, chain).await? else { return Ok(()) };
    while ledger.halt() != Some(Halt::Following) {
        anchorer.step(interval).await?;
        tokio::time::sleep(FOLLOW.min(interval)).await;
    }
    Ok(())
}

/// The one who sends on a chain, as long as its connection to the database lives.
pub struct Anchorer<'a> {
    ledger: &'a Ledger,
    chain: &'a Configured,
    contract: String,
    session: Session,
    /// Rows whose nonce was seen used while no block showed their transaction, and when that was first seen.
    outrun: BTreeMap<i64, Outrun>,
}

impl<'a> Anchorer<'a> {
    /// `None` where another process sends on this chain.
    pub async fn lead(ledger: &'a Ledger, chain: &'a Configured) -> Result<Option<Self>, AnchorError> {
        let mut session = ledger.store().session().await?;
        if !rows::try_lead(&mut session, &chain.name).await? {
            return Ok(None);
        }
        Ok(Some(Self { ledger, chain, contract: chain.contract_text(), session, outrun: BTreeMap::new() }))
    }

    /// Follows what is under way; then, if `interval` has passed since the last one, keeps and sends the next.
    pub async fn step(&mut self, interval: Duration) -> Result<(), AnchorError> {
        let evm = self.chain.connect().await?;
        if self.follow(&evm).await? || !self.is_due(interval).await? {
            return Ok(());
        }
        if let Some(row) = self.prepare(&evm).await? {
            self.send(&evm, &row).await?;
        }
        Ok(())
    }

    fn place(&self) -> Result<Place<'_>, AnchorError> {
        let chain_id = to_i64(self.chain.chain_id)?;
        Ok(Place { chain_id, contract: &self.contract })
    }

    /// Looks at everything that is not final; `true` while a transaction waits for its block.
    pub async fn follow(&mut self, evm: &Evm) -> Result<bool, AnchorError> {
        let Place { chain_id, .. } = self.place()?;
        let open = rows::open(&mut self.session, Place { chain_id, contract: &self.contract }).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let tip = evm.block_number().await?;
        // Before the receipts: a block that comes in between must not make a nonce look used by another transaction.
        let next_nonce = evm.nonce(self.chain.account.address()).await?;
        self.outrun.retain(|id, _| {
            open.iter().any(|row| row.id == *id && to_u64(row.nonce).is_ok_and(|nonce| nonce < next_nonce))
        });
        let mut now = Moment { tip, next_nonce, free_nonce: next_nonce };
        let mut waits = false;
        for row in open {
            let after = now.free_nonce.max(to_u64(row.nonce)? + 1);
            let transaction = to_hash(&row.tx_hash)?;
            let receipt = evm.receipt(transaction).await?;
            match (row.state.as_str(), receipt) {
                ("anchored", Some(receipt)) if receipt.succeeded => self.deepen(&row, &receipt, tip).await?,
                // Forgotten, or taken by another block and reverted there.
                ("anchored", _) => {
                    tracing::warn!(chain = row.chain, size = row.size, "the chain was re-organised");
                    rows::uprooted(&mut self.session, row.id, Utc::now()).await?;
                    waits = true;
                }
                (_, Some(receipt)) if receipt.succeeded => self.root(&row, transaction, &receipt).await?,
                (_, reverted) => waits |= self.chase(evm, &row, reverted, now).await?,
            }
            now.free_nonce = after;
        }
        Ok(waits)
    }

    async fn root(&mut self, row: &Anchor, taken: Hash, receipt: &Receipt) -> Result<(), AnchorError> {
        let block = Block {
            tx_hash: taken.as_bytes(),
            number: to_i64(receipt.block)?,
            hash: receipt.block_hash.as_bytes(),
            gas_used: to_i64(receipt.gas_used)?,
            gas_price: receipt.gas_price.map(to_i64).transpose()?,
        };
        rows::anchored(&mut self.session, row.id, block, Utc::now()).await?;
        let (chain, size) = (&row.chain, row.size);
        tracing::info!(chain, size, block = block.number, gas = block.gas_used, "anchored");
        Ok(())
    }

    async fn deepen(&mut self, row: &Anchor, receipt: &Receipt, tip: u64) -> Result<(), AnchorError> {
        if row.block_hash.as_deref() != Some(receipt.block_hash.as_bytes().as_slice()) {
            return self.root(row, to_hash(&row.tx_hash)?, receipt).await;
        }
        if tip.saturating_sub(receipt.block) >= self.chain.finality_blocks {
            rows::finalise(&mut self.session, row.id, Utc::now()).await?;
        }
        Ok(())
    }

    /// A transaction that no block shows, or that was reverted: perhaps an earlier one of the same head was taken. `true` while
    /// it waits.
    async fn chase(
        &mut self,
        evm: &Evm,
        row: &Anchor,
        reverted: Option<Receipt>,
        now: Moment,
    ) -> Result<bool, AnchorError> {
        let (size, nonce) = (to_u64(row.size)?, to_u64(row.nonce)?);
        let log = self.ledger.log(&mut self.session, row.log_id).await?;
        let newest = evm.find(&log.origin, None).await?;
        if let Some(newest) = &newest {
            self.must_be_ours(&log, &newest.head).await?;
        }
        let known = newest.as_ref().map_or(0, |newest| newest.head.size);
        let found = match known.cmp(&size) {
            Ordering::Less => None,
            Ordering::Equal => newest.clone(),
            Ordering::Greater => evm.since(to_u64(row.from_block)?).find(&log.origin, Some(size)).await?,
        };
        if let Some(found) = found {
            self.must_be_ours(&log, &found.head).await?;
            // None where the chain was re-organised meanwhile: it is looked at again.
            let receipt = evm.receipt(found.transaction).await?;
            if let Some(receipt) = receipt.filter(|receipt| receipt.succeeded) {
                self.root(row, found.transaction, &receipt).await?;
                return Ok(false);
            }
            return Ok(true);
        }
        let reason = match reverted {
            // A re-organised chain may take it after all.
            Some(at) if now.tip.saturating_sub(at.block) < self.chain.finality_blocks => return Ok(true),
            Some(_) => "reverted".to_owned(),
            None if now.next_nonce > nonce => {
                let first = self.outrun.entry(row.id).or_insert_with(|| Outrun::at(now.tip));
                if !first.is_settled(now.tip, self.chain.finality_blocks) {
                    return Ok(true);
                }
                "its nonce was used by another transaction".to_owned()
            }
            None if known > size => format!("the chain has {known} entries already"),
            None => {
                self.wait(evm, (row, &log), newest.as_ref(), now).await?;
                return Ok(true);
            }
        };
        tracing::warn!(chain = row.chain, size = row.size, reason, "not anchored");
        let gas_used = reverted.map(|receipt| to_i64(receipt.gas_used)).transpose()?;
        rows::fail(&mut self.session, row.id, &reason, gas_used).await?;
        Ok(false)
    }

    /// Sends again what a node may have forgotten: the same bytes, unless they have waited too long at their price or no
    /// transaction can come before their nonce any more.
    async fn wait(
        &mut self,
        evm: &Evm,
        (row, log): (&Anchor, &Log),
        newest: Option<&Anchored>,
        now: Moment,
    ) -> Result<(), AnchorError> {
        let (nonce, price) = (to_u64(row.nonce)?, to_u64(row.gas_price)?);
        let fees = self.chain.fees;
        let is_late = Utc::now() - row.priced_at > fees.patience;
        let offer = Offer {
            nonce: nonce.min(now.free_nonce),
            price: fees.rise(price).filter(|_| is_late).unwrap_or(price),
        };
        if offer == (Offer { nonce, price }) {
            if row.sent_at.is_none_or(|sent| Utc::now() - sent > SEND_AGAIN_AFTER) {
                self.send(evm, row).await?;
            }
            return Ok(());
        }
        let head = Head { origin: log.origin.clone(), size: to_u64(row.size)?, root: to_hash(&row.root)? };
        let Some(proof) = self.proof_from(log, newest, &head).await? else { return Ok(()) };
        let ticket = self.sign(evm, offer, &head, &proof)?;
        let signed = Signed {
            nonce: to_i64(offer.nonce)?,
            raw: &ticket.raw,
            tx_hash: ticket.transaction.as_bytes(),
            gas_price: to_i64(offer.price)?,
            priced_at: Utc::now(),
        };
        let row = rows::replace(&mut self.session, row.id, &signed).await?;
        self.send(evm, &row).await
    }

    fn sign(&self, evm: &Evm, offer: Offer, head: &Head, proof: &[Hash]) -> Result<Ticket, AnchorError> {
        let terms = Terms { nonce: offer.nonce, gas_price: u128::from(offer.price) };
        Ok(evm.ticket(&self.chain.account, terms, head, proof)?)
    }

    async fn send(&mut self, evm: &Evm, row: &Anchor) -> Result<(), AnchorError> {
        evm.submit(&Ticket { raw: row.raw.clone(), transaction: to_hash(&row.tx_hash)? }).await?;
        Ok(rows::sent(&mut self.session, row.id, Utc::now()).await?)
    }

    async fn is_due(&mut self, interval: Duration) -> Result<bool, AnchorError> {
        let Place { chain_id, .. } = self.place()?;
        let newest = rows::newest(&mut self.session, Place { chain_id, contract: &self.contract }).await?;
        let age = newest.map(|row| (Utc::now() - row.created_at).to_std().unwrap_or_default());
        Ok(self.ledger.halt().is_none() && age.is_none_or(|age| age >= interval))
    }

    /// Keeps the next transaction: the last head of a log that was sealed lately, then the open log's; `None` where the chain
    /// has the newest witnessed heads already. An origin that the contract refuses, because it was closed, holds up no other.
    pub async fn prepare(&mut self, evm: &Evm) -> Result<Option<Anchor>, AnchorError> {
        let mut refused = None;
        for log in self.ledger.recent_logs(Utc::now() - SEALED_IS_RECENT) {
            match self.prepare_of(evm, &log).await {
                Ok(None) => {}
                Err(AnchorError::Chain(error @ ChainError::Refused(_))) => {
                    tracing::warn!(chain = self.chain.name, origin = log.origin, %error, "not anchored");
                    refused = Some(error);
                }
                prepared => return prepared,
            }
        }
        refused.map_or(Ok(None), |error| Err(error.into()))
    }

    async fn prepare_of(&mut self, evm: &Evm, log: &Log) -> Result<Option<Anchor>, AnchorError> {
        let witnessed = self.ledger.witnessed(&mut self.session, log).await?;
        let Some((checkpoint, _)) = witnessed else { return Ok(None) };
        let head = Head {
            origin: log.origin.clone(),
            size: to_u64(checkpoint.size)?,
            root: to_hash(&checkpoint.root)?,
        };
        let tip = evm.block_number().await?;
        let newest = evm.find(&head.origin, None).await?;
        let Some(proof) = self.proof_from(log, newest.as_ref(), &head).await? else { return Ok(None) };
        let from = self.chain.account.address();
        match evm.try_anchor(from, &head, &proof).await {
            Ok(()) => {}
            Err(ChainError::Refused(Refusal::NotGrowing { .. })) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let offer = Offer { nonce: evm.nonce(from).await?, price: self.chain.fees.price };
        let ticket = self.sign(evm, offer, &head, &proof)?;
        let now = Utc::now();
        let row = NewAnchor {
            chain: &self.chain.name,
            chain_id: self.place()?.chain_id,
            contract: &self.contract,
            log_id: log.id,
            size: checkpoint.size,
            root: &checkpoint.root,
            nonce: to_i64(offer.nonce)?,
            raw: &ticket.raw,
            tx_hash: ticket.transaction.as_bytes(),
            gas_price: to_i64(offer.price)?,
            priced_at: now,
            // A re-organised chain may take it in another block of the same height, or a little below.
            from_block: to_i64(tip.saturating_sub(self.chain.finality_blocks))?,
            created_at: now,
        };
        Ok(rows::insert(&mut self.session, &row).await?)
    }

    /// The consistency proof from the `newest` head that the chain has; empty where it has none, `None` where it has this one
    /// or a later one.
    async fn proof_from(
        &mut self,
        log: &Log,
        newest: Option<&Anchored>,
        head: &Head,
    ) -> Result<Option<Vec<Hash>>, AnchorError> {
        let Some(newest) = newest else { return Ok((head.size > 0).then(Vec::new)) };
        self.must_be_ours(log, &newest.head).await?;
        let size = newest.head.size;
        if size >= head.size {
            return Ok(None);
        }
        let tree = self.ledger.tree();
        let proof = tree.consistency_proof(&mut self.session, log.id, size, head.size).await;
        Ok(Some(proof.map_err(LedgerError::from)?))
    }

    /// A head of the chain that this log never had: somebody was shown another history, so nothing more is signed.
    async fn must_be_ours(&mut self, log: &Log, head: &Head) -> Result<(), AnchorError> {
        let (size, ..) = self.ledger.head(&mut self.session, log.id).await?;
        if head.size <= size && root_at(self.ledger, log.id, head.size).await? == head.root {
            return Ok(());
        }
        let (who, size) = (self.chain.name.clone(), head.size);
        tracing::error!(chain = who, size, "the chain has another history than this database");
        self.ledger.set_halt(Some(Halt::Behind { who, size }));
        Err(AnchorError::SplitView { size })
    }
}

/// What a transaction is signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    nonce: u64,
    /// Wei a unit of gas.
    price: u64,
}

/// The chain when it began to be looked at.
#[derive(Debug, Clone, Copy)]
struct Moment {
    tip: u64,
    /// How many of the account's transactions stand in blocks, before any receipt was asked for.
    next_nonce: u64,
    /// The first nonce that no row looked at so far has.
    free_nonce: u64,
}

/// When a nonce was first seen used.
#[derive(Debug, Clone, Copy)]
struct Outrun {
    tip: u64,
    at: Instant,
}

impl Outrun {
    fn at(tip: u64) -> Self {
        Self { tip, at: Instant::now() }
    }

    /// Neither a re-organisation nor a block that is not shown yet can bring the transaction any more.
    fn is_settled(self, tip: u64, finality_blocks: u64) -> bool {
        tip.saturating_sub(self.tip) >= finality_blocks && self.at.elapsed() >= NONCE_AHEAD
    }
}

fn to_i64(number: u64) -> Result<i64, AnchorError> {
    i64::try_from(number).map_err(|_| AnchorError::Number)
}
