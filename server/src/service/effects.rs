//! What a step does to lots and holdings, inside the transaction that writes its record.
//!
//! Refusals carry the figures. Everything is locked before it is compared, in key order, so that of fifty shipments of one
//! holding none oversells and none waits in a ring.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use store::{
    Connection, StoreError, consignment,
    lot::{self, Edge, Holding, Lot, Movement, NewLot},
    party::{self, Party, Place},
    quota, record,
};
use trace::{
    gs1::LotId,
    profile::{
        Effect, Refusal,
        effect::{Output, Portion},
    },
    quantity::Quantity,
};

/// Lots that one recall may reach.
const RECALL_LOTS_MAX: i64 = 100_000;

/// The record whose effect is applied, and who made it where.
pub struct Cause<'a> {
    pub entry: &'a [u8],
    pub party: &'a Party,
    pub place: &'a Place,
    /// Profile id, "sugar".
    pub profile: &'a str,
    pub time: DateTime<Utc>,
}

/// What the server has to state of its own account because of a record: a derived record follows in the same transaction.
#[derive(Debug)]
pub enum Consequence {
    None,
    /// The arrival was put into a bin: its open epoch closes and the next one opens.
    Epoch(Box<Arrival>),
    /// The lot was marked with a code run.
    Codes(Box<Lot>),
}

/// A quantity of a lot that was put into a bin.
#[derive(Debug)]
pub struct Arrival {
    pub lot: Lot,
    pub quantity: i64,
    pub bin: Place,
}

