//! Lots, holdings, the movements that explain them, edges and folded shares.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt},
};
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    schema::{edge, holding, lot, movement, share},
};

/// A class of goods (GTIN + lot) or a single unit (GTIN + serial). Quantities of it are counted in `unit`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = lot)]
pub struct Lot {
    pub id: i64,
    pub uri: String,
    pub gtin: String,
    pub number: String,
    pub profile: String,
    pub product: String,
    pub unit: String,
    pub made_by: i64,
    pub made_at_place: Option<i64>,
    pub made_time: DateTime<Utc>,
    pub entry: Vec<u8>,
    pub epoch: Option<i32>,
    pub closed_at: Option<DateTime<Utc>>,
    pub recalled_by: Option<Vec<u8>>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = lot)]
pub struct NewLot<'a> {
    pub uri: &'a str,
    pub gtin: &'a str,
    pub number: &'a str,
    pub profile: &'a str,
    pub product: &'a str,
    pub unit: &'a str,
    pub made_by: i64,
    pub made_at_place: Option<i64>,
    pub made_time: DateTime<Utc>,
    pub entry: &'a [u8],
    pub epoch: Option<i32>,
}

/// Fails with constraint `lot_uri_key` where the lot number was used before.
pub async fn insert(conn: &mut Connection, new: &NewLot<'_>) -> Result<Lot, StoreError> {
    Ok(diesel::insert_into(lot::table).values(new).returning(Lot::as_returning()).get_result(conn).await?)
}

pub async fn by_uri(conn: &mut Connection, uri: &str) -> Result<Option<Lot>, StoreError> {
    Ok(lot::table.filter(lot::uri.eq(uri)).select(Lot::as_select()).first(conn).await.optional()?)
}

pub async fn by_uris(conn: &mut Connection, uris: &[String]) -> Result<Vec<Lot>, StoreError> {
    Ok(lot::table.filter(lot::uri.eq_any(uris)).select(Lot::as_select()).load(conn).await?)
}

pub async fn by_ids(conn: &mut Connection, ids: &[i64]) -> Result<Vec<Lot>, StoreError> {
    Ok(lot::table.filter(lot::id.eq_any(ids)).order(lot::id).select(Lot::as_select()).load(conn).await?)
}

