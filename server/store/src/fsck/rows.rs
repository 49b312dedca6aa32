//! The rows that are compared with the signed bytes, column by column.

use postgres::{Row, types::ToSql};

use super::{Jti, Moment};

pub(super) fn parameters<'a>(
    values: &'a [&'a (dyn ToSql + Sync)],
) -> impl ExactSizeIterator<Item = &'a (dyn ToSql + Sync)> + 'a {
    values.iter().copied()
}

pub(super) const LOGS: &str = "select l.id, l.ledger, l.origin, l.vkey, l.state, l.sealed_at, \
     h.size, h.root, h.signed_at, (select count(*) from entry e where e.log_id = l.id) \
     from log l left join head h on h.log_id = l.id order by l.id";

macro_rules! behind_an_entry {
    ($from:literal) => {
        concat!(
            "select e.index, e.hash, \
             r.jti, r.kind, y.iss, r.iss, r.kid, r.profile, r.step, r.grade, r.event_type, r.event_id, \
             r.event_time, r.event_offset, r.event_hash, r.place_id, l.uri, r.corrects, r.iat, r.accepted_at, \
             r.signed, r.public::text, \
             p.cti, p.kid, p.bytes, p.readings, p.first_at, p.last_at, p.mark, p.received_at, d.signing, \
             d.name, o.slug from ",
            $from,
            " left join record r on r.entry = e.hash \
             left join party y on y.id = r.party_id left join place l on l.id = r.place_id \
             left join pack p on p.entry = e.hash \
             left join device d on d.id = p.device_id left join party o on o.id = d.party_id"
        )
    };
}

/// The entries of a range.
macro_rules! ranged {
    ($select:expr) => {
        concat!($select, " where e.log_id = $1 and e.index >= $2 and e.index < $3 order by e.index")
    };
}

/// The entries of a list.
macro_rules! listed {
    ($select:expr) => {
        concat!($select, " where e.log_id = $1 and e.index = any($2) order by e.index")
    };
}

macro_rules! refs {
    () => {
        "select e.index, f.rel, f.target from entry e join record_ref f on f.entry = e.hash"
    };
}

macro_rules! disclosures {
    () => {
        "select e.index, d.position, d.digest, \
         (d.visibility = 'personal') = (d.person_id is not null) and d.visibility in ('private', 'personal') \
         from entry e join disclosure d on d.entry = e.hash"
    };
}

macro_rules! lot_parts {
    () => {
        "select e.index, o.part, coalesce(l.uri, ''), o.quantity, coalesce(l.unit, ''), \
         l.recalled_by is not distinct from e.hash \
         from entry e join record_lot o on o.entry = e.hash left join lot l on l.id = o.lot_id"
    };
}

pub(super) const ENTRIES: &str = ranged!(behind_an_entry!("entry e"));
/// Refs, disclosures, lots.
pub(super) const ATTACHED: [&str; 3] =
    [ranged!(refs!()), concat!(ranged!(disclosures!()), ", d.position"), ranged!(lot_parts!())];

pub(super) const LISTED_ENTRIES: &str = listed!(behind_an_entry!("entry e"));
pub(super) const LISTED_ATTACHED: [&str; 3] =
    [listed!(refs!()), concat!(listed!(disclosures!()), ", d.position"), listed!(lot_parts!())];

pub(super) const LISTED_TILES: &str =
    "select index, data from tile where log_id = $1 and level = $2 and index = any($3) order by index";

pub(super) const HASHES: &str =
    "select hash from entry where log_id = $1 and index >= $2 and index < $3 order by index";

/// With the number of rows before it instead of an index.
pub(super) const WAITING: &str = concat!(
    behind_an_entry!(
        "(select row_number() over () as index, entry as hash from ( \
          select entry from record union select entry from pack) made \
          where not exists (select from entry logged where logged.hash = made.entry)) e"
    ),
    " order by r.jti"
);

/// The first place of each party: where its records stand that name none.
pub(super) const FIRST_PLACES: &str = "select distinct on (p.party_id) y.iss, p.uri from place p \
     join party y on y.id = p.party_id order by p.party_id, p.id";

pub(super) const STATEMENTS: &str = "select e.log_id, e.index, e.hash, r.signed \
     from record r join entry e on e.hash = r.entry where r.kind = 'statement' order by e.log_id, e.index";

pub(super) const TILES: &str = "select index, data from tile \
     where log_id = $1 and level = $2 and index >= $3 and index < $4 order by index";

pub(super) const CHECKPOINTS: &str = "select size, root, note, signed_at from checkpoint \
     where log_id = $1 and size > $2 and size <= $3 order by size";

pub(super) const NEWEST_CHECKPOINT: &str =
    "select size, root, note, signed_at from checkpoint where log_id = $1 order by size desc limit 1";

pub(super) const BEYOND: &str =
    "select max(index) from entry where log_id = $1 and (index < 0 or index >= $2)";

pub(super) const STRAYS: &str =
    "select count(*) from checkpoint where log_id = $1 and (size < 0 or size > $2)";

