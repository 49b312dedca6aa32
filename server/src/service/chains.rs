//! The chains that heads are anchored on: which they are, and what each says of a head.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{Account, Address, Chain as _, ChainError, Evm, Rpc};
use serde::Deserialize;
use store::Connection;
use trace::hash::Hash;

use super::{
    keys::{KeysError, read_seed},
    ledger::{Ledger, LedgerError, Log, to_u64},
};

#[derive(Debug, thiserror::Error)]
pub enum ChainsError {
    #[error("the file of chains {0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the file of chains {0} is not what --help describes")]
    Format(PathBuf, #[source] toml::de::Error),
    #[error("two chains are named {0}")]
    TwiceNamed(String),
    #[error("the chains {0} and {1} are one contract on one chain")]
    TwicePlaced(String, String),
    #[error("the key of the chain {0} cannot be used")]
    Key(String, #[source] KeysError),
    #[error("the chain {0} cannot be used")]
    Chain(String, #[source] ChainError),
}

/// One `[[chain]]` of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// What pages and logs call it.
    name: String,
    rpc_url: String,
    chain_id: u64,
    contract: Address,
    /// Seed of the account that publishes: one line, base64url of 32 bytes, mode 0600.
    key_file: PathBuf,
    /// 0 where gas is free.
    gas_price_wei: u64,
    /// What a transaction that no block takes may rise to; eight times the price where it is not said.
    gas_price_max_wei: Option<u64>,
    /// Seconds that one price is waited for.
    #[serde(default = "two_minutes")]
    replace_after_s: u32,
    /// Seconds between two heads; `SUYUAN_ANCHOR_INTERVAL_S` where it is not said.
    interval_s: Option<u64>,
    /// How deep a block must lie before a re-organisation is out of the question.
    finality_blocks: u64,
}

const fn two_minutes() -> u32 {
    120
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    chain: Vec<Told>,
}

/// A chain with the account that publishes there.
pub struct Configured {
    pub name: String,
    pub chain_id: u64,
    pub contract: Address,
    pub account: Account,
    pub fees: Fees,
    /// Between two heads, where this chain has its own interval.
    pub interval: Option<Duration>,
    pub finality_blocks: u64,
    rpc: Rpc,
}

/// What is paid for a unit of gas, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// 0 where gas is free.
    pub price: u64,
    pub price_max: u64,
    /// How long one price is waited for.
    pub patience: TimeDelta,
}

impl Fees {
    /// The price after `price`, an eighth more: nodes replace a transaction for a tenth more at least. `None` where it would be
    /// too much, or where gas is free.
    pub fn rise(&self, price: u64) -> Option<u64> {
        let next = price.checked_add(price / 8)?.checked_add(1)?;
        (self.price > 0 && next <= self.price_max).then_some(next)
    }
}

/// What the chains say of a head at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// The head is, or extends, what stands there.
    Agrees,
    /// The head is shorter, or of another history.
    Beyond { size: u64 },
}

impl Configured {
    /// Speaks to the node; an error where it is of another chain.
    pub async fn connect(&self) -> Result<Evm, ChainError> {
        Evm::connect(self.rpc.clone(), self.chain_id, self.contract).await
    }

    /// `0x` and lower-case digits, as bundles and rows write it.
    pub fn contract_text(&self) -> String {
        format!("{:#x}", self.contract)
    }

