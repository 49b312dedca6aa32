//! Where a lot came from, where it went, and through whose hands.

use std::collections::{BTreeMap, BTreeSet};

use store::{
    Connection, Store, StoreError, consignment,
    lot::{self, Lot},
    party::{self, Party, Place},
    record,
};
use trace::{
    graph::{Answer, Direction, Edge, Found, Walk},
    gs1::Key,
    hash::Hash,
    rules::largest_remainder,
};
use uuid::Uuid;

use super::{
    account::Asker,
    alerts::scope_of,
    inspection,
    standing::{self, Standing},
};

/// Lots in one answer; beyond, the answer says where it was cut.
pub const LOTS_MAX: usize = 10_000;
/// Hand-overs in one answer.
const HANDOVERS_MAX: i64 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    #[error("no lot of that name")]
    Unknown,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The answer, with the rows that it speaks of.
#[derive(Debug)]
pub struct Trace {
    pub root: Lot,
    pub answer: Answer<i64>,
    pub lots: BTreeMap<i64, Lot>,
    pub custody: Vec<Handover>,
    pub parties: BTreeMap<i64, Party>,
    pub places: BTreeMap<i64, Place>,
    /// By entry: the records that made the lots.
    pub records: BTreeMap<Vec<u8>, Made>,
    /// Set for a party: whose own lots' quantities it may read. Others' are private; shares of the root are not.
    pub seen_by: Option<i64>,
}

impl Trace {
    /// Whether the quantities of an edge between these lots may be told.
    pub fn tells_quantities(&self, edge: &Edge<i64>) -> bool {
        let made_by = |lot: &i64| self.lots.get(lot).map(|lot| lot.made_by);
        self.seen_by
            .is_none_or(|party| made_by(&edge.parent) == Some(party) || made_by(&edge.child) == Some(party))
    }
}

/// A record that made a lot.
#[derive(Debug, Clone)]
pub struct Made {
    pub jti: Uuid,
    pub event_id: Option<String>,
    /// Its place in the log, once it is there.
    pub log_index: Option<i64>,
    pub standing: Standing,
}

/// A quantity of a lot that went from one party to another.
#[derive(Debug, Clone)]
pub struct Handover {
    pub consignment: consignment::Consignment,
    pub line: consignment::Line,
}

/// The lots that an identifier stands for: the lot itself, or what stands on a logistic unit now.
pub async fn lots_named(conn: &mut Connection, key: &Key) -> Result<Vec<Lot>, StoreError> {
    if let Key::LogisticUnit(_) = key {
        let on_it = consignment::contents(conn, &key.uri()).await?;
        let ids: Vec<i64> = on_it.into_iter().map(|(lot, _)| lot).collect();
        return lot::by_ids(conn, &ids).await;
    }
    Ok(lot::by_uri(conn, &key.uri()).await?.into_iter().collect())
}

/// Follows the lot `root` in one direction: every lot reached, proportional shares, broken links, hand-overs.
pub async fn follow(
    conn: &mut Connection,
    root: Lot,
    direction: Direction,
    lots_max: usize,
) -> Result<Trace, TracingError> {
    let mut walk = Walk::new(root.id, direction, lots_max.min(LOTS_MAX));
    let mut lots = BTreeMap::new();
    // Shares are kept by arrival: from within a bin its epochs can only be followed one by one.
    let folded = root.epoch.is_none();
    while !walk.wanted().is_empty() {
        let wanted = walk.wanted().to_vec();
        let (rows, found) = look_up(conn, &wanted, direction, folded).await?;
        lots.extend(rows.into_iter().map(|lot| (lot.id, lot)));
        walk.feed(found);
    }
    let answer = walk.finish();
    let reached: Vec<i64> = lots.keys().copied().collect();
    let custody: Vec<Handover> = consignment::of_lots(conn, &reached, HANDOVERS_MAX)
        .await?
        .into_iter()
        .map(|(consignment, line)| Handover { consignment, line })
        .collect();
    let (parties, places) = involved(conn, &lots, &custody).await?;
    let records = makers(conn, &lots).await?;
    Ok(Trace { root, answer, lots, custody, parties, places, records, seen_by: None })
}

/// [`follow_named`] for somebody outside: a party asks about what it made or handled, and sees its own hand-overs;
/// a regulator sees everything, and everybody looked at can see that.
pub async fn ask(
    store: &Store,
    asker: &Asker,
    key: &Key,
    direction: Direction,
) -> Result<Trace, TracingError> {
    let mut transaction = store.begin().await?;
    let mut found = follow_named(&mut transaction, key, direction).await?;
    let parties = found.parties.keys().copied().collect();
    inspection::look(&mut transaction, asker, &parties, &found.root.uri).await?;
    if let Some(own) = scope_of(&asker.party) {
        let handled = |handover: &Handover| {
            own == handover.consignment.shipper_id || own == handover.consignment.receiver_id
        };
        let of_root = |handover: &&Handover| handover.line.lot_id == found.root.id;
        let holds = lot::holdings_of_lots(&mut transaction, &[found.root.id]).await?;
        let concerned = found.root.made_by == own
            || holds.iter().any(|holding| holding.party_id == own)
            || found.custody.iter().filter(of_root).any(handled);
        if !concerned {
            return Err(TracingError::Unknown);
        }
        found.custody.retain(handled);
        found.seen_by = Some(own);
    }
    transaction.commit().await?;
    Ok(found)
}