pub(super) const COSIGNATURES: &str = "select size, witness, line from cosignature \
     where log_id = $1 and size > $2 and size <= $3 order by size, witness";

pub(super) const KEYS: &str = "select k.kid, y.iss, k.role, k.custody, k.state, k.since, k.public, k.enrolled_by, \
     o.slug, d.name, k.device_id is not null, \
     exists (select from pending q where q.entry = k.enrolled_by) \
     from key k left join party y on y.id = k.party_id left join device d on d.id = k.device_id \
     left join party o on o.id = d.party_id order by k.kid";

pub(super) const ROSTER_WAITS: &str = "select exists (select from record r join pending q on q.entry = r.entry \
     where r.kind = 'statement' and r.public #>> '{statement,root}' = $1)";

pub(super) const ANCHORS: &str = "select a.id, a.chain_id, a.contract, l.origin, a.size, a.root, c.root, a.nonce, \
     a.raw, a.tx_hash, a.gas_price from anchor a left join log l on l.id = a.log_id \
     left join checkpoint c on c.log_id = a.log_id and c.size = a.size order by a.id";

#[derive(Debug, Clone)]
pub struct LogRow {
    pub id: i16,
    pub ledger: String,
    pub origin: String,
    pub vkey: String,
    pub state: String,
    pub is_sealed_at: bool,
    pub head: Option<HeadRow>,
    /// Rows of `entry`.
    pub entries: i64,
}

#[derive(Debug, Clone)]
pub struct HeadRow {
    pub size: i64,
    pub root: Vec<u8>,
    pub signed_at: Moment,
}

#[derive(Debug, Clone)]
pub struct CheckpointRow {
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub signed_at: Moment,
}

#[derive(Debug, Clone)]
pub struct CosignatureRow {
    pub size: i64,
    pub witness: String,
    pub line: String,
}

#[derive(Debug, Clone)]
pub struct KeyRow {
    pub kid: Vec<u8>,
    pub party: Option<String>,
    pub role: String,
    pub custody: String,
    pub state: String,
    pub since: Moment,
    pub public: Vec<u8>,
    pub enrolled_by: Option<Vec<u8>>,
    /// Party and name of the device whose key it is.
    pub device: Option<(String, String)>,
    pub has_device: bool,
    /// The enrolment waits for its place in the log.
    pub waits: bool,
}

#[derive(Debug, Clone)]
pub struct AnchorRow {
    pub id: i64,
    pub chain_id: i64,
    pub contract: String,
    pub origin: Option<String>,
    pub size: i64,
    pub root: Vec<u8>,
    /// The root of the checkpoint of that size.
    pub logged: Option<Vec<u8>>,
    pub nonce: i64,
    pub raw: Vec<u8>,
    pub tx_hash: Vec<u8>,
    /// Wei.
    pub gas_price: i64,
}

/// What hangs on the records of some entries; each with the entry's index, ascending.
#[derive(Debug, Default)]
pub struct Attached {
    pub refs: Vec<RefRow>,
    pub disclosures: Vec<DisclosureRow>,
    pub lots: Vec<LotPartRow>,
}

#[derive(Debug, Clone)]
pub struct RefRow {
    pub index: i64,
    pub rel: String,
    pub target: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct DisclosureRow {
    pub index: i64,
    pub position: i16,
    pub digest: Vec<u8>,
    /// Private, or personal with the person whose it is.
    pub visibility_fits: bool,
}

#[derive(Debug, Clone)]
pub struct LotPartRow {
    pub index: i64,
    pub part: String,
    pub lot: String,
    pub quantity: Option<i64>,
    pub unit: String,
    /// The record recalled this lot.
    pub recalled_here: bool,
}

/// An entry with the signed bytes that it stands for, borrowed from the row.
#[derive(Debug, Clone)]
pub struct EntryRow<'row> {
    pub index: i64,
    pub hash: &'row [u8],
    pub record: Option<RecordRow<'row>>,
    pub pack: Option<PackRow<'row>>,
}

#[derive(Debug, Clone)]
pub struct RecordRow<'row> {
    pub jti: Jti,
    pub kind: &'row str,
    /// Digital Link of the party that the row names.
    pub party: Option<&'row str>,
    pub iss: &'row str,
    pub kid: &'row [u8],
    pub profile: &'row str,
    pub step: Option<&'row str>,
    pub grade: &'row str,
    pub event_type: Option<&'row str>,
    pub event_id: Option<&'row str>,
    pub event_time: Option<Moment>,
    pub event_offset: Option<&'row str>,
    pub event_hash: Option<&'row [u8]>,
    pub place: Said<'row>,
    pub corrects: Option<&'row [u8]>,
    pub iat: Moment,
    pub accepted_at: Moment,
    pub signed: &'row str,
    /// JSON.
    pub public: &'row str,
}

/// What a row says of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'row> {
    Nothing,
    Place(&'row str),
    /// A number that no place has.
    Nowhere,
}

