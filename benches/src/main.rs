//! `suyuan-bench`: each speed that we speak of, measured on the real parts beside the machine's own limits.

mod chart;
mod form;
mod fsck;
mod gateway;
mod house;
mod ledger;
mod log;
mod machine;
mod reading;
mod ready;
mod scan;
mod table;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

/// Why a bench gives no figure.
type Failed = Box<dyn std::error::Error>;

/// Measure; print tables; write target/bench/NAME.json
#[derive(Parser)]
#[command(name = "suyuan-bench", version)]
struct Cli {
    /// Which; all of them where none is named
    benches: Vec<Bench>,
    /// A fraction of the gateway's load: to see that it runs, not for figures
    #[arg(long)]
    small: bool,
    /// The project's directory
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// From built programs to "ready", and memory after a season
    Ready,
    /// From a published reading to its acknowledgement
    Reading,
    /// From a form's 303 to a checkpoint that includes it
    Form,
    /// Sequencer, proofs, bundles, fsck
    Ledger,
    /// Re-deriving 100,000 records, and 100,000 packs
    Fsck,
    /// The scan page with 100,000 events
    Scan,
    /// A month of 40 probes as a chart, with 100 million readings stored; takes 20 GB of disk for some minutes
    Chart,
    /// The gateway at the machine's limit
    Gateway,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let all = if cli.benches.is_empty() { Bench::value_variants().to_vec() } else { cli.benches };
    let measured = tokio::runtime::Runtime::new()
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(run(&cli.root, &all, cli.small)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = trace::causes::Causes(&*error).to_string();
            // Nothing is left to do where even standard error is closed.
            writeln!(std::io::stderr(), "suyuan-bench: {line}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn run(root: &std::path::Path, benches: &[Bench], is_small: bool) -> Result<(), Failed> {
    let root = root.canonicalize()?;
    for bench in benches {
        let (name, rows) = match bench {
            Bench::Ready => ("ready", ready::run(&root).await?),
            Bench::Reading => ("reading", reading::run(&root).await?),
            Bench::Form => ("form", form::run(&root).await?),
            Bench::Ledger => ("ledger", ledger::run(&root).await?),
            Bench::Fsck => ("fsck", fsck::run(&root).await?),
            Bench::Scan => ("scan", scan::run(&root).await?),
            Bench::Chart => ("chart", chart::run().await?),
            Bench::Gateway => ("gateway", gateway::run(&root, is_small).await?),
        };
        table::report(&root, name, &rows)?;
    }
    Ok(())
}