/// Lots whose number begins with `prefix`, newest first: a regulator's search.
pub async fn by_number_prefix(
    conn: &mut Connection,
    prefix: &str,
    limit: i64,
) -> Result<Vec<Lot>, StoreError> {
    let pattern = format!("{}%", prefix.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    Ok(lot::table
        .filter(lot::number.ilike(pattern))
        .order(lot::id.desc())
        .limit(limit)
        .select(Lot::as_select())
        .load(conn)
        .await?)
}

/// The open epoch of a bin, locked until the transaction ends: two arrivals can't both extend it.
pub async fn open_epoch(conn: &mut Connection, place_id: i64) -> Result<Option<Lot>, StoreError> {
    Ok(lot::table
        .filter(lot::made_at_place.eq(place_id).and(lot::epoch.is_not_null()).and(lot::closed_at.is_null()))
        .order(lot::epoch.desc())
        .select(Lot::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// The number of the newest epoch that the bin ever had; `None` for a bin that was never filled.
pub async fn newest_epoch(conn: &mut Connection, place_id: i64) -> Result<Option<i32>, StoreError> {
    Ok(lot::table
        .filter(lot::made_at_place.eq(place_id))
        .select(diesel::dsl::max(lot::epoch))
        .first(conn)
        .await?)
}

pub async fn close(conn: &mut Connection, lot_id: i64, at: DateTime<Utc>) -> Result<(), StoreError> {
    diesel::update(lot::table.find(lot_id)).set(lot::closed_at.eq(Some(at))).execute(conn).await?;
    Ok(())
}

/// Marks the lots as recalled by the record `entry`; a lot that was recalled before keeps its first recall.
pub async fn recall(conn: &mut Connection, lots: &[i64], entry: &[u8]) -> Result<usize, StoreError> {
    Ok(diesel::update(lot::table.filter(lot::id.eq_any(lots)).filter(lot::recalled_by.is_null()))
        .set(lot::recalled_by.eq(Some(entry)))
        .execute(conn)
        .await?)
}

/// A quantity of a lot with a party at a place, in the lot's unit. `pledged` of it can't leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = holding)]
pub struct Holding {
    pub lot_id: i64,
    pub party_id: i64,
    pub place_id: i64,
    pub quantity: i64,
    pub pledged: i64,
}

/// The holdings of `lots` at `party_id`, locked in key order so that two transactions never wait for each other in a ring.
pub async fn lock_holdings(
    conn: &mut Connection,
    party_id: i64,
    lots: &[i64],
) -> Result<Vec<Holding>, StoreError> {
    Ok(holding::table
        .filter(holding::party_id.eq(party_id).and(holding::lot_id.eq_any(lots)))
        .order((holding::lot_id, holding::party_id, holding::place_id))
        .select(Holding::as_select())
        .for_update()
        .load(conn)
        .await?)
}

/// What a party has, newest lots first.
pub async fn holdings_of(
    conn: &mut Connection,
    party_id: i64,
    limit: i64,
) -> Result<Vec<(Holding, Lot)>, StoreError> {
    Ok(holding::table
        .inner_join(lot::table)
        .filter(holding::party_id.eq(party_id).and(holding::quantity.gt(0)))
        .order(lot::id.desc())
        .limit(limit)
        .select((Holding::as_select(), Lot::as_select()))
        .load(conn)
        .await?)
}

/// What lies at a place: the lots that an alert there concerns.
pub async fn holdings_at(conn: &mut Connection, place_id: i64) -> Result<Vec<(Holding, Lot)>, StoreError> {
    Ok(holding::table
        .inner_join(lot::table)
        .filter(holding::place_id.eq(place_id).and(holding::quantity.gt(0)))
        .order(lot::id)
        .select((Holding::as_select(), Lot::as_select()))
        .load(conn)
        .await?)
}

/// Where the lots are now, whoever holds them.
pub async fn holdings_of_lots(conn: &mut Connection, lots: &[i64]) -> Result<Vec<Holding>, StoreError> {
    Ok(holding::table
        .filter(holding::lot_id.eq_any(lots).and(holding::quantity.gt(0)))
        .order((holding::lot_id, holding::party_id, holding::place_id))
        .select(Holding::as_select())
        .load(conn)
        .await?)
}

/// One change of a holding and the record that caused it.
#[derive(Debug, Clone, Copy, Insertable)]
#[diesel(table_name = movement)]
pub struct Movement<'a> {
    pub entry: &'a [u8],
    pub lot_id: i64,
    pub party_id: i64,
    pub place_id: i64,
    pub delta: i64,
    pub reason: &'a str,
}

/// Writes the movement and the holding that follows from it. Fails with constraint `holding_quantity_check` where the
/// holding would become negative: the last line of defence behind the rules.
pub async fn apply(conn: &mut Connection, change: &Movement<'_>) -> Result<(), StoreError> {
    diesel::insert_into(movement::table).values(change).execute(conn).await?;
    if change.delta < 0 {
        let key = (change.lot_id, change.party_id, change.place_id);
        let changed = diesel::update(holding::table.find(key))
            .set(holding::quantity.eq(holding::quantity + change.delta))
            .execute(conn)
            .await?;
        return if changed == 1 { Ok(()) } else { Err(diesel::result::Error::NotFound.into()) };
    }
    diesel::insert_into(holding::table)
        .values((
            holding::lot_id.eq(change.lot_id),
            holding::party_id.eq(change.party_id),
            holding::place_id.eq(change.place_id),
            holding::quantity.eq(change.delta),
        ))
        .on_conflict((holding::lot_id, holding::party_id, holding::place_id))
        .do_update()
        .set(holding::quantity.eq(holding::quantity + change.delta))
        .execute(conn)
        .await?;
    Ok(())
}

/// `parent` went into `child`. Quantities in the unit of each.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = edge)]
pub struct Edge {
    pub parent_id: i64,
    pub child_id: i64,
    pub entry: Vec<u8>,
    pub kind: String,
    pub parent_quantity: i64,
    pub child_quantity: i64,
}

pub async fn insert_edges(conn: &mut Connection, edges: &[Edge]) -> Result<(), StoreError> {
    diesel::insert_into(edge::table).values(edges).execute(conn).await?;
    Ok(())
}

/// Edges into `children`: one step upstream of all of them at once.
pub async fn edges_into(conn: &mut Connection, children: &[i64]) -> Result<Vec<Edge>, StoreError> {
    Ok(edge::table.filter(edge::child_id.eq_any(children)).select(Edge::as_select()).load(conn).await?)
}

/// Edges out of `parents`: one step downstream.
pub async fn edges_out_of(conn: &mut Connection, parents: &[i64]) -> Result<Vec<Edge>, StoreError> {
    Ok(edge::table.filter(edge::parent_id.eq_any(parents)).select(Edge::as_select()).load(conn).await?)
}

#[derive(QueryableByName)]
struct Reached {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Every lot that `lots` are made of (`upstream`) or went into, themselves included, at most `limit` lots. The recursion is
/// a set union: a lot is visited once, however many ways lead to it.
pub async fn closure(
    conn: &mut Connection,
    lots: &[i64],
    upstream: bool,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let step = if upstream {
        "select e.parent_id from edge e join reached r on e.child_id = r.id"
    } else {
        "select e.child_id from edge e join reached r on e.parent_id = r.id"
    };
    let query = format!(
        "with recursive reached (id) as (select unnest($1) union {step}) select id from reached limit $2"
    );
    let rows: Vec<Reached> =
        sql_query(query).bind::<Array<BigInt>, _>(lots).bind::<BigInt, _>(limit).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// An epoch's content by arrival; the quantities add up to the epoch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = share)]
pub struct Share {
    pub lot_id: i64,
    pub arrival_id: i64,
    pub quantity: i64,
}

pub async fn insert_shares(conn: &mut Connection, shares: &[Share]) -> Result<(), StoreError> {
    diesel::insert_into(share::table).values(shares).execute(conn).await?;
    Ok(())
}

pub async fn shares_of(conn: &mut Connection, lots: &[i64]) -> Result<Vec<Share>, StoreError> {
    Ok(share::table
        .filter(share::lot_id.eq_any(lots))
        .order((share::lot_id, share::arrival_id))
        .select(Share::as_select())
        .load(conn)
        .await?)
}

/// The epochs in which something of `arrivals` lay.
pub async fn shares_in(conn: &mut Connection, arrivals: &[i64]) -> Result<Vec<Share>, StoreError> {
    Ok(share::table
        .filter(share::arrival_id.eq_any(arrivals))
        .order((share::arrival_id, share::lot_id))
        .select(Share::as_select())
        .load(conn)
        .await?)
}

/// How much of each lot was made: what the records that made it say.
pub async fn made_quantities(conn: &mut Connection, lots: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
    use crate::schema::record_lot;
    let rows: Vec<(i64, Option<i64>)> = record_lot::table
        .filter(record_lot::lot_id.eq_any(lots).and(record_lot::part.eq("output")))
        .select((record_lot::lot_id, record_lot::quantity))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(lot, quantity)| (lot, quantity.unwrap_or_default())).collect())
}