#[derive(Debug, Clone)]
pub struct PackRow<'row> {
    pub cti: &'row [u8],
    pub kid: &'row [u8],
    pub bytes: &'row [u8],
    pub readings: i32,
    pub first_at: Moment,
    pub last_at: Moment,
    pub mark: Option<&'row str>,
    pub received_at: Moment,
    /// (signing, name, party's slug) of the device that the row names.
    pub device: Option<(&'row str, &'row str, &'row str)>,
}

impl LogRow {
    pub(super) fn of(row: &Row) -> Self {
        let sealed_at: Option<Moment> = row.get(5);
        let size: Option<i64> = row.get(6);
        Self {
            id: row.get(0),
            ledger: row.get(1),
            origin: row.get(2),
            vkey: row.get(3),
            state: row.get(4),
            is_sealed_at: sealed_at.is_some(),
            head: size.map(|size| HeadRow { size, root: row.get(7), signed_at: row.get(8) }),
            entries: row.get(9),
        }
    }
}

impl Attached {
    pub(super) fn of(refs: &[Row], disclosures: &[Row], lots: &[Row]) -> Self {
        Self {
            refs: refs.iter().map(RefRow::of).collect(),
            disclosures: disclosures.iter().map(DisclosureRow::of).collect(),
            lots: lots.iter().map(LotPartRow::of).collect(),
        }
    }
}

impl CheckpointRow {
    pub(super) fn of(row: &Row) -> Self {
        Self { size: row.get(0), root: row.get(1), note: row.get(2), signed_at: row.get(3) }
    }
}

impl CosignatureRow {
    pub(super) fn of(row: &Row) -> Self {
        Self { size: row.get(0), witness: row.get(1), line: row.get(2) }
    }
}

impl RefRow {
    pub(super) fn of(row: &Row) -> Self {
        Self { index: row.get(0), rel: row.get(1), target: row.get(2) }
    }
}

impl DisclosureRow {
    pub(super) fn of(row: &Row) -> Self {
        Self { index: row.get(0), position: row.get(1), digest: row.get(2), visibility_fits: row.get(3) }
    }
}

impl LotPartRow {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            index: row.get(0),
            part: row.get(1),
            lot: row.get(2),
            quantity: row.get(3),
            unit: row.get(4),
            recalled_here: row.get(5),
        }
    }
}

impl KeyRow {
    pub(super) fn of(row: &Row) -> Self {
        let (party, device): (Option<String>, Option<String>) = (row.get(8), row.get(9));
        Self {
            kid: row.get(0),
            party: row.get(1),
            role: row.get(2),
            custody: row.get(3),
            state: row.get(4),
            since: row.get(5),
            public: row.get(6),
            enrolled_by: row.get(7),
            device: party.zip(device),
            has_device: row.get(10),
            waits: row.get(11),
        }
    }
}

impl AnchorRow {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            id: row.get(0),
            chain_id: row.get(1),
            contract: row.get(2),
            origin: row.get(3),
            size: row.get(4),
            root: row.get(5),
            logged: row.get(6),
            nonce: row.get(7),
            raw: row.get(8),
            tx_hash: row.get(9),
            gas_price: row.get(10),
        }
    }
}

impl<'row> EntryRow<'row> {
    pub(super) fn of(row: &'row Row) -> Self {
        let jti: Option<Jti> = row.get(2);
        let cti: Option<&[u8]> = row.get(22);
        Self {
            index: row.get(0),
            hash: row.get(1),
            record: jti.map(|jti| RecordRow::of(row, jti)),
            pack: cti.map(|cti| PackRow::of(row, cti)),
        }
    }
}

impl<'row> RecordRow<'row> {
    fn of(row: &'row Row, jti: Jti) -> Self {
        let place_id: Option<i64> = row.get(15);
        let place: Option<&str> = row.get(16);
        Self {
            jti,
            kind: row.get(3),
            party: row.get(4),
            iss: row.get(5),
            kid: row.get(6),
            profile: row.get(7),
            step: row.get(8),
            grade: row.get(9),
            event_type: row.get(10),
            event_id: row.get(11),
            event_time: row.get(12),
            event_offset: row.get(13),
            event_hash: row.get(14),
            place: match (place_id, place) {
                (None, _) => Said::Nothing,
                (Some(_), Some(uri)) => Said::Place(uri),
                (Some(_), None) => Said::Nowhere,
            },
            corrects: row.get(17),
            iat: row.get(18),
            accepted_at: row.get(19),
            signed: row.get(20),
            public: row.get(21),
        }
    }
}

impl<'row> PackRow<'row> {
    fn of(row: &'row Row, cti: &'row [u8]) -> Self {
        let signing: Option<&str> = row.get(30);
        let (name, party): (Option<&str>, Option<&str>) = (row.get(31), row.get(32));
        Self {
            cti,
            kid: row.get(23),
            bytes: row.get(24),
            readings: row.get(25),
            first_at: row.get(26),
            last_at: row.get(27),
            mark: row.get(28),
            received_at: row.get(29),
            device: signing.zip(name).zip(party).map(|((signing, name), party)| (signing, name, party)),
        }
    }
}
