//! What the words of a request refer to, looked up and locked, so that rules compare what will still be so at commit.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use store::{
    Connection, StoreError, code, consignment, lot,
    party::{self, Party, Place},
    quota,
};
use trace::{
    profile::{
        Effect, LotFacts, Profile, Step, Wiring,
        build::{Codes, ConsignmentFacts, Context, PlaceFacts},
        effect::Portion,
        form::Values,
    },
    quantity::{Quantity, Unit},
    rules::PermitFacts,
};

use super::{Capture, CaptureError, Request, local_offset};
use crate::service::{codes::key_epoch, registry};

/// What the words of a request refer to.
pub(super) struct Facts {
    pub context: Context,
    pub places: Vec<Place>,
    /// The party's first place: where a step happens that names none.
    main: Option<Place>,
    /// Consignment URI → entry of its shipping record.
    pub shipped: BTreeMap<String, Vec<u8>>,
}

impl Facts {
    /// Where the effect takes place.
    pub fn place(&self, effect: &Effect) -> Option<&Place> {
        let uri = match effect {
            Effect::Create { place, .. }
            | Effect::Transform { place, .. }
            | Effect::Receive { place, .. }
            | Effect::Loss { place, .. } => Some(place),
            Effect::Ship { from, .. } => Some(from),
            Effect::Observe { place, .. } => place.as_ref(),
            Effect::Store { .. }
            | Effect::Commission { .. }
            | Effect::Pack { .. }
            | Effect::Unpack { .. }
            | Effect::Refuse { .. }
            | Effect::Recall { .. } => None,
        };
        uri.and_then(|uri| self.places.iter().find(|place| place.uri == *uri)).or(self.main.as_ref())
    }
}

impl Capture<'_> {
    pub(super) async fn facts(
        &self,
        conn: &mut Connection,
        request: Request<'_>,
        values: &Values,
        now: DateTime<Utc>,
    ) -> Result<Facts, CaptureError> {
        let Request { party, profile, step, jti, .. } = request;
        let own = party::places_of(conn, party.id, 1_000).await?;
        let named = values.places(step);
        let mut places: Vec<Place> = own.iter().filter(|place| named.contains(&place.uri)).cloned().collect();
        for uri in &named {
            // Somebody else's place may be named where goods go; a person's plot may not.
            if let Some(place) = party::place_by_uri(conn, uri).await?
                && place.party_id != party.id
                && place.person_id.is_none()
            {
                places.push(place);
            }
        }
        let consignments = self.consignments(conn, request, values).await?;
        let mut lots = values.lots(step);
        lots.extend(
            consignments.values().flat_map(|(_, facts)| facts.lines.iter().map(|line| line.lot.clone())),
        );
        let context = Context {
            jti,
            now: now.with_timezone(&local_offset()),
            author: party.iss.clone(),
            author_details: self.author_details(conn, party).await?,
            documents: self.documents.to_owned(),
            lots: lot_facts(conn, party, &lots).await?,
            items: items(conn, party, profile, values, step).await?,
            places: self.place_facts(conn, &places).await?,
            parties: parties(conn, &values.parties(step)).await?,
            permits: permits(conn, party, &values.permits(step)).await?,
            consignments: consignments.iter().map(|(uri, (_, facts))| (uri.clone(), facts.clone())).collect(),
            codes: self.codes(conn, step, values).await?,
        };
        let shipped = consignments.into_iter().map(|(uri, (shipped_by, _))| (uri, shipped_by)).collect();
        Ok(Facts { context, places, main: own.into_iter().next(), shipped })
    }

    async fn author_details(
        &self,
        conn: &mut Connection,
        party: &Party,
    ) -> Result<Map<String, Json>, CaptureError> {
        let mut details = Map::new();
        if let Some(person) = party.person_id
            && let Some(name) = registry::name_of_person(conn, self.keys, person).await?
        {
            details.insert("name".to_owned(), Json::String(name));
        }
        Ok(details)
    }

    async fn place_facts(
        &self,
        conn: &mut Connection,
        places: &[Place],
    ) -> Result<BTreeMap<String, PlaceFacts>, CaptureError> {
        let mut facts = BTreeMap::new();
        for place in places {
            let details = registry::place_details(conn, self.keys, place).await?;
            facts.insert(place.uri.clone(), PlaceFacts { kind: place.kind.clone(), details });
        }
        Ok(facts)
    }

    /// URI → the shipping record and what was sent. Locked: a consignment is answered once.
    async fn consignments(
        &self,
        conn: &mut Connection,
        request: Request<'_>,
        values: &Values,
    ) -> Result<BTreeMap<String, (Vec<u8>, ConsignmentFacts)>, CaptureError> {
        let mut found = BTreeMap::new();
        for uri in values.consignments(request.step) {
            let Some(awaited) = consignment::lock_awaited(conn, request.party.id, &uri).await? else {
                continue;
            };
            let shipper = party::by_id(conn, awaited.shipper_id).await?;
            let lines = consignment::lines_of(conn, &[awaited.id]).await?;
            let ids: Vec<i64> = lines.iter().map(|line| line.lot_id).collect();
            let lots = lot::by_ids(conn, &ids).await?;
            let portion = |line: &consignment::Line| {
                let lot = lots.iter().find(|lot| lot.id == line.lot_id)?;
                let unit = lot.unit.parse().ok()?;
                Some(Portion { lot: lot.uri.clone(), quantity: Quantity::new(unit, line.quantity) })
            };
            let facts = ConsignmentFacts {
                shipper: shipper.iss,
                lines: lines.iter().filter_map(portion).collect(),
                shipped_at: awaited.shipped_time,
            };
            found.insert(uri, (awaited.shipped_by, facts));
        }
        Ok(found)
    }

    /// The next indices of the lot's GTIN, where the step issues codes.
    async fn codes(
        &self,
        conn: &mut Connection,
        step: &Step,
        values: &Values,
    ) -> Result<Option<Codes>, CaptureError> {
        let Wiring::Commission { lot, pieces } = &step.effect else { return Ok(None) };
        let count =
            values.number(pieces).and_then(|pieces| pieces.scaled(0)).and_then(|n| u64::try_from(n).ok());
        let (Some(uri), Some(count)) = (values.text(lot), count) else { return Ok(None) };
        let Some(marked) = lot::by_uri(conn, uri).await? else { return Ok(None) };
        let epoch = key_epoch(Utc::now())?;
        let first = code::next_index(conn, &marked.gtin, epoch.as_char()).await?;
        Ok(Some(Codes { epoch: epoch.as_char(), first: u64::try_from(first).unwrap_or(0), count }))
    }
}