/// Why an effect was not applied: the caller drops the transaction, so nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    #[error("refused by a rule")]
    Refused(Vec<Refusal>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for EffectError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// Applies `effect`. `conn` must be inside the transaction that wrote the record `cause.entry`.
pub async fn apply(
    conn: &mut Connection,
    cause: &Cause<'_>,
    effect: &Effect,
) -> Result<Consequence, EffectError> {
    match effect {
        Effect::Create { lot, product, quantity, quota, .. } => {
            create(conn, cause, lot, product, *quantity, "create").await?;
            if let Some(number) = quota {
                use_up(conn, cause, number, *quantity).await?;
            }
        }
        Effect::Observe { lots, .. } => observe(conn, cause, lots).await?,
        Effect::Transform { inputs, outputs, .. } => transform(conn, cause, inputs, outputs).await?,
        Effect::Store { lot, quantity, place } => return store_in(conn, cause, lot, *quantity, place).await,
        Effect::Commission { lot, pieces, .. } => return commission(conn, cause, lot, *pieces).await,
        Effect::Pack { parent, children } => pack(conn, cause, parent, children).await?,
        Effect::Unpack { parent } => {
            consignment::unpack(conn, parent, cause.entry).await?;
        }
        Effect::Ship { consignment, portions, to_party, to_place, .. } => {
            ship(conn, cause, consignment, portions, to_party, to_place.as_deref()).await?;
        }
        Effect::Receive { consignment, portions, .. } => receive(conn, cause, consignment, portions).await?,
        Effect::Refuse { consignment, .. } => reject(conn, cause, consignment).await?,
        Effect::Loss { lot, quantity, .. } => {
            let lost = [Portion { lot: lot.clone(), quantity: *quantity }];
            for taken in take(conn, cause, &lost, "loss").await? {
                record::insert_lot_part(conn, cause.entry, taken.id, "moved", Some(quantity.amount)).await?;
            }
        }
        Effect::Recall { lot, .. } => recall(conn, cause, lot).await?,
    }
    Ok(Consequence::None)
}

async fn create(
    conn: &mut Connection,
    cause: &Cause<'_>,
    uri: &str,
    product: &str,
    quantity: Quantity,
    reason: &'static str,
) -> Result<Lot, EffectError> {
    let id: LotId = uri.parse().map_err(|_| Refusal::new("lot", "lot-number").with("lot", uri))?;
    if lot::by_uri(conn, uri).await?.is_some() {
        return Err(Refusal::new("lot", "lot-number-used").with("lot", id.lot).into());
    }
    let made = lot::insert(
        conn,
        &NewLot {
            uri,
            gtin: id.gtin.as_str(),
            number: id.lot.as_str(),
            profile: cause.profile,
            product,
            unit: quantity.unit.as_str(),
            made_by: cause.party.id,
            made_at_place: Some(cause.place.id),
            made_time: cause.time,
            entry: cause.entry,
            epoch: None,
        },
    )
    .await?;
    record::insert_lot_part(conn, cause.entry, made.id, "output", Some(quantity.amount)).await?;
    change(conn, cause, made.id, cause.place.id, quantity.amount, reason).await?;
    Ok(made)
}

/// The permit was locked when its facts were read: the rule has seen what this adds to.
async fn use_up(
    conn: &mut Connection,
    cause: &Cause<'_>,
    number: &str,
    quantity: Quantity,
) -> Result<(), EffectError> {
    let unknown = || Refusal::new("permit", "unknown-permit").with("permit", number);
    let permit = quota::lock_numbered(conn, cause.party.id, number).await?.ok_or_else(unknown)?;
    quota::consume(conn, permit.id, quantity.amount).await?;
    Ok(())
}

/// One may speak of a lot that one made or holds.
async fn observe(conn: &mut Connection, cause: &Cause<'_>, lots: &[String]) -> Result<(), EffectError> {
    for uri in lots {
        let seen = known(conn, uri).await?;
        let holdings = lot::lock_holdings(conn, cause.party.id, &[seen.id]).await?;
        if seen.made_by != cause.party.id && holdings.is_empty() {
            return Err(Refusal::new("lot", "unknown-lot").with("lot", seen.number).into());
        }
        record::insert_lot_part(conn, cause.entry, seen.id, "observed", None).await?;
    }
    Ok(())
}

async fn transform(
    conn: &mut Connection,
    cause: &Cause<'_>,
    inputs: &[Portion],
    outputs: &[Output],
) -> Result<(), EffectError> {
    let taken = take(conn, cause, inputs, "input").await?;
    for (used, portion) in taken.iter().zip(inputs) {
        record::insert_lot_part(conn, cause.entry, used.id, "input", Some(portion.quantity.amount)).await?;
    }
    for output in outputs {
        let made = create(conn, cause, &output.lot, &output.product, output.quantity, "output").await?;
        let edges: Vec<Edge> = taken
            .iter()
            .zip(inputs)
            .map(|(parent, portion)| Edge {
                parent_id: parent.id,
                child_id: made.id,
                entry: cause.entry.to_vec(),
                kind: "transform".to_owned(),
                parent_quantity: portion.quantity.amount,
                child_quantity: output.quantity.amount,
            })
            .collect();
        lot::insert_edges(conn, &edges).await?;
    }
    Ok(())
}

async fn store_in(
    conn: &mut Connection,
    cause: &Cause<'_>,
    uri: &str,
    quantity: Quantity,
    bin_uri: &str,
) -> Result<Consequence, EffectError> {
    let bin = own_place(conn, cause, bin_uri).await?;
    let lies_there = lot::holdings_at(conn, bin.id).await?;
    let moved = [Portion { lot: uri.to_owned(), quantity }];
    let mut taken = take(conn, cause, &moved, "store").await?;
    let Some(stored) = taken.pop() else { return Ok(Consequence::None) };
    record::insert_lot_part(conn, cause.entry, stored.id, "moved", Some(quantity.amount)).await?;
    change(conn, cause, stored.id, bin.id, quantity.amount, "store").await?;
    if let Some((_, other)) = lies_there.iter().find(|(_, lot)| lot.product != stored.product) {
        return Err(Refusal::new("place", "bin-holds-other-product").with("product", &other.product).into());
    }
    if lies_there.iter().all(|(_, lot)| lot.id == stored.id) {
        return Ok(Consequence::None);
    }
    Ok(Consequence::Epoch(Box::new(Arrival { lot: stored, quantity: quantity.amount, bin })))
}

async fn commission(
    conn: &mut Connection,
    cause: &Cause<'_>,
    uri: &str,
    pieces: i64,
) -> Result<Consequence, EffectError> {
    let marked = known(conn, uri).await?;
    let holdings = lot::lock_holdings(conn, cause.party.id, &[marked.id]).await?;
    let held: i64 = holdings.iter().map(|holding| holding.quantity).sum();
    let item = party::trade_item(conn, &marked.gtin).await?;
    let piece_amount = item.and_then(|item| item.piece_amount).unwrap_or(1);
    let coded: i64 = store::code::runs_of_lot(conn, marked.id).await?.iter().map(|run| run.count).sum();
    let room = held.checked_div(piece_amount).unwrap_or(0).saturating_sub(coded);
    if pieces > room {
        let refusal = Refusal::new("pieces", "more-pieces-than-goods").with("pieces", pieces);
        return Err(refusal.with("room", room.max(0)).into());
    }
    record::insert_lot_part(conn, cause.entry, marked.id, "observed", None).await?;
    Ok(Consequence::Codes(Box::new(marked)))
}

async fn pack(
    conn: &mut Connection,
    cause: &Cause<'_>,
    parent: &str,
    children: &[Portion],
) -> Result<(), EffectError> {
    let mut rows = Vec::with_capacity(children.len());
    for child in children {
        let packed = known(conn, &child.lot).await?;
        let held: i64 = lot::lock_holdings(conn, cause.party.id, &[packed.id])
            .await?
            .iter()
            .map(|holding| holding.quantity)
            .sum();
        if held < child.quantity.amount {
            return Err(oversold(&packed, held, child.quantity).into());
        }
        record::insert_lot_part(conn, cause.entry, packed.id, "observed", Some(child.quantity.amount))
            .await?;
        rows.push((packed.id, child.quantity.amount));
    }
    consignment::pack(conn, parent, &rows, cause.entry).await?;
    Ok(())
}

async fn ship(
    conn: &mut Connection,
    cause: &Cause<'_>,
    number: &str,
    portions: &[Portion],
    to_party: &str,
    to_place: Option<&str>,
) -> Result<(), EffectError> {
    let unknown_party = || Refusal::new("to", "unknown-party").with("party", to_party);
    let receiver = party::by_iss(conn, to_party).await?.ok_or_else(unknown_party)?;
    let to_place = match to_place {
        Some(uri) => party::place_by_uri(conn, uri).await?.map(|place| place.id),
        None => None,
    };
    let taken = take(conn, cause, portions, "ship").await?;
    let mut lines: BTreeMap<i64, i64> = BTreeMap::new();
    for (shipped, portion) in taken.iter().zip(portions) {
        *lines.entry(shipped.id).or_default() += portion.quantity.amount;
        record::insert_lot_part(conn, cause.entry, shipped.id, "moved", Some(portion.quantity.amount))
            .await?;
    }
    let lines: Vec<(i64, i64)> = lines.into_iter().collect();
    let new = consignment::NewConsignment {
        number,
        shipper_id: cause.party.id,
        receiver_id: receiver.id,
        from_place: cause.place.id,
        to_place,
        shipped_by: cause.entry,
        shipped_time: cause.time,
    };
    match consignment::insert(conn, &new, &lines).await {
        Err(error) if error.constraint() == Some("consignment_shipper_id_number_key") => {
            Err(Refusal::new("consignment", "consignment-number-used").with("number", number).into())
        }
        other => other.map(drop).map_err(Into::into),
    }
}

/// What was measured on arrival comes in; the difference to what was shipped stays visible in the consignment's lines.
async fn receive(
    conn: &mut Connection,
    cause: &Cause<'_>,
    number: &str,
    portions: &[Portion],
) -> Result<(), EffectError> {
    let awaited = awaited(conn, cause, number).await?;
    let lines = consignment::lines_of(conn, &[awaited.id]).await?;
    let mut measured = Vec::with_capacity(portions.len());
    for portion in portions {
        let arrived = known(conn, &portion.lot).await?;
        if !lines.iter().any(|line| line.lot_id == arrived.id) {
            let refusal = Refusal::new("lot", "not-in-consignment").with("lot", arrived.number);
            return Err(refusal.with("number", number).into());
        }
        record::insert_lot_part(conn, cause.entry, arrived.id, "moved", Some(portion.quantity.amount))
            .await?;
        change(conn, cause, arrived.id, cause.place.id, portion.quantity.amount, "receive").await?;
        measured.push((arrived.id, portion.quantity.amount));
    }
    consignment::receive(conn, awaited.id, cause.entry, &measured).await?;
    Ok(())
}

/// The load goes back: the shipper has it again where it came from.
async fn reject(conn: &mut Connection, cause: &Cause<'_>, number: &str) -> Result<(), EffectError> {
    let awaited = awaited(conn, cause, number).await?;
    for line in consignment::lines_of(conn, &[awaited.id]).await? {
        record::insert_lot_part(conn, cause.entry, line.lot_id, "observed", None).await?;
        let back = Movement {
            entry: cause.entry,
            lot_id: line.lot_id,
            party_id: awaited.shipper_id,
            place_id: awaited.from_place,
            delta: line.quantity,
            reason: "rejected",
        };
        lot::apply(conn, &back).await?;
    }
    consignment::refuse(conn, awaited.id, cause.entry).await?;
    Ok(())
}

/// A recall reaches everything that the lot went into.
async fn recall(conn: &mut Connection, cause: &Cause<'_>, uri: &str) -> Result<(), EffectError> {
    let recalled = known(conn, uri).await?;
    let reached = lot::closure(conn, &[recalled.id], false, RECALL_LOTS_MAX).await?;
    lot::recall(conn, &reached, cause.entry).await?;
    for lot_id in reached {
        record::insert_lot_part(conn, cause.entry, lot_id, "observed", None).await?;
    }
    Ok(())
}

async fn awaited(
    conn: &mut Connection,
    cause: &Cause<'_>,
    number: &str,
) -> Result<consignment::Consignment, EffectError> {
    let found = consignment::lock_awaited(conn, cause.party.id, number).await?;
    found.ok_or_else(|| Refusal::new("consignment", "unknown-consignment").with("number", number).into())
}

async fn known(conn: &mut Connection, uri: &str) -> Result<Lot, EffectError> {
    let found = lot::by_uri(conn, uri).await?;
    found.ok_or_else(|| Refusal::new("lot", "unknown-lot").with("lot", uri).into())
}

async fn own_place(conn: &mut Connection, cause: &Cause<'_>, uri: &str) -> Result<Place, EffectError> {
    let found = party::place_by_uri(conn, uri).await?.filter(|place| place.party_id == cause.party.id);
    found.ok_or_else(|| Refusal::new("place", "unknown-place").with("place", uri).into())
}

/// Takes the portions out of the party's holdings: what lies at the record's place first, then elsewhere.
async fn take(
    conn: &mut Connection,
    cause: &Cause<'_>,
    portions: &[Portion],
    reason: &'static str,
) -> Result<Vec<Lot>, EffectError> {
    let mut lots = Vec::with_capacity(portions.len());
    for portion in portions {
        lots.push(known(conn, &portion.lot).await?);
    }
    let mut ids: Vec<i64> = lots.iter().map(|lot| lot.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut holdings = lot::lock_holdings(conn, cause.party.id, &ids).await?;
    holdings.sort_by_key(|holding| holding.place_id != cause.place.id);
    for (taken, portion) in lots.iter().zip(portions) {
        if taken.unit != portion.quantity.unit.as_str() {
            return Err(Refusal::new("quantity", "other-unit").with("unit", &taken.unit).into());
        }
        let mut missing = portion.quantity.amount;
        for holding in holdings.iter_mut().filter(|holding| holding.lot_id == taken.id) {
            let here = missing.min(free(holding));
            if here > 0 {
                change(conn, cause, taken.id, holding.place_id, -here, reason).await?;
                holding.quantity -= here;
                missing -= here;
            }
        }
        if missing > 0 {
            let held = portion.quantity.amount - missing;
            return Err(oversold(taken, held, portion.quantity).into());
        }
    }
    Ok(lots)
}

fn free(holding: &Holding) -> i64 {
    holding.quantity.saturating_sub(holding.pledged)
}

fn oversold(lot: &Lot, held: i64, asked: Quantity) -> Refusal {
    let held = Quantity::new(asked.unit, held);
    Refusal::new("quantity", "oversell").with("lot", &lot.number).with("held", held).with("asked", asked)
}

async fn change(
    conn: &mut Connection,
    cause: &Cause<'_>,
    lot_id: i64,
    place_id: i64,
    delta: i64,
    reason: &'static str,
) -> Result<(), StoreError> {
    let movement = Movement { entry: cause.entry, lot_id, party_id: cause.party.id, place_id, delta, reason };
    lot::apply(conn, &movement).await
}
