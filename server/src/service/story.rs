//! What a scan tells: the lot, whether its record is whole, and every step of it and of what it was made from.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde_json::Value;
use store::{
    Connection, Store, StoreError, code, key, ledger,
    lot::{self, Lot},
    party::{self, Party, Place, TradeItem},
    record::{self, Record},
};
use trace::{gs1::Key, keys::Custody, tlog::policy::Policy};
use uuid::Uuid;

use crate::service::{
    climate::{self, Chart},
    codes::{self, Found},
    profiles::Profiles,
    standing::{self, Standing},
    tracing,
};

/// A lot, its part in a record (input, output, …), the quantity that is meant, and the record.
type RecordOfLot = (i64, String, Option<i64>, Record);

/// Lots that one page follows upstream; beyond, the page says that it was cut.
const LOTS_MAX: i64 = 2_000;
/// Records that one page shows.
const RECORDS_MAX: i64 = 300;

/// The one line a shopper came for. Never "genuine": it speaks of the record, not of this package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every lot upstream begins with a record of its origin, every record stands in the log, and no signer's key was bad.
    Complete,
    Partial,
    Recalled,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Recalled => "recalled",
        }
    }
}

/// One statement about the lot or what it was made from.
#[derive(Debug)]
pub struct Told {
    pub jti: Uuid,
    pub kind: String,
    pub profile: String,
    pub step: Option<String>,
    pub time: Option<DateTime<Utc>>,
    pub offset: Option<String>,
    pub accepted_at: DateTime<Utc>,
    pub party: Option<Party>,
    pub county: Option<String>,
    pub grade: String,
    pub custody: Custody,
    pub standing: Standing,
    /// Sum by unit of what went in and came out.
    pub input: BTreeMap<String, i64>,
    pub output: BTreeMap<String, i64>,
    pub moved: BTreeMap<String, i64>,
    pub place_id: Option<i64>,
    pub closed_fields: usize,
    pub late: bool,
    pub leaf: Option<Leaf>,
    /// What everybody may see of the event.
    pub event: Value,
}

/// Where a statement stands in the log; the logs of a ledger are numbered in the order of their opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaf {
    pub log_id: i16,
    pub index: i64,
}

/// The newest head of the log that holds the lot's own record.
#[derive(Debug)]
pub struct Head {
    pub origin: String,
    pub size: i64,
    pub signed_at: DateTime<Utc>,
    pub witnesses: Vec<String>,
    /// Witnesses who have not cosigned it.
    pub missing: Vec<String>,
    /// The newest heads of this log that stand on a chain, one for each chain.
    pub anchors: Vec<store::anchor::Anchor>,
}

#[derive(Debug)]
pub struct Story {
    pub lot: Lot,
    pub item: Option<TradeItem>,
    pub maker: Option<Party>,
    pub place: Option<Place>,
    pub verdict: Verdict,
    /// Newest first.
    pub steps: Vec<Told>,
    pub steps_cut: bool,
    /// Lots upstream that no record of an origin begins.
    pub missing: usize,
    pub unlogged: usize,
    /// Records that their signers' keys do not vouch for.
    pub unsound: usize,
    pub head: Option<Head>,
    pub charts: Vec<Chart>,
    /// Place → what the charts stand under.
    pub chart_places: BTreeMap<i64, Place>,
    /// (first month, times) of scans of this very code.
    pub scans: Option<(NaiveDate, i64)>,
}

/// What a scanned code leads to.
#[derive(Debug)]
pub enum Answer {
    Story(Box<Story>),
    /// Several lots stand on the unit: each has its own story.
    Several(Vec<Lot>),
    /// Issued, and taken back.
    Void(String),
    NeverIssued,
}

/// What a code stands for.
#[derive(Debug)]
pub enum Named {
    Lot(Box<Lot>),
    Several(Vec<Lot>),
    Void(String),
    NeverIssued,
}

/// The story of what `key` names.
pub async fn tell(
    store: &Store,
    profiles: &Profiles,
    witnesses: &Policy,
    master: &[u8; 32],
    key: &Key,
) -> Result<Answer, StoreError> {
    let mut conn = store.connection().await?;
    Ok(match find(&mut conn, master, key).await? {
        Named::Lot(lot) => {
            Answer::Story(Box::new(of_lot(&mut conn, profiles, witnesses, *lot, &key.uri()).await?))
        }
        Named::Several(lots) => Answer::Several(lots),
        Named::Void(reason) => Answer::Void(reason),
        Named::NeverIssued => Answer::NeverIssued,
    })
}

/// What `key` names: a lot or a single unit by its row, the serial of a pack by arithmetic, what stands on a pallet by the
/// lots on it. `master` is that of the serial numbers.
pub async fn find(conn: &mut Connection, master: &[u8; 32], key: &Key) -> Result<Named, StoreError> {
    let mut known = tracing::lots_named(conn, key).await?;
    if known.len() > 1 {
        return Ok(Named::Several(known));
    }
    match (known.pop(), key) {
        (Some(lot), _) => Ok(Named::Lot(Box::new(lot))),
        (None, Key::TradeItem { gtin, serial: Some(serial), .. }) => {
            Ok(match codes::find(conn, master, &gtin.to_string(), serial.as_str()).await? {
                Found::Lot(lot) => Named::Lot(lot),
                Found::Void(reason) => Named::Void(reason),
                Found::NeverIssued | Found::NoRun => Named::NeverIssued,
            })
        }
        (None, _) => Ok(Named::NeverIssued),
    }
}

