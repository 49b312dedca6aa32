//! Who may sign: enrolments, replacements and revocations by registrars, and the roster that confirms a key afterwards.

use std::collections::BTreeMap;

use super::{
    order::{Order, Place},
    report::{Findings, Interval, Layer},
    verify::{Body, Checkable},
};
use crate::{
    keys::{Custody, KeyRole, Kid},
    pack::device::Scope,
    record::statement::{self, RevocationReason, Statement},
    revocation::{Reach, reach},
    roster::{KeyState, LineProof},
    tlog::policy::Policy,
};

/// A key as a registrar enrolled it.
struct Enrolled {
    at: usize,
    place: Place,
    role: KeyRole,
    party: String,
    custody: Custody,
    /// What every name under a pack key starts with.
    base_name: Option<String>,
    /// Another enrolment of the key stands in another log, and nothing shows which was first.
    is_ambiguous: bool,
}

/// A statement after which a key signs no more.
struct Ended {
    at: usize,
    place: Place,
    why: End,
}

#[derive(Clone, Copy)]
enum End {
    Rotated,
    Revoked { since: i64, reason: RevocationReason },
}

/// What the registrars' statements in the bundle say of keys.
pub(super) struct KeyBook<'a, 'bundle> {
    statements: &'a [Option<Checkable<'bundle>>],
    trust: &'a Policy,
    order: &'a Order,
    enrolled: BTreeMap<Kid, Enrolled>,
    ended: BTreeMap<Kid, Vec<Ended>>,
}

