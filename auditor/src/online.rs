//! `verify --rpc`: what a chain says of a bundle's heads and keys.

use std::{collections::BTreeSet, time::Duration};

use contracts::{Chain as _, ChainError, Evm, Rpc, RpcError, notice::KEY_REVOKED};
use trace::{
    bundle::{Anchor, Bundle, HeadOnChain, KeyNotice, OnChain, Report},
    hash::Hash,
    keys::Kid,
    tlog::policy::Policy,
};

/// Keys whose notices are asked for: each costs a walk over the chain's logs.
const KEYS_MAX: usize = 1_000;
/// For everything that is asked of the node.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    #[error("the node at {url} is of chain {id}, of which the trust file names no contract")]
    UnknownChain { url: String, id: u64 },
    #[error("the node tells no chain id")]
    ChainId,
    #[error("the trust file's contract {0} is no address")]
    Contract(String),
    #[error("the bundle's statements are by more than {KEYS_MAX} keys")]
    TooManyKeys,
    #[error("the node did not answer everything in {} s", PATIENCE.as_secs())]
    Slow,
    #[error("a block of the chain is gone while it is read")]
    Gone,
    #[error("the chain could not be asked")]
    Chain(#[from] ChainError),
    #[error("the chain could not be asked")]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}

/// Whom to ask, and how deep a head must stand.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub url: &'a str,
    /// Blocks on top of a head's.
    pub confirmations: u64,
}

/// Asks every contract that the trust file names on the node's chain.
pub fn ask(
    node: &Node<'_>,
    bundle: &Bundle,
    trust: &Policy,
    report: &Report,
) -> Result<Vec<OnChain>, OnlineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask_all(node, bundle, trust, report));
        asked.await.unwrap_or(Err(OnlineError::Slow))
    })
}

async fn ask_all(
    node: &Node<'_>,
    bundle: &Bundle,
    trust: &Policy,
    report: &Report,
) -> Result<Vec<OnChain>, OnlineError> {
    let rpc = Rpc::new(reqwest::Client::new(), node.url)?;
    let id: String = rpc.call("eth_chainId", serde_json::json!([])).await?;
    let digits = id.strip_prefix("0x").ok_or(OnlineError::ChainId)?;
    let id = u64::from_str_radix(digits, 16).map_err(|_| OnlineError::ChainId)?;
    let kids: BTreeSet<Kid> = report.statements.iter().flatten().map(|read| read.kid).collect();
    if kids.len() > KEYS_MAX {
        return Err(OnlineError::TooManyKeys);
    }
    let mut found = Vec::new();
    for chain in trust.chains.iter().filter(|chain| chain.id == id) {
        let unreadable = |_| OnlineError::Contract(chain.contract.clone());
        let newest = Evm::connect(rpc.clone(), id, chain.contract.parse().map_err(unreadable)?).await?;
        let confirmed = newest.below_tip(node.confirmations).await?;
        let anchors = bundle.anchors.iter();
        let ours = anchors.filter(|anchor| anchor.chain_id == id && anchor.contract == chain.contract);
        let mut on_chain = OnChain { chain_id: id, contract: chain.contract.clone(), ..OnChain::default() };
        for anchor in ours {
            match head(&confirmed, anchor).await? {
                None if head(&newest, anchor).await?.is_some() => {
                    on_chain.shallow.push((anchor.origin.clone(), anchor.size));
                }
                deep => on_chain.heads.extend(deep),
            }
        }
        // A regulator's word counts at once: to heed one that is undone later does less harm than not to.
        for kid in &kids {
            let notices = newest.notices(KEY_REVOKED, *kid).await?;
            on_chain
                .notices
                .extend(notices.into_iter().map(|notice| KeyNotice { kid: *kid, since: notice.at }));
        }
        found.push(on_chain);
    }
    if found.is_empty() {
        return Err(OnlineError::UnknownChain { url: node.url.to_owned(), id });
    }
    Ok(found)
}

/// The head of the anchor's size, if the contract holds one.
async fn head(evm: &Evm, anchor: &Anchor) -> Result<Option<HeadOnChain>, OnlineError> {
    let Some(found) = evm.find(&anchor.origin, Some(anchor.size)).await? else { return Ok(None) };
    let (_, at) = evm.block(found.block).await?.ok_or(OnlineError::Gone)?;
    let Hash(transaction) = found.transaction;
    let transaction = transaction.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    let (origin, size, root) = (found.head.origin, found.head.size, found.head.root);
    Ok(Some(HeadOnChain { origin, size, root, transaction, at }))
}