/// The story of `lot`, scanned as `uri` (a serial of it, or itself).
pub async fn of_lot(
    conn: &mut Connection,
    profiles: &Profiles,
    witnesses: &Policy,
    lot: Lot,
    uri: &str,
) -> Result<Story, StoreError> {
    let upstream = lot::closure(conn, &[lot.id], true, LOTS_MAX + 1).await?;
    let cut = i64::try_from(upstream.len()).unwrap_or(i64::MAX) > LOTS_MAX;
    let rows = record::of_lots(conn, &upstream, RECORDS_MAX + 1).await?;
    let steps_cut = cut || i64::try_from(rows.len()).unwrap_or(i64::MAX) > RECORDS_MAX;
    let missing = without_origin(conn, &upstream, &rows).await?;
    let lots = lot::by_ids(conn, &upstream).await?;
    let units: BTreeMap<i64, &str> = lots.iter().map(|lot| (lot.id, lot.unit.as_str())).collect();
    let entries = rows.iter().map(|(.., record)| record.entry.clone()).chain([lot.entry.clone()]);
    let leaves = standing::leaves(conn, entries).await?;
    let mentioned = Mentioned::of(conn, &lot, &rows).await?;
    let steps = steps(conn, rows, &units, &leaves, &mentioned).await?;
    // What the server measured of late is no gap in what people stated.
    let unlogged = steps.iter().filter(|step| step.leaf.is_none() && step.kind != "derived").count();
    let unsound = steps.iter().filter(|step| step.standing.is_bad()).count();
    let head = match leaves.get(&lot.entry) {
        Some(leaf) => head(conn, witnesses, leaf.log_id).await?,
        None => None,
    };
    let verdict = match (&lot.recalled_by, missing == 0 && unlogged == 0 && unsound == 0 && !cut) {
        (Some(_), _) => Verdict::Recalled,
        (None, true) => Verdict::Complete,
        (None, false) => Verdict::Partial,
    };
    let charts = match profiles.by_id(&lot.profile) {
        Some(profile) => climate::charts(conn, profile, &steps).await?,
        None => Vec::new(),
    };
    let chart_places = charts.iter().filter_map(|chart| mentioned.places.get_key_value(&chart.place));
    let scans = code::scans(conn, uri).await?;
    Ok(Story {
        item: party::trade_item(conn, &lot.gtin).await?,
        maker: mentioned.parties.get(&lot.made_by).cloned(),
        place: lot.made_at_place.and_then(|place| mentioned.places.get(&place).cloned()),
        chart_places: chart_places.map(|(id, place)| (*id, place.clone())).collect(),
        verdict,
        steps,
        steps_cut,
        missing,
        unlogged,
        unsound,
        head,
        charts,
        scans: scans.first().map(|(month, _)| (*month, scans.iter().map(|(_, times)| times).sum())),
        lot,
    })
}

/// How many of the lots upstream were neither made from others nor begun by an observation of their origin.
async fn without_origin(
    conn: &mut Connection,
    upstream: &[i64],
    rows: &[RecordOfLot],
) -> Result<usize, StoreError> {
    let made: BTreeSet<i64> =
        lot::edges_into(conn, upstream).await?.into_iter().map(|edge| edge.child_id).collect();
    let begun: BTreeSet<i64> = rows
        .iter()
        .filter(|(_, part, _, record)| {
            part == "output" && record.public.pointer("/event/action").and_then(Value::as_str) == Some("ADD")
        })
        .map(|(lot, ..)| *lot)
        .collect();
    Ok(upstream.iter().filter(|lot| !made.contains(lot) && !begun.contains(lot)).count())
}

/// Whom and what a story names, read once.
struct Mentioned {
    parties: BTreeMap<i64, Party>,
    places: BTreeMap<i64, Place>,
}

impl Mentioned {
    async fn of(conn: &mut Connection, lot: &Lot, rows: &[RecordOfLot]) -> Result<Self, StoreError> {
        let parties = rows.iter().map(|(.., record)| record.party_id).chain([lot.made_by]);
        let places = rows.iter().filter_map(|(.., record)| record.place_id).chain(lot.made_at_place);
        Ok(Self { parties: self::parties(conn, parties).await?, places: self::places(conn, places).await? })
    }
}

