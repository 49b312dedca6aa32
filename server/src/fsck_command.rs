//! `suyuan fsck`: what is asked for on the command line, the progress of it, and what was found.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use server::service::{
    fsck::{self, Ask, Progress, Report, StepNames},
    profiles::Profiles,
};
use trace::{causes::Causes, keys::Kid, tlog::policy::Policy};

/// Between two lines of progress where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two drawings of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: u64 = 40;

#[derive(Args)]
pub struct Fsck {
    /// Postgres, as the read-only role `auditor`
    #[arg(long, env = "SUYUAN_AUDITOR_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Thumbprint of a registrar whose enrolments count
    #[arg(long, required_unless_present = "trust")]
    registrar: Vec<Kid>,
    /// Trust file: its registrars count, its logs' keys are asked for, and its witnesses' lines are checked
    #[arg(long)]
    trust: Option<PathBuf>,
    /// Directory of the profiles: what their steps are called
    #[arg(long, env = "SUYUAN_PROFILES", default_value = "profiles")]
    profiles: PathBuf,
    /// Threads; as many as the machine has cores unless told
    #[arg(long)]
    threads: Option<usize>,
    /// Go on where the last check with this file stopped, and note in it how far everything fits
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

impl Fsck {
    /// Prints progress, what does not fit, and a last line that says it all.
    pub fn run(self) -> ExitCode {
        let checked = self.ask().and_then(|ask| {
            let mut shown = Shown::new();
            let report = fsck::check(&ask, |progress| shown.show(progress));
            shown.end();
            Ok(report?)
        });
        match checked {
            Ok(report) => tell(&report),
            Err(error) => {
                tracing::error!(error = %Causes(error.as_ref()), "could not check");
                ExitCode::from(2)
            }
        }
    }

    fn ask(self) -> Result<Ask, Box<dyn std::error::Error>> {
        let mut trust = match &self.trust {
            Some(file) => std::fs::read_to_string(file)?.parse()?,
            None => Policy::default(),
        };
        trust.registrars.extend(self.registrar);
        Ok(Ask {
            database_url: self.database_url,
            trust,
            steps: steps(&self.profiles)?,
            threads: self.threads.unwrap_or_else(fsck::threads),
            resume: self.resume,
        })
    }
}

/// Without the profiles' files, what a step is called is not checked.
fn steps(directory: &Path) -> Result<StepNames, Box<dyn std::error::Error>> {
    if !directory.exists() {
        tracing::warn!(directory = %directory.display(), "no profiles there: the steps' names are not checked");
        return Ok(StepNames::default());
    }
    let profiles = Profiles::read(directory)?;
    Ok(StepNames::of(profiles.iter().map(AsRef::as_ref)))
}

/// A bar on a terminal, a line now and then elsewhere.
struct Shown {
    terminal: bool,
    last: Option<Instant>,
    drawn: bool,
}

impl Shown {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: None, drawn: false }
    }

    fn show(&mut self, progress: &Progress<'_>) {
        let Progress { of, done, all } = progress;
        let every = if self.terminal { BAR_EVERY } else { LINE_EVERY };
        if done < all && self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last = Some(Instant::now());
        if self.terminal {
            self.draw(progress);
        } else {
            tracing::info!(of, done, all, "checked");
        }
    }

    fn draw(&mut self, Progress { of, done, all }: &Progress<'_>) {
        let full = done.saturating_mul(BAR_WIDTH).checked_div(*all).unwrap_or(BAR_WIDTH).min(BAR_WIDTH);
        let width = usize::try_from(BAR_WIDTH).unwrap_or_default();
        let bar = "#".repeat(usize::try_from(full).unwrap_or_default());
        // A terminal that is gone is no reason to stop checking.
        self.drawn = write!(io::stderr(), "\r\x1b[K[{bar:<width$}] {done}/{all} {of}").is_ok();
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            writeln!(io::stderr()).unwrap_or_default();
        }
    }
}

fn tell(report: &Report) -> ExitCode {
    let verdict = if report.is_clean() { "clean" } else { "does not fit" };
    let mut lines: Vec<String> =
        report.misfits.iter().map(|misfit| format!("{}: {}", misfit.at, misfit.what)).collect();
    lines.push(format!(
        "{verdict}: {} logs, {} entries ({} records, {} packs), {} tiles, {} checkpoints, {} cosignatures, {} keys, {} anchors",
        report.logs,
        report.entries,
        report.records,
        report.packs,
        report.tiles,
        report.checkpoints,
        report.cosignatures,
        report.keys,
        report.anchors,
    ));
    match writeln!(io::stdout(), "{}", lines.join("\n")) {
        Ok(()) if report.is_clean() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(_) => ExitCode::from(2),
    }
}