    /// Compares the newest head on the chain with the log of this database, which has `size` entries.
    pub async fn ask_for_head(&self, ledger: &Ledger, log: &Log, size: u64) -> Result<Says, AskError> {
        let Some(newest) = self.connect().await?.find(&log.origin, None).await? else {
            return Ok(Says::Agrees);
        };
        let same =
            newest.head.size <= size && root_at(ledger, log.id, newest.head.size).await? == newest.head.root;
        Ok(if same { Says::Agrees } else { Says::Beyond { size: newest.head.size } })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The root of this database's log when it had `size` entries.
pub async fn root_at(ledger: &Ledger, log_id: i16, size: u64) -> Result<Hash, LedgerError> {
    let mut conn = ledger.store().connection().await?;
    Ok(ledger.tree().root(&mut conn, log_id, size).await?)
}

/// What heads on a chain have cost, and how far it is behind the open log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub chain: String,
    /// The open log's entries that no head on the chain covers.
    pub behind: u64,
    pub gas: u64,
    pub wei: u128,
    /// When a head last became final; `None` where none has.
    pub final_at: Option<DateTime<Utc>>,
}

/// One for each configured chain, also where nothing stands yet.
pub async fn tallies(
    conn: &mut Connection,
    ledger: &Ledger,
    chains: &[Configured],
) -> Result<Vec<Tally>, LedgerError> {
    let log = ledger.open_log();
    let (size, ..) = ledger.head(conn, log.id).await?;
    let sums = store::anchor::sums(conn, log.id).await?;
    let tally = |chain: &Configured| {
        let place = (chain.chain_id, chain.contract_text());
        let sum =
            sums.iter().find(|sum| u64::try_from(sum.chain_id) == Ok(place.0) && sum.contract == place.1);
        let anchored = sum.and_then(|sum| sum.size).map(to_u64).transpose()?.unwrap_or_default();
        Ok(Tally {
            chain: chain.name.clone(),
            behind: size.saturating_sub(anchored),
            gas: sum.map(|sum| to_u64(sum.gas)).transpose()?.unwrap_or_default(),
            wei: sum.map_or(Ok(0), |sum| sum.wei.parse()).map_err(|_| LedgerError::Corrupt)?,
            final_at: sum.and_then(|sum| sum.final_at),
        })
    };
    chains.iter().map(tally).collect()
}

/// Reads the file of `SUYUAN_CHAINS_FILE`.
pub fn read(path: &Path, http: &reqwest::Client) -> Result<Vec<Configured>, ChainsError> {
    let text = std::fs::read_to_string(path).map_err(|error| ChainsError::Read(path.to_owned(), error))?;
    let file: File = toml::from_str(&text).map_err(|error| ChainsError::Format(path.to_owned(), error))?;
    let mut chains: Vec<Configured> = Vec::with_capacity(file.chain.len());
    for told in file.chain {
        if chains.iter().any(|other| other.name == told.name) {
            return Err(ChainsError::TwiceNamed(told.name));
        }
        let place = |other: &&Configured| (other.chain_id, other.contract) == (told.chain_id, told.contract);
        if let Some(other) = chains.iter().find(place) {
            return Err(ChainsError::TwicePlaced(other.name.clone(), told.name));
        }
        let failed = |error| ChainsError::Chain(told.name.clone(), error);
        let seed = read_seed(&told.key_file).map_err(|error| ChainsError::Key(told.name.clone(), error))?;
        chains.push(Configured {
            account: Account::from_seed(&seed).map_err(failed)?,
            rpc: Rpc::new(http.clone(), &told.rpc_url).map_err(|error| failed(error.into()))?,
            chain_id: told.chain_id,
            contract: told.contract,
            fees: Fees {
                price: told.gas_price_wei,
                price_max: told.gas_price_max_wei.unwrap_or(told.gas_price_wei.saturating_mul(8)),
                patience: TimeDelta::seconds(told.replace_after_s.into()),
            },
            interval: told.interval_s.map(Duration::from_secs),
            finality_blocks: told.finality_blocks,
            name: told.name,
        });
    }
    Ok(chains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chains: &[(&str, &str)]) -> Result<Vec<Configured>, ChainsError> {
        let directory = std::env::temp_dir().join(format!("suyuan-chains-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).map_err(|error| ChainsError::Read(directory.clone(), error))?;
        let (key, path) = (directory.join("key"), directory.join("chains.toml"));
        crate::service::keys::write_secret(&key, &trace::b64::url(&[2; 32]))
            .map_err(|error| ChainsError::Key(String::new(), error))?;
        let written = chains.iter().map(|(name, contract)| {
            format!(
                "[[chain]]\nname = \"{name}\"\nrpc_url = \"http://127.0.0.1:9\"\nchain_id = 7\ncontract = \"0x{contract:0>40}\"\nkey_file = \"{}\"\ngas_price_wei = 8\nfinality_blocks = 1\n",
                key.display()
            )
        });
        std::fs::write(&path, written.collect::<String>())
            .map_err(|error| ChainsError::Read(path.clone(), error))?;
        let read = read(&path, &reqwest::Client::new());
        std::fs::remove_dir_all(&directory).map_err(|error| ChainsError::Read(directory, error))?;
        read
    }

    #[test]
    fn two_chains_are_neither_named_alike_nor_one_contract() {
        assert_eq!(file(&[("a", "1"), ("b", "2")]).map(|chains| chains.len()).ok(), Some(2));
        assert!(matches!(file(&[("a", "1"), ("a", "2")]), Err(ChainsError::TwiceNamed(name)) if name == "a"));
        assert!(matches!(file(&[("a", "1"), ("b", "1")]), Err(ChainsError::TwicePlaced(..))));
    }

    #[test]
    fn a_price_rises_by_more_than_a_tenth_and_stops_at_its_bound() {
        let fees = |price, price_max| Fees { price, price_max, patience: TimeDelta::zero() };
        assert_eq!(fees(8, 64).rise(8), Some(10));
        assert_eq!(fees(1, 8).rise(1), Some(2));
        assert_eq!(fees(8, 9).rise(8), None);
        assert_eq!(fees(0, 0).rise(0), None, "gas is free");
        assert_eq!(fees(8, u64::MAX).rise(u64::MAX), None);
    }
}
