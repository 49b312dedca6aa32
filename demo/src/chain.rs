//! The dev chain: anvil at the version that `contracts/` pins, its state kept between runs, and the contract on it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use contracts::{Account, Address, Chain as _, ChainError, Evm, Rpc, RpcError, deploy};
use serde_json::json;

use crate::{
    machine::{self, MachineError, Need},
    process::Running,
};

const START_PATIENCE: Duration = Duration::from_secs(20);
/// The contract's own delay for further publishers: a day.
const PUBLISHER_DELAY_SECONDS: u64 = 86_400;
/// A dev chain is soon final.
const FINALITY_BLOCKS: u64 = 2;

#[derive(Debug, thiserror::Error)]
pub enum DevChainError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("`npm ci` in contracts/ failed: {0}")]
    Npm(String),
    #[error("the dev chain cannot be started; see {0}")]
    NotStarted(PathBuf, #[source] io::Error),
    #[error("the dev chain does not answer; see {0}")]
    NotReady(PathBuf),
    #[error(
        "the contract could not be put on the chain at {url}; its account {account} needs money there, or a node that takes gas price 0"
    )]
    Deploy { url: String, account: Address, source: ChainError },
    #[error("the chain cannot be used")]
    Chain(#[from] ChainError),
    #[error("{0}")]
    File(String, #[source] io::Error),
    #[error("the key of the chain's account cannot be read")]
    Key,
}

/// The chain that the demo anchors on.
#[derive(Debug)]
pub struct DevChain {
    pub rpc_url: String,
    pub chain_id: u64,
    pub contract: Address,
    /// Absent where `CHAIN_RPC_URL` names somebody else's.
    pub node: Option<Running>,
}

/// Where the parts of the dev chain are.
pub struct Files<'a> {
    /// The project's `contracts/`.
    pub contracts: &'a Path,
    pub state: &'a Path,
    pub log: &'a Path,
    /// Seed of the account that owns the contract and publishes.
    pub key: &'a Path,
    pub regulator_key: &'a Path,
    /// What the server reads as `SUYUAN_CHAINS_FILE`.
    pub chains: &'a Path,
}

