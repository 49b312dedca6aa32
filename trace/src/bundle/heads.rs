//! The heads of a bundle: whose log they are of, who cosigned them when, and which statements stand under them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bundle,
    order::{Link, Order, Place},
    report::{Findings, Interval, Layer},
    verify::Checkable,
};
use crate::{
    merkle::{leaf_hash, verify_consistency, verify_inclusion},
    record::{
        Seen,
        statement::{NewLog, Statement},
    },
    tlog::{
        checkpoint::Checkpoint,
        note::{Algorithm, Note, VerifierKey},
        origin::Origin,
        policy::Policy,
    },
};

/// A head that its log signed.
struct Head {
    checkpoint: Checkpoint,
    key: VerifierKey,
    /// The first cosignature's second, and the one in which there were enough.
    first_at: Option<u64>,
    enough_at: Option<u64>,
}

/// What a statement about the next log, or about the log that it opens, says.
struct Stated {
    at: usize,
    place: Place,
    new_log: NewLog,
}

/// The bundle's heads, by number; `None` for what its log did not sign, or what nobody vouches for.
pub(super) struct Heads<'bundle> {
    bundle: &'bundle Bundle,
    trust: &'bundle Policy,
    open: Vec<Option<Head>>,
    /// Those of the bundle's `seen` that hold.
    seen: Vec<Head>,
    new_logs: Vec<Stated>,
}

