//! A party's and a regulator's look at a lot: who may, and that the looked-at see it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use store::{
    Connection, Store, StoreError, account,
    alert::{self, Alert},
    consignment,
    ledger::SignedPart,
    lot::{self, Holding, Lot},
    party::{Party, Place},
    record::{self, Record},
};
use trace::{graph::Direction, gs1::Key, tlog::policy::Policy};
use uuid::Uuid;

use crate::service::{
    account::{Asker, Member},
    alerts::scope_of,
    keys::{Keys, KeysError},
    ledger::Log,
    profiles::Profiles,
    registry,
    standing::{self, Standing},
    story::{self, Leaf, Story},
    tracing::{self, Trace, TracingError},
};

/// Records and hand-overs looked through for who had a part in a lot.
const PARTS_MAX: i64 = 2_000;
const SEARCH_MAX: i64 = 50;
const ALERTS_MAX: i64 = 100;
const EXCEPTIONS_MAX: i64 = 200;
/// Lots named with one exception.
const EXCEPTION_LOTS_MAX: usize = 20;
/// Lots in a trace page.
const TRACE_LOTS_MAX: usize = 500;

/// A lot as those who had it in hand see it.
#[derive(Debug)]
pub struct LotFile {
    pub story: Story,
    /// Where it is now.
    pub holdings: Vec<(Holding, Option<Party>, Option<Place>)>,
}

/// The file of a lot; `None` for a lot that is not there, and for one the member had no part in (404, not 403).
pub async fn lot_file(
    store: &Store,
    profiles: &Profiles,
    witnesses: &Policy,
    member: &Member,
    key: &Key,
) -> Result<Option<LotFile>, StoreError> {
    let mut conn = store.connection().await?;
    let Some(lot) = lot::by_uri(&mut conn, &key.uri()).await? else { return Ok(None) };
    let parties = parties_of(&mut conn, &lot).await?;
    if !member.is_regulator() && !parties.contains(&member.party.id) {
        return Ok(None);
    }
    let mut rows = lot::holdings_of_lots(&mut conn, &[lot.id]).await?;
    if !member.is_regulator() && lot.made_by != member.party.id {
        // Where the rest of a lot lies is nobody's business but its maker's.
        rows.retain(|holding| holding.party_id == member.party.id);
    }
    look(&mut conn, &member.into(), &parties, &lot.uri).await?;
    let holders = story::parties(&mut conn, rows.iter().map(|holding| holding.party_id)).await?;
    let places = story::places(&mut conn, rows.iter().map(|holding| holding.place_id)).await?;
    let holdings = rows
        .into_iter()
        .map(|row| (row, holders.get(&row.party_id).cloned(), places.get(&row.place_id).cloned()))
        .collect();
    let uri = lot.uri.clone();
    Ok(Some(LotFile { story: story::of_lot(&mut conn, profiles, witnesses, lot, &uri).await?, holdings }))
}

/// Everybody who made a record of the lot, holds it or was sent it.
async fn parties_of(conn: &mut Connection, lot: &Lot) -> Result<BTreeSet<i64>, StoreError> {
    let mut parties = BTreeSet::from([lot.made_by]);
    let records = record::of_lots(conn, &[lot.id], PARTS_MAX).await?;
    parties.extend(records.iter().map(|(.., record)| record.party_id));
    let holdings = lot::holdings_of_lots(conn, &[lot.id]).await?;
    parties.extend(holdings.iter().map(|holding| holding.party_id));
    for (consignment, _) in consignment::of_lots(conn, &[lot.id], PARTS_MAX).await? {
        parties.extend([consignment.shipper_id, consignment.receiver_id]);
    }
    Ok(parties)
}

