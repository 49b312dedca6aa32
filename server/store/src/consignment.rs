//! Goods under way between two parties, and what stands on a pallet.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Connection, StoreError,
    schema::{aggregation, consignment, consignment_line},
};

/// Shipped and not yet, or already, answered by a receiving or refusing record.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = consignment)]
pub struct Consignment {
    pub id: i64,
    pub number: String,
    pub shipper_id: i64,
    pub receiver_id: i64,
    pub from_place: i64,
    pub to_place: Option<i64>,
    pub shipped_by: Vec<u8>,
    pub shipped_time: DateTime<Utc>,
    pub received_by: Option<Vec<u8>>,
    pub refused_by: Option<Vec<u8>>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = consignment)]
pub struct NewConsignment<'a> {
    pub number: &'a str,
    pub shipper_id: i64,
    pub receiver_id: i64,
    pub from_place: i64,
    pub to_place: Option<i64>,
    pub shipped_by: &'a [u8],
    pub shipped_time: DateTime<Utc>,
}

/// A quantity of one lot in a consignment; `received` once it was measured on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = consignment_line)]
pub struct Line {
    pub consignment_id: i64,
    pub lot_id: i64,
    pub quantity: i64,
    pub received: Option<i64>,
}

/// Fails with constraint `consignment_shipper_id_number_key` where the shipper used the number before.
pub async fn insert(
    conn: &mut Connection,
    new: &NewConsignment<'_>,
    lines: &[(i64, i64)],
) -> Result<i64, StoreError> {
    let id: i64 = diesel::insert_into(consignment::table)
        .values(new)
        .returning(consignment::id)
        .get_result(conn)
        .await?;
    let rows: Vec<_> = lines
        .iter()
        .map(|&(lot_id, quantity)| {
            (
                consignment_line::consignment_id.eq(id),
                consignment_line::lot_id.eq(lot_id),
                consignment_line::quantity.eq(quantity),
            )
        })
        .collect();
    diesel::insert_into(consignment_line::table).values(rows).execute(conn).await?;
    Ok(id)
}

/// The consignment that `receiver_id` awaits under this number, locked: it can be answered once.
pub async fn lock_awaited(
    conn: &mut Connection,
    receiver_id: i64,
    number: &str,
) -> Result<Option<Consignment>, StoreError> {
    Ok(consignment::table
        .filter(consignment::receiver_id.eq(receiver_id).and(consignment::number.eq(number)))
        .filter(consignment::received_by.is_null().and(consignment::refused_by.is_null()))
        .order(consignment::id)
        .select(Consignment::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// What a party awaits, the oldest first.
pub async fn awaited(
    conn: &mut Connection,
    receiver_id: i64,
    limit: i64,
) -> Result<Vec<Consignment>, StoreError> {
    Ok(consignment::table
        .filter(consignment::receiver_id.eq(receiver_id))
        .filter(consignment::received_by.is_null().and(consignment::refused_by.is_null()))
        .order(consignment::id)
        .limit(limit)
        .select(Consignment::as_select())
        .load(conn)
        .await?)
}

pub async fn lines_of(conn: &mut Connection, consignments: &[i64]) -> Result<Vec<Line>, StoreError> {
    Ok(consignment_line::table
        .filter(consignment_line::consignment_id.eq_any(consignments))
        .order((consignment_line::consignment_id, consignment_line::lot_id))
        .select(Line::as_select())
        .load(conn)
        .await?)
}

/// The consignments that carried `lots`, oldest first, at most `limit`: the path of custody.
pub async fn of_lots(
    conn: &mut Connection,
    lots: &[i64],
    limit: i64,
) -> Result<Vec<(Consignment, Line)>, StoreError> {
    Ok(consignment::table
        .inner_join(consignment_line::table.on(consignment_line::consignment_id.eq(consignment::id)))
        .filter(consignment_line::lot_id.eq_any(lots))
        .order((consignment::shipped_time, consignment::id, consignment_line::lot_id))
        .limit(limit)
        .select((Consignment::as_select(), Line::as_select()))
        .load(conn)
        .await?)
}

pub async fn receive(
    conn: &mut Connection,
    id: i64,
    entry: &[u8],
    measured: &[(i64, i64)],
) -> Result<(), StoreError> {
    diesel::update(consignment::table.find(id))
        .set(consignment::received_by.eq(Some(entry)))
        .execute(conn)
        .await?;
    for &(lot_id, received) in measured {
        diesel::update(consignment_line::table.find((id, lot_id)))
            .set(consignment_line::received.eq(Some(received)))
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub async fn refuse(conn: &mut Connection, id: i64, entry: &[u8]) -> Result<(), StoreError> {
    diesel::update(consignment::table.find(id))
        .set(consignment::refused_by.eq(Some(entry)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Puts quantities of lots on the logistic unit `parent_uri` (an SSCC's Digital Link).
pub async fn pack(
    conn: &mut Connection,
    parent_uri: &str,
    children: &[(i64, i64)],
    entry: &[u8],
) -> Result<(), StoreError> {
    let rows: Vec<_> = children
        .iter()
        .map(|&(lot_id, quantity)| {
            (
                aggregation::parent_uri.eq(parent_uri),
                aggregation::lot_id.eq(lot_id),
                aggregation::quantity.eq(quantity),
                aggregation::packed_by.eq(entry),
            )
        })
        .collect();
    diesel::insert_into(aggregation::table).values(rows).execute(conn).await?;
    Ok(())
}

/// Takes everything off the unit; returns how many lots stood on it.
pub async fn unpack(conn: &mut Connection, parent_uri: &str, entry: &[u8]) -> Result<usize, StoreError> {
    Ok(diesel::update(
        aggregation::table
            .filter(aggregation::parent_uri.eq(parent_uri).and(aggregation::unpacked_by.is_null())),
    )
    .set(aggregation::unpacked_by.eq(Some(entry)))
    .execute(conn)
    .await?)
}

/// (lot, quantity) on the unit now.
pub async fn contents(conn: &mut Connection, parent_uri: &str) -> Result<Vec<(i64, i64)>, StoreError> {
    Ok(aggregation::table
        .filter(aggregation::parent_uri.eq(parent_uri).and(aggregation::unpacked_by.is_null()))
        .order(aggregation::lot_id)
        .select((aggregation::lot_id, aggregation::quantity))
        .load(conn)
        .await?)
}
