//! What of a bundle is true, layer by layer, for a reader who trusts what the trust file names and nobody else.

use std::collections::BTreeMap;

use super::{Bundle, Item, Signed};
use crate::{
    hash::sha256,
    keys::{KeyRole, Kid},
    merkle::{leaf_hash, verify_consistency, verify_inclusion},
    record::{
        Record,
        statement::{self, Statement},
    },
    roster::KeyState,
    tlog::{checkpoint::Checkpoint, policy::Policy},
};

/// The layers in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Checkpoints are signed by logs that the trust file names.
    Log,
    /// Witnesses cosigned them, as many as the quorum asks.
    Witnesses,
    /// Each statement is signed by the key that it names, and its disclosures open it.
    Signature,
    /// Each statement stands in its log.
    Inclusion,
    /// Each signing key was enrolled by a registrar whom the trust file names, for that party.
    Enrolment,
    /// Each signing key was good in a roster stated after the statement.
    Roster,
    /// The head that the author had seen is one that the log grew from.
    Seen,
    /// Heads on chains: online only.
    Chain,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad(String),
    /// Nothing is wrong, but this could not be checked from the bundle.
    Unchecked(String),
}

/// A layer, what was found, and how many statements, heads or keys were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub layer: Layer,
    pub count: usize,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    Invalid,
    CouldNotCheck,
}

/// All layers and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub layers: Vec<Checked>,
    pub verdict: Verdict,
    /// Records with what this bundle discloses put back, in the bundle's order; `None` for packs and what did not verify.
    pub claims: Vec<Option<serde_json::Value>>,
}

/// Checks everything that can be checked offline.
///
/// `Invalid` where any layer is bad. `CouldNotCheck` where the log, the quorum, an enrolment or a roster line is missing. The
/// chain is extra: a bundle is valid without it, and the report says that it was not looked at.
pub fn verify(bundle: &Bundle, trust: &Policy) -> Report {
    let mut checks = Checks::default();
    let heads = checks.heads(bundle, trust);
    let statements: Vec<Option<Checkable>> =
        bundle.items.iter().enumerate().map(|(at, item)| checks.statement(at, item, &heads)).collect();
    let enrolled = Checks::enrolments(&statements, trust);
    for (at, statement) in statements.iter().enumerate() {
        if let Some(statement) = statement {
            checks.signer(at, statement, &enrolled, trust);
            checks.roster(at, statement, &statements, trust);
        }
    }
    checks.seen(bundle, &heads, trust);
    if bundle.items.is_empty() || bundle.checkpoints.is_empty() {
        checks.unchecked(Layer::Signature, "the bundle holds no statement");
    }
    if !bundle.anchors.is_empty() {
        checks.count(Layer::Chain, bundle.anchors.len());
    }
    checks.report(statements)
}

/// A statement whose signature and inclusion were looked at.
struct Checkable<'bundle> {
    item: &'bundle Item,
    record: Option<Record>,
    kid: Kid,
    claims: Option<serde_json::Value>,
}

impl Checkable<'_> {
    fn statement(&self) -> Option<Statement> {
        self.record.as_ref()?.statement()?.ok()
    }
}

/// A key that a trusted registrar enrolled.
struct Enrolled {
    role: KeyRole,
    party: String,
}

#[derive(Default)]
struct Checks {
    found: BTreeMap<Layer, (usize, Option<Outcome>)>,
}

impl Checks {
    fn count(&mut self, layer: Layer, more: usize) {
        self.found.entry(layer).or_default().0 += more;
    }

    fn bad(&mut self, layer: Layer, why: impl Into<String>) {
        let outcome = &mut self.found.entry(layer).or_default().1;
        if !matches!(outcome, Some(Outcome::Bad(_))) {
            *outcome = Some(Outcome::Bad(why.into()));
        }
    }

    fn unchecked(&mut self, layer: Layer, why: impl Into<String>) {
        self.found.entry(layer).or_default().1.get_or_insert_with(|| Outcome::Unchecked(why.into()));
    }

