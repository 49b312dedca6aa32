//! A step of the working day: what was typed → a signed record and what follows from it, in one transaction.
//!
//! Parse → look up what the words refer to, locking what the rules compare → rules and event (`trace::profile::build`) →
//! sign → record, disclosures, leaf, holdings, and the derived records that the server owes. A refusal changes nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, Utc};
use serde_json::{Map, Value as Json, json};
use store::{
    Connection, Store, StoreError, code, consignment, lot,
    party::{self, Party, Place},
    quota, record,
};
use trace::{
    hash::Hash,
    profile::{
        Effect, LotFacts, Profile, Refusal, Step, Wiring,
        build::{self, Built, Codes, ConsignmentFacts, Context, EPCIS_CONTEXT, GX, PlaceFacts},
        derived,
        effect::{Output, Portion},
        form::{self, Values},
    },
    quantity::{Quantity, Unit},
    record::{Body, Claims, Conceal, Draft, Issued, Record, Ref, Rel},
    rules::{PermitFacts, largest_remainder},
    serial::{Epoch, SerialKey},
};
use uuid::Uuid;

use super::{
    capture_epcis::newest_seen,
    disclosures,
    effects::{self, Arrival, Cause, Consequence, EffectError},
    keys::{DataKey, Keys, KeysError, fresh_salt, statements::operator},
    registry,
};

/// Digests at the event's own level of a derived record: it conceals nothing.
const DERIVED_DECOYS: usize = 0;
/// China Standard Time: what a form's times mean that name no zone, and how the server's own records are written.
const LOCAL_OFFSET_SECONDS: i32 = 8 * 3600;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No such step for this party's role.
    #[error("no such step")]
    NoSuchStep,
    #[error("refused by a rule")]
    Refused(Vec<Refusal>),
    /// The jti was used for something else.
    #[error("the idempotency key was used before")]
    JtiUsed,
    #[error("the party's key cannot sign")]
    Keys(#[from] KeysError),
    #[error("the record cannot be signed")]
    Issue(#[from] trace::record::IssueError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EffectError> for CaptureError {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Refused(refusals) => Self::Refused(refusals),
            EffectError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Refusal> for CaptureError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// What the author gets: the record's name and its entry, which the log will hold.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub jti: Uuid,
    pub entry: Hash,
    /// `false`: the same request was taken before, and this is its receipt.
    pub fresh: bool,
    pub warnings: Vec<Refusal>,
}

/// Everything that capturing needs besides the request.
pub struct Capture<'a> {
    pub store: &'a Store,
    pub keys: &'a Keys,
    /// Prefix of document URIs, with a final slash.
    pub documents: &'a str,
    pub serial_master: &'a [u8; 32],
}

/// Who takes which step, under which idempotency key.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub party: &'a Party,
    /// The account that typed: concealed as `act`.
    pub account: Option<Uuid>,
    pub profile: &'a Profile,
    pub step: &'a Step,
    pub jti: Uuid,
}

/// The master of one key epoch, so that a sealed year's can be handed over without the others.
pub fn epoch_master(master: &[u8; 32], epoch: Epoch) -> [u8; 32] {
    let mut label = *b"suyuan-serial-master/1/?";
    if let Some(last) = label.last_mut() {
        *last = u8::try_from(epoch.as_char()).unwrap_or(b'?');
    }
    trace::hash::sha256_of(&[master, &label]).0
}