/// Bytes after which an answer takes no further signed parts.
const SIGNED_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// The signed bytes behind `[from, from + count)` of a log, for a regulator's program. Whose they are sees the look.
pub async fn signed_parts(
    store: &Store,
    regulator: &Party,
    log: &Log,
    from: u64,
    count: u16,
) -> Result<Vec<SignedPart>, StoreError> {
    // No log has an entry beyond what the database counts with.
    let Ok(first) = i64::try_from(from) else { return Ok(Vec::new()) };
    let mut conn = store.connection().await?;
    let parts =
        store::ledger::signed_parts(&mut conn, log.id, first, i64::from(count), SIGNED_BYTES_MAX).await?;
    let Some(last) = parts.last() else { return Ok(parts) };
    let subject = format!("{} {first}-{}", log.origin, last.index);
    let by = account::Looking { party_id: regulator.id, account_id: None };
    let parties: BTreeSet<i64> = parts.iter().filter_map(|part| part.party_id).collect();
    for party in parties {
        account::insert_look(&mut conn, by, party, &subject).await?;
    }
    Ok(parts)
}

/// Written before anything is shown: a look that could not be logged does not happen. Only an authority's is.
pub(super) async fn look(
    conn: &mut Connection,
    asker: &Asker,
    parties: &BTreeSet<i64>,
    subject: &str,
) -> Result<(), StoreError> {
    let Some(by) = asker.watched() else { return Ok(()) };
    for party in parties {
        account::insert_look(conn, by, *party, subject).await?;
    }
    Ok(())
}

/// The trace of a lot in one direction, for a regulator; logged with every party it touches.
pub async fn follow(
    store: &Store,
    member: &Member,
    key: &Key,
    direction: Direction,
) -> Result<Option<Trace>, StoreError> {
    if !member.is_regulator() {
        return Ok(None);
    }
    let mut conn = store.connection().await?;
    let Some(root) = lot::by_uri(&mut conn, &key.uri()).await? else { return Ok(None) };
    let trace = match tracing::follow(&mut conn, root, direction, TRACE_LOTS_MAX).await {
        Ok(trace) => trace,
        Err(TracingError::Unknown) => return Ok(None),
        Err(TracingError::Store(error)) => return Err(error),
    };
    let parties = trace.parties.keys().copied().collect();
    look(&mut conn, &member.into(), &parties, &trace.root.uri).await?;
    Ok(Some(trace))
}

/// Lots whose number begins with `wanted`.
pub async fn search(store: &Store, member: &Member, wanted: &str) -> Result<Vec<Lot>, StoreError> {
    let wanted = wanted.trim();
    if !member.is_regulator() || wanted.is_empty() || wanted.len() > 64 {
        return Ok(Vec::new());
    }
    let mut conn = store.connection().await?;
    let found = lot::by_number_prefix(&mut conn, wanted, SEARCH_MAX).await?;
    let makers = found.iter().map(|lot| lot.made_by).collect();
    look(&mut conn, &member.into(), &makers, &format!("search {wanted}")).await?;
    Ok(found)
}

/// Alerts, with the rows that they speak of.
#[derive(Debug)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
    pub parties: BTreeMap<i64, Party>,
    pub places: BTreeMap<i64, Place>,
    pub lots: BTreeMap<i64, Lot>,
    /// The names of the member's own people who have seen them.
    pub seen_by: BTreeMap<Uuid, String>,
}

/// A party's alerts, open ones first; everybody's for regulator and operator, and logged for the regulator.
pub async fn visible_alerts(
    conn: &mut Connection,
    asker: &Asker,
    limit: i64,
) -> Result<Vec<Alert>, StoreError> {
    let alerts = alert::newest(conn, scope_of(&asker.party), limit).await?;
    let looked_at = alerts.iter().map(|alert| alert.party_id).collect();
    look(conn, asker, &looked_at, "alerts").await?;
    Ok(alerts)
}

