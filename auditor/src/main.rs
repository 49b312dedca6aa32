//! `suyuan-auditor`: verify a proof, witness a log, mirror a log. Knows nothing of the server but its bytes.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use auditor::{
    mirror, online, receipt,
    state::{self, State},
    verify, witness,
};
use clap::{Parser, Subcommand};
use trace::{
    causes::Causes,
    keys::SecretKey,
    tlog::note::{SignerKey, VerifierKey},
};

/// A block of Besu's QBFT or FISCO's PBFT is final; one on top costs seconds.
const CONFIRMATIONS: u64 = 1;

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
        /// The bundle, as downloaded from a proof page; with --receipt, a reading pack
        bundle: PathBuf,
        /// The log's COSE receipt of the pack: checks that the log holds it, and nothing of who signed it
        #[arg(long, value_name = "FILE", conflicts_with = "rpc")]
        receipt: Option<PathBuf>,
        /// Whom to believe: logs, witnesses, quorum, registrars, chains
        #[arg(long)]
        trust: PathBuf,
        /// Node of a chain that the trust file names: heads are looked up there, and regulators' notices about keys
        #[arg(long, value_name = "URL")]
        rpc: Option<String>,
        /// Blocks that must stand on the one that holds a head. One is enough where blocks are final (Besu QBFT, FISCO BCOS); a
        /// public chain asks for as many as its users wait for
        #[arg(long, value_name = "BLOCKS", default_value_t = CONFIRMATIONS)]
        confirmations: u64,
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
        /// Verifier key of a log to witness; may be given several times, also for one origin
        #[arg(long = "log", required = true)]
        logs: Vec<String>,
        /// Make the state, or begin in it with logs that it does not know, and end. Never for a state that was lost: a
        /// witness that forgot what it cosigned is retired, with its key
        #[arg(long)]
        init: bool,
    },
    /// Copy a log's tiles to disk, and those of the logs that follow it, and check that they only grow. Exit status: 0 they do,
    /// 1 alarm, 2 could not look
    Mirror {
        /// The log's tile prefix: what stands before `/checkpoint`
        url: String,
        /// Directory of the copy; kept between looks, it is what the next look compares with. A log that follows has its own in it
        directory: PathBuf,
        /// Whom to believe: logs, witnesses, quorum, chains; registrars, whose word on the next log counts. A witness with a URL is
        /// asked what it has seen
        #[arg(long)]
        trust: PathBuf,
        /// Node of a chain that the trust file names: its head is compared, too
        #[arg(long, value_name = "URL")]
        rpc: Option<String>,
        /// Blocks that must stand on the one that holds a head, as for `verify`
        #[arg(long, value_name = "BLOCKS", default_value_t = CONFIRMATIONS)]
        confirmations: u64,
        /// Look again every so many seconds, until something is wrong
        #[arg(long, value_name = "SECONDS")]
        every: Option<u64>,
        /// How long a witness whose URL the trust file gives may have seen more than the log shows
        #[arg(long, value_name = "SECONDS", default_value_t = 90)]
        witness_lead: u64,
        /// Copy also what was signed behind every entry, without disclosures: a file with the API token of a regulator's
        /// program, of scope `signed`
        #[arg(long, value_name = "TOKEN_FILE")]
        records: Option<PathBuf>,
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
            writeln!(io::stderr(), "suyuan-auditor: {}", Causes(&*error)).unwrap_or_default();
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    match command {
        Command::Verify { bundle, receipt: Some(file), trust, .. } => {
            receipt::run(&bundle, &file, &trust, &mut out)
        }
        Command::Verify { bundle, trust, rpc, confirmations, .. } => {
            let node = rpc.as_deref().map(|url| online::Node { url, confirmations });
            verify::run(&bundle, &trust, node, &mut out)
        }
        Command::Witness { listen, key, state, logs, init } => {
            let signer = state::read_key(&key)?;
            let logs = logs.iter().map(|log| log.parse()).collect::<Result<Vec<_>, _>>()?;
            if init {
                return begin(&State::init(&state, &witness::verifier(&signer))?, &logs, &mut out);
            }
            drop(out);
            let state = State::open(&state, &witness::verifier(&signer))?;
            witness::run(listen, witness::Witness::new(signer, logs, state)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Mirror { url, directory, trust, rpc, confirmations, every, witness_lead, records } => {
            let trust = std::fs::read_to_string(trust)?.parse()?;
            let token = records.map(std::fs::read_to_string).transpose()?;
            let mirror = mirror::Mirror {
                source: mirror::Source { url: &url, http: reqwest::Client::new() },
                directory: &directory,
                trust: &trust,
                rpc: rpc.as_deref(),
                confirmations,
                opened: None,
                witness_lead: Duration::from_secs(witness_lead),
                records: token.as_deref().map(str::trim_end),
            };
            Ok(mirror::watch(&mirror, every.map(Duration::from_secs), &mut out)?)
        }
        Command::Keygen { name, file } => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|_| "the system gives no randomness")?;
            let key = SignerKey { name: name.parse()?, secret: SecretKey::from_seed(&seed) };
            state::write_key(&file, &key)?;
            writeln!(out, "{}", witness::verifier(&key))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Vkey { file } => {
            writeln!(out, "{}", witness::verifier(&state::read_key(&file)?))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says of each log from where the witness goes on.
fn begin(
    state: &State,
    logs: &[VerifierKey],
    out: &mut impl Write,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    for log in logs {
        let head = state.begin(log.name.as_str())?;
        writeln!(out, "{} from size {}", head.origin, head.size)?;
    }
    Ok(ExitCode::SUCCESS)
}
