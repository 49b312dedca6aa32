//! Whether the key that signed a record was good when it did: the one rule behind every page, as `trace::bundle` judges it
//! from a bundle (`formats.md`, "Keys and the roster"). It asks the registrar's statements, which nobody can change, and not
//! the state of the key's row, which the application can.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use store::{
    Connection, StoreError, ledger,
    record::{self, Record},
    roster,
};
use trace::{
    b64,
    bundle::Interval,
    record::{
        Record as Signed,
        statement::{RevocationReason, Statement},
    },
    revocation::{Reach, reach},
};

use super::story::Leaf;

/// Endings of keys that a list of exceptions looks behind.
const ENDINGS_MAX: i64 = 1_000;

/// What the first roster after a record shows of its signer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Good,
    /// No roster stands after the record yet.
    Unconfirmed,
    /// Another key had taken its place.
    Replaced,
    Revoked,
    /// Somebody else may have had it.
    Lost,
}

impl Standing {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unconfirmed => "unconfirmed",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Lost => "lost",
        }
    }

    /// Whether the record is shown as one that its signer's key does not vouch for.
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Replaced | Self::Revoked | Self::Lost)
    }
}

/// A statement after which a key signs no more.
#[derive(Debug)]
struct Ending {
    leaf: Option<Leaf>,
    stated_at: DateTime<Utc>,
    why: Why,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Replaced,
    Revoked { since: i64, reason: RevocationReason },
}

impl Why {
    const fn standing(self) -> Standing {
        match self {
            Self::Replaced => Standing::Replaced,
            Self::Revoked { reason, .. } if reason.is_out_of_hands() => Standing::Lost,
            Self::Revoked { .. } => Standing::Revoked,
        }
    }
}

/// By entry: how the signers of `records`, each with its place in the log, stand.
pub async fn of(
    conn: &mut Connection,
    records: &[(&Record, Option<Leaf>)],
) -> Result<BTreeMap<Vec<u8>, Standing>, StoreError> {
    if records.is_empty() {
        return Ok(BTreeMap::new());
    }
    let kids: BTreeSet<&[u8]> = records.iter().map(|(record, _)| record.kid.as_slice()).collect();
    let kids: Vec<String> = kids.into_iter().map(b64::url).collect();
    let statements = record::endings_of(conn, &kids).await?;
    let endings = endings(conn, statements).await?;
    let roster = roster::newest_place(conn).await?.map(|(log_id, index)| Leaf { log_id, index });
    let judged = records.iter().map(|(record, leaf)| {
        let endings = endings.get(&record.kid).map_or(&[][..], Vec::as_slice);
        (record.entry.clone(), judge(record, *leaf, endings, roster))
    });
    Ok(judged.collect())
}

/// As [`of`], for one record.
pub async fn of_one(
    conn: &mut Connection,
    record: &Record,
    leaf: Option<Leaf>,
) -> Result<Standing, StoreError> {
    let judged = of(conn, &[(record, leaf)]).await?;
    Ok(judged.get(&record.entry).copied().unwrap_or(Standing::Unconfirmed))
}

/// The newest records of `party_id`, or of all, that their signers' keys do not vouch for; with their places in the log.
pub async fn exceptions(
    conn: &mut Connection,
    party_id: Option<i64>,
    limit: i64,
) -> Result<Vec<(Record, Standing, Option<Leaf>)>, StoreError> {
    let statements = record::endings(conn, ENDINGS_MAX).await?;
    let since: Vec<(Vec<u8>, DateTime<Utc>)> = statements.iter().filter_map(ended_since).collect();
    let records = record::signed_since(conn, &since, party_id, limit).await?;
    let leaves = leaves(conn, records.iter().map(|record| record.entry.clone())).await?;
    let asked: Vec<(&Record, Option<Leaf>)> =
        records.iter().map(|record| (record, leaves.get(&record.entry).copied())).collect();
    let standings = of(conn, &asked).await?;
    let judged = records.into_iter().filter_map(|record| {
        let standing = standings.get(&record.entry).copied().filter(|standing| standing.is_bad())?;
        let leaf = leaves.get(&record.entry).copied();
        Some((record, standing, leaf))
    });
    let mut bad: Vec<_> = judged.collect();
    bad.sort_by_key(|(record, ..)| std::cmp::Reverse(record.accepted_at));
    Ok(bad)
}