/// The newest of [`visible_alerts`], as a page shows them.
pub async fn alerts(store: &Store, keys: &Keys, member: &Member) -> Result<Alerts, KeysError> {
    let mut conn = store.connection().await?;
    let alerts = visible_alerts(&mut conn, &member.into(), ALERTS_MAX).await?;
    let lots: BTreeSet<i64> = alerts.iter().flat_map(|alert| alert.lots.iter().copied()).collect();
    let lots = lot::by_ids(&mut conn, &lots.into_iter().collect::<Vec<_>>()).await?;
    Ok(Alerts {
        parties: story::parties(&mut conn, alerts.iter().map(|alert| alert.party_id)).await?,
        places: story::places(&mut conn, alerts.iter().map(|alert| alert.place_id)).await?,
        lots: lots.into_iter().map(|lot| (lot.id, lot)).collect(),
        seen_by: seen_by(&mut conn, keys, member, &alerts).await?,
        alerts,
    })
}

/// Who of another party looked is that party's business: its people have no name here.
async fn seen_by(
    conn: &mut Connection,
    keys: &Keys,
    member: &Member,
    alerts: &[Alert],
) -> Result<BTreeMap<Uuid, String>, KeysError> {
    let own = alerts.iter().filter(|alert| alert.party_id == member.party.id);
    let accounts: BTreeSet<Uuid> = own.filter_map(|alert| alert.acknowledged_by).collect();
    let mut names = BTreeMap::new();
    for id in accounts {
        let Some(account) = account::by_id(conn, id).await? else { continue };
        let name = match account.person_id {
            Some(person) => registry::name_of_person(conn, keys, person).await?,
            None => registry::name_of(conn, keys, &member.party).await?,
        };
        names.extend(name.map(|name| (id, name)));
    }
    Ok(names)
}

/// A record that its signer's key does not vouch for.
#[derive(Debug)]
pub struct Exception {
    pub record: Record,
    pub standing: Standing,
    pub leaf: Option<Leaf>,
    pub party: Option<Party>,
    pub lots: Vec<Lot>,
}

/// The newest exceptions of a member's party; everybody's for regulator and operator, and logged for the regulator.
pub async fn exceptions(store: &Store, member: &Member) -> Result<Vec<Exception>, StoreError> {
    let mut conn = store.connection().await?;
    let found = standing::exceptions(&mut conn, scope_of(&member.party), EXCEPTIONS_MAX).await?;
    let looked_at = found.iter().map(|(record, ..)| record.party_id).collect();
    look(&mut conn, &member.into(), &looked_at, "exceptions").await?;
    let parties = story::parties(&mut conn, looked_at.into_iter()).await?;
    let entries: Vec<Vec<u8>> = found.iter().map(|(record, ..)| record.entry.clone()).collect();
    let parts: BTreeSet<(Vec<u8>, i64)> = record::lots_of(&mut conn, &entries)
        .await?
        .into_iter()
        .map(|(entry, _, lot, _)| (entry, lot))
        .collect();
    let ids: Vec<i64> = parts.iter().map(|(_, lot)| *lot).collect::<BTreeSet<_>>().into_iter().collect();
    let lots: BTreeMap<i64, Lot> =
        lot::by_ids(&mut conn, &ids).await?.into_iter().map(|lot| (lot.id, lot)).collect();
    let of = |entry: &[u8]| {
        let own = parts.iter().filter(|(of, _)| of == entry);
        own.filter_map(|(_, lot)| lots.get(lot).cloned()).take(EXCEPTION_LOTS_MAX).collect()
    };
    let exception = |(record, standing, leaf): (Record, Standing, Option<Leaf>)| Exception {
        lots: of(&record.entry),
        party: parties.get(&record.party_id).cloned(),
        record,
        standing,
        leaf,
    };
    Ok(found.into_iter().map(exception).collect())
}

/// Says that a member of the party has seen its alert; `false` where there is no such alert of theirs.
pub async fn acknowledge(
    store: &Store,
    member: &Member,
    id: i64,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let mut conn = store.connection().await?;
    let own = alert::by_id(&mut conn, id).await?.is_some_and(|alert| alert.party_id == member.party.id);
    if own {
        // Seen twice is seen.
        alert::acknowledge(&mut conn, id, member.account_id, at).await?;
    }
    Ok(own)
}
