//! Puts the newest witnessed head on each chain, and follows each transaction until it is final.
//!
//! One transaction is under way on a chain at a time. Its row is committed before it is sent, so that a crash at any moment
//! leaves either nothing or a transaction that can be sent again. A chain that is down holds nothing else up.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use contracts::{Chain as _, ChainError, Evm, Head, Receipt, Refusal, Terms, Ticket};
use store::{
    Session, StoreError,
    anchor::{self as rows, Anchor, Block, NewAnchor, Place},
};
use trace::{causes::Causes, hash::Hash};

use crate::service::{
    chains::{Configured, root_at},
    ledger::{Halt, Ledger, LedgerError, to_hash, to_u64},
};

/// How often open transactions are looked at.
const FOLLOW: Duration = Duration::from_secs(1);
/// Between two tries where another process sends, or the chain does not answer.
const RETRY: Duration = Duration::from_secs(5);
/// A transaction that no block has taken for so long is sent again as it is: a node that was killed has forgotten it.
const SEND_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
/// And for so long, paying an eighth more where gas is paid for.
const REPLACE_AFTER: TimeDelta = TimeDelta::minutes(2);

#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error("the chain has the head of {size} entries with another root: a split view")]
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

/// `Ok` where another process sends on this chain.
async fn lead(ledger: &Ledger, chain: &Configured, interval: Duration) -> Result<(), AnchorError> {
    let Some(mut anchorer) = Anchorer::lead(ledger, chain).await? else { return Ok(()) };
    loop {
        anchorer.step(interval).await?;
        tokio::time::sleep(FOLLOW.min(interval)).await;
    }
}

/// The one who sends on a chain, as long as its connection to the database lives.
pub struct Anchorer<'a> {
    ledger: &'a Ledger,
    chain: &'a Configured,
    contract: String,
    session: Session,
}

impl<'a> Anchorer<'a> {
    /// `None` where another process sends on this chain.
    pub async fn lead(ledger: &'a Ledger, chain: &'a Configured) -> Result<Option<Self>, AnchorError> {
        let mut session = ledger.store().session().await?;
        if !rows::try_lead(&mut session, &chain.name).await? {
            return Ok(None);
        }
        Ok(Some(Self { ledger, chain, contract: chain.contract_text(), session }))
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
        let chain_id = i64::try_from(self.chain.chain_id).map_err(|_| AnchorError::Number)?;
        Ok(Place { chain_id, contract: &self.contract })
    }

    /// Looks at everything that is not final; `true` while a transaction waits for its block.
    pub async fn follow(&mut self, evm: &Evm) -> Result<bool, AnchorError> {
        let Place { chain_id, .. } = self.place()?;
        let place = Place { chain_id, contract: &self.contract };
        let open = rows::open(&mut self.session, place).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let tip = evm.block_number().await?;
        // Before the receipts: a block that comes in between must not make a nonce look used by another transaction.
        let next_nonce = evm.nonce(self.chain.account.address()).await?;
        let mut waits = false;
        for row in open {
            let receipt = evm.receipt(to_hash(&row.tx_hash)?).await?;
            match (row.state.as_str(), receipt) {
                ("anchored", Some(receipt)) if receipt.succeeded => self.deepen(&row, &receipt, tip).await?,
                // Forgotten, or taken by another block and reverted there.
                ("anchored", _) => {
                    tracing::warn!(chain = row.chain, size = row.size, "the chain was re-organised");
                    rows::uprooted(&mut self.session, row.id).await?;
                    waits = true;
                }
                (_, Some(receipt)) if receipt.succeeded => self.root(&row, &receipt).await?,
                (_, receipt) => waits |= self.chase(evm, &row, receipt.is_some(), next_nonce).await?,
            }
        }
        Ok(waits)
    }

    async fn root(&mut self, row: &Anchor, receipt: &Receipt) -> Result<(), AnchorError> {
        let block = Block {
            tx_hash: &row.tx_hash,
            number: i64::try_from(receipt.block).map_err(|_| AnchorError::Number)?,
            hash: receipt.block_hash.as_bytes(),
            gas_used: i64::try_from(receipt.gas_used).ok(),
        };
        rows::anchored(&mut self.session, row.id, block, Utc::now()).await?;
        tracing::info!(
            chain = row.chain,
            size = row.size,
            block = block.number,
            gas = receipt.gas_used,
            "anchored"
        );
        Ok(())
    }

    async fn deepen(&mut self, row: &Anchor, receipt: &Receipt, tip: u64) -> Result<(), AnchorError> {
        if row.block_hash.as_deref() != Some(receipt.block_hash.as_bytes().as_slice()) {
            return self.root(row, receipt).await;
        }
        if tip.saturating_sub(receipt.block) >= self.chain.finality_blocks {
            rows::finalise(&mut self.session, row.id, Utc::now()).await?;
        }
        Ok(())
    }

