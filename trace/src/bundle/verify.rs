//! What of a bundle is true, layer by layer, for a reader who trusts what the trust file names and nobody else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Bundle, Item, Signed, chain,
    heads::Heads,
    keys::KeyBook,
    order::Place,
    report::{Content, Findings, Interval, Layer, Read, Report},
};
use crate::{
    causes::Causes,
    keys::Kid,
    pack::{
        Frame,
        device::split_base_name,
        senml::{self, Reading},
    },
    record::{Record, statement::Statement},
    tlog::policy::Policy,
};

/// The profile of statements about the ledger, and of nothing else.
const LEDGER_PROFILE: &str = "ledger/1#";

/// A statement whose signature verified.
pub(super) struct Checkable<'bundle> {
    pub item: &'bundle Item,
    pub kid: Kid,
    pub body: Body,
    /// Where it was shown to stand.
    pub place: Option<Place>,
}

pub(super) enum Body {
    Record { record: Box<Record>, claims: Value },
    Pack { cti: Vec<u8>, readings: Vec<Reading> },
}

impl Checkable<'_> {
    pub fn record(&self) -> Option<&Record> {
        match &self.body {
            Body::Record { record, .. } => Some(record),
            Body::Pack { .. } => None,
        }
    }

    /// What a registrar whom the trust file names states here.
    pub fn by_registrar(&self, trust: &Policy) -> Option<Statement> {
        if trust.registrars.contains(&self.kid) { self.record()?.statement()?.ok() } else { None }
    }
}

/// Checks everything that can be checked offline.
///
/// `Invalid` where any layer is bad. `CouldNotCheck` where the log, the quorum, an enrolment, a roster line, a seen head or the
/// order between two logs is missing. The chain is extra: a bundle is valid without it, and the report says that it was not
/// looked at; [`Report::with_chains`] adds what a chain says.
pub fn verify(bundle: &Bundle, trust: &Policy) -> Report {
    let mut findings = Findings::default();
    let mut statements: Vec<Option<Checkable>> =
        bundle.items.iter().enumerate().map(|(at, item)| signed(at, item, &mut findings)).collect();
    check_unique(&statements, &mut findings);
    let heads = Heads::open(bundle, trust, &mut statements, &mut findings);
    let order = heads.order(&mut findings);
    let mut intervals = Vec::with_capacity(statements.len());
    for (at, statement) in statements.iter().enumerate() {
        let made = statement.as_ref().map(|statement| heads.made(at, statement, &order, &mut findings));
        intervals.push(made.unwrap_or_default());
    }
    let keys = KeyBook::read(&statements, trust, &order);
    for ((at, statement), made) in statements.iter().enumerate().zip(&intervals) {
        if let Some(statement) = statement {
            keys.check_signer(at, statement, &mut findings);
            keys.check_roster(at, statement, *made, &mut findings);
        }
    }
    chain::check_offline(bundle, trust, &heads, &mut findings);
    if bundle.items.is_empty() || bundle.checkpoints.is_empty() {
        findings.unchecked(Layer::Signature, "the bundle holds no statement");
    }
    let read = statements.iter().zip(intervals);
    let read =
        read.map(|(statement, made)| Some(read_of(statement.as_ref()?, made, &heads, &keys))).collect();
    findings.into_report(read)
}

fn read_of(statement: &Checkable, made: Interval, heads: &Heads, keys: &KeyBook) -> Read {
    let content = match &statement.body {
        Body::Record { claims, .. } => Content::Record(claims.clone()),
        Body::Pack { readings, .. } => {
            Content::Pack { readings: readings.clone(), by_gateway: keys.is_gateway(&statement.kid) }
        }
    };
    Read {
        entry: statement.item.signed.entry(),
        kid: statement.kid,
        custody: keys.custody(&statement.kid),
        content,
        place: statement.place.map(|place| (heads.origin(place.log).to_owned(), place.index)),
        made,
    }
}

fn signed<'bundle>(at: usize, item: &'bundle Item, findings: &mut Findings) -> Option<Checkable<'bundle>> {
    findings.count(Layer::Signature);
    let checked = match &item.signed {
        Signed::Record { signed, disclosures } => check_record(signed, disclosures, item),
        Signed::Pack(bytes) => check_pack(bytes, item),
    };
    match checked {
        Ok((kid, body)) => Some(Checkable { item, kid, body, place: None }),
        Err(why) => {
            findings.bad(Layer::Signature, format!("statement {at}: {why}"));
            None
        }
    }
}

/// A `jti` is unique over the ledger, and so is a pack's number at its device: a second one is another story of the same thing.
fn check_unique(statements: &[Option<Checkable>], findings: &mut Findings) {
    let mut numbers: BTreeMap<(&str, &[u8]), usize> = BTreeMap::new();
    for (at, statement) in statements.iter().enumerate() {
        let Some(statement) = statement else { continue };
        let number = match &statement.body {
            Body::Record { record, .. } => ("", &record.claims().jti.as_bytes()[..]),
            Body::Pack { cti, readings } => (device_of(readings), cti.as_slice()),
        };
        if let Some(first) = numbers.insert(number, at) {
            let why = format!("statement {at} has the number of statement {first}, which is given once");
            findings.bad(Layer::Inclusion, why);
        }
    }
}

/// Of a pack's first reading: that all are of one device is checked with its key.
fn device_of(readings: &[Reading]) -> &str {
    readings.first().map(|reading| split_base_name(&reading.name).0).unwrap_or_default()
}

fn check_record(signed: &str, disclosures: &[String], item: &Item) -> Result<(Kid, Body), String> {
    let record = Record::parse(signed).map_err(|error| Causes(&error).to_string())?;
    record.verify(&item.key).map_err(|error| Causes(&error).to_string())?;
    if record.statement().is_some() != record.claims().profile.starts_with(LEDGER_PROFILE) {
        return Err(format!("the profile {} is for other content", record.claims().profile));
    }
    let disclosures: Vec<&str> = disclosures.iter().map(String::as_str).collect();
    let claims = record.process(&disclosures).map_err(|error| Causes(&error).to_string())?;
    Ok((record.kid(), Body::Record { record: Box::new(record), claims }))
}

fn check_pack(bytes: &[u8], item: &Item) -> Result<(Kid, Body), String> {
    let frame = Frame::parse(bytes).map_err(|error| Causes(&error).to_string())?;
    frame.verify(&item.key).map_err(|error| Causes(&error).to_string())?;
    let readings = senml::parse_cbor(frame.payload).map_err(|error| Causes(&error).to_string())?;
    Ok((frame.kid, Body::Pack { cti: frame.cti.to_vec(), readings }))
}