impl Capture<'_> {
    /// Takes a step with what was submitted: pairs of a form or of a JSON object.
    pub async fn take(
        &self,
        request: Request<'_>,
        submitted: &[(String, String)],
    ) -> Result<Receipt, CaptureError> {
        let Request { party, profile, step, jti, .. } = request;
        if !step.roles.contains(&party.role) {
            return Err(CaptureError::NoSuchStep);
        }
        let mut transaction = self.store.begin().await?;
        if let Some(earlier) = record::by_jti(&mut transaction, jti).await? {
            return receipt_of(&earlier, party);
        }
        let now = Utc::now();
        let values = form::parse(profile, step, submitted).map_err(CaptureError::Refused)?;
        let facts = self.facts(&mut transaction, request, &values, now).await?;
        let built = build::build(profile, step, &values, &facts.context).map_err(CaptureError::Refused)?;
        let entry = self.write(&mut transaction, request, &values, &facts, &built, now).await?;
        transaction.commit().await?;
        Ok(Receipt { jti, entry, fresh: true, warnings: built.warnings })
    }

    async fn write(
        &self,
        conn: &mut Connection,
        request: Request<'_>,
        values: &Values,
        facts: &Facts,
        built: &Built,
        now: DateTime<Utc>,
    ) -> Result<Hash, CaptureError> {
        let Request { party, profile, step, jti, account } = request;
        let signer = self.keys.signer_of(conn, party.id).await?;
        let place = facts.place(&built.effect).ok_or_else(|| Refusal::new("place", "no-place"))?;
        let refs = answered(&built.effect, facts);
        let draft = Draft {
            claims: Claims {
                iss: party.iss.clone(),
                iat: now.timestamp(),
                jti,
                aud: self.keys.ledger().to_owned(),
                profile: profile.reference(),
                seen: newest_seen(conn).await?,
                refs: refs.clone(),
            },
            body: body(&built.event),
            act: account.map(|account| json!({"account": account})),
            event_hash: None,
        };
        let issued = issue(draft, &built.conceal, built.decoys, &signer.secret)?;
        let person = self.person_of(conn, party, facts).await?;
        let entry = issued.entry.as_bytes().to_vec();
        let row = Row {
            jti,
            kind: "event",
            party,
            kid: signer.kid,
            profile: profile.reference(),
            step: Some(step.id.clone()),
            grade: grade(step, values, &built.event),
            place_id: Some(place.id),
            now,
        };
        let row = row.of(&issued, &built.event)?;
        let time = row.event_time.unwrap_or(now);
        let sealed = disclosures::seal(self.keys, &entry, &issued.disclosures, Some((person.0, &person.1)))?;
        insert(conn, &row, &refs, &sealed).await?;
        let cause = Cause { entry: &entry, party, place, profile: profile.id(), time };
        match effects::apply(conn, &cause, &built.effect).await? {
            Consequence::None => {}
            Consequence::Epoch(arrival) => self.open_epoch(conn, &cause, profile, &arrival, now).await?,
            Consequence::Codes(marked) => {
                self.record_run(conn, facts, &marked, &entry).await?;
            }
        }
        Ok(issued.entry)
    }

    /// Whose the personal disclosures are: the author, else the owner of the plot, else somebody known by this record only,
    /// so that it can be erased by itself.
    async fn person_of(
        &self,
        conn: &mut Connection,
        party: &Party,
        facts: &Facts,
    ) -> Result<(Uuid, DataKey), CaptureError> {
        let known = party.person_id.or_else(|| facts.places.iter().find_map(|place| place.person_id));
        if let Some(person) = known
            && let Some(key) = self.keys.person_key(conn, person).await?
        {
            return Ok((person, key));
        }
        let person = Uuid::now_v7();
        let (key, sealed) = self.keys.new_person_key(person)?;
        party::insert_person(conn, person, &sealed).await?;
        Ok((person, key))
    }

    async fn facts(
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

    async fn record_run(
        &self,
        conn: &mut Connection,
        facts: &Facts,
        marked: &lot::Lot,
        entry: &[u8],
    ) -> Result<(), CaptureError> {
        let Some(codes) = &facts.context.codes else { return Ok(()) };
        let corrupt = |_| StoreError::Corrupt("a code run");
        let epoch = Epoch::parse(&codes.epoch.to_string()).map_err(corrupt)?;
        let master = epoch_master(self.serial_master, epoch);
        let key = SerialKey::derive(&master, epoch, &marked.gtin).map_err(corrupt)?;
        let count = |number: u64| i64::try_from(number).map_err(|_| StoreError::Corrupt("a code run"));
        let run = code::CodeRun {
            gtin: marked.gtin.clone(),
            key_epoch: codes.epoch,
            first: count(codes.first)?,
            count: count(codes.count)?,
            lot_id: marked.id,
            entry: entry.to_vec(),
        };
        code::insert(conn, &run, key.digest().as_bytes()).await?;
        Ok(())
    }

    /// The bin's lots and the arrival become the next epoch's lot: a record of the operator's, derived from the author's.
    async fn open_epoch(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        profile: &Profile,
        arrival: &Arrival,
        now: DateTime<Utc>,
    ) -> Result<(), CaptureError> {
        let mut lies_there = lot::holdings_at(conn, arrival.bin.id).await?;
        lies_there.retain(|(holding, _)| holding.party_id == cause.party.id);
        let unit: Unit = arrival.lot.unit.parse().map_err(|_| StoreError::Corrupt("a lot's unit"))?;
        let total = lies_there.iter().try_fold(0_i64, |sum, (held, _)| sum.checked_add(held.quantity));
        let total = total.ok_or(StoreError::Corrupt("a bin's content"))?;
        let number = lot::newest_epoch(conn, arrival.bin.id).await?.map_or(2, |newest| newest + 1);
        let late = lies_there.iter().any(|(_, lot)| lot.epoch.is_some() && lot.made_time > cause.time);

        let items = party::trade_items_of(conn, cause.party.id, profile.id()).await?;
        let own = items.into_iter().find(|item| item.product == arrival.lot.product).map(|item| item.gtin);
        let gtin = own.unwrap_or_else(|| arrival.lot.gtin.clone());
        let lot_number = format!("E{number}-{}", arrival.bin.id);
        let uri = build::lot_uri(&gtin, &lot_number);
        let inputs: Vec<Portion> = lies_there
            .iter()
            .map(|(held, lot)| Portion { lot: lot.uri.clone(), quantity: Quantity::new(unit, held.quantity) })
            .collect();
        let output = Output {
            lot: uri.clone(),
            product: arrival.lot.product.clone(),
            quantity: Quantity::new(unit, total),
        };
        let jti = Uuid::now_v7();
        let at = cause.time.with_timezone(&local_offset());
        let epoch_number = u32::try_from(number).unwrap_or(u32::MAX);
        let event = derived::epoch(jti, at, &arrival.bin.uri, &inputs, &output, epoch_number);
        let entry = self.derive(conn, cause, profile, jti, &event, &arrival.bin, now, late).await?;

        let derived_cause = Cause { entry: &entry, ..*cause };
        let made = lot::insert(
            conn,
            &lot::NewLot {
                uri: &uri,
                gtin: &gtin,
                number: &lot_number,
                profile: profile.id(),
                product: &output.product,
                unit: unit.as_str(),
                made_by: cause.party.id,
                made_at_place: Some(arrival.bin.id),
                made_time: cause.time,
                entry: &entry,
                epoch: Some(number),
            },
        )
        .await?;
        record::insert_lot_part(conn, &entry, made.id, "output", Some(total)).await?;
        let mut edges = Vec::with_capacity(lies_there.len());
        for (held, parent) in &lies_there {
            move_within(conn, &derived_cause, parent.id, arrival.bin.id, -held.quantity).await?;
            record::insert_lot_part(conn, &entry, parent.id, "input", Some(held.quantity)).await?;
            if parent.epoch.is_some() {
                lot::close(conn, parent.id, now).await?;
            }
            edges.push(lot::Edge {
                parent_id: parent.id,
                child_id: made.id,
                entry: entry.clone(),
                kind: "epoch".to_owned(),
                parent_quantity: held.quantity,
                child_quantity: total,
            });
        }
        move_within(conn, &derived_cause, made.id, arrival.bin.id, total).await?;
        lot::insert_edges(conn, &edges).await?;
        let shares = folded_shares(conn, made.id, &lies_there).await?;
        lot::insert_shares(conn, &shares).await?;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a derived record is all of these, once")]
    async fn derive(
        &self,
        conn: &mut Connection,
        cause: &Cause<'_>,
        profile: &Profile,
        jti: Uuid,
        event: &Json,
        place: &Place,
        now: DateTime<Utc>,
        late: bool,
    ) -> Result<Vec<u8>, CaptureError> {
        let operator = operator(conn).await?;
        let leaf = Hash::from_slice(cause.entry).ok_or(StoreError::Corrupt("an entry"))?;
        let refs = vec![Ref { rel: Rel::Derived, leaf }];
        let draft = Draft {
            claims: Claims {
                iss: operator.iss.clone(),
                iat: now.timestamp(),
                jti,
                aud: self.keys.ledger().to_owned(),
                profile: profile.reference(),
                seen: newest_seen(conn).await?,
                refs: refs.clone(),
            },
            body: body(event),
            act: None,
            event_hash: None,
        };
        let issued = issue(draft, &[], DERIVED_DECOYS, self.keys.derivation())?;
        let row = Row {
            jti,
            kind: "derived",
            party: &operator,
            kid: self.keys.derivation().kid(),
            profile: profile.reference(),
            step: Some("epoch".to_owned()),
            grade: "self",
            place_id: Some(place.id),
            now,
        };
        let row = record::Record { late, ..row.of(&issued, event)? };
        let sealed = disclosures::seal(self.keys, &row.entry, &issued.disclosures, None)?;
        insert(conn, &row, &refs, &sealed).await?;
        Ok(row.entry)
    }
}

/// What the words of a request refer to.
struct Facts {
    context: Context,
    places: Vec<Place>,
    /// The party's first place: where a step happens that names none.
    main: Option<Place>,
    /// Consignment URI → entry of its shipping record.
    shipped: BTreeMap<String, Vec<u8>>,
}

impl Facts {
    /// Where the effect takes place.
    fn place(&self, effect: &Effect) -> Option<&Place> {
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

/// The columns of a record row that its signed bytes do not give.
struct Row<'a> {
    jti: Uuid,
    kind: &'static str,
    party: &'a Party,
    kid: Hash,
    profile: String,
    step: Option<String>,
    grade: &'static str,
    place_id: Option<i64>,
    now: DateTime<Utc>,
}

impl Row<'_> {
    fn of(self, issued: &Issued, event: &Json) -> Result<record::Record, StoreError> {
        let public = Record::parse(&issued.signed).ok().and_then(|record| record.process(&[]).ok());
        let text = |name: &str| event.get(name).and_then(Json::as_str).map(str::to_owned);
        let time = text("eventTime").and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
        Ok(record::Record {
            jti: self.jti,
            entry: issued.entry.as_bytes().to_vec(),
            kind: self.kind.to_owned(),
            party_id: self.party.id,
            iss: self.party.iss.clone(),
            kid: self.kid.as_bytes().to_vec(),
            profile: self.profile,
            step: self.step,
            grade: self.grade.to_owned(),
            event_type: text("type"),
            event_id: text("eventID"),
            event_time: time.map(|time| time.with_timezone(&Utc)),
            event_offset: text("eventTimeZoneOffset"),
            event_hash: None,
            place_id: self.place_id,
            late: false,
            corrects: None,
            iat: self.now,
            accepted_at: self.now,
            signed: issued.signed.clone(),
            public: public.ok_or(StoreError::Corrupt("a record just signed"))?,
        })
    }
}

async fn insert(
    conn: &mut Connection,
    row: &record::Record,
    refs: &[Ref],
    sealed: &[record::Disclosure],
) -> Result<(), StoreError> {
    let refs: Vec<_> = refs.iter().map(|one| (one.rel.as_str(), one.leaf.as_bytes().to_vec())).collect();
    record::insert(conn, row, &refs, sealed).await
}

fn receipt_of(earlier: &record::Record, party: &Party) -> Result<Receipt, CaptureError> {
    let entry = Hash::from_slice(&earlier.entry).ok_or(StoreError::Corrupt("an entry"))?;
    if earlier.party_id != party.id {
        return Err(CaptureError::JtiUsed);
    }
    Ok(Receipt { jti: earlier.jti, entry, fresh: false, warnings: Vec::new() })
}

fn issue(
    draft: Draft,
    conceal: &[Conceal],
    decoys: usize,
    secret: &trace::keys::SecretKey,
) -> Result<Issued, CaptureError> {
    let mut failed = None;
    let salts = || {
        fresh_salt().unwrap_or_else(|error| {
            failed = Some(error);
            [0; 16]
        })
    };
    let issued = trace::record::issue(draft, conceal, salts, decoys, secret);
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(issued?),
    }
}