impl<'bundle> Heads<'bundle> {
    /// Opens every head whose log the trust file names, and those of the logs that a registrar's `new-log` in such a log
    /// names, and gives each statement under them its place.
    pub fn open(
        bundle: &'bundle Bundle,
        trust: &'bundle Policy,
        statements: &mut [Option<Checkable>],
        findings: &mut Findings,
    ) -> Self {
        let open = bundle.checkpoints.iter().map(|_| None).collect();
        let mut opened = Self { bundle, trust, open, seen: Vec::new(), new_logs: Vec::new() };
        let mut keys = named_keys(trust);
        check_one_ledger(bundle, findings);
        let mut waiting: Vec<usize> = (0..bundle.checkpoints.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|&log| !opened.open_one(log, &mut keys, statements, findings));
            if waiting.len() == before {
                break;
            }
        }
        opened.report_unopened(&waiting, findings);
        opened.open_seen(findings);
        opened
    }

    /// `false`: nobody vouches for a key of this log, yet.
    fn open_one(
        &mut self,
        log: usize,
        keys: &mut BTreeMap<String, VerifierKey>,
        statements: &mut [Option<Checkable>],
        findings: &mut Findings,
    ) -> bool {
        let Some(note) = self.bundle.checkpoints.get(log) else { return true };
        let origin = origin_of(note);
        let Some(key) = keys.get(origin).cloned() else { return false };
        findings.count(Layer::Log);
        findings.count(Layer::Witnesses);
        let checkpoint = match Checkpoint::open(note, &key) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                findings.bad(Layer::Log, format!("the checkpoint of {origin}: {error}"));
                return true;
            }
        };
        let (first_at, enough_at) = self.cosigned(note, &key, Layer::Witnesses, findings).unwrap_or_default();
        self.place_statements(log, &checkpoint, statements, findings);
        if let Some(slot) = self.open.get_mut(log) {
            *slot = Some(Head { checkpoint, key, first_at, enough_at });
        }
        self.read_new_logs(log, keys, statements, findings);
        true
    }

    /// The first cosignature's second and the one in which there were enough; `None` where the quorum is not met.
    fn cosigned(
        &self,
        note: &Note,
        log: &VerifierKey,
        layer: Layer,
        findings: &mut Findings,
    ) -> Option<(Option<u64>, Option<u64>)> {
        let what = || format!("the head of {} at size {}", origin_of(note), size_of(note));
        for line in note.signatures.iter().filter(|line| !self.trust.knows_line(log, line)) {
            let why = format!("{} has a line by {}, whom the trust file does not name", what(), line.name);
            findings.unchecked(layer, why);
        }
        match self.trust.witnessed(note) {
            Ok(witnessed) if witnessed.enough => {
                Some((witnessed.by.values().min().copied(), witnessed.enough_at))
            }
            Ok(witnessed) => {
                let names: Vec<&str> = witnessed.by.keys().map(String::as_str).collect();
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                findings.unchecked(layer, format!("{} is cosigned by {names}, which is not enough", what()));
                None
            }
            Err(error) => {
                findings.bad(layer, format!("a cosignature on {}: {error}", what()));
                None
            }
        }
    }

    fn place_statements(
        &self,
        log: usize,
        head: &Checkpoint,
        statements: &mut [Option<Checkable>],
        findings: &mut Findings,
    ) {
        let ledger = head.origin.parse::<Origin>().ok();
        for (at, item) in self.bundle.items.iter().enumerate().filter(|(_, item)| item.checkpoint == log) {
            findings.count(Layer::Inclusion);
            let leaf = leaf_hash(&item.signed.entry());
            if let Err(error) = verify_inclusion(&head.root, head.size, item.index, &leaf, &item.path) {
                let where_to = format!("index {} of {}", item.index, head.origin);
                findings.bad(Layer::Inclusion, format!("statement {at} at {where_to}: {error}"));
                continue;
            }
            let Some(Some(statement)) = statements.get_mut(at) else { continue };
            let aud = statement.record().map(|record| record.claims().aud.as_str());
            let own = ledger.as_ref().map(Origin::ledger);
            if aud.is_some() && aud != own {
                let aud = aud.unwrap_or_default();
                let why =
                    format!("statement {at} was made for the ledger {aud}, and stands in {}", head.origin);
                findings.bad(Layer::Inclusion, why);
                continue;
            }
            statement.place = Some(Place { log, index: item.index });
        }
    }

    /// A registrar's `new-log` in this log names the next one, or what came before this one.
    fn read_new_logs(
        &mut self,
        log: usize,
        keys: &mut BTreeMap<String, VerifierKey>,
        statements: &[Option<Checkable>],
        findings: &mut Findings,
    ) {
        for (at, statement) in statements.iter().enumerate() {
            let Some(statement) = statement else { continue };
            let Some(place) = statement.place.filter(|place| place.log == log) else { continue };
            let Some(Statement::NewLog(new_log)) = statement.by_registrar(self.trust) else { continue };
            let Ok(key) = new_log.vkey.parse::<VerifierKey>() else {
                findings.bad(Layer::Log, format!("statement {at} names a log without a verifier key"));
                continue;
            };
            if key.name.as_str() != new_log.origin || key.algorithm != Algorithm::Ed25519 {
                findings.bad(
                    Layer::Log,
                    format!("statement {at} names a log and a key that cannot be that log's"),
                );
                continue;
            }
            let known = keys.entry(new_log.origin.clone()).or_insert_with(|| key.clone());
            if *known != key {
                let why = format!("statement {at} names another key for the log {}", new_log.origin);
                findings.bad(Layer::Log, why);
                continue;
            }
            self.new_logs.push(Stated { at, place, new_log });
        }
    }

    fn report_unopened(&self, waiting: &[usize], findings: &mut Findings) {
        for note in waiting.iter().filter_map(|&log| self.bundle.checkpoints.get(log)) {
            findings.count(Layer::Log);
            let origin = origin_of(note);
            findings.unchecked(
                Layer::Log,
                format!("neither the trust file nor a log that it names names the log {origin}"),
            );
        }
        for (at, item) in self.bundle.items.iter().enumerate() {
            match self.open.get(item.checkpoint) {
                None => {
                    let why =
                        format!("statement {at} names checkpoint {}, which is not there", item.checkpoint);
                    findings.bad(Layer::Inclusion, why);
                }
                Some(None) => {
                    let why = format!("statement {at} is under a checkpoint that does not hold");
                    findings.unchecked(Layer::Inclusion, why);
                }
                Some(Some(_)) => {}
            }
        }
    }

    fn open_seen(&mut self, findings: &mut Findings) {
        for proof in &self.bundle.seen {
            findings.count(Layer::Seen);
            let origin = origin_of(&proof.note);
            let Some(head) = self.open.iter().flatten().find(|head| head.checkpoint.origin == origin) else {
                let why =
                    format!("the bundle has no checkpoint that holds of {origin}, of which a head was seen");
                findings.unchecked(Layer::Seen, why);
                continue;
            };
            let what = format!("the seen head of {origin} at size {}", size_of(&proof.note));
            let (checkpoint, key) = match Checkpoint::open(&proof.note, &head.key) {
                Ok(checkpoint) => (checkpoint, head.key.clone()),
                Err(error) => {
                    findings.bad(Layer::Seen, format!("{what}: {error}"));
                    continue;
                }
            };
            let (old, new) = (&checkpoint, &head.checkpoint);
            if let Err(error) = verify_consistency(old.size, &old.root, new.size, &new.root, &proof.path) {
                findings.bad(Layer::Seen, format!("{what}, and size {} of the bundle: {error}", new.size));
                continue;
            }
            if let Some((first_at, enough_at)) = self.cosigned(&proof.note, &key, Layer::Seen, findings) {
                self.seen.push(Head { checkpoint, key, first_at, enough_at });
            }
        }
    }

    /// Origin of a log by number.
    pub fn origin(&self, log: usize) -> &str {
        self.bundle.checkpoints.get(log).map(origin_of).unwrap_or_default()
    }

    /// A head of the bundle with that origin and size, cosigned or not.
    fn held(&self) -> impl Iterator<Item = &Head> {
        self.open.iter().flatten().chain(&self.seen)
    }

    /// The root of the bundle's head of that origin and size.
    pub fn checkpoint(&self, origin: &str, size: u64) -> Option<&Checkpoint> {
        self.held().map(|head| &head.checkpoint).find(|head| head.origin == origin && head.size == size)
    }

    /// What `new-log` statements show of the order between logs.
    pub fn order(&self, findings: &mut Findings) -> Order {
        let mut links = Vec::new();
        let mut announced = BTreeSet::new();
        for Stated { at, place, new_log } in &self.new_logs {
            if self.origin(place.log) == new_log.origin {
                links.extend(self.link_from_closed(*at, *place, new_log, findings));
                continue;
            }
            let Some(to) = self.number_of(&new_log.origin) else { continue };
            // The first such statement came before the new log was opened, and with it all that is not younger.
            if announced.insert((place.log, to)) {
                links.push(Link { from: place.log, to, before: place.index.saturating_add(1), after: 0 });
            }
        }
        Order::new(links)
    }

    /// A new log's first entry holds the last head of the old one: what stands under it came before.
    fn link_from_closed(
        &self,
        at: usize,
        place: Place,
        new_log: &NewLog,
        findings: &mut Findings,
    ) -> Option<Link> {
        let note: Note = new_log.closed.as_ref()?.parse().ok()?;
        let from = self.number_of(origin_of(&note))?;
        let old = self.open.get(from)?.as_ref()?;
        let closed = match Checkpoint::open(&note, &old.key) {
            Ok(closed) => closed,
            Err(error) => {
                let why = format!("the last head of {} in statement {at}: {error}", old.checkpoint.origin);
                findings.bad(Layer::Log, why);
                return None;
            }
        };
        let held = self.checkpoint(&closed.origin, closed.size)?;
        if held.root != closed.root {
            let why = format!(
                "two histories of {}: another head of size {} in statement {at}",
                closed.origin, closed.size
            );
            findings.bad(Layer::Log, why);
            return None;
        }
        Some(Link { from, to: place.log, before: closed.size, after: place.index })
    }

    fn number_of(&self, origin: &str) -> Option<usize> {
        let is_it = |head: &Option<Head>| head.as_ref().is_some_and(|head| head.checkpoint.origin == origin);
        self.open.iter().position(is_it)
    }

    /// When the statement at `place` was made; complains of a seen head that is missing, another, or younger.
    pub fn made(&self, at: usize, statement: &Checkable, order: &Order, findings: &mut Findings) -> Interval {
        let Some(place) = statement.place else { return Interval::default() };
        let seen = statement.record().and_then(|record| record.claims().seen.as_ref());
        let after = seen.and_then(|seen| self.seen_at(at, place, seen, order, findings));
        let origin = self.origin(place.log);
        let covers = |head: &&Head| head.checkpoint.origin == origin && head.checkpoint.size > place.index;
        let before = self.held().filter(covers).filter_map(|head| head.enough_at).min();
        // Two witnesses' clocks differ by seconds: an interval does not end before it begins.
        let after = after.map(|after| before.map_or(after, |before| after.min(before)));
        Interval { after, before }
    }

    fn seen_at(
        &self,
        at: usize,
        place: Place,
        seen: &Seen,
        order: &Order,
        findings: &mut Findings,
    ) -> Option<u64> {
        let Seen { origin, size, root } = seen;
        let what = format!("the head of {origin} at size {size} that the author of statement {at} had seen");
        let Some(head) =
            self.held().find(|head| head.checkpoint.origin == *origin && head.checkpoint.size == *size)
        else {
            findings.unchecked(Layer::Seen, format!("{what} is not in the bundle, or not cosigned"));
            return None;
        };
        if head.checkpoint.root != *root {
            findings.bad(Layer::Seen, format!("{what} has another root there than in the log"));
            return None;
        }
        let Some(index) = size.checked_sub(1) else { return head.first_at };
        let last = Place { log: self.number_of(origin)?, index };
        if order.precedes(last, place) {
            return head.first_at;
        }
        let why = format!("{what} is not shown to be older than the statement");
        if order.precedes(place, last) || place == last {
            findings.bad(Layer::Seen, why);
        } else {
            findings.unchecked(Layer::Seen, why);
        }
        None
    }
}

fn named_keys(trust: &Policy) -> BTreeMap<String, VerifierKey> {
    trust.logs.iter().map(|log| (log.key.name.as_str().to_owned(), log.key.clone())).collect()
}

fn check_one_ledger(bundle: &Bundle, findings: &mut Findings) {
    let mut first: Option<Origin> = None;
    for note in &bundle.checkpoints {
        let text = origin_of(note);
        let Ok(origin) = text.parse::<Origin>() else {
            findings.bad(Layer::Log, format!("the origin {text} names no ledger and year"));
            continue;
        };
        let first = first.get_or_insert_with(|| origin.clone());
        if !first.is_beside(&origin) {
            findings.bad(Layer::Log, format!("{text} is of another ledger than {first}"));
        }
    }
}

fn origin_of(note: &Note) -> &str {
    note.text.lines().next().unwrap_or_default()
}

fn size_of(note: &Note) -> &str {
    note.text.lines().nth(1).unwrap_or_default()
}