async fn makers(
    conn: &mut Connection,
    lots: &BTreeMap<i64, Lot>,
) -> Result<BTreeMap<Vec<u8>, Made>, StoreError> {
    let entries: BTreeSet<Vec<u8>> = lots.values().map(|lot| lot.entry.clone()).collect();
    let entries: Vec<Vec<u8>> = entries.into_iter().collect();
    let leaves = standing::leaves(conn, entries.iter().cloned()).await?;
    let records = record::by_entries(conn, &entries).await?;
    let signed: Vec<_> = records.iter().map(|record| (record, leaves.get(&record.entry).copied())).collect();
    let standings = standing::of(conn, &signed).await?;
    let made = |record: record::Record| {
        let log_index = leaves.get(&record.entry).map(|leaf| leaf.index);
        let standing = standings.get(&record.entry).copied().unwrap_or(Standing::Unconfirmed);
        (record.entry, Made { jti: record.jti, event_id: record.event_id, log_index, standing })
    };
    Ok(records.into_iter().map(made).collect())
}

/// As [`follow`], by any identifier of the lot.
pub async fn follow_named(
    conn: &mut Connection,
    key: &Key,
    direction: Direction,
) -> Result<Trace, TracingError> {
    let root = lots_named(conn, key).await?.into_iter().next().ok_or(TracingError::Unknown)?;
    follow(conn, root, direction, LOTS_MAX).await
}

async fn look_up(
    conn: &mut Connection,
    wanted: &[i64],
    direction: Direction,
    folded: bool,
) -> Result<(Vec<Lot>, Vec<Found<i64>>), TracingError> {
    let rows = lot::by_ids(conn, wanted).await?;
    let edges = match direction {
        Direction::Up => upstream(conn, &rows).await?,
        Direction::Down => lot::edges_out_of(conn, wanted).await?,
    };
    let mut edges = without_corrected(conn, edges).await?;
    let mut made = made(conn, wanted).await?;
    if direction == Direction::Down && folded {
        let passed_on = take_epoch_edges(&mut edges);
        for lot in rows.iter().filter(|lot| lot.epoch.is_some()) {
            if let Some(quantity) = made.get_mut(&lot.id) {
                *quantity = quantity.saturating_sub(passed_on.get(&lot.id).copied().unwrap_or_default());
            }
        }
        edges.extend(into_epochs(conn, &rows).await?);
    }
    let edges: Vec<Edge<i64>> = edges.into_iter().map(|(_, edge)| edge).collect();
    let began = beginnings(conn, &rows).await?;
    let mut by_lot: BTreeMap<i64, Vec<Edge<i64>>> = BTreeMap::new();
    for edge in edges {
        let near = if direction == Direction::Up { edge.child } else { edge.parent };
        by_lot.entry(near).or_default().push(edge);
    }
    let found = rows
        .iter()
        .map(|lot| {
            let edges = by_lot.remove(&lot.id).unwrap_or_default();
            let folded = || edges.iter().fold(0_i64, |sum, edge| sum.saturating_add(edge.parent_quantity));
            let quantity = made.get(&lot.id).copied().unwrap_or_else(folded);
            Found { lot: lot.id, quantity, begins: began.contains(&lot.entry), edges }
        })
        .collect();
    Ok((rows, found))
}

/// An edge, and whether it leads into a storage epoch.
type Kinded = (bool, Edge<i64>);

async fn made(conn: &mut Connection, lots: &[i64]) -> Result<BTreeMap<i64, i64>, StoreError> {
    let mut made: BTreeMap<i64, i64> = BTreeMap::new();
    for (id, quantity) in lot::made_quantities(conn, lots).await? {
        let sum = made.entry(id).or_default();
        *sum = sum.saturating_add(quantity);
    }
    Ok(made)
}

/// Takes the edges into epochs out of `edges`; what each lot passed on by them.
fn take_epoch_edges(edges: &mut Vec<Kinded>) -> BTreeMap<i64, i64> {
    let mut passed_on: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, edge) in edges.extract_if(.., |(is_epoch, _)| *is_epoch) {
        let sum = passed_on.entry(edge.parent).or_default();
        *sum = sum.saturating_add(edge.parent_quantity);
    }
    passed_on
}

