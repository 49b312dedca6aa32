//! `suyuan`: serve, migrate, config, fsck, keys, logs, chains, and the operator's first sign-in.

mod broker_command;
mod fsck_command;
mod ledger_command;

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use server::{
    app::{self, AppState},
    config::Config,
    service::keys::ceremony,
};
use trace::causes::Causes;

/// Suyuan (溯源): traceability from the source to the scan
#[derive(Parser)]
#[command(name = "suyuan", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve pages and REST, and run the jobs
    Serve(Box<Config>),
    /// Bring the database up to this program's schema
    Migrate {
        /// Postgres, as the owner of the tables
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Print the effective configuration, secrets masked
    Config(Box<Config>),
    /// Re-derive the whole ledger from the signed bytes: exit 0 clean, 1 something does not fit, 2 could not check
    Fsck(Box<fsck_command::Fsck>),
    /// Make and show the ledger's key files (each new, one line, mode 0600)
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Write the users and rights of a site's mosquitto, from the register
    BrokerFiles(broker_command::BrokerCommand),
    /// The ledger's logs: one a year
    #[command(subcommand)]
    Log(ledger_command::LogCommand),
    /// The contract on a chain
    #[command(subcommand)]
    Chain(ledger_command::ChainCommand),
    /// The operator: the one party that registers the others
    #[command(subcommand)]
    Operator(Operator),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make the log's signer key; prints its verifier key
    Log {
        /// `<host>/<ledger>/<year>`
        #[arg(long)]
        origin: String,
        file: PathBuf,
    },
    /// Make a seed: registrar, derivation, key-encryption key or serial master; prints its Ed25519 thumbprint
    Seed { file: PathBuf },
    /// Print the verifier key of a log key file
    Vkey { file: PathBuf },
    /// Print the thumbprint of a seed file: the registrar's stands in every trust file
    Thumbprint { file: PathBuf },
    /// Seal the database's root key under a new key-encryption key; each server needs the new file at its next start
    Reseal {
        /// Postgres, as the owner of the tables
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
        /// The key-encryption key until now
        #[arg(long, env = "SUYUAN_KEK_FILE")]
        kek_file: PathBuf,
        /// The one from now on, made with `suyuan keys seed`
        #[arg(long)]
        new_kek_file: PathBuf,
    },
}

#[derive(Subcommand)]
enum Operator {
    /// Register the operator, enrol the registrar's keys, and make its first account; answers the same when run again
    Init {
        #[command(flatten)]
        config: Box<Config>,
        /// Short name: `[a-z0-9][a-z0-9.]{0,31}`
        #[arg(long, default_value = "operator")]
        slug: String,
        #[arg(long)]
        name: String,
        /// Global location number of the operator as a party, 13 digits
        #[arg(long)]
        pgln: String,
        #[arg(long)]
        login: String,
        /// File whose first line is the password
        #[arg(long)]
        password_file: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SUYUAN_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    // Without a runtime: the synchronous driver brings its own.
    if let Command::Fsck(command) = cli.command {
        return command.run();
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %Causes(error.as_ref()), "suyuan ends");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    // Migrations need a multi-threaded runtime, and so plain `main`.
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        Command::Serve(config) => {
            runtime.block_on(async {
                app::wait_for_database(&config.database.database_url).await?;
                let state = Arc::new(AppState::open(*config).await?);
                // A job that has to stop takes the process with it: pages that can prove nothing help nobody.
                tokio::select! {
                    served = app::serve(Arc::clone(&state)) => served,
                    stopped = app::run_jobs(state) => Err(stopped),
                }
            })?;
        }
        Command::Migrate { database_url } => {
            for version in runtime.block_on(store::migrate(&database_url))? {
                writeln!(out, "migrated {version}")?;
            }
        }
        Command::Config(config) => write!(out, "{}", config.masked())?,
        // Taken care of before the runtime starts.
        Command::Fsck(_) => {}
        Command::BrokerFiles(command) => writeln!(out, "{}", runtime.block_on(command.run())?)?,
        Command::Log(command) => writeln!(out, "{}", runtime.block_on(command.run())?)?,
        Command::Chain(command) => writeln!(out, "{}", runtime.block_on(command.run())?)?,
        Command::Keys(command) => writeln!(out, "{}", keys(&command, &runtime)?)?,
        Command::Operator(Operator::Init { config, slug, name, pgln, login, password_file }) => {
            let password = server::service::keys::read_secret(&password_file)?;
            let first = app::FirstOperator {
                slug: &slug,
                name: &name,
                pgln: &pgln,
                login: &login,
                password: password.trim_end(),
            };
            let operator = runtime.block_on(app::found(*config, first))?;
            writeln!(out, "operator {} {}", operator.slug, operator.iss)?;
        }
    }
    Ok(())
}

fn keys(
    command: &KeysCommand,
    runtime: &tokio::runtime::Runtime,
) -> Result<String, Box<dyn std::error::Error>> {
    let line = match command {
        KeysCommand::Log { origin, file } => ceremony::make_log_key(origin, file),
        KeysCommand::Seed { file } => ceremony::make_seed(file),
        KeysCommand::Vkey { file } => ceremony::verifier_key(file),
        KeysCommand::Thumbprint { file } => ceremony::thumbprint(file),
        KeysCommand::Reseal { database_url, kek_file, new_kek_file } => {
            runtime.block_on(app::reseal(database_url, kek_file, new_kek_file))?;
            Ok(format!("resealed under {}", new_kek_file.display()))
        }
    };
    Ok(line?)
}