/// Starts the dev chain, or uses the one at `configured`, and puts the contract there unless it stands.
pub async fn start(
    files: &Files<'_>,
    port: u16,
    configured: Option<&str>,
    origins: &[String],
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<DevChain, DevChainError> {
    let (rpc_url, node) = match configured {
        Some(url) => (url.to_owned(), None),
        None => (format!("http://127.0.0.1:{port}"), Some(start_node(files, port, say)?)),
    };
    let rpc = Rpc::new(reqwest::Client::new(), &rpc_url).map_err(ChainError::from)?;
    let mut chain = DevChain { rpc_url, chain_id: 0, contract: Address::ZERO, node };
    chain.chain_id = chain.answers(&rpc, files.log).await?;
    // anvil would name a price although it takes none.
    let gas_price = if chain.node.is_some() { 0 } else { gas_price(&rpc).await? };
    chain.contract = match contract_on(&rpc, chain.chain_id, files.chains).await {
        Some(contract) => contract,
        None => found(&rpc, (chain.chain_id, gas_price), files, origins, say).await?,
    };
    let text = format!(
        "[[chain]]\nname = \"dev\"\nrpc_url = \"{}\"\nchain_id = {}\ncontract = \"{:#x}\"\nkey_file = \"{}\"\ngas_price_wei = {gas_price}\nfinality_blocks = {FINALITY_BLOCKS}\n",
        chain.rpc_url,
        chain.chain_id,
        chain.contract,
        files.key.display()
    );
    fs::write(files.chains, text).map_err(|error| file_error(files.chains, error))?;
    Ok(chain)
}

impl DevChain {
    /// Asks the chain itself how much of the log it has.
    pub async fn anchored_size(&self, origin: &str) -> Result<u64, ChainError> {
        let rpc = Rpc::new(reqwest::Client::new(), &self.rpc_url)?;
        let evm = Evm::connect(rpc, self.chain_id, self.contract).await?;
        Ok(evm.find(origin, None).await?.map_or(0, |anchored| anchored.head.size))
    }

    async fn answers(&mut self, rpc: &Rpc, log: &Path) -> Result<u64, DevChainError> {
        let until = Instant::now() + START_PATIENCE;
        loop {
            let answer: Result<String, RpcError> = rpc.call("eth_chainId", json!([])).await;
            let id = answer.ok().and_then(|id| u64::from_str_radix(id.trim_start_matches("0x"), 16).ok());
            if let Some(id) = id {
                return Ok(id);
            }
            let alive = self.node.as_mut().is_none_or(Running::is_alive);
            if !alive || Instant::now() > until {
                return Err(DevChainError::NotReady(log.to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn start_node(
    files: &Files<'_>,
    port: u16,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Running, DevChainError> {
    let anvil = ensure_anvil(files.contracts, say)?;
    let mut command = Command::new(anvil);
    command
        .args(["--port", &port.to_string(), "--block-time", "1", "--order", "fifo"])
        // Free gas, as on a consortium chain. The state is written each second, so that a kill loses little of it.
        .args(["--block-base-fee-per-gas", "0", "--gas-price", "0", "--state-interval", "1", "--state"])
        .arg(files.state)
        .arg("--quiet");
    Running::start("chain", &mut command, files.log)
        .map_err(|error| DevChainError::NotStarted(files.log.to_owned(), error))
}

/// anvil as `contracts/package-lock.json` pins it.
fn ensure_anvil(contracts: &Path, say: &mut (dyn FnMut(&str) + Send)) -> Result<PathBuf, DevChainError> {
    const NPM: Need =
        Need { program: "npm", package: "npm", why: "it brings the dev chain, pinned in contracts/" };
    let anvil = contracts.join("node_modules/.bin/anvil");
    if anvil.exists() {
        return Ok(anvil);
    }
    if !machine::has(NPM.program) {
        machine::install(&NPM, say)?;
    }
    say("installing the dev chain (npm ci in contracts/): heads of the log are anchored on it");
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(contracts)
        .output()
        .map_err(|error| DevChainError::Npm(error.to_string()))?;
    if npm.status.success() && anvil.exists() {
        return Ok(anvil);
    }
    Err(DevChainError::Npm(String::from_utf8_lossy(&npm.stderr).trim().to_owned()))
}

/// The contract of the last run, if the chain still has it.
async fn contract_on(rpc: &Rpc, chain_id: u64, chains: &Path) -> Option<Address> {
    let text = fs::read_to_string(chains).ok()?;
    let contract = text.lines().find_map(|line| line.strip_prefix("contract = "))?;
    let contract: Address = contract.trim_matches('"').parse().ok()?;
    Evm::connect(rpc.clone(), chain_id, contract).await.ok().map(|_| contract)
}

/// Deploys, and registers the logs with the publishing account as their administrator.
async fn found(
    rpc: &Rpc,
    (chain_id, price): (u64, u128),
    files: &Files<'_>,
    origins: &[String],
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Address, DevChainError> {
    let (owner, regulator) = (account(files.key)?, account(files.regulator_key)?);
    say("putting the contract on the chain");
    let regulators = vec![regulator.address()];
    let deployed = deploy(rpc, &owner, price, PUBLISHER_DELAY_SECONDS, regulators).await;
    let failed =
        |source| DevChainError::Deploy { url: rpc.url().to_owned(), account: owner.address(), source };
    let (contract, _) = deployed.map_err(failed)?;
    let evm = Evm::connect(rpc.clone(), chain_id, contract).await?;
    for origin in origins {
        evm.register(&owner, price, origin, owner.address()).await?;
    }
    Ok(contract)
}

async fn gas_price(rpc: &Rpc) -> Result<u128, DevChainError> {
    let price: String = rpc.call("eth_gasPrice", json!([])).await.map_err(ChainError::from)?;
    u128::from_str_radix(price.trim_start_matches("0x"), 16)
        .map_err(|_| ChainError::Malformed("a gas price").into())
}

fn account(key: &Path) -> Result<Account, DevChainError> {
    let text = fs::read_to_string(key).map_err(|error| file_error(key, error))?;
    let seed = trace::b64::from_url(text.trim_end()).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    Ok(Account::from_seed(&seed.ok_or(DevChainError::Key)?)?)
}

fn file_error(path: &Path, error: io::Error) -> DevChainError {
    DevChainError::File(path.display().to_string(), error)
}
