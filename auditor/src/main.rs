//! `suyuan-auditor`: verify a proof, witness a log, mirror a log. Knows nothing of the server but its bytes.

mod mirror;
mod online;
mod report;
mod state;
mod verify;
mod witness;

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use trace::{
    causes::Causes,
    keys::SecretKey,
    tlog::note::{Algorithm, SignerKey},
};

/// Check what Suyuan says without trusting who says it
#[derive(Parser)]
#[command(name = "suyuan-auditor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify a bundle: offline, or with what a chain says. Exit status: 0 valid, 1 invalid, 2 could not check
    Verify {
        /// The bundle, as downloaded from a proof page
        bundle: PathBuf,
        /// Whom to believe: logs, witnesses, quorum, registrars, chains
        #[arg(long)]
        trust: PathBuf,
        /// Node of a chain that the trust file names: heads are looked up there, and regulators' notices about keys
        #[arg(long, value_name = "URL")]
        rpc: Option<String>,
    },
    /// Run a C2SP tlog-witness: cosign heads that extend what was cosigned before, and nothing else
    Witness {
        #[arg(long, default_value = "127.0.0.1:8461")]
        listen: SocketAddr,
        /// The witness's signer key, mode 0600
        #[arg(long)]
        key: PathBuf,
        /// Directory of what was cosigned: written and synced before each answer
        #[arg(long)]
        state: PathBuf,
        /// Verifier key of a log to witness; may be given several times
        #[arg(long = "log", required = true)]
        logs: Vec<String>,
    },
    /// Copy a log's tiles to disk and check that it only grows. Exit status: 0 it does, 1 alarm, 2 could not look
    Mirror {
        /// The log's tile prefix: what stands before `/checkpoint`
        url: String,
        /// Directory of the copy; kept between looks, it is what the next look compares with
        directory: PathBuf,
        /// Whom to believe: logs, witnesses, quorum, chains
        #[arg(long)]
        trust: PathBuf,
        /// Node of a chain that the trust file names: its head is compared, too
        #[arg(long, value_name = "URL")]
        rpc: Option<String>,
        /// Look again every so many seconds, until something is wrong
        #[arg(long, value_name = "SECONDS")]
        every: Option<u64>,
    },
    /// Make a witness's key; prints its verifier key
    Keygen {
        /// Key name, such as a domain and a path
        #[arg(long)]
        name: String,
        /// New file, mode 0600
        file: PathBuf,
    },
    /// Print the verifier key of a witness's key file
    Vkey { file: PathBuf },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do where even standard error is closed.
            writeln!(std::io::stderr(), "suyuan-auditor: {}", Causes(&*error)).unwrap_or_default();
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Verify { bundle, trust, rpc } => verify::run(&bundle, &trust, rpc.as_deref(), &mut out),
        Command::Witness { listen, key, state, logs } => {
            let signer = state::read_key(&key)?;
            let logs = logs.iter().map(|log| log.parse()).collect::<Result<Vec<_>, _>>()?;
            drop(out);
            witness::run(listen, signer, state::State::open(&state)?, logs)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Mirror { url, directory, trust, rpc, every } => {
            let trust = std::fs::read_to_string(trust)?.parse()?;
            let http = reqwest::Client::new();
            let mirror =
                mirror::Mirror { url: &url, directory: &directory, trust: &trust, http, rpc: rpc.as_deref() };
            Ok(mirror::run(&mirror, every.map(Duration::from_secs), &mut out)?)
        }
        Command::Keygen { name, file } => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|_| "the system gives no randomness")?;
            let key = SignerKey { name: name.parse()?, secret: SecretKey::from_seed(&seed) };
            state::write_key(&file, &key)?;
            writeln!(out, "{}", key.verifier_as(Algorithm::CosignatureV1))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Vkey { file } => {
            writeln!(out, "{}", state::read_key(&file)?.verifier_as(Algorithm::CosignatureV1))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
