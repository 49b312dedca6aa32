//! Re-derives the whole ledger from the signed bytes, by other code than wrote it, as a role that can only read.
//!
//! Keys from the registrars' statements; leaves from the bytes, tiles and heads from the leaves; each row of the evidence
//! from the bytes behind it; lots, movements, holdings, edges and epochs from these rows. Entries are checked by several
//! threads at once and told of in their order, so that the first misfit is the first record that does not fit.

mod attached;
mod entries;
mod history;
mod keys;
mod log;
mod pack;
mod record;
mod resume;
mod sample;
mod tree;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use store::fsck::{FsckReadError, LogRow, Snapshot, derived};
use trace::{hash::Hash, tlog::policy::Policy};

pub use record::StepNames;
pub use resume::ResumeError;
pub use sample::{Sampled, sample};

use entries::Reading;
use history::History;
use log::LogCheck;
use record::Known;
use resume::State;

/// Misfits reported; the first is the one to look at.
const MISFITS_MAX: usize = 100;
/// The place of what is in no log yet: after everything that is.
const NOT_LOGGED: (i16, i64) = (i16::MAX, i64::MAX);

/// Something that does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `<origin> <index>`, a jti, a key, or a lot.
    pub at: String,
    pub what: String,
    /// Nothing after it can be placed.
    ends_the_log: bool,
}

impl Misfit {
    fn at(log: &LogRow, index: i64, what: impl Into<String>) -> Self {
        Self { at: format!("{} {index}", log.origin), what: what.into(), ends_the_log: false }
    }

    fn ending(self) -> Self {
        Self { ends_the_log: true, ..self }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub logs: usize,
    pub entries: u64,
    pub records: u64,
    pub packs: u64,
    pub checkpoints: u64,
    pub cosignatures: u64,
    pub tiles: u64,
    pub keys: u64,
    pub anchors: u64,
    /// In the order in which they were met; no more than a hundred.
    pub misfits: Vec<Misfit>,
}

impl Report {
    pub const fn is_clean(&self) -> bool {
        self.misfits.is_empty()
    }