async fn steps(
    conn: &mut Connection,
    rows: Vec<RecordOfLot>,
    units: &BTreeMap<i64, &str>,
    leaves: &BTreeMap<Vec<u8>, Leaf>,
    Mentioned { parties, places }: &Mentioned,
) -> Result<Vec<Told>, StoreError> {
    let entries: Vec<Vec<u8>> =
        rows.iter().map(|(.., record)| record.entry.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let mut closed: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for disclosure in record::disclosures_of(conn, &entries).await? {
        if disclosure.visibility != "public" {
            *closed.entry(disclosure.entry).or_default() += 1;
        }
    }
    let signed: Vec<(&Record, Option<Leaf>)> =
        rows.iter().map(|(.., record)| (record, leaves.get(&record.entry).copied())).collect();
    let standings = standing::of(conn, &signed).await?;
    let kids: BTreeSet<Vec<u8>> = rows.iter().map(|(.., record)| record.kid.clone()).collect();
    let custody: BTreeMap<Vec<u8>, Custody> = key::by_kids(conn, &kids.into_iter().collect::<Vec<_>>())
        .await?
        .into_iter()
        .filter_map(|key| Some((key.kid.clone(), key.custody.parse().ok()?)))
        .collect();
    let mut told: BTreeMap<Vec<u8>, Told> = BTreeMap::new();
    for (lot, part, quantity, mut record) in rows {
        let step = told.entry(record.entry.clone()).or_insert_with(|| Told {
            closed_fields: closed.get(&record.entry).copied().unwrap_or(0),
            leaf: leaves.get(&record.entry).copied(),
            custody: custody.get(&record.kid).copied().unwrap_or(Custody::Platform),
            standing: standings.get(&record.entry).copied().unwrap_or(Standing::Unconfirmed),
            county: record
                .place_id
                .and_then(|place| places.get(&place))
                .and_then(|place| place.county.clone())
                .or_else(|| parties.get(&record.party_id).and_then(|party| party.county.clone())),
            party: parties.get(&record.party_id).cloned(),
            place_id: record.place_id,
            jti: record.jti,
            kind: record.kind,
            profile: record.profile.split('/').next().unwrap_or_default().to_owned(),
            step: record.step,
            time: record.event_time,
            offset: record.event_offset,
            accepted_at: record.accepted_at,
            grade: record.grade,
            late: record.late,
            event: record.public.get_mut("event").map_or(Value::Null, Value::take),
            input: BTreeMap::new(),
            output: BTreeMap::new(),
            moved: BTreeMap::new(),
        });
        let (Some(unit), Some(quantity)) = (units.get(&lot), quantity) else { continue };
        let sum = match part.as_str() {
            "input" => &mut step.input,
            "output" => &mut step.output,
            _ => &mut step.moved,
        };
        let sum = sum.entry((*unit).to_owned()).or_insert(0);
        *sum = sum.saturating_add(quantity);
    }
    let mut steps: Vec<Told> = told.into_values().collect();
    steps.sort_by_key(|step| std::cmp::Reverse((step.time.unwrap_or(step.accepted_at), step.accepted_at)));
    Ok(steps)
}

pub async fn parties(
    conn: &mut Connection,
    ids: impl Iterator<Item = i64>,
) -> Result<BTreeMap<i64, Party>, StoreError> {
    let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    Ok(party::by_ids(conn, &ids).await?.into_iter().map(|party| (party.id, party)).collect())
}

pub async fn places(
    conn: &mut Connection,
    ids: impl Iterator<Item = i64>,
) -> Result<BTreeMap<i64, Place>, StoreError> {
    let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    Ok(party::places_by_ids(conn, &ids).await?.into_iter().map(|place| (place.id, place)).collect())
}

async fn head(conn: &mut Connection, policy: &Policy, log_id: i16) -> Result<Option<Head>, StoreError> {
    let Some(log) = ledger::logs(conn).await?.into_iter().find(|log| log.id == log_id) else {
        return Ok(None);
    };
    // A head that enough witnesses have seen says more than one that some have, and that more than the newest one.
    let (names, least) = policy.deciding();
    let quorum = ledger::Quorum { names: &names, least: least.max(1) };
    let mut found = ledger::newest_with_quorum(conn, log_id, quorum, 1).await?;
    if found.is_empty() {
        found = ledger::newest_cosigned(conn, log_id, 1).await?;
    }
    if found.is_empty() {
        found = ledger::newest_checkpoints(conn, log_id, 1).await?;
    }
    let Some(checkpoint) = found.into_iter().next() else { return Ok(None) };
    let cosignatures = ledger::cosignatures(conn, log_id, checkpoint.size).await?;
    let witnesses: Vec<String> = cosignatures.into_iter().map(|cosignature| cosignature.witness).collect();
    let missing = policy.witnesses().keys().filter(|name| !witnesses.contains(name));
    Ok(Some(Head {
        origin: log.origin,
        size: checkpoint.size,
        signed_at: checkpoint.signed_at,
        missing: missing.cloned().collect(),
        witnesses,
        anchors: super::ledger::newest_anchors(conn, log_id).await?,
    }))
}

/// Counts a scan of a code that was issued: the code and the month, nothing else.
pub async fn count(store: &Store, uri: &str, today: NaiveDate) -> Result<(), StoreError> {
    let month = today.with_day(1).unwrap_or(today);
    let mut conn = store.connection().await?;
    code::count_scan(&mut conn, uri, month).await
}
