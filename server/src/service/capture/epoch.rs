//! Storage epochs: adding to a bin that is not empty closes the lots in it and opens the next one, which the operator
//! states in a derived record (`formats.md`, "Lots, epochs, holdings").

use chrono::{DateTime, Utc};
use store::{
    Connection, StoreError, lot,
    party::{self, Place},
    record,
};
use trace::{
    graph::{self, Content},
    hash::Hash,
    profile::{
        Profile, build, derived,
        effect::{Output, Portion},
    },
    quantity::{Quantity, Unit},
    record::{Ref, Rel},
};
use uuid::Uuid;

use super::{Capture, CaptureError, local_offset};
use crate::service::{
    effects::{Arrival, Cause},
    keys::statements::operator,
    records::{Kind, NewRecord},
};

/// The epoch that an arrival opens.
struct Epoch<'a> {
    number: i32,
    bin: &'a Place,
    /// What it is made of, the arrival among it.
    content: Vec<(lot::Holding, lot::Lot)>,
    output: Output,
    gtin: String,
    lot_number: String,
    /// The record that caused it tells of an earlier time than the newest epoch's.
    late: bool,
}

impl Capture<'_> {
    /// What lies in the bin and the arrival become the next epoch's lot: one derived record and its effect on holdings.
    pub(super) async fn open_epoch(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        profile: &Profile,
        arrival: &Arrival,
        now: DateTime<Utc>,
    ) -> Result<(), CaptureError> {
        let epoch = Epoch::of(conn, cause, profile, arrival).await?;
        let entry = self.state_epoch(conn, cause, profile, &epoch, now).await?;
        epoch.apply(conn, &Cause { entry: entry.as_bytes(), ..*cause }, now).await?;
        Ok(())
    }

    async fn state_epoch(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        profile: &Profile,
        epoch: &Epoch<'_>,
        now: DateTime<Utc>,
    ) -> Result<Hash, CaptureError> {
        let operator = operator(conn).await?;
        let leaf = Hash::from_slice(cause.entry).ok_or(StoreError::Corrupt("an entry"))?;
        let jti = Uuid::now_v7();
        let at = cause.time.with_timezone(&local_offset());
        let number = u32::try_from(epoch.number).unwrap_or(u32::MAX);
        let event = derived::epoch(jti, at, &epoch.bin.uri, &epoch.inputs(), &epoch.output, number);
        let key = self.keys.derivation();
        let derived = NewRecord {
            kind: Kind::Derived,
            seen: self.seen.clone(),
            refs: vec![Ref { rel: Rel::Derived, leaf }],
            step: Some("epoch".to_owned()),
            place_id: Some(epoch.bin.id),
            late: epoch.late,
            ..NewRecord::new(&operator, key, jti, profile.reference(), build::event_body(event), now)
        };
        Ok(derived.write(conn, self.keys).await?.entry)
    }
}

impl<'a> Epoch<'a> {
    async fn of(
        conn: &mut Connection,
        cause: &Cause<'_>,
        profile: &Profile,
        arrival: &'a Arrival,
    ) -> Result<Self, StoreError> {
        let bin = &arrival.bin;
        let mut content = lot::holdings_at(conn, bin.id).await?;
        content.retain(|(holding, _)| holding.party_id == cause.party.id);
        let unit: Unit = arrival.lot.unit.parse().map_err(|_| StoreError::Corrupt("a lot's unit"))?;
        let total = content.iter().try_fold(0_i64, |sum, (held, _)| sum.checked_add(held.quantity));
        let total = total.ok_or(StoreError::Corrupt("a bin's content"))?;
        let number = lot::newest_epoch(conn, bin.id).await?.map_or(2, |newest| newest + 1);
        let late = content.iter().any(|(_, lot)| lot.epoch.is_some() && lot.made_time > cause.time);
        let items = party::trade_items_of(conn, cause.party.id, profile.id()).await?;
        let own = items.into_iter().find(|item| item.product == arrival.lot.product).map(|item| item.gtin);
        let gtin = own.unwrap_or_else(|| arrival.lot.gtin.clone());
        let lot_number = format!("E{number}-{}", bin.id);
        let output = Output {
            lot: build::lot_uri(&gtin, &lot_number),
            product: arrival.lot.product.clone(),
            quantity: Quantity::new(unit, total),
        };
        Ok(Self { number, bin, content, output, gtin, lot_number, late })
    }

    fn inputs(&self) -> Vec<Portion> {
        let unit = self.output.quantity.unit;
        let portion = |(held, lot): &(lot::Holding, lot::Lot)| Portion {
            lot: lot.uri.clone(),
            quantity: Quantity::new(unit, held.quantity),
        };
        self.content.iter().map(portion).collect()
    }

    /// `cause` is the derived record itself.
    async fn apply(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let total = self.output.quantity.amount;
        let new = lot::NewLot {
            uri: &self.output.lot,
            gtin: &self.gtin,
            number: &self.lot_number,
            profile: cause.profile,
            product: &self.output.product,
            unit: self.output.quantity.unit.as_str(),
            made_by: cause.party.id,
            made_at_place: Some(self.bin.id),
            made_time: cause.time,
            entry: cause.entry,
            epoch: Some(self.number),
        };
        let made = lot::insert(conn, &new).await?;
        record::insert_lot_part(conn, cause.entry, made.id, "output", Some(total)).await?;
        let mut edges = Vec::with_capacity(self.content.len());
        for (held, parent) in &self.content {
            self.book(conn, cause, parent.id, -held.quantity).await?;
            record::insert_lot_part(conn, cause.entry, parent.id, "input", Some(held.quantity)).await?;
            if parent.epoch.is_some() {
                lot::close(conn, parent.id, now).await?;
            }
            edges.push(lot::Edge {
                parent_id: parent.id,
                child_id: made.id,
                entry: cause.entry.to_vec(),
                kind: "epoch".to_owned(),
                parent_quantity: held.quantity,
                child_quantity: total,
            });
        }
        self.book(conn, cause, made.id, total).await?;
        lot::insert_edges(conn, &edges).await?;
        let shares = self.shares(conn, made.id).await?;
        lot::insert_shares(conn, &shares).await
    }

    async fn book(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        lot_id: i64,
        delta: i64,
    ) -> Result<(), StoreError> {
        let (entry, party_id, place_id) = (cause.entry, cause.party.id, self.bin.id);
        lot::apply(conn, &lot::Movement { entry, lot_id, party_id, place_id, delta, reason: "epoch" }).await
    }

    /// What the new lot is made of, folded to arrivals.
    async fn shares(&self, conn: &mut Connection, epoch_id: i64) -> Result<Vec<lot::Share>, StoreError> {
        let mut content = Vec::with_capacity(self.content.len());
        for (held, parent) in &self.content {
            let shares = match parent.epoch {
                Some(_) => lot::shares_of(conn, &[parent.id]).await?,
                None => Vec::new(),
            };
            let made_of = shares.iter().map(|share| (share.arrival_id, share.quantity)).collect();
            content.push(Content { lot: parent.id, quantity: held.quantity, made_of });
        }
        let share = |(arrival_id, quantity)| lot::Share { lot_id: epoch_id, arrival_id, quantity };
        Ok(graph::fold(content).into_iter().map(share).collect())
    }
}
