//! The watch over a log and those that follow it: each in a directory of its own, looked at in turn.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use trace::{
    causes::Causes,
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, VerifierKey},
        policy::{Listed, Policy},
    },
};

use super::{Looked, Mirror, MirrorError, Next, Parts, Source, Successor, directory::CHECKPOINT};

/// Logs that follow each other: a ledger opens one or two a year.
const LOGS_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One of the logs that are watched.
struct Watched {
    url: String,
    directory: PathBuf,
    trust: Policy,
    /// A head that the log before showed with it.
    opened: Option<Checkpoint>,
}

/// What a round of looks came to, the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Fits,
    Unchecked,
    Alarm,
}

impl Watched {
    /// The log that follows this one: beside it on the server, and under the first one's directory.
    fn follow(&self, first: &Path, successor: &Successor) -> Self {
        let shard = shard_of(&successor.key);
        let url = self.url.trim_end_matches('/');
        let prefix = url.rsplit_once('/').map_or(url, |(prefix, _)| prefix);
        let mut trust = self.trust.clone();
        if trust.logs.iter().all(|log| log.key.name != successor.key.name) {
            trust.logs.push(Listed { key: successor.key.clone(), url: None });
        }
        Self {
            url: format!("{prefix}/{shard}"),
            directory: first.join(shard),
            trust,
            opened: Some(successor.opened.clone()),
        }
    }

    fn mirror<'a>(&'a self, like: &Mirror<'a>) -> Mirror<'a> {
        Mirror {
            source: Source { url: &self.url, http: like.source.http.clone() },
            directory: &self.directory,
            trust: &self.trust,
            opened: self.opened.as_ref(),
            ..*like
        }
    }
}

/// `2027` or `2027.2`: a registrar's `new-log` names no other, because it names a log of the same ledger.
fn shard_of(log: &VerifierKey) -> &str {
    log.name.as_str().rsplit('/').next().unwrap_or_default()
}

/// The successor in a copy that was made before, also while its log does not answer.
fn kept(mirror: &Mirror<'_>) -> Result<Option<Successor>, MirrorError> {
    let path = mirror.directory.join(CHECKPOINT);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let note: Note = text.parse().map_err(|_| MirrorError::Damaged(path))?;
    mirror.kept_successor(&mirror.open(&note)?.origin)
}

/// Looks at a log and at all that follow it, once or again and again, and prints a line for each look. Exit status: 0 they grow
/// as they should, 1 alarm, 2 could not look.
pub fn watch(
    first: &Mirror<'_>,
    every: Option<Duration>,
    out: &mut impl io::Write,
) -> Result<ExitCode, WatchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut logs = vec![Watched {
        url: first.source.url.to_owned(),
        directory: first.directory.to_owned(),
        trust: first.trust.clone(),
        opened: None,
    }];
    loop {
        let mut found = Found::Fits;
        let mut at = 0;
        while let Some(log) = logs.get(at) {
            at += 1;
            let mirror = log.mirror(first);
            let looked = runtime.block_on(mirror.look());
            found = found.max(tell(&looked, out)?);
            let successor = match looked {
                Ok(Looked { next: Next::Opened(successor), .. }) => Some(*successor),
                // What is wrong with a copy was told by the look.
                _ => kept(&mirror).unwrap_or_default(),
            };
            let follows = successor.map(|successor| log.follow(first.directory, &successor));
            if at == logs.len() && at < LOGS_MAX {
                logs.extend(follows);
            }
        }
        match (found, every) {
            (Found::Alarm, _) => return Ok(ExitCode::from(1)),
            // Nobody is there now: with a next look to come, this one is only told.
            (_, Some(every)) => std::thread::sleep(every),
            (Found::Unchecked, None) => return Ok(ExitCode::from(2)),
            (Found::Fits, None) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn tell(looked: &Result<Looked, MirrorError>, out: &mut impl io::Write) -> io::Result<Found> {
    match looked {
        Ok(looked) => {
            writeln!(out, "ok         {looked}")?;
            let Some(parts) = looked.parts.as_ref().filter(|parts| parts.refusals > 0) else {
                return Ok(Found::Fits);
            };
            told(parts, out)?;
            Ok(if parts.is_alarming { Found::Alarm } else { Found::Unchecked })
        }
        Err(MirrorError::Raised { alarm, evidence }) => {
            writeln!(out, "ALARM      {alarm}\nevidence   {}", evidence.display())?;
            Ok(Found::Alarm)
        }
        Err(MirrorError::Alarm(alarm)) => {
            writeln!(out, "ALARM      {alarm}")?;
            Ok(Found::Alarm)
        }
        Err(error) => {
            writeln!(out, "unchecked  {}", Causes(error))?;
            Ok(Found::Unchecked)
        }
    }
}

/// A line for each signed part that was refused.
fn told(parts: &Parts, out: &mut impl io::Write) -> io::Result<()> {
    for (index, why) in &parts.refused {
        writeln!(out, "refused    {index}: {why}")?;
    }
    if parts.refusals > parts.refused.len() {
        writeln!(out, "refused    {} more", parts.refusals - parts.refused.len())?;
    }
    if parts.is_alarming {
        writeln!(out, "ALARM      other bytes than were logged are given")
    } else {
        Ok(())
    }
}
