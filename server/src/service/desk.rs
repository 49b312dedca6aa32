//! A member's working day: what is on hand, what is on its way here, what was recorded, and what a form can offer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Store, StoreError, account,
    consignment::{self, Consignment, Line},
    device,
    lot::{self, Holding, Lot},
    pack::{self, PackKey},
    party::{self, Party, Place},
    quota::{self, Quota},
    reading,
    record::{self, Record},
};
use trace::{
    hash::Hash,
    keys::Custody,
    profile::{Field, Kind, Profile, Step},
};

use crate::service::{
    capture::Evidence,
    standing::{self, Standing},
    story,
};

/// Rows of each list of the day.
const ROWS_MAX: i64 = 200;
/// Parties and places that one form offers.
const OPTIONS_MAX: i64 = 200;
const RECORDS_MAX: i64 = 30;
const LOOKS_MAX: i64 = 10;

/// A quantity of a lot, where it lies.
#[derive(Debug)]
pub struct OnHand {
    pub lot: Lot,
    pub holding: Holding,
    pub place: Option<Place>,
}

/// A delivery on its way.
#[derive(Debug)]
pub struct Awaited {
    pub consignment: Consignment,
    pub shipper: Option<Party>,
    /// (lot, quantity sent).
    pub lines: Vec<(Lot, i64)>,
}

#[derive(Debug)]
pub struct Day {
    pub on_hand: Vec<OnHand>,
    pub awaited: Vec<Awaited>,
    pub records: Vec<Record>,
    /// (when, who, at what): regulators' looks at what is not public.
    pub looks: Vec<(DateTime<Utc>, Option<String>, String)>,
}

/// Everything `/day` shows of a party.
pub async fn day(store: &Store, party: &Party) -> Result<Day, StoreError> {
    let mut conn = store.connection().await?;
    Ok(Day {
        on_hand: on_hand(&mut conn, party.id).await?,
        awaited: awaited(&mut conn, party.id).await?,
        records: record::newest_of(&mut conn, party.id, RECORDS_MAX).await?,
        looks: account::looks_at(&mut conn, party.id, LOOKS_MAX).await?,
    })
}

async fn on_hand(conn: &mut store::Connection, party_id: i64) -> Result<Vec<OnHand>, StoreError> {
    let rows = lot::holdings_of(conn, party_id, ROWS_MAX).await?;
    let places = story::places(conn, rows.iter().map(|(holding, _)| holding.place_id)).await?;
    Ok(rows
        .into_iter()
        .map(|(holding, lot)| OnHand { place: places.get(&holding.place_id).cloned(), lot, holding })
        .collect())
}

async fn awaited(conn: &mut store::Connection, party_id: i64) -> Result<Vec<Awaited>, StoreError> {
    let consignments = consignment::awaited(conn, party_id, ROWS_MAX).await?;
    let ids: Vec<i64> = consignments.iter().map(|consignment| consignment.id).collect();
    let lines = consignment::lines_of(conn, &ids).await?;
    let lots: Vec<i64> = lines.iter().map(|line| line.lot_id).collect();
    let lots: BTreeMap<i64, Lot> =
        lot::by_ids(conn, &lots).await?.into_iter().map(|lot| (lot.id, lot)).collect();
    let shippers = story::parties(conn, consignments.iter().map(|sent| sent.shipper_id)).await?;
    let of = |consignment: i64, line: &Line| {
        (line.consignment_id == consignment)
            .then(|| Some((lots.get(&line.lot_id)?.clone(), line.quantity)))?
    };
    Ok(consignments
        .into_iter()
        .map(|consignment| Awaited {
            shipper: shippers.get(&consignment.shipper_id).cloned(),
            lines: lines.iter().filter_map(|line| of(consignment.id, line)).collect(),
            consignment,
        })
        .collect())
}

/// What the fields of one step's form can be chosen from.
#[derive(Debug, Default)]
pub struct Options {
    pub on_hand: Vec<OnHand>,
    pub awaited: Vec<Awaited>,
    /// The party's own places and, by field, those of the others that it may name.
    pub places: Vec<Place>,
    /// Field → parties.
    pub parties: BTreeMap<String, Vec<Party>>,
    pub permits: Vec<Quota>,
}

impl Options {
    /// The lots on hand that `field` of `profile` takes.
    pub fn lots<'a>(&'a self, profile: &'a Profile, field: &'a Field) -> impl Iterator<Item = &'a OnHand> {
        self.on_hand.iter().filter(move |held| {
            held.lot.profile == profile.id()
                && (field.products.is_empty() || field.products.contains(&held.lot.product))
        })
    }

    pub fn places<'a>(&'a self, field: &'a Field) -> impl Iterator<Item = &'a Place> {
        self.places.iter().filter(move |place| field.among.is_empty() || field.among.contains(&place.kind))
    }
}