impl<'a, 'bundle> KeyBook<'a, 'bundle> {
    /// Reads what stands under a head that holds; the rest counts for nothing.
    pub fn read(statements: &'a [Option<Checkable<'bundle>>], trust: &'a Policy, order: &'a Order) -> Self {
        let mut book = Self { statements, trust, order, enrolled: BTreeMap::new(), ended: BTreeMap::new() };
        for (at, checkable) in statements.iter().enumerate() {
            let Some(checkable) = checkable else { continue };
            let (Some(place), Some(statement)) = (checkable.place, checkable.by_registrar(trust)) else {
                continue;
            };
            let ended = match &statement {
                Statement::Rotate(rotation) => Some((rotation.replaces, End::Rotated)),
                Statement::Revoke(revocation) => {
                    let (since, reason) = (revocation.since, revocation.reason);
                    Some((revocation.kid, End::Revoked { since, reason }))
                }
                _ => None,
            };
            if let Some((kid, why)) = ended {
                book.ended.entry(kid).or_default().push(Ended { at, place, why });
            }
            book.enrol(at, place, checkable, &statement);
        }
        book
    }

    /// A key is one party's: of two enrolments the first in the log counts, and a rival's second does not.
    fn enrol(&mut self, at: usize, place: Place, checkable: &Checkable, statement: &Statement) {
        let (Some(key), Some(record)) = (statement.new_key(), checkable.record()) else { return };
        let claims = record.claims();
        if key.verify_possession(&claims.aud, claims.jti).is_err() {
            return;
        }
        let new = Enrolled {
            at,
            place,
            role: key.role,
            party: key.party.to_owned(),
            custody: key.custody,
            base_name: key.base_name.map(str::to_owned),
            is_ambiguous: false,
        };
        let Some(known) = self.enrolled.get_mut(key.kid) else {
            self.enrolled.insert(*key.kid, new);
            return;
        };
        if self.order.precedes(new.place, known.place) {
            let is_ambiguous = known.is_ambiguous;
            *known = Enrolled { is_ambiguous, ..new };
        } else if !self.order.precedes(known.place, new.place) {
            known.is_ambiguous = true;
        }
    }

    /// Who holds the key's secret, as far as an enrolment tells.
    pub fn custody(&self, kid: &Kid) -> Option<Custody> {
        self.enrolled.get(kid).map(|key| key.custody)
    }

    /// Whether the key is enrolled for a whole party's devices, or everybody's, and not for one device.
    pub fn is_gateway(&self, kid: &Kid) -> bool {
        let base_name = self.enrolled.get(kid).and_then(|key| key.base_name.as_deref());
        base_name.and_then(|name| name.parse().ok()).is_none_or(|scope: Scope| !scope.is_device())
    }

    /// The signer was enrolled before the statement, for that party or device, and neither replaced nor revoked before it.
    pub fn check_signer(&self, at: usize, statement: &Checkable, findings: &mut Findings) {
        findings.count(Layer::Enrolment);
        if self.trust.registrars.contains(&statement.kid) {
            if statement.record().is_none_or(|record| record.statement().is_none()) {
                let why =
                    format!("statement {at}: a registrar's key signed what is no statement about the ledger");
                findings.bad(Layer::Enrolment, why);
            }
            return;
        }
        let Some(key) = self.enrolled.get(&statement.kid) else {
            let why = format!("statement {at}: no enrolment of its key {} is in the bundle", statement.kid);
            return findings.unchecked(Layer::Enrolment, why);
        };
        let verdict = match &statement.body {
            Body::Record { .. } => check_author(key, statement),
            Body::Pack { readings, .. } => check_device(key, readings),
        };
        if let Err(why) = verdict {
            findings.bad(Layer::Enrolment, format!("statement {at}: {why}"));
        }
        if key.is_ambiguous {
            let why =
                format!("statement {at}: its key was enrolled twice, and it is not shown which was first");
            findings.unchecked(Layer::Enrolment, why);
        }
        let Some(place) = statement.place else { return };
        self.expect_order(key.place, place, findings, || {
            format!("statement {at}: its key was enrolled by statement {}", key.at)
        });
        for end in self.ended.get(&statement.kid).into_iter().flatten() {
            let done = end.why.word();
            self.expect_order(place, end.place, findings, || {
                format!("statement {at}: its key was {done} by statement {}", end.at)
            });
        }
    }

    /// Bad if `later` is shown to come first, unchecked if nothing is shown.
    fn expect_order(&self, earlier: Place, later: Place, findings: &mut Findings, what: impl Fn() -> String) {
        if self.order.precedes(earlier, later) {
            return;
        }
        let is_contradicted = earlier == later || self.order.precedes(later, earlier);
        if is_contradicted {
            findings.bad(Layer::Enrolment, format!("{}, out of order", what()));
        } else {
            findings.unchecked(
                Layer::Enrolment,
                format!("{}, and no new-log statement shows which log was first", what()),
            );
        }
    }

    /// The first roster after a statement shows that its key was not revoked; that, and only that.
    pub fn check_roster(&self, at: usize, statement: &Checkable, made: Interval, findings: &mut Findings) {
        if self.trust.registrars.contains(&statement.kid) {
            if statement.item.roster.is_some() {
                let why = format!("statement {at}: a registrar's key stands in no roster for this reader");
                findings.bad(Layer::Roster, why);
            }
            return;
        }
        findings.count(Layer::Roster);
        let Some((number, proof)) = &statement.item.roster else {
            return findings
                .unchecked(Layer::Roster, format!("statement {at}: key not yet confirmed by a roster"));
        };
        let roster = match self.line_in(statement, *number, proof) {
            Ok(roster) => roster,
            Err(why) => return findings.bad(Layer::Roster, format!("statement {at}: {why}")),
        };
        let (Some(place), Some(roster)) = (statement.place, roster) else {
            let why = format!("statement {at}, or its roster, is not shown to stand in a log");
            return findings.unchecked(Layer::Roster, why);
        };
        let state = proof.line.state;
        let verdict = if self.order.precedes(place, roster) {
            self.judge(statement, made, state)
        } else if self.order.precedes(roster, place) {
            match state {
                KeyState::Good => Err(Doubt::Open("key not yet confirmed by a later roster")),
                KeyState::Rotated => Err(Doubt::Bad("its key was replaced in a roster before it")),
                KeyState::Revoked => Err(Doubt::Bad("its key was revoked in a roster before it")),
            }
        } else {
            Err(Doubt::Open("its roster is in another log, and no new-log statement shows which was first"))
        };
        match verdict {
            Ok(()) => {}
            Err(Doubt::Bad(why)) => findings.bad(Layer::Roster, format!("statement {at}: {why}")),
            Err(Doubt::Open(why)) => findings.unchecked(Layer::Roster, format!("statement {at}: {why}")),
        }
    }

    /// Where the roster stands in which the line is proved.
    fn line_in(
        &self,
        statement: &Checkable,
        number: usize,
        proof: &LineProof,
    ) -> Result<Option<Place>, String> {
        let roster = self.statements.get(number).and_then(Option::as_ref);
        let stated = roster.and_then(|roster| match roster.by_registrar(self.trust)? {
            Statement::Roster(stated) => Some((roster.place, stated)),
            _ => None,
        });
        let Some((place, statement::Roster { root, lines })) = stated else {
            return Err(format!("its roster, statement {number}, is none by a trusted registrar"));
        };
        proof.verify(&root, lines).map_err(|error| format!("its line in the roster {number}: {error}"))?;
        if proof.line.kid != statement.kid {
            return Err(format!("its line in the roster {number} is of the key {}", proof.line.kid));
        }
        let enrolled = self.enrolled.get(&statement.kid);
        let iss = statement.record().map(|record| record.claims().iss.as_str());
        let party = iss.or(enrolled.map(|key| key.party.as_str()));
        if party.is_some_and(|party| party != proof.line.party) {
            return Err(format!("its line in the roster {number} is of {}", proof.line.party));
        }
        if enrolled.is_some_and(|key| key.custody != proof.line.custody) {
            return Err(format!("the roster {number} tells another custody than the enrolment of its key"));
        }
        Ok(place)
    }

    /// A roster after the statement says `state`. Where the key ended in between, the ending's own place decides.
    fn judge(&self, statement: &Checkable, made: Interval, state: KeyState) -> Result<(), Doubt> {
        // `check_signer` has complained of an ending before the statement.
        let mut ends = self.ended.get(&statement.kid).into_iter().flatten().map(|end| end.why);
        match state {
            // A revocation that came after the roster may reach back, and whoever knows of one may add it.
            KeyState::Good => ends
                .find_map(End::revocation)
                .map_or(Ok(()), |(since, reason)| check_revocation(made, since, reason)),
            KeyState::Rotated => match ends.find(|why| matches!(why, End::Rotated)) {
                Some(_) => Ok(()),
                None => Err(Doubt::Open("its key was replaced by then, and the bundle does not show when")),
            },
            KeyState::Revoked => match ends.find_map(End::revocation) {
                Some((since, reason)) => check_revocation(made, since, reason),
                None => Err(Doubt::Bad(
                    "its key was revoked by then, and the bundle does not show that it was later",
                )),
            },
        }
    }
}