    fn misfit(&mut self, at: impl Into<String>, what: impl Into<String>) {
        if self.misfits.len() < MISFITS_MAX {
            self.misfits.push(Misfit { at: at.into(), what: what.into(), ends_the_log: false });
        }
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The log's origin, or the name of what is checked after the logs.
    pub of: &'a str,
    pub done: u64,
    pub all: u64,
}

/// What is to be checked, and against whom.
#[derive(Debug, Default)]
pub struct Ask {
    pub database_url: String,
    /// Registrars whose enrolments count; logs and witnesses, where the file names them.
    pub trust: Policy,
    /// What the steps of profiles are called.
    pub steps: StepNames,
    pub threads: usize,
    /// Goes on where the last check of this file stopped, and says in it how far it came.
    pub resume: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    #[error(transparent)]
    Read(#[from] FsckReadError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error("the system gives no randomness")]
    Random(#[from] getrandom::Error),
}

/// As many threads as there are cores.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Checks everything. `progress` is told of every thousand entries. Must not be called from within an async runtime.
pub fn check(ask: &Ask, mut progress: impl FnMut(&Progress<'_>)) -> Result<Report, FsckError> {
    let mut snapshot = Snapshot::open(&ask.database_url)?;
    let name = snapshot.name()?;
    let mut report = Report::default();
    let history = learn(&mut snapshot, &ask.trust)?;
    let known = Known { first_places: snapshot.first_places()?.into_iter().collect(), steps: &ask.steps };
    let reading = Reading {
        url: &ask.database_url,
        snapshot: &name,
        threads: ask.threads.max(1),
        history: &history,
        known: &known,
    };
    let logs = snapshot.logs()?;
    report.logs = logs.len();
    check_logs(ask, &mut snapshot, reading, &logs, &mut report, &mut progress)?;
    check_waiting(&mut snapshot, reading, &logs, &mut report)?;
    keys::check_keys(&mut snapshot, &history, &mut report)?;
    keys::check_rosters(&mut snapshot, &history, &mut report)?;
    keys::check_anchors(&mut snapshot, &mut report)?;
    check_derived(reading, &mut report, &mut progress)?;
    Ok(report)
}

/// The registrars' statements, in the order of the logs.
fn learn(snapshot: &mut Snapshot, trust: &Policy) -> Result<History, FsckReadError> {
    let mut history = History::new(trust.registrars.iter().copied().collect());
    snapshot.statements(|log, index, entry, signed| {
        if let Some(entry) = Hash::from_slice(entry) {
            history.learn((log, index), entry, signed);
        }
    })?;
    Ok(history)
}

fn check_logs(
    ask: &Ask,
    snapshot: &mut Snapshot,
    reading: Reading<'_>,
    logs: &[LogRow],
    report: &mut Report,
    progress: &mut impl FnMut(&Progress<'_>),
) -> Result<(), FsckError> {
    let file = ask.resume.as_deref();
    let earlier = file.map(|file| State::read(file, &ask.trust.registrars)).transpose()?.flatten();
    let mut state = earlier.unwrap_or_else(|| State::new(ask.trust.registrars.clone()));
    for log in logs {
        let mut failed = None;
        let rebuilt = state.tree(&log.origin);
        let mut of_log = LogCheck { snapshot, log, trust: &ask.trust, history: reading.history, report };
        of_log.run(reading, rebuilt, &mut |at, tree, clean| {
            progress(at);
            if let (Some(file), true) = (file, clean) {
                state.keep(&log.origin, tree);
                failed = failed.take().or(state.write(file).err());
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Records that wait for their place in a log are held against their bytes all the same.
fn check_waiting(
    snapshot: &mut Snapshot,
    reading: Reading<'_>,
    logs: &[LogRow],
    report: &mut Report,
) -> Result<(), FsckReadError> {
    let ledger = logs.last().map(|log| log.ledger.as_str()).unwrap_or_default();
    snapshot.waiting(|entry| {
        let Some(row) = &entry.record else { return };
        let at = format!("record {}", row.jti);
        reading
            .record(NOT_LOGGED, ledger, entry.hash, row, None, &mut |what| report.misfit(at.as_str(), what));
    })
}

/// Several checks at once, told of in their order.
fn check_derived(
    reading: Reading<'_>,
    report: &mut Report,
    progress: &mut impl FnMut(&Progress<'_>),
) -> Result<(), FsckReadError> {
    let (next, (send, receive)) = (AtomicUsize::new(0), mpsc::channel());
    let all = u64::try_from(derived::CHECKS.len()).unwrap_or(u64::MAX);
    let found = std::thread::scope(|scope| {
        for _ in 0..reading.threads.min(derived::CHECKS.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || derive(reading, next, &send));
        }
        drop(send);
        let mut found = BTreeMap::new();
        for (done, derived) in (1_u64..).zip(&receive) {
            let (number, check, rows) = derived?;
            found.insert(number, rows);
            progress(&Progress { of: check.name, done, all });
        }
        Ok::<_, FsckReadError>(found)
    })?;
    for (at, what) in found.into_values().flatten() {
        report.misfit(at, what);
    }
    Ok(())
}

/// The number of a check, and what it found.
type Derived = (usize, &'static derived::Check, Vec<(String, String)>);

/// Takes the checks that nobody has taken yet, one after the other.
fn derive(reading: Reading<'_>, next: &AtomicUsize, send: &mpsc::Sender<Result<Derived, FsckReadError>>) {
    let limit = i64::try_from(MISFITS_MAX).unwrap_or(i64::MAX);
    let mut snapshot = match Snapshot::join(reading.url, reading.snapshot) {
        Ok(snapshot) => snapshot,
        Err(error) => return drop(send.send(Err(error))),
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(check) = derived::CHECKS.get(number) else { return };
        let found = snapshot.derived(check, limit).map(|rows| (number, check, rows));
        if send.send(found).is_err() {
            return;
        }
    }
}