pub async fn options(store: &Store, party: &Party, step: &Step) -> Result<Options, StoreError> {
    let has = |kind: Kind| step.fields_of(kind).next().is_some();
    let mut conn = store.connection().await?;
    let mut options = Options::default();
    if has(Kind::Lot) || has(Kind::Portions) {
        options.on_hand = on_hand(&mut conn, party.id).await?;
    }
    if has(Kind::Consignment) {
        options.awaited = awaited(&mut conn, party.id).await?;
    }
    if has(Kind::Place) {
        options.places = party::places_of(&mut conn, party.id, OPTIONS_MAX).await?;
    }
    if has(Kind::Permit) {
        options.permits = quota::of_party(&mut conn, party.id).await?;
    }
    for field in step.fields_of(Kind::Party) {
        let found = party::with_roles(&mut conn, &field.among, OPTIONS_MAX).await?;
        let others = found.into_iter().filter(|other| other.id != party.id).collect();
        options.parties.insert(field.id.clone(), others);
    }
    Ok(options)
}

/// A record of the party's own, with what became of it.
#[derive(Debug)]
pub struct Receipt {
    pub record: Record,
    pub lots: Vec<Lot>,
    pub leaf: Option<story::Leaf>,
    pub standing: Standing,
    pub custody: Custody,
}

pub async fn receipt(store: &Store, author: &Party, jti: uuid::Uuid) -> Result<Option<Receipt>, StoreError> {
    let mut conn = store.connection().await?;
    let Some(record) = record::by_jti(&mut conn, jti).await? else { return Ok(None) };
    if record.party_id != author.id {
        return Ok(None);
    }
    let spoken_of = record::lots_of(&mut conn, std::slice::from_ref(&record.entry)).await?;
    let ids: Vec<i64> = spoken_of.into_iter().map(|(_, _, lot, _)| lot).collect();
    let lots = lot::by_ids(&mut conn, &ids).await?;
    let leaf = store::ledger::locate(&mut conn, &record.entry).await?;
    let leaf = leaf.map(|leaf| story::Leaf { log_id: leaf.log_id, index: leaf.index });
    let standing = standing::of_one(&mut conn, &record, leaf).await?;
    let key =
        store::key::by_kid(&mut conn, &record.kid).await?.ok_or(StoreError::Corrupt("a record's key"))?;
    let custody = key.custody.parse().map_err(|_| StoreError::Corrupt("a key's custody"))?;
    Ok(Some(Receipt { record, lots, leaf, standing, custody }))
}

/// What an instrument of the party sent for a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub value: String,
    /// Digital Link of the device, (8004).
    pub device: String,
    /// When it measured.
    pub at: DateTime<Utc>,
    /// The pack that carried it.
    pub evidence: Evidence,
}

/// A vehicle does not stand on a scale for longer.
const INSTRUMENT_MINUTES: i64 = 30;
/// Readings that one form looks at.
const READINGS_MAX: i64 = 1_000;
/// GS1 General Specifications §3.9.4: characters of a GIAI.
const GIAI_CHARACTERS_MAX: usize = 30;

/// Field → what the party's instruments sent for it in the [`INSTRUMENT_MINUTES`] up to `at`, newest first. Only this makes
/// a value an instrument's, never what a client says of itself.
pub async fn instruments(
    store: &Store,
    party: &Party,
    step: &Step,
    at: DateTime<Utc>,
) -> Result<BTreeMap<String, Vec<Sent>>, StoreError> {
    let wanted: Vec<(&Field, &str, &str)> = step
        .fields
        .iter()
        .filter_map(|field| {
            let (kind, metric) = field.instrument.as_deref()?.split_once('.')?;
            Some((field, kind, metric))
        })
        .collect();
    let Some(prefix) = party.company_prefix.as_deref().filter(|_| !wanted.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let mut conn = store.connection().await?;
    let mut devices = device::of_parties(&mut conn, std::slice::from_ref(&party.slug)).await?;
    devices.retain(|(_, device)| device.is_in_use());
    let ids: Vec<i64> = devices.iter().map(|(_, device)| device.id).collect();
    let from = at - TimeDelta::minutes(INSTRUMENT_MINUTES);
    let readings = reading::within(&mut conn, &ids, from, at, READINGS_MAX).await?;
    let key = |reading: &reading::Reading| PackKey { device_id: reading.device_id, cti: reading.cti.clone() };
    let keys: BTreeSet<(i64, Vec<u8>)> =
        readings.iter().map(|reading| (reading.device_id, reading.cti.clone())).collect();
    let keys: Vec<PackKey> = keys.into_iter().map(|(device_id, cti)| PackKey { device_id, cti }).collect();
    // Evidence is what will stand in the log: a pack whose strict check is still due fills nothing in.
    let entries: HashMap<PackKey, Vec<u8>> = pack::leaves(&mut conn, &keys).await?.into_iter().collect();
    let mut sent: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for (field, kind, metric) in wanted {
        for reading in &readings {
            let device = devices.iter().find(|(_, device)| device.id == reading.device_id);
            let entry = entries.get(&key(reading)).and_then(|entry| Hash::from_slice(entry));
            let (Some((_, device)), Some(entry)) = (device, entry) else { continue };
            let (asset, signs) = (format!("{prefix}{}", device.name), device.signing == "device");
            let is_its = device.kind == kind && reading.name.rsplit(['/', '.', ':']).next() == Some(metric);
            if is_its && asset.len() <= GIAI_CHARACTERS_MAX {
                let (value, device) = (reading.value.to_string(), format!("https://id.gs1.org/8004/{asset}"));
                let evidence = Evidence { entry, by_device: signs };
                sent.entry(field.id.clone()).or_default().push(Sent {
                    value,
                    device,
                    at: reading.at,
                    evidence,
                });
            }
        }
    }
    Ok(sent)
}