/// Downstream, an arrival leads straight to every epoch that it lay in, by what of it left the bins from there or lies
/// there still: its share of the epoch, less the part that the epoch passed on to later ones.
async fn into_epochs(conn: &mut Connection, rows: &[Lot]) -> Result<Vec<Kinded>, StoreError> {
    let arrivals: Vec<i64> = rows.iter().filter(|lot| lot.epoch.is_none()).map(|lot| lot.id).collect();
    let shares = lot::shares_in(conn, &arrivals).await?;
    let epochs: BTreeSet<i64> = shares.iter().map(|share| share.lot_id).collect();
    let epochs: Vec<i64> = epochs.into_iter().collect();
    let made = made(conn, &epochs).await?;
    let out = lot::edges_out_of(conn, &epochs).await?;
    let passed_on = take_epoch_edges(&mut without_corrected(conn, out).await?);
    let entries: BTreeMap<i64, Hash> = lot::by_ids(conn, &epochs)
        .await?
        .into_iter()
        .filter_map(|lot| Some((lot.id, Hash::from_slice(&lot.entry)?)))
        .collect();
    let edges = shares.into_iter().filter_map(|share| {
        let quantity = made.get(&share.lot_id).copied()?;
        let passed = passed_on.get(&share.lot_id).copied().unwrap_or_default().min(quantity);
        let parts = largest_remainder(share.quantity, &[quantity.saturating_sub(passed), passed])?;
        let stayed = parts.first().copied().filter(|stayed| *stayed > 0)?;
        let edge = Edge {
            parent: share.arrival_id,
            child: share.lot_id,
            entry: *entries.get(&share.lot_id)?,
            parent_quantity: stayed,
            child_quantity: stayed,
        };
        Some((true, edge))
    });
    Ok(edges.collect())
}

/// Edges into the lots; those of a storage epoch lead straight to the arrivals that it is folded to.
async fn upstream(conn: &mut Connection, rows: &[Lot]) -> Result<Vec<lot::Edge>, StoreError> {
    let (epochs, others): (Vec<&Lot>, Vec<&Lot>) = rows.iter().partition(|lot| lot.epoch.is_some());
    let others: Vec<i64> = others.iter().map(|lot| lot.id).collect();
    let ids: Vec<i64> = epochs.iter().map(|lot| lot.id).collect();
    let entries: BTreeMap<i64, &[u8]> = epochs.iter().map(|lot| (lot.id, lot.entry.as_slice())).collect();
    let mut edges = lot::edges_into(conn, &others).await?;
    for share in lot::shares_of(conn, &ids).await? {
        edges.push(lot::Edge {
            parent_id: share.arrival_id,
            child_id: share.lot_id,
            entry: entries.get(&share.lot_id).map(|entry| entry.to_vec()).unwrap_or_default(),
            kind: "epoch".to_owned(),
            parent_quantity: share.quantity,
            child_quantity: share.quantity,
        });
    }
    Ok(edges)
}

/// A corrected event leaves the trace.
async fn without_corrected(conn: &mut Connection, edges: Vec<lot::Edge>) -> Result<Vec<Kinded>, StoreError> {
    let entries: BTreeSet<Vec<u8>> = edges.iter().map(|edge| edge.entry.clone()).collect();
    let entries: Vec<Vec<u8>> = entries.into_iter().collect();
    let corrections = record::corrections_of(conn, &entries).await?;
    let corrected: BTreeSet<Vec<u8>> = corrections.into_iter().filter_map(|record| record.corrects).collect();
    edges
        .into_iter()
        .filter(|edge| !corrected.contains(&edge.entry))
        .map(|edge| {
            let entry = Hash::from_slice(&edge.entry).ok_or(StoreError::Corrupt("an edge's entry"))?;
            let is_epoch = edge.kind == "epoch";
            let edge = Edge {
                parent: edge.parent_id,
                child: edge.child_id,
                entry,
                parent_quantity: edge.parent_quantity,
                child_quantity: edge.child_quantity,
            };
            Ok((is_epoch, edge))
        })
        .collect()
}

/// The records among those that made `rows` in which something begins: anything but a transformation.
async fn beginnings(conn: &mut Connection, rows: &[Lot]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
    let entries: Vec<Vec<u8>> = rows.iter().map(|lot| lot.entry.clone()).collect();
    let records = record::by_entries(conn, &entries).await?;
    let begins = |record: &record::Record| record.event_type.as_deref() != Some("TransformationEvent");
    Ok(records.into_iter().filter(begins).map(|record| record.entry).collect())
}

type Involved = (BTreeMap<i64, Party>, BTreeMap<i64, Place>);

async fn involved(
    conn: &mut Connection,
    lots: &BTreeMap<i64, Lot>,
    custody: &[Handover],
) -> Result<Involved, StoreError> {
    let mut parties: BTreeSet<i64> = lots.values().map(|lot| lot.made_by).collect();
    let mut places: BTreeSet<i64> = lots.values().filter_map(|lot| lot.made_at_place).collect();
    for Handover { consignment, .. } in custody {
        parties.extend([consignment.shipper_id, consignment.receiver_id]);
        places.insert(consignment.from_place);
        places.extend(consignment.to_place);
    }
    let parties = party::by_ids(conn, &parties.into_iter().collect::<Vec<_>>()).await?;
    let places = party::places_by_ids(conn, &places.into_iter().collect::<Vec<_>>()).await?;
    let parties = parties.into_iter().map(|party| (party.id, party)).collect();
    Ok((parties, places.into_iter().map(|place| (place.id, place)).collect()))
}
