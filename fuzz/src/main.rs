//! `suyuan-fuzz`: a target for as long as you like, or one input again.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use fuzz::{Mutator, TARGETS};

/// Throw mutated input at a parser until it breaks or the time is over
#[derive(Parser)]
#[command(name = "suyuan-fuzz", version)]
struct Cli {
    /// Which target; all of them in turn where none is named
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the run: the same one makes the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this one input instead
    #[arg(long)]
    input: Option<PathBuf>,
    /// The input under way is kept here, so that one that ends the process is not lost
    #[arg(long, default_value = "target/fuzz-input")]
    keep: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|target| cli.target.as_deref().is_none_or(|name| name == target.name))
        .collect();
    if chosen.is_empty() {
        return ExitCode::from(2);
    }
    for target in chosen {
        if let Some(input) = &cli.input {
            let Ok(bytes) = std::fs::read(input) else { return ExitCode::from(2) };
            (target.run)(&bytes);
            continue;
        }
        let (seeds, mut mutator) = ((target.seeds)(), Mutator::new(cli.seed));
        let until = Instant::now() + Duration::from_secs(cli.seconds);
        while Instant::now() < until {
            let bytes = mutator.mutant(&seeds);
            if std::fs::write(&cli.keep, &bytes).is_err() {
                return ExitCode::from(2);
            }
            (target.run)(&bytes);
        }
    }
    ExitCode::SUCCESS
}