    fn heads(&mut self, bundle: &Bundle, trust: &Policy) -> Vec<Option<Checkpoint>> {
        let mut heads: Vec<Option<Checkpoint>> = Vec::with_capacity(bundle.checkpoints.len());
        for note in &bundle.checkpoints {
            self.count(Layer::Log, 1);
            self.count(Layer::Witnesses, 1);
            let origin = note.text.lines().next().unwrap_or_default();
            let Some(log) = trust.logs.iter().find(|log| log.key.name.as_str() == origin) else {
                self.unchecked(Layer::Log, format!("the trust file does not name the log {origin}"));
                heads.push(None);
                continue;
            };
            if heads.iter().flatten().any(|head| head.origin == origin) {
                self.bad(Layer::Log, format!("two checkpoints of {origin}"));
            }
            match Checkpoint::open(note, &log.key) {
                Ok(head) => heads.push(Some(head)),
                Err(error) => {
                    self.bad(Layer::Log, format!("the checkpoint of {origin}: {error}"));
                    heads.push(None);
                }
            }
            match trust.witnessed(note) {
                Ok(witnessed) if witnessed.enough => {}
                Ok(witnessed) => {
                    let names: Vec<&str> = witnessed.by.keys().map(String::as_str).collect();
                    let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                    self.unchecked(Layer::Witnesses, format!("cosigned by {names}, which is not enough"));
                }
                Err(error) => self.bad(Layer::Witnesses, format!("a cosignature: {error}")),
            }
        }
        heads
    }