/// The event apart from its context, as a draft takes it.
fn body(event: &Json) -> Body {
    let mut event = event.clone();
    let own = event.as_object_mut().and_then(|members| members.shift_remove("@context"));
    Body::Event { context: own.unwrap_or_else(context), event }
}

fn context() -> Json {
    json!([EPCIS_CONTEXT, {"gx": GX}])
}

fn local_offset() -> FixedOffset {
    FixedOffset::east_opt(LOCAL_OFFSET_SECONDS)
        .unwrap_or_else(|| FixedOffset::east_opt(0).unwrap_or(Utc::now().fixed_offset().timezone()))
}

/// One character a year, in Crockford's order: 2026 is 6.
fn key_epoch(now: DateTime<Utc>) -> Result<Epoch, StoreError> {
    use chrono::Datelike as _;
    let at = usize::try_from(now.year().rem_euclid(10)).unwrap_or(0);
    let digit = "0123456789".get(at..=at).unwrap_or("0");
    Epoch::parse(digit).map_err(|_| StoreError::Corrupt("a key epoch"))
}

/// A hand-over is two records: receiving (or refusing) points at the shipping.
fn answered(effect: &Effect, facts: &Facts) -> Vec<Ref> {
    let (Effect::Receive { consignment, .. } | Effect::Refuse { consignment, .. }) = effect else {
        return Vec::new();
    };
    let shipped = facts.shipped.get(consignment).and_then(|entry| Hash::from_slice(entry));
    shipped.map(|leaf| Ref { rel: Rel::Answers, leaf }).into_iter().collect()
}