    /// A transaction that no block shows, or that was `reverted`: perhaps an earlier one of the same head was taken.
    /// `next_nonce` is the account's before the receipt was asked for.
    async fn chase(
        &mut self,
        evm: &Evm,
        row: &Anchor,
        reverted: bool,
        next_nonce: u64,
    ) -> Result<bool, AnchorError> {
        let size = to_u64(row.size)?;
        if let Some(found) = evm.find(self.ledger.origin(), Some(size)).await? {
            if found.head.root.as_bytes().as_slice() != row.root.as_slice() {
                return Err(self.split(size));
            }
            let block = Block {
                tx_hash: found.transaction.as_bytes(),
                number: i64::try_from(found.block).map_err(|_| AnchorError::Number)?,
                hash: found.block_hash.as_bytes(),
                gas_used: None,
            };
            rows::anchored(&mut self.session, row.id, block, Utc::now()).await?;
            return Ok(false);
        }
        if reverted || next_nonce > to_u64(row.nonce)? {
            let reason = if reverted { "reverted" } else { "its nonce was used by another transaction" };
            tracing::warn!(chain = row.chain, size = row.size, reason, "not anchored");
            rows::fail(&mut self.session, row.id, reason).await?;
            return Ok(false);
        }
        if row.sent_at.is_none_or(|sent| Utc::now() - sent > SEND_AGAIN_AFTER) {
            self.send_again(evm, row).await?;
        }
        Ok(true)
    }

    /// The same bytes at first; where gas is paid for and they were not enough, the same head for an eighth more each time.
    async fn send_again(&mut self, evm: &Evm, row: &Anchor) -> Result<(), AnchorError> {
        let waited = (Utc::now() - row.created_at).num_seconds() / REPLACE_AFTER.num_seconds();
        let rises = u32::try_from(waited.clamp(0, 16)).unwrap_or(0);
        if rises == 0 || self.chain.gas_price == 0 {
            return self.send(evm, row).await;
        }
        let gas_price = (0..rises).fold(self.chain.gas_price, |price, _| price + price / 8 + 1);
        let head = self.head_of(row)?;
        let Some(proof) = self.proof_from_chain(evm, &head).await? else { return Ok(()) };
        let terms = Terms { nonce: to_u64(row.nonce)?, gas_price };
        let ticket = evm.ticket(&self.chain.account, terms, &head, &proof)?;
        let (raw, hash) = (&ticket.raw, ticket.transaction.as_bytes());
        rows::replace(&mut self.session, row.id, raw, hash, Utc::now()).await?;
        Ok(evm.submit(&ticket).await?)
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

    /// Keeps the next transaction; `None` where the chain has the newest witnessed head already.
    pub async fn prepare(&mut self, evm: &Evm) -> Result<Option<Anchor>, AnchorError> {
        let Some((checkpoint, _)) = self.ledger.witnessed(&mut self.session).await? else { return Ok(None) };
        let head = Head {
            origin: self.ledger.origin().to_owned(),
            size: to_u64(checkpoint.size)?,
            root: to_hash(&checkpoint.root)?,
        };
        let Some(proof) = self.proof_from_chain(evm, &head).await? else { return Ok(None) };
        let from = self.chain.account.address();
        match evm.try_anchor(from, &head, &proof).await {
            Ok(()) => {}
            Err(ChainError::Refused(Refusal::NotGrowing { .. })) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let terms = Terms { nonce: evm.nonce(from).await?, gas_price: self.chain.gas_price };
        let ticket = evm.ticket(&self.chain.account, terms, &head, &proof)?;
        let row = NewAnchor {
            chain: &self.chain.name,
            chain_id: self.place()?.chain_id,
            contract: &self.contract,
            log_id: self.ledger.log_id(),
            size: checkpoint.size,
            root: &checkpoint.root,
            nonce: i64::try_from(terms.nonce).map_err(|_| AnchorError::Number)?,
            raw: &ticket.raw,
            tx_hash: ticket.transaction.as_bytes(),
            created_at: Utc::now(),
        };
        Ok(rows::insert(&mut self.session, &row).await?)
    }

    /// The consistency proof from the head that the chain has; empty where it has none, `None` where it has this one.
    async fn proof_from_chain(&mut self, evm: &Evm, head: &Head) -> Result<Option<Vec<Hash>>, AnchorError> {
        let Some(last) = evm.find(&head.origin, None).await? else {
            return Ok((head.size > 0).then(Vec::new));
        };
        let size = last.head.size;
        if size <= head.size && root_at(self.ledger, size).await? != last.head.root {
            return Err(self.split(size));
        }
        if size >= head.size {
            return Ok(None);
        }
        let tree = self.ledger.tree();
        let proof = tree.consistency_proof(&mut self.session, self.ledger.log_id(), size, head.size).await;
        Ok(Some(proof.map_err(LedgerError::from)?))
    }

    fn head_of(&self, row: &Anchor) -> Result<Head, AnchorError> {
        let (size, root) = (to_u64(row.size)?, to_hash(&row.root)?);
        Ok(Head { origin: self.ledger.origin().to_owned(), size, root })
    }

    /// Nothing more is signed: somebody was shown another history.
    fn split(&self, size: u64) -> AnchorError {
        tracing::error!(chain = self.chain.name, size, "the chain has another history than this database");
        self.ledger.set_halt(Some(Halt::Behind { who: self.chain.name.clone(), size }));
        AnchorError::SplitView { size }
    }
}