/// Where entries stand in the log.
pub async fn leaves(
    conn: &mut Connection,
    entries: impl Iterator<Item = Vec<u8>>,
) -> Result<BTreeMap<Vec<u8>, Leaf>, StoreError> {
    let entries: Vec<Vec<u8>> = entries.collect();
    let located = ledger::locate_all(conn, &entries).await?;
    Ok(located
        .into_iter()
        .map(|entry| (entry.hash, Leaf { log_id: entry.log_id, index: entry.index }))
        .collect())
}

/// The key that a statement ended, and why; nothing for what is no such statement.
fn ending(statement: &Record) -> Option<(Vec<u8>, Why)> {
    match Signed::parse(&statement.signed).ok()?.statement()?.ok()? {
        Statement::Rotate(rotation) => Some((rotation.replaces.as_bytes().to_vec(), Why::Replaced)),
        Statement::Revoke(revocation) => {
            let (since, reason) = (revocation.since, revocation.reason);
            Some((revocation.kid.as_bytes().to_vec(), Why::Revoked { since, reason }))
        }
        _ => None,
    }
}

/// From when on what the key signed may be bad.
fn ended_since(statement: &Record) -> Option<(Vec<u8>, DateTime<Utc>)> {
    let (kid, why) = ending(statement)?;
    let since = match why {
        Why::Replaced => statement.accepted_at,
        Why::Revoked { since, .. } => {
            DateTime::from_timestamp(since, 0).unwrap_or_default().min(statement.accepted_at)
        }
    };
    Some((kid, since))
}

async fn endings(
    conn: &mut Connection,
    statements: Vec<Record>,
) -> Result<BTreeMap<Vec<u8>, Vec<Ending>>, StoreError> {
    let leaves = leaves(conn, statements.iter().map(|statement| statement.entry.clone())).await?;
    let mut endings: BTreeMap<Vec<u8>, Vec<Ending>> = BTreeMap::new();
    for statement in statements {
        if let Some((kid, why)) = ending(&statement) {
            let leaf = leaves.get(&statement.entry).copied();
            endings.entry(kid).or_default().push(Ending { leaf, stated_at: statement.accepted_at, why });
        }
    }
    Ok(endings)
}

fn judge(record: &Record, leaf: Option<Leaf>, endings: &[Ending], roster: Option<Leaf>) -> Standing {
    // What its author says of the time counts against it, and what we saw of it counts for it.
    let made = Interval { after: seconds(record.iat), before: seconds(record.accepted_at) };
    let strikes = |ending: &&Ending| {
        ends_before(ending, record, leaf)
            || match ending.why {
                Why::Replaced => false,
                Why::Revoked { since, reason } => reach(made, since, reason) != Reach::Spared,
            }
    };
    let worst = endings.iter().filter(strikes).map(|ending| ending.why.standing()).max();
    match worst {
        Some(standing) => standing,
        None if leaf.is_some() && leaf < roster => Standing::Good,
        None => Standing::Unconfirmed,
    }
}

/// The log decides; of two that wait for it, the clock.
fn ends_before(ending: &Ending, record: &Record, leaf: Option<Leaf>) -> bool {
    match (ending.leaf, leaf) {
        (Some(ending), Some(leaf)) => ending < leaf,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => ending.stated_at < record.accepted_at,
    }
}

fn seconds(at: DateTime<Utc>) -> Option<u64> {
    u64::try_from(at.timestamp()).ok()
}