async fn lot_facts(
    conn: &mut Connection,
    party: &Party,
    uris: &[String],
) -> Result<BTreeMap<String, LotFacts>, StoreError> {
    let lots = lot::by_uris(conn, uris).await?;
    let ids: Vec<i64> = lots.iter().map(|lot| lot.id).collect();
    let holdings = lot::lock_holdings(conn, party.id, &ids).await?;
    let facts = |lot: lot::Lot| {
        let mine = holdings.iter().filter(|holding| holding.lot_id == lot.id);
        let on_hand = mine.map(|holding| holding.quantity.saturating_sub(holding.pledged)).sum();
        let unit = lot.unit.parse().map_err(|_| StoreError::Corrupt("a lot's unit"))?;
        let facts = LotFacts {
            product: lot.product,
            unit,
            on_hand,
            made_at: lot.made_time,
            recalled: lot.recalled_by.is_some(),
        };
        Ok((lot.uri, facts))
    };
    lots.into_iter().map(facts).collect()
}

async fn items(
    conn: &mut Connection,
    party: &Party,
    profile: &Profile,
    values: &Values,
    step: &Step,
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut items = BTreeMap::new();
    for needed in values.items_needed(step) {
        let owner = match &needed.owner {
            None => Some(party.id),
            Some(iss) => party::by_iss(conn, iss).await?.map(|owner| owner.id),
        };
        let Some(owner) = owner else { continue };
        let theirs = party::trade_items_of(conn, owner, profile.id()).await?;
        if let Some(item) = theirs.into_iter().find(|item| item.product == needed.product) {
            items.insert(needed.field, item.gtin);
        }
    }
    Ok(items)
}

async fn parties(conn: &mut Connection, uris: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
    let mut known = BTreeMap::new();
    for uri in uris {
        if let Some(party) = party::by_iss(conn, uri).await? {
            known.insert(party.iss, party.role);
        }
    }
    Ok(known)
}

async fn permits(
    conn: &mut Connection,
    party: &Party,
    numbers: &[String],
) -> Result<BTreeMap<String, PermitFacts>, StoreError> {
    let mut permits = BTreeMap::new();
    for number in numbers {
        let Some(permit) = quota::lock_numbered(conn, party.id, number).await? else { continue };
        let unit: Unit = permit.unit.parse().map_err(|_| StoreError::Corrupt("a permit's unit"))?;
        let place = match permit.place_id {
            Some(id) => Some(party::place_by_id(conn, id).await?.uri),
            None => None,
        };
        let facts = PermitFacts {
            uri: permit.uri,
            place,
            allowed: Quantity::new(unit, permit.allowed),
            used: Quantity::new(unit, permit.used),
            valid_from: permit.valid_from,
            valid_until: permit.valid_until,
        };
        permits.insert(number.clone(), facts);
    }
    Ok(permits)
}