enum Doubt {
    Bad(&'static str),
    Open(&'static str),
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::Rotated => "replaced",
            Self::Revoked { .. } => "revoked",
        }
    }

    const fn revocation(self) -> Option<(i64, RevocationReason)> {
        match self {
            Self::Revoked { since, reason } => Some((since, reason)),
            Self::Rotated => None,
        }
    }
}

/// The revocation was stated after the statement, and may reach back to it.
fn check_revocation(made: Interval, since: i64, reason: RevocationReason) -> Result<(), Doubt> {
    match reach(made, since, reason) {
        Reach::Spared => Ok(()),
        Reach::Struck => Err(Doubt::Bad("it was made after the moment since when its key is revoked")),
        Reach::Doubtful => Err(Doubt::Bad(
            "it is not shown to be older than the moment since when its key is out of its owner's hands",
        )),
    }
}

fn check_author(key: &Enrolled, statement: &Checkable) -> Result<(), String> {
    let Some(record) = statement.record() else { return Ok(()) };
    match key.role {
        KeyRole::Record | KeyRole::Derivation => {}
        role => return Err(format!("a key for {role} signed a record")),
    }
    if key.party != record.claims().iss {
        return Err(format!("its key is that of {}, not of {}", key.party, record.claims().iss));
    }
    match record.statement() {
        None | Some(Ok(Statement::CodeRun(_))) => Ok(()),
        Some(Ok(_)) => Err("what only a registrar states".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// Every name starts with the enrolled base name; one pack is one device's; a device that signs for itself knows the time.
fn check_device(key: &Enrolled, readings: &[crate::pack::senml::Reading]) -> Result<(), String> {
    if key.role != KeyRole::Pack {
        return Err(format!("a key for {} signed a pack", key.role));
    }
    let base_name = key.base_name.as_deref().unwrap_or_default();
    let scope: Scope =
        base_name.parse().map_err(|_| format!("its key is enrolled for {base_name}, which is no device"))?;
    let mut device = None;
    for reading in readings {
        let named = scope.device_of(&reading.name);
        let named = named.ok_or_else(|| format!("{} is not one of {base_name}", reading.name))?;
        if device.replace(named).is_some_and(|other| other != named) {
            return Err(format!("{} is not of the same device as the rest of the pack", reading.name));
        }
    }
    let is_relative = readings.iter().any(|reading| !reading.is_absolute());
    if scope.is_device() && is_relative { Err("a device signed a relative time".to_owned()) } else { Ok(()) }
}
