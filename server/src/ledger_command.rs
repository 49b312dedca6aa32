//! `suyuan log` and `suyuan chain`: what is done once a year, and once for each chain.

use std::{error::Error, path::PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use clap::Subcommand;
use contracts::{Account, Address, Evm, Rpc};
use server::{app::AppState, config::Config, jobs::sequencer::seal, service::keys::read_seed};
use trace::tlog::{note::VerifierKey, origin::Origin};

#[derive(Subcommand)]
pub enum LogCommand {
    /// State in the open log which one follows it. When its time comes the servers that have its key seal the one and open the
    /// other; witnesses and chains must know it by then
    Announce {
        #[command(flatten)]
        config: Box<Config>,
        /// Verifier key of the next log, as `suyuan keys log` printed it
        #[arg(long)]
        vkey: VerifierKey,
        /// When it opens; the first moment of its year (UTC) unless told, and at once where that is past
        #[arg(long)]
        opens_at: Option<DateTime<Utc>>,
    },
}

/// Where a chain is, and who pays there.
#[derive(clap::Args)]
pub struct Payer {
    #[arg(long)]
    rpc_url: String,
    #[arg(long)]
    chain_id: u64,
    /// Seed of the account that owns the contract
    #[arg(long)]
    owner_key_file: PathBuf,
    /// 0 where gas is free
    #[arg(long)]
    gas_price_wei: u128,
}

#[derive(Subcommand)]
pub enum ChainCommand {
    /// Put the contract on a chain; prints its address
    Deploy {
        #[command(flatten)]
        chain: Payer,
        /// Whose notices (recalls, revoked keys) count, changed only by themselves later
        #[arg(long, required = true)]
        regulator: Vec<Address>,
        /// How long a new publisher waits
        #[arg(long, default_value_t = 86_400)]
        publisher_delay_s: u64,
    },
    /// Name who may speak for a log; the owner of the contract does this once for each year's log
    Register {
        #[command(flatten)]
        chain: Payer,
        #[arg(long)]
        contract: Address,
        /// `<host>/<ledger>/<year>`
        #[arg(long)]
        origin: Origin,
        /// The account of `key_file` in the server's file of chains; the owner itself unless told
        #[arg(long)]
        administrator: Option<Address>,
    },
}

impl LogCommand {
    pub async fn run(self) -> Result<String, Box<dyn Error>> {
        let Self::Announce { config, vkey, opens_at } = self;
        let state = AppState::open(*config).await?;
        let origin: Origin = vkey.name.as_str().parse()?;
        let opens_at = opens_at.unwrap_or_else(|| first_moment_of(origin.year())).max(Utc::now());
        seal::announce(&state.ledger, &state.keys, &vkey, opens_at).await?;
        Ok(format!("{origin} follows {} at {}", state.ledger.open_log().origin, opens_at.to_rfc3339()))
    }
}

fn first_moment_of(year: i32) -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(year, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
    first.map(|first| first.and_utc()).unwrap_or_default()
}

impl ChainCommand {
    pub async fn run(self) -> Result<String, Box<dyn Error>> {
        match self {
            Self::Deploy { chain, regulator, publisher_delay_s } => {
                let (rpc, owner) = (chain.rpc()?, chain.owner()?);
                let (contract, receipt) =
                    contracts::deploy(&rpc, &owner, chain.gas_price_wei, publisher_delay_s, regulator)
                        .await?;
                Ok(format!("{contract:#x}, for {} gas", receipt.gas_used))
            }
            Self::Register { chain, contract, origin, administrator } => {
                let owner = chain.owner()?;
                let evm = Evm::connect(chain.rpc()?, chain.chain_id, contract).await?;
                let administrator = administrator.unwrap_or_else(|| owner.address());
                evm.register(&owner, chain.gas_price_wei, &origin.to_string(), administrator).await?;
                Ok(format!("{administrator:#x} speaks for {origin}"))
            }
        }
    }
}

impl Payer {
    fn rpc(&self) -> Result<Rpc, Box<dyn Error>> {
        Ok(Rpc::new(reqwest::Client::new(), &self.rpc_url)?)
    }

    fn owner(&self) -> Result<Account, Box<dyn Error>> {
        Ok(Account::from_seed(&*read_seed(&self.owner_key_file)?)?)
    }
}
