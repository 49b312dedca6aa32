//! The tables of keys and rosters against the history that the log tells, and the outbox of the chains against the heads.

use std::collections::BTreeSet;

use contracts::Sent;
use store::fsck::{AnchorRow, FsckReadError, KeyRow, Snapshot};
use trace::{
    hash::{Hash, sha256_of},
    keys::Kid,
    roster::RosterLine,
};

use super::{
    Report,
    history::{Enrolled, History},
    tree,
};

/// Every key's row says what its enrolment said, and what became of it since.
pub(super) fn check_keys(
    snapshot: &mut Snapshot,
    history: &History,
    report: &mut Report,
) -> Result<(), FsckReadError> {
    let mut kept = BTreeSet::new();
    for row in snapshot.keys()? {
        report.keys += 1;
        let kid = Kid::from_slice(&row.kid);
        let enrolled = kid.and_then(|kid| history.key(&kid));
        kept.extend(kid);
        let name = kid.map_or_else(|| "?".to_owned(), |kid| kid.to_string());
        match enrolled {
            // Enrolled a moment ago: its turn comes with its entry.
            None if row.waits => {}
            None => report.misfit(format!("key {name}"), "no registrar enrolled it"),
            Some(enrolled) => {
                let wrong = wrong_columns(&row, enrolled);
                if !wrong.is_empty() {
                    report
                        .misfit(format!("key {name}"), format!("its row says another {}", wrong.join(", ")));
                }
            }
        }
    }
    let mut missing: Vec<&Kid> = history.keys().keys().filter(|kid| !kept.contains(*kid)).collect();
    missing.sort_unstable();
    for kid in missing {
        report.misfit(format!("key {kid}"), "it was enrolled, and has no row");
    }
    Ok(())
}

fn wrong_columns(row: &KeyRow, enrolled: &Enrolled) -> Vec<&'static str> {
    let (state, since) = match enrolled.ended {
        None => ("good", enrolled.since),
        Some(end) if end.revoked => ("revoked", end.since),
        Some(end) => ("rotated", end.since),
    };
    let columns = [
        ("party_id", row.party.as_ref() == Some(&enrolled.party)),
        ("role", row.role == enrolled.role.as_str()),
        ("custody", row.custody == enrolled.custody.as_str()),
        ("state", row.state == state),
        ("since", row.since.timestamp_micros() == since.saturating_mul(1_000_000)),
        ("public", row.public == enrolled.key.as_bytes()),
        ("enrolled_by", row.enrolled_by.as_deref() == Some(enrolled.entry.as_bytes())),
        ("device_id", device_fits(row, enrolled)),
    ];
    columns.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
}

/// A key speaks for one device, `urn:dev:org:{PEN}-{party}:{device}:`, or for all of a party, or of all.
fn device_fits(row: &KeyRow, enrolled: &Enrolled) -> bool {
    let Some((_, name)) = enrolled.base_name.as_deref().and_then(|name| name.split_once('-')) else {
        return row.device.is_none() && !row.has_device;
    };
    let spoken_for = name.trim_end_matches(':').split_once(':');
    match (&row.device, spoken_for) {
        (Some((party, device)), Some(named)) => (party.as_str(), device.as_str()) == named,
        (None, None) => !row.has_device,
        _ => false,
    }
}

/// Each stated root has its lines, these make the root, and no line tells of a key otherwise than the log does.
pub(super) fn check_rosters(
    snapshot: &mut Snapshot,
    history: &History,
    report: &mut Report,
) -> Result<(), FsckReadError> {
    for (root, (_, count)) in &history.rosters {
        let at = format!("roster {root}");
        let Some(text) = snapshot.roster(root.as_bytes())? else {
            report.misfit(at, "it was stated, and its lines are not kept");
            continue;
        };
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        let leaves: Vec<Hash> = lines.iter().map(|line| sha256_of(&[&[0], line.as_bytes()])).collect();
        let whole = text.is_empty() || text.ends_with('\n');
        if !whole || tree::tree_hash(&leaves) != *root || u64::try_from(lines.len()) != Ok(*count) {
            report.misfit(at, "its lines do not make its root");
            continue;
        }
        if let Some(line) = lines.iter().find(|line| !line_fits(line, history)) {
            report.misfit(at, format!("not what the log tells: {line}"));
        }
    }
    for root in snapshot.roster_roots()? {
        let Some(root) = Hash::from_slice(&root) else {
            report.misfit("roster", "a root that is not 32 bytes");
            continue;
        };
        if !history.rosters.contains_key(&root) && !snapshot.roster_waits(&root.to_string())? {
            report.misfit(format!("roster {root}"), "lines are kept under a root that nobody stated");
        }
    }
    Ok(())
}

/// As the key was when it was enrolled, or when it ended.
fn line_fits(line: &str, history: &History) -> bool {
    let Ok(line) = line.parse::<RosterLine>() else { return false };
    let Some(key) = history.key(&line.kid) else { return false };
    let was = match line.state.as_str() {
        "good" => line.since == key.since,
        state => key.ended.is_some_and(|end| {
            end.since == line.since && state == if end.revoked { "revoked" } else { "rotated" }
        }),
    };
    was && line.party == key.party && line.custody == key.custody
}

/// What was sent to a chain is the head that the log had.
pub(super) fn check_anchors(snapshot: &mut Snapshot, report: &mut Report) -> Result<(), FsckReadError> {
    snapshot.anchors(|row| {
        report.anchors += 1;
        let wrong = wrong_of_anchor(row);
        if !wrong.is_empty() {
            let origin = row.origin.as_deref().unwrap_or("?");
            let at = format!("{origin} anchor of {} on chain {}", row.size, row.chain_id);
            report.misfit(at, format!("its row says another {}", wrong.join(", ")));
        }
    })
}

fn wrong_of_anchor(row: &AnchorRow) -> Vec<&'static str> {
    let Some(sent) = Sent::read(&row.raw) else { return vec!["raw"] };
    let columns = [
        ("tx_hash", row.tx_hash == sent.transaction.as_bytes()),
        ("chain_id", u64::try_from(row.chain_id) == Ok(sent.chain_id)),
        ("nonce", u64::try_from(row.nonce) == Ok(sent.nonce)),
        ("gas_price", u128::try_from(row.gas_price) == Ok(sent.gas_price)),
        ("contract", row.contract == sent.contract),
        ("log_id", row.origin.as_deref().is_some_and(|origin| sent.names(origin))),
        ("size", u64::try_from(row.size) == Ok(sent.size)),
        ("root", row.root == sent.root.as_bytes() && row.logged.as_ref() == Some(&row.root)),
    ];
    columns.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
}
