//! The log that follows: the `new-log` statements that a log gives under its prefix (`formats.md`, "Ledger, logs, time"),
//! believed as far as the trust file, the log's own key and the copy vouch for them.

use std::fmt;

use trace::{
    bundle::{self, Bundle, Outcome, Report, Signed, Verdict},
    hash::Hash,
    record::{
        Record,
        statement::{NewLog, Statement},
    },
    tlog::{
        checkpoint::Checkpoint,
        note::{Note, VerifierKey},
        origin::Origin,
        policy::Policy,
        tile::{TilePath, WIDTH, extent},
    },
};

use super::{
    Alarm, Mirror, MirrorError,
    directory::{Directory, full},
    tree::{Tree, entries},
};

/// Two logs' heads, a few statements and their paths: some 10 kB.
const BUNDLE_BYTES_MAX: usize = 256 * 1024;

/// The log that follows a sealed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    pub key: VerifierKey,
    /// The sealed log's last head, as the new log's first entry holds it.
    pub closed: Checkpoint,
    /// A head of the new log over that entry.
    pub opened: Checkpoint,
}

/// What is known of the log that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing names one, or the trust file names no registrar whose word would count.
    Unnamed,
    /// The log names it, and has not been sealed yet.
    Announced(String),
    Opened(Box<Successor>),
    /// Nothing contradicts, but it cannot be followed yet.
    Unchecked(String),
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => Ok(()),
            Self::Announced(origin) => write!(f, ", {origin} is announced"),
            Self::Opened(successor) => write!(f, ", sealed, followed by {}", successor.key.name),
            Self::Unchecked(why) => write!(f, ", which log follows could not be checked: {why}"),
        }
    }
}

/// What a bundle shows of the log after `origin`.
struct Stated {
    key: VerifierKey,
    /// Where in the log it is named, and by which entry.
    named: (u64, Hash),
    /// The last head of the log and a head of the next, once that was opened.
    heads: Option<(Checkpoint, Checkpoint)>,
    /// Why this is not to be believed yet.
    open: Option<String>,
}

impl Mirror<'_> {
    /// The successor that an earlier look found, verified anew: a copy adds nothing to what its reader trusts.
    pub(super) fn kept_successor(&self, origin: &str) -> Result<Option<Successor>, MirrorError> {
        let path = self.directory.join(super::directory::NEW_LOG);
        let Some(bytes) = super::directory::read(&path)? else { return Ok(None) };
        let damaged = || MirrorError::Damaged(path.clone());
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        let bundle: Bundle = text.parse().map_err(|_| damaged())?;
        let unvouched = |why| MirrorError::KeptSuccessor { path: path.clone(), why };
        match read(&bundle, origin, self.trust).map_err(unvouched)? {
            Stated { open: Some(why), .. } => Err(unvouched(why)),
            Stated { key, heads: Some((closed, opened)), .. } => Ok(Some(Successor { key, closed, opened })),
            Stated { heads: None, .. } => Err(damaged()),
        }
    }

    /// Asks the log which one follows it, and checks the answer against the copy under `head`.
    pub(super) async fn find_successor(
        &self,
        directory: &Directory,
        tree: &mut Tree<'_>,
        head: &Checkpoint,
    ) -> Result<Next, MirrorError> {
        if self.trust.registrars.is_empty() {
            return Ok(Next::Unnamed);
        }
        let text = match self.source.get("new-log", BUNDLE_BYTES_MAX).await {
            Ok(text) => text,
            Err(MirrorError::Status { status: 404, .. }) => return Ok(Next::Unnamed),
            Err(error) => return Ok(Next::Unchecked(error.to_string())),
        };
        let text = String::from_utf8(text).unwrap_or_default();
        let Ok(bundle) = text.parse::<Bundle>() else {
            return Ok(Next::Unchecked("what it gives for that is no bundle".to_owned()));
        };
        let forged = |why| Alarm::Successor { why, served: text.clone() };
        let stated = read(&bundle, &head.origin, self.trust).map_err(forged)?;
        if let Some(why) = stated.open {
            return Ok(Next::Unchecked(why));
        }
        let later = || Next::Unchecked("it stands under a head that is not shown yet".to_owned());
        let (index, entry) = stated.named;
        if index >= head.size {
            return Ok(later());
        }
        if entry_at(directory, head, index)? != entry {
            return Err(forged(format!("the entry {index} of {} is another", head.origin)).into());
        }
        let Some((closed, opened)) = stated.heads else {
            return Ok(Next::Announced(stated.key.name.as_str().to_owned()));
        };
        if closed.size > head.size {
            return Ok(later());
        }
        let successor = Successor { key: stated.key, closed, opened };
        check_sealed(tree, head, &successor.closed).await?;
        directory.keep_successor(&text)?;
        Ok(Next::Opened(Box::new(successor)))
    }
}