    fn statement<'bundle>(
        &mut self,
        at: usize,
        item: &'bundle Item,
        heads: &[Option<Checkpoint>],
    ) -> Option<Checkable<'bundle>> {
        self.count(Layer::Signature, 1);
        self.count(Layer::Inclusion, 1);
        let (bytes, checked) = match &item.signed {
            Signed::Record { signed, disclosures } => {
                (signed.as_bytes(), check_record(signed, disclosures, item))
            }
            Signed::Pack(bytes) => (&bytes[..], Err("packs are not read by this version".to_owned())),
        };
        match heads.get(item.checkpoint) {
            None => {
                self.bad(Layer::Inclusion, format!("statement {at} names a checkpoint that is not there"));
            }
            Some(None) => {
                self.unchecked(Layer::Inclusion, format!("statement {at} is in a log that is not trusted"));
            }
            Some(Some(head)) => {
                let leaf = leaf_hash(&sha256(bytes));
                if let Err(error) = verify_inclusion(&head.root, head.size, item.index, &leaf, &item.path) {
                    self.bad(Layer::Inclusion, format!("statement {at}: {error}"));
                }
            }
        }
        match checked {
            Ok((record, claims)) => {
                Some(Checkable { item, kid: record.kid(), record: Some(record), claims: Some(claims) })
            }
            Err(why) => {
                self.bad(Layer::Signature, format!("statement {at}: {why}"));
                None
            }
        }
    }

    /// Keys that records of the bundle, signed by a trusted registrar, enrol.
    fn enrolments(statements: &[Option<Checkable>], trust: &Policy) -> BTreeMap<Kid, Enrolled> {
        let mut enrolled = BTreeMap::new();
        for checkable in statements.iter().flatten() {
            let (Some(record), Some(statement)) = (&checkable.record, checkable.statement()) else {
                continue;
            };
            let Some(key) = statement.new_key() else { continue };
            let claims = record.claims();
            let by_registrar = trust.registrars.contains(&checkable.kid);
            // A key is one party's: of two enrolments the first in the log counts, and the other is not a rival's second.
            if by_registrar && key.verify_possession(&claims.aud, claims.jti).is_ok() {
                enrolled
                    .entry(*key.kid)
                    .or_insert_with(|| Enrolled { role: key.role, party: key.party.to_owned() });
            }
        }
        enrolled
    }

    fn signer(
        &mut self,
        at: usize,
        checkable: &Checkable,
        enrolled: &BTreeMap<Kid, Enrolled>,
        trust: &Policy,
    ) {
        self.count(Layer::Enrolment, 1);
        let Some(record) = &checkable.record else { return };
        if trust.registrars.contains(&checkable.kid) {
            if record.statement().is_none() {
                self.bad(Layer::Enrolment, format!("statement {at}: a registrar's key signed an event"));
            }
            return;
        }
        let Some(key) = enrolled.get(&checkable.kid) else {
            return self.unchecked(
                Layer::Enrolment,
                format!("statement {at}: no enrolment of its key is in the bundle"),
            );
        };
        if !matches!(key.role, KeyRole::Record | KeyRole::Derivation) {
            self.bad(Layer::Enrolment, format!("statement {at}: a key for {} signed a record", key.role));
        }
        if key.party != record.claims().iss {
            self.bad(Layer::Enrolment, format!("statement {at}: its key is another party's"));
        }
    }

    fn roster(&mut self, at: usize, checkable: &Checkable, statements: &[Option<Checkable>], trust: &Policy) {
        if trust.registrars.contains(&checkable.kid) {
            return;
        }
        self.count(Layer::Roster, 1);
        let Some((number, proof)) = &checkable.item.roster else {
            return self
                .unchecked(Layer::Roster, format!("statement {at}: key not yet confirmed by a roster"));
        };
        let roster = statements.get(*number).and_then(Option::as_ref);
        let stated = roster.and_then(|roster| match roster.statement()? {
            Statement::Roster(stated) if trust.registrars.contains(&roster.kid) => Some((roster, stated)),
            _ => None,
        });
        let Some((roster, statement::Roster { root, lines })) = stated else {
            return self.bad(Layer::Roster, format!("statement {at}: names a roster that is none"));
        };
        if let Err(error) = proof.verify(&root, lines) {
            return self.bad(Layer::Roster, format!("statement {at}: its roster line: {error}"));
        }
        let iss = checkable.record.as_ref().map(|record| record.claims().iss.as_str());
        if proof.line.kid != checkable.kid || iss != Some(proof.line.party.as_str()) {
            return self.bad(Layer::Roster, format!("statement {at}: another key's roster line"));
        }
        match proof.line.state {
            KeyState::Revoked => self.bad(Layer::Roster, format!("statement {at}: its key was revoked")),
            KeyState::Good | KeyState::Rotated => {
                let same_log = roster.item.checkpoint == checkable.item.checkpoint;
                if same_log && roster.item.index < checkable.item.index {
                    self.unchecked(
                        Layer::Roster,
                        format!("statement {at}: key not yet confirmed by a later roster"),
                    );
                }
            }
        }
    }

    fn seen(&mut self, bundle: &Bundle, heads: &[Option<Checkpoint>], trust: &Policy) {
        for seen in &bundle.seen {
            self.count(Layer::Seen, 1);
            let origin = seen.note.text.lines().next().unwrap_or_default();
            let Some(log) = trust.logs.iter().find(|log| log.key.name.as_str() == origin) else {
                self.unchecked(Layer::Seen, format!("the trust file does not name the log {origin}"));
                continue;
            };
            let head = heads.iter().flatten().find(|head| head.origin == origin);
            let (Ok(old), Some(head)) = (Checkpoint::open(&seen.note, &log.key), head) else {
                self.bad(Layer::Seen, format!("a head of {origin} that its log did not sign"));
                continue;
            };
            if let Err(error) = verify_consistency(old.size, &old.root, head.size, &head.root, &seen.path) {
                self.bad(Layer::Seen, format!("a head of {origin}: {error}"));
            }
        }
    }

    fn report(self, statements: Vec<Option<Checkable>>) -> Report {
        let mut layers = Vec::new();
        for (layer, (count, outcome)) in self.found {
            let default = match layer {
                Layer::Chain => Outcome::Unchecked("heads on chains are checked online only".to_owned()),
                _ => Outcome::Good,
            };
            layers.push(Checked { layer, count, outcome: outcome.unwrap_or(default) });
        }
        let is_bad = layers.iter().any(|checked| matches!(checked.outcome, Outcome::Bad(_)));
        let is_open = layers
            .iter()
            .any(|checked| checked.layer != Layer::Chain && matches!(checked.outcome, Outcome::Unchecked(_)));
        let verdict = match (is_bad, is_open) {
            (true, _) => Verdict::Invalid,
            (false, true) => Verdict::CouldNotCheck,
            (false, false) => Verdict::Valid,
        };
        let claims = statements.into_iter().map(|checkable| checkable.and_then(|it| it.claims)).collect();
        Report { layers, verdict, claims }
    }
}

fn check_record(
    signed: &str,
    disclosures: &[String],
    item: &Item,
) -> Result<(Record, serde_json::Value), String> {
    let record = Record::parse(signed).map_err(|error| error.to_string())?;
    record.verify(&item.key).map_err(|error| error.to_string())?;
    let disclosures: Vec<&str> = disclosures.iter().map(String::as_str).collect();
    let claims = record.process(&disclosures).map_err(|error| error.to_string())?;
    Ok((record, claims))
}