/// How well founded the statement is: a device's figures, a document, or the author's word.
fn grade(step: &Step, values: &Values, event: &Json) -> &'static str {
    if step.fields.iter().any(|field| values.device(&field.id).is_some()) {
        return "device";
    }
    let documents = event.get("bizTransactionList").and_then(Json::as_array);
    if documents.is_some_and(|documents| !documents.is_empty()) { "documented" } else { "self" }
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

async fn move_within(
    conn: &mut Connection,
    cause: &Cause<'_>,
    lot_id: i64,
    place_id: i64,
    delta: i64,
) -> Result<(), StoreError> {
    let change = lot::Movement {
        entry: cause.entry,
        lot_id,
        party_id: cause.party.id,
        place_id,
        delta,
        reason: "epoch",
    };
    lot::apply(conn, &change).await
}

/// What the new epoch is made of, folded to arrivals: an old epoch's shares shrink to what is left of it, by largest
/// remainder, so that they add up to the gram.
async fn folded_shares(
    conn: &mut Connection,
    epoch_id: i64,
    lies_there: &[(lot::Holding, lot::Lot)],
) -> Result<Vec<lot::Share>, StoreError> {
    let mut folded: BTreeMap<i64, i64> = BTreeMap::new();
    for (held, parent) in lies_there {
        let shares = lot::shares_of(conn, &[parent.id]).await?;
        if parent.epoch.is_none() || shares.is_empty() {
            *folded.entry(parent.id).or_default() += held.quantity;
            continue;
        }
        let weights: Vec<i64> = shares.iter().map(|share| share.quantity).collect();
        let parts =
            largest_remainder(held.quantity, &weights).ok_or(StoreError::Corrupt("an epoch's shares"))?;
        for (share, part) in shares.iter().zip(parts) {
            *folded.entry(share.arrival_id).or_default() += part;
        }
    }
    let share = |(arrival_id, quantity)| lot::Share { lot_id: epoch_id, arrival_id, quantity };
    Ok(folded.into_iter().map(share).collect())
}