/// The tree has the last head of the sealed log, and nothing after it.
pub(super) async fn check_sealed(
    tree: &mut Tree<'_>,
    head: &Checkpoint,
    closed: &Checkpoint,
) -> Result<(), MirrorError> {
    let size = closed.size;
    if tree.root_at(size).await? != closed.root {
        return Err(Alarm::OtherRoot { size }.into());
    }
    if head.size > size {
        return Err(Alarm::GrewAfterSealing { size, shown: head.size }.into());
    }
    Ok(())
}

/// What was copied for an index below the head's size.
fn entry_at(directory: &Directory, head: &Checkpoint, index: u64) -> Result<Hash, MirrorError> {
    let (last, partial) = extent(head.size, 0);
    let tile = index / WIDTH;
    let width = if tile == last { partial } else { full() };
    let path = TilePath::Entries { index: tile, width };
    let entries = directory.tile(&path)?.and_then(|bytes| entries(&bytes, width));
    let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
    let entry = entries.and_then(|entries| entries.get(at).copied());
    entry.ok_or_else(|| MirrorError::Damaged(directory.path(&path)))
}

/// What the bundle states about the log after `origin`.
///
/// # Errors
/// In words, why nobody whom the reader trusts says so.
fn read(bundle: &Bundle, origin: &str, trust: &Policy) -> Result<Stated, String> {
    let report = bundle::verify(bundle, trust);
    if report.verdict == Verdict::Invalid {
        return Err(reasons(&report));
    }
    let said: Vec<(&str, u64, Hash, NewLog)> = bundle
        .items
        .iter()
        .zip(&report.statements)
        .filter_map(|(item, read)| {
            let read = read.as_ref().filter(|read| trust.registrars.contains(&read.kid))?;
            let (place, index) = read.place.as_ref()?;
            Some((place.as_str(), *index, read.entry, new_log(&item.signed)?))
        })
        .collect();
    let mut named = said.iter().filter(|(place, .., next)| *place == origin && next.origin != origin);
    let Some((_, index, entry, next)) = named.next() else {
        return Err(format!("no registrar of the trust file says so in {origin}"));
    };
    if named.any(|(.., other)| (&other.origin, &other.vkey) != (&next.origin, &next.vkey)) {
        return Err(format!("{origin} names two logs"));
    }
    let key: VerifierKey = next.vkey.parse().map_err(|_| "it names no verifier key".to_owned())?;
    if !is_beside(origin, &next.origin) {
        return Err(format!("{} is of another ledger", next.origin));
    }
    let first = said.iter().find(|(place, index, ..)| *place == next.origin && *index == 0);
    let heads = match first {
        None => None,
        Some((.., first)) => Some((closed_by(first, origin, trust)?, opened_at(bundle, &key)?)),
    };
    let open = (report.verdict == Verdict::CouldNotCheck).then(|| reasons(&report));
    Ok(Stated { key, named: (*index, *entry), heads, open })
}

fn new_log(signed: &Signed) -> Option<NewLog> {
    let Signed::Record { signed, .. } = signed else { return None };
    match Record::parse(signed).ok()?.statement()?.ok()? {
        Statement::NewLog(new_log) => Some(new_log),
        _ => None,
    }
}

fn is_beside(one: &str, other: &str) -> bool {
    let (one, other) = (one.parse::<Origin>(), other.parse::<Origin>());
    one.is_ok_and(|one| other.is_ok_and(|other| one.is_beside(&other)))
}

/// The last head of `origin`, signed by its key, in the first statement of the log after it.
fn closed_by(first: &NewLog, origin: &str, trust: &Policy) -> Result<Checkpoint, String> {
    let note = first.closed.as_ref().and_then(|text| text.parse::<Note>().ok());
    let mut logs = trust.logs.iter().filter(|log| log.key.name.as_str() == origin);
    let closed = note.and_then(|note| logs.find_map(|log| Checkpoint::open(&note, &log.key).ok()));
    closed.ok_or_else(|| format!("the first entry of {} holds no last head of {origin}", first.origin))
}

fn opened_at(bundle: &Bundle, key: &VerifierKey) -> Result<Checkpoint, String> {
    let mut heads = bundle.checkpoints.iter();
    let opened = heads.find_map(|note| Checkpoint::open(note, key).ok());
    opened.ok_or_else(|| format!("no head of {} is there", key.name))
}

fn reasons(report: &Report) -> String {
    let of = |outcome: &Outcome| match outcome {
        Outcome::Good => Vec::new(),
        Outcome::Bad(why) | Outcome::Unchecked(why) => why.clone(),
    };
    let gravest = |outcome: &&Outcome| match report.verdict {
        Verdict::Invalid => matches!(outcome, Outcome::Bad(_)),
        _ => true,
    };
    let outcomes = report.layers.iter().map(|checked| &checked.outcome).filter(gravest);
    outcomes.flat_map(of).collect::<Vec<_>>().join("; ")
}
